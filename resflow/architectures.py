"""Residual networks and their plain twins as tables: legal depths, blocks, parameters, multiply-adds.

Pure Python. The stage tables are those of He et al. 2015 (arXiv 1512.03385): the `imagenet` family is
Table 1, the `cifar` family section 4.2. `models/` builds exactly the blocks listed here, so the counts
below are closed forms of the same table; a test holds both against each other.

Variant `v2` is the full pre-activation of He et al. 2016 (arXiv 1603.05027, Fig. 4e): each convolution of a
block has its batch normalisation and ReLU before it, and a last one of each stands before the pooling. As in
the paper's appendix the first block's pre-activation follows the stem's convolution directly, before the two
ways part. A bottleneck's stride is in its 3x3, as in v1.5. Without shortcuts v2 and v1.5 are one network: the
paper's section 4.1 says so, and a test holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import ceil
from typing import Any, Literal, get_args

from resflow.errors import StudyError, one_of

# depth -> (block, blocks in each of the four stages); He et al. 2015, Table 1
IMAGENET_STAGES = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
CIFAR_DEPTHS = (20, 32, 44, 56, 110)  # the paper's own; any 6n+2 is legal
# The levels of the settings of the same names, written here once.
Family = Literal["imagenet", "cifar"]
Shortcut = Literal["none", "zero_pad", "projection", "projection_all"]
Variant = Literal["v1", "v1.5", "v2"]
Stem = Literal["imagenet", "low_resolution"]
FAMILIES, SHORTCUTS, VARIANTS, STEMS = map(get_args, (Family, Shortcut, Variant, Stem))
STEM_POOLS = ("both", "same")  # where the stem's pooling pads: all sides, or right and bottom as TensorFlow's SAME
FIRST_STAGE_FILTERS = {"imagenet": 64, "cifar": 16}
BOTTLENECK_EXPANSION = 4
LOW_RESOLUTION = 64  # below this image size `stem: auto` keeps the first stage at full resolution
NATIVE = {"imagenet": (224, 1000), "cifar": (32, 10)}  # pixels of a side and classes, as published


@dataclass(frozen=True)
class Architecture:
    """One network before its head. `width` multiplies every channel count; `stem` is resolved, never auto.

    `zero_gamma` starts the last gamma of each block at zero, so that a block begins as its shortcut (Goyal et
    al. 2017, arXiv 1706.02677, section 5.1). Raises StudyError where the family has no such depth, shortcut,
    variant or stem, and for a zero_gamma that has no shortcut or no gamma to work on.
    """

    family: str
    depth: int
    shortcut: str
    variant: str
    width: float
    stem: str
    zero_gamma: bool = False
    stem_pool: str = "both"  # a matter of where pretrained weights come from

    def __post_init__(self) -> None:
        for value, levels, name in (
            (self.family, FAMILIES, "family"),
            (self.shortcut, SHORTCUTS, "shortcut"),
            (self.variant, VARIANTS, "variant"),
            (self.stem, STEMS, "stem"),
            (self.stem_pool, STEM_POOLS, "stem_pool"),
        ):
            if value not in levels:
                raise StudyError(one_of(value, levels, name))
        stages(self.family, self.depth)
        filters = self.width * FIRST_STAGE_FILTERS[self.family]
        if filters < 1 or filters != int(filters):
            raise StudyError(
                f"width {self.width} gives {filters:g} filters in the first stage: expected a multiplier that "
                f"makes {FIRST_STAGE_FILTERS[self.family]} filters a whole number of at least 1, such as 0.25.",
                ("width", "family"),
            )
        if self.zero_gamma:
            self._check_zero_gamma()

    def _check_zero_gamma(self) -> None:
        if self.shortcut == "none":
            raise StudyError(
                "zero_gamma needs shortcuts: in a plain net (shortcut none) a last gamma of zero zeroes the signal, "
                "and nothing can learn. Keep zero_gamma to residual arms, or leave this arm out with `exclude`.",
                ("zero_gamma", "shortcut"),
            )
        if self.variant == "v2":
            raise StudyError(
                "zero_gamma needs a batch normalisation at the end of each block: variant v2 has a convolution there. "
                "Choose variant v1 or v1.5, or leave zero_gamma out.",
                ("zero_gamma", "variant"),
            )


@dataclass(frozen=True)
class Conv:
    """A convolution without bias; padding is kernel // 2 on every side.

    `norm` is where its batch normalisation stands: `after` it, `before` it with a ReLU (v2), or `none` (in v2:
    projections, and the first of all blocks' convolutions, which the stem's normalisation serves).
    """

    name: str
    kernel: int
    stride: int
    inputs: int
    outputs: int
    norm: str = "after"

    @property
    def norm_channels(self) -> int:
        """The channels of its batch normalisation, 0 where it has none."""
        return {"after": self.outputs, "before": self.inputs, "none": 0}[self.norm]


@dataclass(frozen=True)
class Block:
    """Convolutions in sequence, and the shortcut around them: `none`, `identity`, `zero_pad` or a Conv."""

    name: str
    convs: tuple[Conv, ...]
    shortcut: str | Conv

    @property
    def stride(self) -> int:
        """The stride of all its convolutions together."""
        stride = 1
        for conv in self.convs:
            stride *= conv.stride
        return stride


def stages(family: str, depth: int) -> tuple[str, tuple[int, ...]]:
    """Return the block's kind and the number of blocks a stage. Raises StudyError for a depth without a table."""
    if family == "imagenet":
        if depth in IMAGENET_STAGES:
            return IMAGENET_STAGES[depth]
        expected = ", ".join(map(str, IMAGENET_STAGES))
    else:
        if depth >= 8 and depth % 6 == 2:
            return "basic", ((depth - 2) // 6,) * 3
        expected = f"6n+2, such as {', '.join(map(str, CIFAR_DEPTHS))}"
    raise StudyError(f"family {family} has no depth {depth}: expected {expected}.")


def resolve_stem(stem: str, family: str, image_size: int) -> str:
    """Turn `auto` into a stem: the paper's for its family, and no early pooling of small images.

    `imagenet` is 7x7 stride 2 and a 3x3 stride 2 max-pool; `low_resolution` is one 3x3 convolution of
    stride 1, the stem of He et al. section 4.2.
    """
    if stem != "auto":
        return stem
    return "low_resolution" if family == "cifar" or image_size < LOW_RESOLUTION else "imagenet"


def stem_conv(arch: Architecture) -> Conv:
    """Return the stem's convolution, see `resolve_stem`."""
    kernel, stride = (7, 2) if arch.stem == "imagenet" else (3, 1)
    return Conv("stem", kernel, stride, 3, _filters(arch))


def pool_padding(stem_pool: str, side: int) -> int:
    """Return the padding before the first row and column of a map that the stem pools; behind the last there is one."""
    return 0 if stem_pool == "same" and side % 2 == 0 else 1


def _filters(arch: Architecture) -> int:
    return int(arch.width * FIRST_STAGE_FILTERS[arch.family])


def feature_channels(arch: Architecture) -> int:
    """Return the channels of the backbone's last map."""
    return list(blocks(arch))[-1].convs[-1].outputs


def blocks(arch: Architecture) -> Iterator[Block]:
    """Yield every block from the stem to the head, with its channels, strides and shortcut."""
    kind, counts = stages(arch.family, arch.depth)
    inputs = _filters(arch)
    for stage, count in enumerate(counts, start=1):
        filters = _filters(arch) * 2 ** (stage - 1)
        for index in range(1, count + 1):
            name = f"stage{stage}_block{index}"
            stride = 2 if stage > 1 and index == 1 else 1
            convs = _basic(name, inputs, filters, stride)
            if kind == "bottleneck":
                convs = _bottleneck(name, inputs, filters, stride, arch.variant)
            outputs = convs[-1].outputs
            shortcut = _shortcut(arch.shortcut, name, inputs, outputs, stride)
            block = Block(name, convs, shortcut)
            yield _preactivate(block, first=stage == index == 1) if arch.variant == "v2" else block
            inputs = outputs


def _basic(name: str, inputs: int, filters: int, stride: int) -> tuple[Conv, ...]:
    return (
        Conv(f"{name}_conv1", 3, stride, inputs, filters),
        Conv(f"{name}_conv2", 3, 1, filters, filters),
    )


def _bottleneck(name: str, inputs: int, filters: int, stride: int, variant: str) -> tuple[Conv, ...]:
    first, second = (stride, 1) if variant == "v1" else (1, stride)
    return (
        Conv(f"{name}_conv1", 1, first, inputs, filters),
        Conv(f"{name}_conv2", 3, second, filters, filters),
        Conv(f"{name}_conv3", 1, 1, filters, filters * BOTTLENECK_EXPANSION),
    )


def _shortcut(kind: str, name: str, inputs: int, outputs: int, stride: int) -> str | Conv:
    """Choose among the options of He et al. 2015, section 4.1: A (zero_pad), B (projection), C (projection_all)."""
    if kind == "none":
        return "none"
    same_shape = inputs == outputs and stride == 1
    if kind == "projection_all" or (kind == "projection" and not same_shape):
        return Conv(f"{name}_shortcut", 1, stride, inputs, outputs)
    return "identity" if same_shape else "zero_pad"


def _preactivate(block: Block, first: bool) -> Block:
    norms = ["none" if first else "before", *["before"] * (len(block.convs) - 1)]
    convs = tuple(replace(conv, norm=norm) for conv, norm in zip(block.convs, norms, strict=True))
    bare = replace(block.shortcut, norm="none") if isinstance(block.shortcut, Conv) else block.shortcut
    return Block(block.name, convs, bare)


def convolutions(arch: Architecture) -> Iterator[Conv]:
    """Yield every convolution, projections included, in the order of the forward pass."""
    yield stem_conv(arch)
    for block in blocks(arch):
        yield from block.convs
        if isinstance(block.shortcut, Conv):
            yield block.shortcut


def kernels(arch: Architecture, hidden: Sequence[int] = ()) -> int:
    """Count the kernels: those of convolutions, and of the head's dense layers, whose widths are `hidden`."""
    return sum(1 for _ in convolutions(arch)) + len(hidden) + 1


def parameters(arch: Architecture, classes: int, hidden: Sequence[int] = (), features: int | None = None) -> int:
    """Count the trainable parameters; moving statistics of batch norm are not trainable.

    The head is dense layers over `features` inputs, by default the channels of the last map (as pooling leaves
    them): those of the widths in `hidden`, and one for the classes.
    """
    channels = feature_channels(arch)
    body = sum(c.kernel**2 * c.inputs * c.outputs + 2 * c.norm_channels for c in convolutions(arch))
    last = 2 * channels if arch.variant == "v2" else 0  # the batch normalisation before the pooling
    widths = (features or channels, *hidden, classes)
    return body + last + sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


def map_size(arch: Architecture, image_size: int) -> int:
    """Return the pixels of a side of the backbone's last map."""
    return _backbone(arch, image_size)[1]


def multiply_adds(
    arch: Architecture, image_size: int, classes: int, hidden: Sequence[int] = (), features: int | None = None
) -> int:
    """Count the multiply-adds of convolutions and head (see `parameters`) in a forward pass of one square image."""
    widths = (features or feature_channels(arch), *hidden, classes)
    return _backbone(arch, image_size)[0] + sum(inputs * outputs for inputs, outputs in pairwise(widths))


def _backbone(arch: Architecture, image_size: int) -> tuple[int, int]:
    """Return the multiply-adds of all convolutions, and the side of the last map."""
    convs = list(convolution_sizes(arch, image_size))
    return sum(_macs(conv, side) for conv, _, side in convs), convs[-1][2]


def convolution_sizes(arch: Architecture, image_size: int) -> Iterator[tuple[Conv, int, int]]:
    """Yield every convolution as `convolutions` does, with the sides of its input and of its output map."""
    stem = stem_conv(arch)
    size = ceil(image_size / stem.stride)
    yield stem, image_size, size
    if arch.stem == "imagenet":
        size = ceil(size / 2)
    for block in blocks(arch):
        here = size
        for conv in block.convs:
            before, here = here, ceil(here / conv.stride)
            yield conv, before, here
        if isinstance(block.shortcut, Conv):
            yield block.shortcut, size, here
        size = here


def _macs(conv: Conv, output_size: int) -> int:
    return conv.kernel**2 * conv.inputs * conv.outputs * output_size**2


def unpaired(parameters: int, reference: int) -> str:
    """Say by how many parameters a network differs from its twin: `+173,824 parameters (+1.5 %)`, empty if by none."""
    extra = parameters - reference
    sign = "−" if extra < 0 else "+"
    return f"{sign}{abs(extra):,} parameters ({sign}{100 * abs(extra) / reference:.1f} %)" if extra else ""


def catalogue() -> Iterator[dict[str, Any]]:
    """Yield every published network, its trainable parameters and its multiply-adds at its native size.

    Basic blocks have no 1x1: there v1 and v1.5 are one network under two names, both of which are legal.
    """
    for family, depths in (("imagenet", tuple(IMAGENET_STAGES)), ("cifar", CIFAR_DEPTHS)):
        size, classes = NATIVE[family]
        for depth, variant, shortcut in product(depths, VARIANTS, SHORTCUTS):
            arch = Architecture(family, depth, shortcut, variant, 1.0, resolve_stem("auto", family, size))
            yield {
                "name": f"{family}-{depth}-{shortcut}-{variant}",
                "family": family,
                "depth": depth,
                "shortcut": shortcut,
                "variant": variant,
                "image_size": size,
                "classes": classes,
                "parameters": parameters(arch, classes),
                "multiply_adds": multiply_adds(arch, size, classes),
            }
