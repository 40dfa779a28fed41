"""Public weights: the same arithmetic as the nets they come from, and no tensor matched by half or in silence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import public_nets
import pytest
from public_nets import FIXTURES, THIN, THIN_CLASSES, THIN_SIZE, difference
from safetensors.numpy import load_file, save_file

from resflow import models, weights
from resflow.architectures import Architecture
from resflow.data import synthetic
from resflow.errors import WeightsError
from resflow.models.layers import ZeroPadShortcut

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
TOLERANCE = 1e-4  # of the logits' standard deviation
CIFAR10 = Path(__file__).parents[2] / "shared" / "weights" / "cifar10"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet(depth: int, variant: str = "v1.5", width: float = 1.0, shortcut: str = "projection") -> Architecture:
    return Architecture("imagenet", depth, shortcut, variant, width, "imagenet")


def built(arch: Architecture, size: int, classes: int) -> keras.Model:
    keras.backend.clear_session()
    return models.build(arch, size, classes)


def thin(depth: int, **changed: Any) -> keras.Model:
    return built(replace(imagenet(depth, width=1 / THIN), **changed), THIN_SIZE, THIN_CLASSES)


def tensors(depth: int = 18) -> dict[str, np.ndarray]:
    return weights.read(FIXTURES / f"thin_resnet{depth}.safetensors")


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}


# --- the same arithmetic


@pytest.mark.parametrize("depth", public_nets.DEPTHS)
def test_logits_are_those_of_the_public_topology(depth: int) -> None:
    images = public_nets.images(2, THIN_SIZE, seed=0)
    expected = np.load(FIXTURES / "thin_logits.npz")[f"resnet{depth}"]
    model = thin(depth)
    weights.load(model, tensors(depth))
    assert difference(model(images), expected) < TOLERANCE
    assert difference(model(images[:, ::-1]), expected) > 100 * TOLERANCE  # else the test could not fail
    if depth == 50:
        stride_elsewhere = thin(depth, variant="v1")
        weights.load(stride_elsewhere, tensors(depth))
        assert difference(stride_elsewhere(images), expected) > 100 * TOLERANCE


@pytest.mark.parametrize("depth", [50, 101])
def test_logits_are_those_of_keras_own_nets(depth: int) -> None:
    images = public_nets.images(2, 64, seed=1)
    keras.backend.clear_session()
    theirs = public_nets.keras_net(depth, 64, seed=depth)
    expected, named = np.asarray(theirs(images)), public_nets.from_keras(theirs)
    model = built(imagenet(depth, "v1"), 64, 1000)
    weights.load(model, named)
    assert difference(model(images), expected) < TOLERANCE
    assert difference(model(images[:, ::-1]), expected) > 100 * TOLERANCE


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # torch's and timm's own
@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_logits_are_those_of_the_full_nets_of_torch(depth: int, library: str, tmp_path: Path) -> None:
    _import(library)
    from safetensors.torch import save_file as save_torch

    net = public_nets.torch_net(library, f"resnet{depth}")
    public_nets.randomise_torch(net, depth)
    save_torch(net.state_dict(), tmp_path / "net.safetensors")
    images = public_nets.images(2, 224, seed=2)
    model = built(imagenet(depth), 224, 1000)
    weights.load(model, weights.read(tmp_path / "net.safetensors"))
    measured = difference(model(images), public_nets.torch_logits(net, images))
    print(f"resnet{depth} of {library}: {measured:.1e}")
    assert measured < TOLERANCE


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_logits_of_v2_are_those_of_timms_pre_activation_net() -> None:
    """timm pools before the first activation, resflow after it: one number, where gammas are positive."""
    _import("timm")
    net = public_nets.torch_net("timm", "resnetv2_50")
    named = public_nets.randomise_torch(net, seed=3)
    model = built(imagenet(50, "v2"), 224, 1000)
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(_from_timm_v2(named, layer.name, weight.name))
    images = public_nets.images(2, 224, seed=2)
    measured = difference(model(images), public_nets.torch_logits(net, images))
    print(f"resnetv2_50 of timm: {measured:.1e}")
    assert measured < TOLERANCE


def _import(library: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install torch torchvision timm")
    pytest.importorskip(library, reason=f"{library} is not installed: pip install torch torchvision timm")


def _from_timm_v2(named: dict[str, np.ndarray], layer: str, weight: str) -> np.ndarray:
    part = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    if layer in ("stem", "head"):
        name = "stem.conv.weight" if layer == "stem" else f"head.fc.{'weight' if weight == 'kernel' else 'bias'}"
    elif layer in ("stem_bn", "last_bn"):
        name = f"{'stages.0.blocks.0.norm1' if layer == 'stem_bn' else 'norm'}.{part[weight]}"
    else:
        stage, block, place = re.fullmatch(r"stage(\d)_block(\d+)_(.*)", layer).groups()  # type: ignore[union-attr]
        at = f"stages.{int(stage) - 1}.blocks.{int(block) - 1}"
        kernel = "downsample.conv" if place == "shortcut" else place
        name = f"{at}.norm{place[4]}.{part[weight]}" if place.endswith("_bn") else f"{at}.{kernel}.weight"
    found = named[name][..., 0, 0] if name == "head.fc.weight" else named[name]  # timm's head is a 1x1 convolution
    return found.transpose(2, 3, 1, 0) if found.ndim == 4 else found.T


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="the public weights of shared/weights/cifar10 are not here")
@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_the_public_cifar_nets_load_and_see_what_they_are_used_to(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no CIFAR images here, but each batch norm keeps the channel means of its training images.

    Those of drawn flowers must follow them through the whole net. They do so less where option A's channels are
    padded on one side, not on both.
    """
    logits, follows = _on_flowers(depth)
    assert np.isfinite(logits).all()
    assert logits.std(axis=0).min() > 0.1
    assert follows > 0.94
    monkeypatch.setattr(ZeroPadShortcut, "call", _padded_on_one_side)
    assert _on_flowers(depth)[1] < follows - 0.05


def _on_flowers(depth: int) -> tuple[np.ndarray, float]:
    """Logits of 60 flowers, and the mean correlation over all batch norms of channel means with stored ones."""
    model = built(Architecture("cifar", depth, "zero_pad", "v1.5", 1.0, "low_resolution"), 32, 10)
    weights.load(model, weights.read(CIFAR10 / f"resnet{depth}.safetensors"))
    flowers = np.stack([synthetic.picture(0, "test", index, 32) for index in range(60)])
    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    seen = keras.Model(model.input, [model.output, *(norm.input for norm in norms)])
    logits, *maps = seen(((flowers / 255 - MEAN) / DEVIATION).astype(np.float32))
    pairs = [(np.mean(maps, axis=(0, 1, 2)), norm.moving_mean) for maps, norm in zip(maps, norms, strict=True)]
    return np.asarray(logits), float(np.mean([np.corrcoef(mean, stored)[0, 1] for mean, stored in pairs]))


def _padded_on_one_side(layer: ZeroPadShortcut, inputs: Any) -> Any:
    extra = layer.filters - inputs.shape[-1]
    return keras.ops.pad(inputs[:, :: layer.stride, :: layer.stride], [[0, 0], [0, 0], [0, 0], [0, extra]])


# --- names and shapes


def test_every_tensor_lands_in_its_place() -> None:
    model, given = thin(18), tensors()
    weights.load(model, given)
    held = values(model)
    assert np.array_equal(held["stem/kernel"], given["conv1.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(held["stem_bn/moving_variance"], given["bn1.running_var"])
    assert np.array_equal(held["stage3_block2_conv2/kernel"], given["layer3.1.conv2.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(held["stage2_block1_shortcut_bn/beta"], given["layer2.0.downsample.1.bias"])
    assert np.array_equal(held["head/kernel"], given["fc.weight"].T)
    assert len(held) == len(given)


def test_wrapped_names_counters_and_the_name_of_the_head_are_understood(tmp_path: Path) -> None:
    given = {f"module.{name.replace('fc.', 'linear.')}": value for name, value in tensors().items()}
    save_file({**given, "module.bn1.num_batches_tracked": np.array(7)}, tmp_path / "net.safetensors")
    wrapped, usual = thin(18), thin(18)
    weights.load(wrapped, weights.read(tmp_path / "net.safetensors"))
    weights.load(usual, tensors())
    assert all(np.array_equal(value, values(usual)[name]) for name, value in values(wrapped).items())


def test_halves_are_read_as_float32() -> None:
    raw = load_file(FIXTURES / "thin_resnet18.safetensors")
    assert {value.dtype for value in raw.values()} == {np.dtype(np.float16)}
    assert {value.dtype for value in tensors().values()} == {np.dtype(np.float32)}


def test_every_mismatch_is_named_at_once_and_nothing_is_set() -> None:
    model, given = thin(18), tensors()
    before = values(model)
    del given["layer2.0.bn1.weight"], given["layer4.1.conv2.weight"]
    given |= {"layer4.2.conv1.weight": np.zeros((16, 16, 3, 3)), "fc.bias": np.zeros(11)}
    with pytest.raises(WeightsError) as error:
        weights.load(model, given)
    said = str(error.value)
    assert "these weights are not those of imagenet18_projection" in said
    assert "2 missing: layer2.0.bn1.weight, layer4.1.conv2.weight" in said
    assert "1 unexpected: layer4.2.conv1.weight" in said
    assert "1 of another shape: fc.bias (11,) for (10,)" in said
    assert all(np.array_equal(value, before[name]) for name, value in values(model).items())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"depth": 34}, "80 missing: layer1.2.conv1.weight"),
        ({"shortcut": "none"}, "15 unexpected: layer2.0.downsample.0.weight"),
        ({"width": 1 / 16}, "101 of another shape: conv1.weight (2, 3, 7, 7) for (4, 3, 7, 7)"),
        ({"stem": "low_resolution"}, "1 of another shape: conv1.weight (2, 3, 7, 7) for (2, 3, 3, 3)"),
        ({"variant": "v2"}, "expected a network of variant v1 or v1.5"),
    ],
    ids=lambda part: str(part) if isinstance(part, dict) else "",
)
def test_weights_of_another_network_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError) as error:
        weights.load(thin(18, **changed) if "depth" not in changed else thin(34), tensors())
    assert said in str(error.value)


def test_without_its_head_a_net_takes_all_the_rest_or_nothing() -> None:
    model = built(imagenet(18, width=1 / THIN), THIN_SIZE, 102)
    models.initialise(model, 1)
    before, given = values(model), tensors()
    with pytest.raises(WeightsError, match=r"2 of another shape: fc.weight \(10, 16\) for \(102, 16\)"):
        weights.load(model, given)
    weights.load(model, given, head=False)
    after = values(model)
    assert np.array_equal(after["head/kernel"], before["head/kernel"])
    assert np.array_equal(after["stem/kernel"], given["conv1.weight"].transpose(2, 3, 1, 0))
    del given["layer1.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"1 missing: layer1\.0\.conv1\.weight"):
        weights.load(model, given, head=False)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights at .*: expected a \.safetensors file"):
        weights.read(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes((FIXTURES / "thin_resnet18.safetensors").read_bytes()[:-5])
    with pytest.raises(WeightsError, match="is no readable safetensors file"):
        weights.read(tmp_path / "damaged.safetensors")
    header = b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "f8.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(WeightsError, match="holds numbers of a type that NumPy lacks"):
        weights.read(tmp_path / "f8.safetensors")
