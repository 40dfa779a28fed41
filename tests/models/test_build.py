"""The networks as Keras builds them: the tables' counts, twins that differ in their shortcuts alone, initial values."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_architectures import CIFAR, IMAGENET

from resflow import architectures
from resflow.architectures import SHORTCUTS, STEMS, VARIANTS, Architecture, blocks
from resflow.models.build import build_network, fold, initialise
from resflow.models.layers import BatchNorm, Convolution, ZeroPadShortcut, subsampled

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
CLASSES = 7
DEEP = [(18, "v2"), (50, "v1.5")]


def architecture(depth: int, shortcut: str, variant: str = "v1.5", stem: str = "imagenet") -> Architecture:
    family, width = ("imagenet", 0.0625) if depth in IMAGENET else ("cifar", 0.125)
    return Architecture(family, depth, shortcut, variant, width, stem)


def built(arch: Architecture, size: int = 16, seed: int | None = None, lowering: str = "native") -> keras.Model:
    keras.backend.clear_session()
    model = build_network(arch, size, CLASSES, lowering)
    if seed is not None:
        initialise(model, seed)
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}


def trainable(model: keras.Model) -> int:
    return sum(prod(weight.shape) for weight in model.trainable_weights)


def measured_multiply_adds(model: keras.Model) -> int:
    """Counted on the built layers: a kernel is applied at every position of its output."""
    return sum(
        prod(layer.kernel.shape) * prod(layer.output.shape[1:3] if isinstance(layer, Convolution) else ())
        for layer in model.layers
        if isinstance(layer, Convolution | keras.layers.Dense)
    )


EVERY = list(itertools.product((*IMAGENET, 8, *(d for d in CIFAR if d < 200)), SHORTCUTS, VARIANTS, STEMS))
# every shortcut, variant and stem with every kind of block; others, and deeper nets of the same blocks, are long
QUICK = [(8, *one) for one in zip(SHORTCUTS, ("v1", "v1.5") * 2, STEMS * 2, strict=True)]
QUICK += [(18, *one) for one in zip(SHORTCUTS, ("v1.5", "v1") * 2, STEMS[::-1] * 2, strict=True)]
QUICK += [(50, "none", "v1", "imagenet"), (50, "zero_pad", "v1.5", "low_resolution")]
QUICK += [(50, "projection", "v1", "low_resolution"), (50, "projection_all", "v1.5", "imagenet")]
QUICK += [(8, shortcut, "v2", "low_resolution") for shortcut in SHORTCUTS]
QUICK += [(50, shortcut, "v2", "imagenet") for shortcut in ("none", "projection")]


def agrees_with_its_table(depth: int, shortcut: str, variant: str, stem: str) -> None:
    arch = architecture(depth, shortcut, variant, stem)
    size = 16 + depth % 17  # odd and even maps
    model = built(arch, size)
    assert trainable(model) == architectures.parameters(arch, CLASSES)
    assert measured_multiply_adds(model) == architectures.multiply_adds(arch, size, CLASSES)
    assert model.output_shape == (None, CLASSES)


@pytest.mark.parametrize(("depth", "shortcut", "variant", "stem"), QUICK)
def test_closed_forms_equal_the_built_network(depth: int, shortcut: str, variant: str, stem: str) -> None:
    agrees_with_its_table(depth, shortcut, variant, stem)


@pytest.mark.long
@pytest.mark.parametrize(("depth", "shortcut", "variant", "stem"), [one for one in EVERY if one not in QUICK])
def test_closed_forms_equal_every_built_network(depth: int, shortcut: str, variant: str, stem: str) -> None:
    agrees_with_its_table(depth, shortcut, variant, stem)


@pytest.mark.parametrize(
    ("depth", "stem", "size", "sides"),
    [
        (18, "imagenet", 224, [56, 28, 14, 7]),
        pytest.param(50, "imagenet", 224, [56, 28, 14, 7], marks=pytest.mark.long),
        (50, "low_resolution", 32, [32, 16, 8, 4]),
        (18, "imagenet", 75, [19, 10, 5, 3]),
        (20, "low_resolution", 32, [32, 16, 8]),
    ],
)
def test_map_of_each_stage(depth: int, stem: str, size: int, sides: list[int]) -> None:
    arch = architecture(depth, "projection", stem=stem)
    model = built(arch, size)
    last = {block.name.split("_")[0]: block for block in blocks(arch)}
    shapes = [model.get_layer(block.name).output.shape[1:] for block in last.values()]
    assert shapes == [(side, side, block.convs[-1].outputs) for side, block in zip(sides, last.values(), strict=True)]


def feeds(model: keras.Model) -> dict[str, list[str]]:
    """A layer's name -> the names of the layers that feed it; an addition stands for its main branch."""

    def source(tensor: Any) -> str:
        layer = tensor._keras_history.operation
        return source(layer.input[0]) if isinstance(layer, keras.layers.Add) else layer.name

    shortcuts = (keras.layers.Add, keras.layers.InputLayer, ZeroPadShortcut)
    return {
        layer.name: [source(tensor) for tensor in tf.nest.flatten(layer.input)]
        for layer in model.layers
        if not isinstance(layer, shortcuts)
    }


def configs(model: keras.Model) -> dict[str, dict[str, Any]]:
    kept = (layer for layer in model.layers if not isinstance(layer, keras.layers.Add | ZeroPadShortcut))
    return {layer.name: {"class": type(layer).__name__, **layer.get_config()} for layer in kept}


@pytest.mark.parametrize(
    ("depth", "variant"),
    [(8, "v1.5"), (8, "v2"), (18, "v1.5"), (50, "v2"), *(pytest.param(*one, marks=pytest.mark.long) for one in DEEP)],
)
def test_a_plain_net_and_its_twin_differ_in_shortcuts_alone(depth: int, variant: str) -> None:
    plain, twin = (built(architecture(depth, shortcut, variant), 16, seed=3) for shortcut in ("none", "zero_pad"))
    assert configs(plain) == configs(twin)
    assert feeds(plain) == feeds(twin)
    assert trainable(plain) == trainable(twin)
    before, after = values(plain), values(twin)
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    count = len(list(blocks(architecture(depth, "zero_pad"))))
    assert sum(isinstance(layer, keras.layers.Add) for layer in twin.layers) == count
    assert not any(isinstance(layer, keras.layers.Add | ZeroPadShortcut) for layer in plain.layers)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    assert not np.allclose(plain(images), twin(images))  # the shortcuts do something


def test_projections_add_layers_and_leave_the_others_as_they_were() -> None:
    plain, twin = (built(architecture(50, shortcut), 16, seed=3) for shortcut in ("none", "projection_all"))
    shared, more = values(plain), values(twin)
    assert shared.keys() < more.keys()
    assert all("_shortcut" in name for name in more.keys() - shared.keys())
    assert all(np.array_equal(shared[name], more[name]) for name in shared)


@pytest.mark.parametrize("depth", [8, pytest.param(50, marks=pytest.mark.long)])
def test_without_shortcuts_v2_is_the_plain_net(depth: int) -> None:
    """He et al. 2016, section 4.1: without an addition it does not matter which convolution a normalisation is of."""
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    outputs = {
        shortcut: [
            built(architecture(depth, shortcut, variant), 32, seed=3)(images, training=True).numpy()
            for variant in ("v1.5", "v2")
        ]
        for shortcut in ("none", "zero_pad")
    }
    np.testing.assert_allclose(*outputs["none"], rtol=1e-4, atol=1e-5)
    assert not np.allclose(*outputs["zero_pad"], rtol=0.1, atol=0.01)


def test_v2_normalises_before_each_convolution_and_leaves_identities_untouched() -> None:
    model = built(architecture(50, "projection", "v2"), 16)
    above = feeds(model)
    assert above["stem_bn"] == ["stem"]
    assert above["stage1_block1_conv1"] == ["stem_pool"]  # behind the stem's ReLU
    assert above["stage1_block1_shortcut"] == ["stem_pool"]
    for conv, before in (("conv1", "stage1_block3"), ("conv2", "conv1"), ("conv3", "conv2")):
        source = before if conv == "conv1" else f"stage2_block1_{before}"
        assert above[f"stage2_block1_{conv}_bn"] == [source]
        assert above[f"stage2_block1_{conv}"] == [f"stage2_block1_{conv}_relu"]
    assert above["stage2_block1_shortcut"] == ["stage2_block1_conv1_relu"]  # of another shape: pre-activated
    identity = model.get_layer("stage2_block2_add").input[1]
    assert identity._keras_history.operation.name == "stage2_block1"
    assert above["pool"] == ["last_relu"]
    assert not [layer.name for layer in model.layers if layer.name.endswith("_shortcut_bn")]


@pytest.mark.parametrize("depth", [8, pytest.param(50, marks=pytest.mark.long)])
def test_with_zero_gamma_a_block_begins_as_its_shortcut(depth: int) -> None:
    plain_start, zeroed = (
        built(replace(architecture(depth, "projection"), zero_gamma=asked), 16, seed=3) for asked in (False, True)
    )
    last = {f"{block.convs[-1].name}_bn/gamma" for block in blocks(architecture(depth, "projection"))}
    before, after = values(plain_start), values(zeroed)
    for name, value in after.items():
        assert np.array_equal(value, np.zeros_like(value) if name in last else before[name])
    second = zeroed.get_layer("stage1_block2" if depth == 50 else "stage1_block1")  # their shortcuts are identities
    ahead = zeroed.get_layer("stage1_block1" if depth == 50 else "stem_pool")
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    kept, given = keras.Model(zeroed.input, [second.output, ahead.output])(images)
    assert np.array_equal(kept, given)
    assert np.abs(given).max() > 0


def test_initial_values_depend_on_seed_and_layer_name_alone() -> None:
    first, again, other = (values(built(architecture(8, "projection"), 16, seed)) for seed in (3, 3, 4))
    deeper = values(built(architecture(20, "projection"), 32, 3))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(np.array_equal(first[name], deeper[name]) for name in first)
    kernels = [name for name in first if name.endswith("/kernel")]
    assert not any(np.array_equal(first[name], other[name]) for name in kernels)
    flat = [first[name].ravel()[:16].tobytes() for name in kernels]
    assert len(set(flat)) == len(flat)  # no two layers start alike
    for name, value in first.items():
        if name not in kernels:
            assert np.array_equal(value, np.full_like(value, name.endswith(("gamma", "moving_variance"))))


def test_kernels_have_the_variance_of_he_et_al() -> None:
    """Var = 2 / fan_in (1 / fan_in in the head), within 5 standard errors of a normal sample's variance."""
    model = built(Architecture("cifar", 8, "projection", "v1.5", 2.0, "low_resolution"), 16, seed=11)
    checked = 0
    for name, value in values(model).items():
        if name.endswith("/kernel"):
            gain, fan_in = (1 if name == "head/kernel" else 2), prod(value.shape[:-1])
            assert abs(value.var() * fan_in / gain - 1) < 5 * np.sqrt(2 / value.size)
            assert abs(value.mean()) < 5 * np.sqrt(gain / fan_in / value.size)
            checked += 1
    assert checked == 1 + 3 * 2 + 2 + 1  # stem, blocks, projections, head
    # The stream is part of the numerics: another one needs another NUMERICS_VERSION.
    generator = np.random.Generator(np.random.Philox(key=[11, zlib.crc32(b"stem")]))
    draws = generator.standard_normal((3, 3, 3, 32), dtype=np.float32)
    assert np.array_equal(values(model)["stem/kernel"], draws * np.float32(np.sqrt(2 / 27)))


@pytest.mark.parametrize(
    ("variant", "shortcut", "left"), [("v1.5", "projection", 0), ("v1", "none", 0), ("v2", "projection", 3)]
)
def test_folding_changes_rounding_alone(variant: str, shortcut: str, left: int) -> None:
    """Every batch norm after a convolution is folded; `left` of v2's stand after a sum."""
    arch = Architecture("cifar", 8, shortcut, variant, 1.0, "low_resolution")
    model = built(arch, 16, seed=3)
    draw = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    for weight in (weight for layer in norms for weight in layer.weights):
        weight.assign(draw.uniform(0.5, 1.5, weight.shape))
    images = draw.standard_normal((4, 16, 16, 3)).astype(np.float32)
    before = model(images, training=False).numpy()
    fold(model)
    assert sum(not layer.folded for layer in norms) == left
    after = model(images, training=False).numpy()
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * before.std())


def outputs_and_gradients(layer: Any, images: np.ndarray, kernel: np.ndarray) -> list[np.ndarray]:
    inputs = tf.constant(images)
    layer(inputs)
    convolution = layer.layers[-1] if isinstance(layer, keras.Sequential) else layer
    convolution.kernel.assign(kernel)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        loss = tf.reduce_sum(outputs * _weights(outputs))
    return [t.numpy() for t in (outputs, *tape.gradient(loss, [inputs, convolution.kernel.value]))]


def _weights(outputs: Any) -> Any:
    return tf.reshape(tf.sin(tf.cast(tf.range(tf.size(outputs)), tf.float32)), tf.shape(outputs))


@given(
    kernel=st.sampled_from([1, 3, 7]),
    stride=st.sampled_from([1, 2]),
    size=st.integers(1, 11),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_lowerings_equal_a_padded_keras_convolution(
    kernel: int, stride: int, size: int, channels: tuple[int, int], batch: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(batch, size, size, channels[0])).astype(np.float32)
    weights = draw.normal(size=(kernel, kernel, *channels)).astype(np.float32)
    padded = keras.Sequential([
        keras.layers.ZeroPadding2D(kernel // 2),
        keras.layers.Conv2D(channels[1], kernel, stride, padding="valid", use_bias=False),
    ])  # fmt: skip
    expected = outputs_and_gradients(padded, images, weights)
    for lowering in ("native", "table"):
        layer = Convolution(channels[1], kernel, stride, lowering)
        for mine, theirs in zip(outputs_and_gradients(layer, images, weights), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * max(1, np.abs(theirs).max()))
        assert layer.compute_output_shape(images.shape) == expected[0].shape


@pytest.mark.parametrize("depth", [8, 50])
def test_lowerings_give_one_network(depth: int) -> None:
    images = np.random.default_rng(0).normal(size=(2, 17, 17, 3)).astype(np.float32)
    native, table = (
        built(architecture(depth, "projection"), 17, 5, lowering)(images) for lowering in ("native", "table")
    )
    np.testing.assert_allclose(native, table, rtol=1e-4, atol=1e-5)


@given(size=st.integers(1, 11), stride=st.integers(1, 3), channels=st.integers(1, 4))
@settings(max_examples=30)
def test_a_subsampled_map_is_its_strided_slice(size: int, stride: int, channels: int) -> None:
    inputs = tf.constant(np.random.default_rng(size).normal(size=(2, size, size, channels)).astype(np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        kept, expected = subsampled(inputs, stride), inputs[:, ::stride, ::stride]
    assert np.array_equal(kept, expected)
    slopes = [tape.gradient(outputs, inputs, _weights(expected)) for outputs in (kept, expected)]
    assert np.array_equal(*slopes)


def test_option_a_by_hand() -> None:
    """Every second pixel from the first one on; one zero channel before and two after two real ones."""
    x = np.arange(2 * 3 * 3 * 2, dtype=np.float32).reshape(2, 3, 3, 2) + 1
    layer = ZeroPadShortcut(5, 2)
    out = layer(x).numpy()
    assert out.shape == layer.compute_output_shape(x.shape) == (2, 2, 2, 5)
    assert out[0].tolist() == [[[0, 1, 2, 0, 0], [0, 5, 6, 0, 0]], [[0, 13, 14, 0, 0], [0, 17, 18, 0, 0]]]
    assert np.array_equal(out[1][..., 1:3], x[1, ::2, ::2])
    assert not layer.weights


@pytest.mark.parametrize("shortcut", ["zero_pad", "projection"])
def test_a_saved_network_loads_to_the_same_logits(shortcut: str, tmp_path: Path) -> None:
    model = built(architecture(50, shortcut), 16, 2, "table")
    model.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    assert np.array_equal(model(images), loaded(images))
    assert [layer.get_config() for layer in loaded.layers] == [layer.get_config() for layer in model.layers]
