"""The tables: every published count to the digit, and refusals that name what is legal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow import architectures
from resflow.architectures import (
    SHORTCUTS,
    VARIANTS,
    Architecture,
    Conv,
    blocks,
    catalogue,
    convolutions,
    resolve_stem,
    stages,
)
from resflow.errors import StudyError

# Trainable parameters, 1000 classes: option B as torchvision has them, option A = the plain twin;
# multiply-adds (10^9) of option B at 224 pixels with the stride in the first 1x1 (v1) and in the 3x3 (v1.5).
IMAGENET = {
    18: (11_689_512, 11_515_688, 1.814, 1.814),
    34: (21_797_672, 21_623_848, 3.664, 3.664),
    50: (25_557_032, 22_780_456, 3.858, 4.089),
    101: (44_549_160, 41_772_584, 7.570, 7.801),
    152: (60_192_808, 57_416_232, 11.282, 11.514),
}
FLOWERS102 = {18: 11_228_838, 34: 21_336_998, 50: 23_717_030, 101: 42_709_158}  # option B, 102 classes
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}  # option A, 10 classes
KERAS = {50: 25_583_592, 101: 44_601_832}  # keras.applications, whose convolutions have biases


def imagenet(depth: int, shortcut: str = "projection", variant: str = "v1.5", width: float = 1.0) -> Architecture:
    return Architecture("imagenet", depth, shortcut, variant, width, "imagenet")


def cifar(depth: int, shortcut: str = "zero_pad", width: float = 1.0) -> Architecture:
    return Architecture("cifar", depth, shortcut, "v1.5", width, "low_resolution")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depth", IMAGENET)
def test_published_sizes_of_the_imagenet_family(depth: int, variant: str) -> None:
    projection, plain, v1, v1_5 = IMAGENET[depth]
    bare = 2 * sum(b.shortcut.outputs for b in blocks(imagenet(depth)) if isinstance(b.shortcut, Conv))
    expected = projection - bare if variant == "v2" else projection  # v2's projections have no normalisation
    assert architectures.parameters(imagenet(depth, "projection", variant), 1000) == expected
    assert architectures.parameters(imagenet(depth, "zero_pad", variant), 1000) == plain
    assert architectures.parameters(imagenet(depth, "none", variant), 1000) == plain
    giga = architectures.multiply_adds(imagenet(depth, "projection", variant), 224, 1000) / 1e9
    assert round(giga, 3) == {"v1": v1, "v1.5": v1_5, "v2": v1_5}[variant]


@pytest.mark.parametrize("depth", FLOWERS102)
def test_published_sizes_with_102_classes(depth: int) -> None:
    assert architectures.parameters(imagenet(depth), 102) == FLOWERS102[depth]


@pytest.mark.parametrize("depth", CIFAR)
def test_published_sizes_of_the_cifar_family(depth: int) -> None:
    assert architectures.parameters(cifar(depth), 10) == CIFAR[depth]
    assert architectures.parameters(cifar(depth, "none"), 10) == CIFAR[depth]


@pytest.mark.parametrize("depth", KERAS)
def test_keras_own_nets_differ_by_their_biases_alone(depth: int) -> None:
    arch = imagenet(depth, "projection", "v1")
    biases = sum(conv.outputs for conv in convolutions(arch))
    assert architectures.parameters(arch, 1000) + biases == KERAS[depth]


def test_projections_make_resnet_50_an_eighth_larger_than_its_plain_twin() -> None:
    ratio = architectures.parameters(imagenet(50), 1000) / architectures.parameters(imagenet(50, "none"), 1000)
    assert round(ratio - 1, 3) == 0.122


@given(
    st.sampled_from([*IMAGENET, *CIFAR]),
    st.sampled_from(VARIANTS),
    st.sampled_from([0.0625, 0.25, 0.5, 1.0, 2.0]),
    st.integers(1, 400),
    st.integers(16, 512),
)
def test_shortcuts_cost_what_they_say(depth: int, variant: str, width: float, classes: int, size: int) -> None:
    family, stem = ("imagenet", "imagenet") if depth in IMAGENET else ("cifar", "low_resolution")
    arms = {shortcut: Architecture(family, depth, shortcut, variant, width, stem) for shortcut in SHORTCUTS}
    weights = {shortcut: architectures.parameters(arch, classes) for shortcut, arch in arms.items()}
    macs = {shortcut: architectures.multiply_adds(arch, size, classes) for shortcut, arch in arms.items()}
    for cost in (weights, macs):
        assert cost["none"] == cost["zero_pad"] < cost["projection"] < cost["projection_all"]


@pytest.mark.parametrize("depth", [*IMAGENET, *CIFAR])
def test_a_depth_counts_the_layers_on_the_longest_way(depth: int) -> None:
    arch = imagenet(depth) if depth in IMAGENET else cifar(depth)
    assert 1 + sum(len(block.convs) for block in blocks(arch)) + 1 == depth  # stem and head


@pytest.mark.parametrize("depth", [18, 50])
def test_stages_halve_the_map_and_double_the_channels(depth: int) -> None:
    stage = {block.name.split("_")[0]: block for block in blocks(imagenet(depth))}
    expansion = 4 if depth == 50 else 1
    assert [block.convs[-1].outputs for block in stage.values()] == [n * expansion for n in (64, 128, 256, 512)]
    assert architectures.feature_channels(imagenet(depth)) == 512 * expansion
    firsts = [block for block in blocks(imagenet(depth)) if block.name.endswith("_block1")]
    assert [block.stride for block in firsts] == [1, 2, 2, 2]


def test_variant_moves_the_stride_from_the_1x1_into_the_3x3() -> None:
    def strides(variant: str) -> list[tuple[int, int]]:
        first = next(b for b in blocks(imagenet(50, variant=variant)) if b.name == "stage2_block1")
        return [(conv.kernel, conv.stride) for conv in first.convs]

    assert strides("v1") == [(1, 2), (3, 1), (1, 1)]
    assert strides("v1.5") == [(1, 1), (3, 2), (1, 1)]


def test_shortcuts_of_option_a_b_and_c() -> None:
    """Of ResNet-18's blocks two are of one shape in each stage but the first of stages 2 to 4."""

    def kinds(shortcut: str) -> list[str]:
        return ["conv" if isinstance(b.shortcut, Conv) else b.shortcut for b in blocks(imagenet(18, shortcut))]

    assert kinds("none") == ["none"] * 8
    assert kinds("zero_pad") == ["identity"] * 2 + ["zero_pad", "identity"] * 3
    assert kinds("projection") == ["identity"] * 2 + ["conv", "identity"] * 3
    assert kinds("projection_all") == ["conv"] * 8


@given(st.integers(-10, 2000))
def test_only_depths_with_a_table_are_legal(depth: int) -> None:
    for family, legal in (("imagenet", depth in IMAGENET), ("cifar", depth >= 8 and (depth - 2) % 6 == 0)):
        if legal:
            assert sum(stages(family, depth)[1]) > 0
        else:
            with pytest.raises(StudyError, match=r"18, 34, 50, 101, 152|6n\+2, such as 20, 32, 44, 56, 110") as error:
                Architecture(family, depth, "none", "v1.5", 1.0, "imagenet")
            assert f"family {family} has no depth {depth}" in str(error.value)


@pytest.mark.parametrize(
    ("change", "legal"),
    [
        ({"family": "imagnet"}, "expected one of imagenet, cifar. Did you mean 'imagenet'?"),
        ({"shortcut": "zeropad"}, "expected one of none, zero_pad, projection, projection_all. Did"),
        ({"variant": "v3"}, "expected one of v1, v1.5, v2."),
        ({"shortcut": "none", "zero_gamma": True}, "zero_gamma needs shortcuts: in a plain net (shortcut none) a last"),
        ({"shortcut": "zero_pad", "variant": "v2", "zero_gamma": True}, "needs a batch normalisation at the end of"),
        ({"stem": "auto"}, "expected one of imagenet, low_resolution."),
        ({"width": 0.01}, "gives 0.64 filters in the first stage: expected a multiplier"),
        ({"width": 0.3}, "gives 19.2 filters in the first stage: expected a multiplier"),
        ({"family": "cifar", "depth": 20, "width": 0.03125}, "makes 16 filters a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_with_what_can(change: dict[str, object], legal: str) -> None:
    good = {"family": "imagenet", "depth": 18, "shortcut": "none", "variant": "v1.5", "width": 1.0, "stem": "imagenet"}
    Architecture(**good)  # type: ignore[arg-type]
    with pytest.raises(StudyError) as error:
        Architecture(**{**good, **change})  # type: ignore[arg-type]
    assert legal in str(error.value)


def test_the_catalogue_holds_every_published_network_once() -> None:
    every = {(row["family"], row["depth"], row["shortcut"], row["variant"]): row for row in catalogue()}
    assert len(every) == len(list(catalogue())) == (5 + 5) * len(SHORTCUTS) * len(VARIANTS)
    for depth, (projection, plain, v1, v1_5) in IMAGENET.items():
        for variant, giga in (("v1", v1), ("v1.5", v1_5)):
            row = every["imagenet", depth, "projection", variant]
            assert (row["parameters"], row["image_size"], row["classes"]) == (projection, 224, 1000)
            assert row["multiply_adds"] == pytest.approx(giga * 1e9, rel=0.005)
        assert {every["imagenet", depth, s, v]["parameters"] for s in ("none", "zero_pad") for v in VARIANTS} == {plain}
    for depth in set(CIFAR) - {1202}:
        row = every["cifar", depth, "zero_pad", "v1"]
        assert (row["parameters"], row["image_size"], row["classes"]) == (CIFAR[depth], 32, 10)
    # timm's resnetv2_50, built with timm 1.0: projections without normalisation, one more normalisation at the end
    assert every["imagenet", 50, "projection", "v2"]["parameters"] == 25_549_352


def test_twins_of_other_sizes_are_told_by_how_much() -> None:
    projection, plain, *_ = IMAGENET[18]
    assert architectures.unpaired(projection, plain) == "+173,824 parameters (+1.5 %)"
    assert architectures.unpaired(plain, projection) == "−173,824 parameters (−1.5 %)"
    assert architectures.unpaired(plain, plain) == ""


@pytest.mark.parametrize(
    ("family", "size", "stem"),
    [("imagenet", 63, "low_resolution"), ("imagenet", 64, "imagenet"), ("imagenet", 224, "imagenet"),
     ("cifar", 32, "low_resolution"), ("cifar", 224, "low_resolution")],
)  # fmt: skip
def test_stem_follows_family_and_image_size_unless_it_is_asked_for(family: str, size: int, stem: str) -> None:
    assert resolve_stem("auto", family, size) == stem
    assert resolve_stem("imagenet", family, size) == "imagenet"
    assert resolve_stem("low_resolution", family, size) == "low_resolution"
