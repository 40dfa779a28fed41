"""Public weights: the same arithmetic as the nets they come from, and no tensor matched by half or in silence."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from support import public_nets
from support.public_nets import FIXTURES, THIN_CLASSES, THIN_SIZE, difference
from support.weight_nets import (
    built,
    equal,
    fixture,
    found,
    imagenet,
    tensors,
    thin,
    thin_architecture,
    values,
    written,
)

from resflow.architectures import Architecture
from resflow.data.sources import synthetic
from resflow.errors import WeightsError
from resflow.models.build import build_network, initialise
from resflow.models.layers import ZeroPadShortcut
from resflow.study.settings import Head
from resflow.weights import load, names
from resflow.weights.load import Normalisation

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
TOLERANCE = 1e-4  # of the logits' standard deviation
SHARED = Path(__file__).parents[3] / "shared"
CIFAR10, IMAGENET = SHARED / "weights" / "cifar10", SHARED / "weights" / "imagenet"
FLOWERS5 = SHARED / "data" / "flowers5" / "flowers5_128.tgz"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = Normalisation((123.5, 116.25, 103.125), (58.5, 57.0, 57.5))


# --- the same arithmetic


@pytest.mark.parametrize("depth", public_nets.DEPTHS)
def test_logits_are_those_of_the_public_topology(depth: int) -> None:
    images = public_nets.images(2, THIN_SIZE, seed=0)
    expected = np.load(FIXTURES / "thin_logits.npz")[f"resnet{depth}"]
    model = thin(depth)
    load.load_weights(model, found(fixture(depth)), head=True)
    assert difference(model(images), expected) < TOLERANCE
    assert difference(model(images[:, ::-1]), expected) > 100 * TOLERANCE  # else the test could not fail
    if depth == 50:
        stride_elsewhere = thin(depth, variant="v1")
        load.load_weights(stride_elsewhere, found(fixture(depth)), head=True)
        assert difference(stride_elsewhere(images), expected) > 100 * TOLERANCE


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")  # that is what it is about
@pytest.mark.parametrize(
    ("depth", "kind"),
    [
        (50, "h5"),
        *(
            pytest.param(*more, marks=pytest.mark.long)
            for more in ((50, "npz"), (50, "weights.h5"), (101, "weights.h5"))
        ),
    ],
)
def test_logits_are_those_of_keras_own_nets(depth: int, kind: str, tmp_path: Path) -> None:
    images = public_nets.images(2, 64, seed=1)
    keras.backend.clear_session()
    theirs = public_nets.keras_net(depth, 64, seed=depth)
    path = tmp_path / f"net.{kind}"
    if kind == "npz":
        np.savez(path, **public_nets.from_keras(theirs))
    else:
        theirs.save_weights(path) if kind == "weights.h5" else theirs.save(path)
    expected = np.asarray(theirs(images))
    pretrained = found(path)
    assert pretrained.variant == (None if kind == "npz" else "v1")
    model = built(imagenet(depth, "v1"), 64, 1000)
    load.load_weights(model, pretrained, head=True)
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
    load.load_weights(model, found(tmp_path / "net.safetensors"), head=True)
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
@pytest.mark.parametrize("depth", [20, *(pytest.param(depth, marks=pytest.mark.long) for depth in (32, 44, 56))])
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
    load.load_weights(model, found(CIFAR10 / f"resnet{depth}.safetensors"), head=True)
    flowers = np.stack([synthetic.picture(0, "test", index, 32) for index in range(60)])
    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    seen = keras.Model(model.input, [model.output, *(norm.input for norm in norms)])
    logits, *maps = seen(((flowers / 255 - MEAN) / DEVIATION).astype(np.float32))
    pairs = [(np.mean(maps, axis=(0, 1, 2)), norm.moving_mean) for maps, norm in zip(maps, norms, strict=True)]
    return np.asarray(logits), float(np.mean([np.corrcoef(mean, stored)[0, 1] for mean, stored in pairs]))


def _padded_on_one_side(layer: ZeroPadShortcut, inputs: Any) -> Any:
    extra = layer.filters - inputs.shape[-1]
    return keras.ops.pad(inputs[:, :: layer.stride, :: layer.stride], [[0, 0], [0, 0], [0, 0], [0, extra]])


@pytest.fixture(scope="module")
def imagenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not IMAGENET.is_dir():
        pytest.skip("the public weights of shared/weights/imagenet are not here")
    path = tmp_path_factory.mktemp("imagenet") / "resnet50.safetensors"
    subprocess.run([sys.executable, IMAGENET / "to_safetensors.py", path], check=True, capture_output=True)
    return path


def test_a_converted_public_file_says_what_it_is_and_fits_but_for_its_head(imagenet_file: Path) -> None:
    pretrained = found(imagenet_file, 50)
    assert (pretrained.variant, pretrained.stem_pool) == ("v1.5", "same")
    assert pretrained.normalisation == Normalisation((123.68, 116.78, 103.94), (1.0, 1.0, 1.0))
    assert pretrained.origin == "resnet50.safetensors"
    model, given = built(imagenet(50), 224, 102), load_file(imagenet_file)
    initialise(model, 1)
    before = values(model)
    load.load_weights(model, pretrained)
    after = values(model)
    assert np.array_equal(after["stem/kernel"], given["conv1.weight"].transpose(2, 3, 1, 0))
    kept = {name for name, value in before.items() if np.array_equal(value, after[name])}
    assert kept == {"head/kernel", "head/bias"}
    with pytest.raises(WeightsError, match=r"2 of another shape: fc.weight \(1001, 2048\) for \(102, 2048\), fc.bias"):
        load.load_weights(model, pretrained, head=True)


@pytest.mark.long
@pytest.mark.skipif(not FLOWERS5.is_file(), reason="the photos of shared/data/flowers5 are not here")
def test_a_converted_public_net_sees_daisies(imagenet_file: Path) -> None:
    """Of these photos' flowers ImageNet has daisies alone. The photos are small and enlarged, some full of people."""
    pretrained = found(imagenet_file, 50)
    model = built(replace(imagenet(50), stem_pool=pretrained.stem_pool), 224, 1001)
    load.load_weights(model, pretrained, head=True)
    photos = _daisies(24)
    assert _seen(model, photos, pretrained) > 0.35
    assert _seen(model, photos[..., ::-1], pretrained) < 0.2  # else the test could not fail


def _seen(model: keras.Model, photos: np.ndarray, pretrained: load.Pretrained) -> float:
    assert pretrained.normalisation is not None
    logits = model((photos - pretrained.normalisation.mean) / pretrained.normalisation.deviation)
    return float((np.argmax(logits, axis=1) == DAISY).mean())


DAISY = 986  # 985 of ImageNet's classes, and 0 is background


def _daisies(count: int) -> np.ndarray:
    photos = []
    with tarfile.open(FLOWERS5) as archive:
        for member in sorted(archive.getnames()):
            if "/daisy/" in f"/{member}" and member.endswith(".jpg") and len(photos) < count:
                content = np.frombuffer(archive.extractfile(member).read(), np.uint8)  # type: ignore[union-attr]
                pixels = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                photos.append(cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_CUBIC))
    return np.stack(photos).astype(np.float32)


# --- other conventions do the same in resflow's network


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
@pytest.mark.parametrize(("scale", "mean", "std"), [(1.0, [103.939, 116.779, 123.68], [1, 1, 1]),
                                                    (1 / 255, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3])])  # fmt: skip
def test_the_order_of_channels_and_the_scale_of_pixels_are_the_files(
    layout: str, scale: float, mean: list[float], std: list[float], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (2, THIN_SIZE, THIN_SIZE, 3)).astype(np.float32)
    theirs = thin(18)
    load.load_weights(theirs, found(fixture(18)), head=True)
    ordered = pixels if layout == "RGB" else pixels[..., ::-1]
    expected = np.asarray(theirs((ordered * scale - mean) / std))
    said = {"layout": layout, "scale": scale, "mean": mean, "std": std}
    pretrained = written(tmp_path, tensors(), {"input": json.dumps(said)})
    mine = thin(18)
    load.load_weights(mine, pretrained, head=True)
    assert pretrained.normalisation is not None
    seen = (pixels - pretrained.normalisation.mean) / pretrained.normalisation.deviation
    assert difference(mine(seen), expected) < TOLERANCE
    assert difference(mine(seen[..., ::-1]), expected) > 100 * TOLERANCE


def test_the_epsilon_of_batch_norm_is_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = public_nets.images(2, THIN_SIZE, seed=0)
    with monkeypatch.context() as patch:
        patch.setitem(build_network.__globals__["BATCH_NORM"], "epsilon", 0.1)
        theirs = thin(18)
    load.load_weights(theirs, found(fixture(18)), head=True)
    expected = np.asarray(theirs(images))
    mine = thin(18)
    load.load_weights(mine, written(tmp_path, tensors(), {"bn_eps": "0.1"}), head=True)
    assert difference(mine(images), expected) < TOLERANCE
    load.load_weights(mine, written(tmp_path, tensors(), {"bn_eps": "1e-5"}), head=True)
    assert difference(mine(images), expected) > 100 * TOLERANCE
    assert np.array_equal(values(mine)["stem_bn/moving_variance"], tensors()["bn1.running_var"])


# --- names and shapes


def test_every_tensor_lands_in_its_place() -> None:
    model, given = thin(18), tensors()
    load.load_weights(model, found(fixture(18)), head=True)
    held = values(model)
    assert np.array_equal(held["stem/kernel"], given["conv1.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(held["stem_bn/moving_variance"], given["bn1.running_var"])
    assert np.array_equal(held["stage3_block2_conv2/kernel"], given["layer3.1.conv2.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(held["stage2_block1_shortcut_bn/beta"], given["layer2.0.downsample.1.bias"])
    assert np.array_equal(held["head/kernel"], given["fc.weight"].T)
    assert len(held) == len(given)


def test_wrapped_names_counters_and_the_name_of_the_head_are_understood(tmp_path: Path) -> None:
    given = {f"module.{name.replace('fc.', 'linear.')}": value for name, value in tensors().items()}
    pretrained = written(tmp_path, {**given, "module.bn1.num_batches_tracked": np.array(7)})
    wrapped, usual = thin(18), thin(18)
    load.load_weights(wrapped, pretrained, head=True)
    load.load_weights(usual, found(fixture(18)), head=True)
    assert equal(values(wrapped), values(usual))


def test_every_mismatch_is_named_at_once_and_nothing_is_set(tmp_path: Path) -> None:
    model, given = thin(18), tensors()
    before = values(model)
    del given["layer2.0.bn1.weight"], given["layer4.1.conv2.weight"]
    given |= {"layer4.2.conv1.weight": np.zeros((16, 16, 3, 3), np.float32), "fc.bias": np.zeros(11, np.float32)}
    with pytest.raises(WeightsError) as error:
        load.load_weights(model, written(tmp_path, given), head=True)
    said = str(error.value)
    assert "the weights net.safetensors are not those of imagenet18_projection" in said
    assert "2 missing: layer2.0.bn1.weight, layer4.1.conv2.weight" in said
    assert "1 unexpected: layer4.2.conv1.weight" in said
    assert "1 of another shape: fc.bias (11,) for (10,)" in said
    assert equal(values(model), before)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"depth": 34}, "80 missing: layer1.2.conv1.weight"),
        ({"shortcut": "none"}, "15 unexpected: layer2.0.downsample.0.weight"),
        ({"width": 1 / 16}, "100 of another shape: conv1.weight (2, 3, 7, 7) for (4, 3, 7, 7)"),
        ({"stem": "low_resolution"}, "1 of another shape: conv1.weight (2, 3, 7, 7) for (2, 3, 3, 3)"),
        ({"variant": "v2"}, "expected a network of variant v1 or v1.5"),
    ],
    ids=lambda part: str(part) if isinstance(part, dict) else "",
)
def test_weights_of_another_network_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError) as error:
        load.load_weights(thin(18, **changed) if "depth" not in changed else thin(34), found(fixture(18)))
    assert said in str(error.value)


def test_without_its_head_a_net_takes_all_the_rest_or_nothing(tmp_path: Path) -> None:
    model = thin(18, classes=102)
    initialise(model, 1)
    before, given = values(model), tensors()
    with pytest.raises(WeightsError, match=r"2 of another shape: fc.weight \(10, 16\) for \(102, 16\)"):
        load.load_weights(model, found(fixture(18)), head=True)
    load.load_weights(model, found(fixture(18)))
    after = values(model)
    assert np.array_equal(after["head/kernel"], before["head/kernel"])
    assert np.array_equal(after["stem/kernel"], given["conv1.weight"].transpose(2, 3, 1, 0))
    del given["layer1.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"1 missing: layer1\.0\.conv1\.weight"):
        load.load_weights(model, written(tmp_path, given))


def test_in_part_what_fits_is_loaded_and_the_rest_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    model = thin(34, classes=7)
    initialise(model, 1)
    before, given = values(model), tensors()
    with pytest.raises(WeightsError, match="80 missing"):
        load.load_weights(model, found(fixture(18)))
    with caplog.at_level(logging.WARNING, "resflow.weights"):
        load.load_weights(model, found(fixture(18)), partial=True)
    after = values(model)
    assert np.array_equal(after["stage4_block2_conv2/kernel"], given["layer4.1.conv2.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(after["stage4_block3_conv2/kernel"], before["stage4_block3_conv2/kernel"])
    assert np.array_equal(after["head/kernel"], before["head/kernel"])
    assert "100 tensors of thin_resnet18.safetensors were loaded into imagenet34_projection, but not:" in caplog.text
    assert "80 missing: layer1.2.conv1.weight" in caplog.text


def test_in_part_one_tensor_at_least_must_fit(tmp_path: Path) -> None:
    model = thin(18)
    with pytest.raises(WeightsError, match="Not one tensor fits"):
        load.load_weights(model, written(tmp_path, {"layer9.weight": np.zeros(3, np.float32)}), partial=True)


# --- what resflow keeps


@pytest.mark.parametrize("changed", [{}, {"variant": "v2", "stem_pool": "same"}, {"shortcut": "zero_pad"}], ids=str)
def test_what_is_saved_is_found_and_loaded_again_to_the_bit(changed: dict[str, Any], tmp_path: Path) -> None:
    arch = thin_architecture(18, **changed)
    head = Head(hidden=(5,), dropout=0.5)
    kept, again = built(arch, THIN_SIZE, 3, head=head), built(arch, THIN_SIZE, 3, head=head)
    initialise(kept, 1)
    kept.get_layer("stem_bn").moving_mean.assign(np.full(2, 1 / 3, np.float32))
    initialise(again, 2)
    path = tmp_path / "run" / "weights" / "abc.safetensors"
    names = ["rose", "fire lily", "tulipán"]
    load.save_weights(
        kept, path, normalisation=PLAIN, architecture=asdict(arch), class_names=names, extra={"seed": "1"}
    )
    pretrained = load.find_weights("run:run/abc", "imagenet", 18, state=tmp_path)
    assert pretrained.origin == "run:run/abc"
    assert (pretrained.normalisation, pretrained.variant) == (PLAIN, arch.variant)
    assert pretrained.stem_pool == arch.stem_pool
    load.load_weights(again, pretrained, head=True)
    assert equal(values(again), values(kept))
    with safe_open(path, "np") as file:
        said = file.metadata()
    assert (said["format"], said["seed"], json.loads(said["classes"])) == ("resflow", "1", names)
    assert json.loads(said["network"]) == asdict(arch)
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_weights_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(path: Path) -> None:
        load.save_weights(thin(18), path, normalisation=PLAIN, architecture=asdict(thin_architecture(18)))

    path = tmp_path / "net.safetensors"
    path.write_text("as it was")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(WeightsError, match=r"cannot write the weights .*No space left.*Free space"):
            keep(path)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(WeightsError, match="cannot write the weights"):
        keep(path / "below" / "a file.safetensors")


def _full(handle: int) -> None:
    raise OSError(28, "No space left on device")


def test_metadata_of_the_callers_own_replaces_none_of_resflows(tmp_path: Path) -> None:
    arch = thin_architecture(18)
    with pytest.raises(ValueError, match="cannot replace format"):
        load.save_weights(
            thin(18), tmp_path / "net", normalisation=PLAIN, architecture=asdict(arch), extra={"format": "mine"}
        )


@pytest.mark.parametrize(
    "setting",
    ["run:", "run:one", "run:/abc", "run:one/", "run:../abc", "run:one/..", "run:one/two/three", "run:a\\b/c"],
)
def test_a_run_and_a_trial_have_plain_names(setting: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected run:RUN/TRIAL with the plain names"):
        load.find_weights(setting, "imagenet", 18, state=tmp_path)


def test_weights_that_a_run_did_not_keep_are_explained(tmp_path: Path) -> None:
    (tmp_path / "one" / "weights").mkdir(parents=True)
    (tmp_path / "one" / "weights" / "1a2b3c.safetensors").touch()
    with pytest.raises(WeightsError, match=r"no weights of trial 1a2b4c.*mean '1a2b3c'.*keep_weights=last"):
        load.find_weights("run:one/1a2b4c", "imagenet", 18, state=tmp_path)


# --- what is loaded is what was found


def test_a_file_that_has_changed_since_it_was_found_is_not_loaded(tmp_path: Path) -> None:
    pretrained = written(tmp_path, tensors())
    written(tmp_path, {**tensors(), "fc.bias": np.ones(THIN_CLASSES, np.float32)})
    with pytest.raises(WeightsError, match="has changed since it was planned with"):
        load.load_weights(thin(18), pretrained)
    again = written(tmp_path, tensors())
    assert again == pretrained
    (tmp_path / "net.safetensors.json").write_text('{"bn_eps": 0.1}')
    with pytest.raises(WeightsError, match="has changed since it was planned with"):
        load.load_weights(thin(18), pretrained)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    pretrained = written(tmp_path, tensors())
    pretrained.path.unlink()
    with pytest.raises(WeightsError, match="no weights at"):
        load.load_weights(thin(18), pretrained)


def test_the_fixtures_are_halves_and_are_read_as_float32() -> None:
    raw = load_file(FIXTURES / "thin_resnet18.safetensors")
    assert {value.dtype for value in raw.values()} == {np.dtype(np.float16)}
    model = thin(18)
    load.load_weights(model, found(fixture(18)), head=True)
    assert np.array_equal(values(model)["head/bias"], raw["fc.bias"].astype(np.float32))


@pytest.mark.parametrize(
    "arch",
    [
        thin_architecture(18),
        thin_architecture(18, variant="v2", shortcut="projection_all"),
        thin_architecture(50, variant="v2"),
        thin_architecture(34, shortcut="zero_pad"),
        thin_architecture(50, variant="v1"),
        thin_architecture(18, stem="low_resolution"),
    ],
    ids=str,
)
def test_the_shapes_that_are_known_before_a_network_is_built_are_its_own(arch: Architecture) -> None:
    model = built(arch, THIN_SIZE, 3)
    shapes = [tuple(w.shape) for layer in model.layers if not names.is_head(layer.name) for w in layer.weights]
    assert sorted(shapes) == sorted(load.tensor_shapes(arch))


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_a_file_fits_its_own_network_and_no_other(depth: int) -> None:
    misfits = {d: load.find_misfits(found(fixture(depth), depth), thin_architecture(d)) for d in (18, 34, 50)}
    assert [d for d, said in misfits.items() if not said] == [depth]
    assert "have no place in the network" in load.find_misfits(found(fixture(34), 34), thin_architecture(18))
