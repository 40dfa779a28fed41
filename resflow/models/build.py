"""One builder for every network: the blocks of `architectures` as a Keras model.

A plain net is this builder with `shortcut: none`. It and its residual twin have the same layers under the
same names; `initialise` draws a layer's values from (seed, layer name), so twins also start from the same
values.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np

from resflow.architectures import Architecture, Block, Conv, blocks, stem_conv
from resflow.models.layers import BatchNorm, Convolution, Dropout, MaxPool, ZeroPadShortcut
from resflow.quiet_tensorflow import keras
from resflow.study.settings import Head

LINEAR = Head()
LAST = 9  # beyond every stage's number
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}  # as in the public PyTorch nets; 0.99 is too slow for short runs


def build_network(
    arch: Architecture,
    image_size: int,
    classes: int,
    lowering: str = "native",
    jit: bool = False,
    head: Head = LINEAR,
) -> keras.Model:
    """Build the network, by default with a linear head on global average pooling.

    Input: float32 (n, image_size, image_size, 3), normalised. Output: logits (n, classes). A block's
    output has the block's name, `stage<i>_block<j>`: its last ReLU, in v2 its sum. `jit` says that XLA will compile
    it, which wants the pooling written another way.
    """
    inputs = keras.Input((image_size, image_size, 3), name="image")
    features = _backbone(inputs, arch, lowering, jit)
    outputs = _head(features if head.pooling == "flatten" else _pool(features), classes, head)
    return keras.Model(inputs, outputs, name=f"{arch.family}{arch.depth}_{arch.shortcut}")


def build_backbone(arch: Architecture, image_size: int, lowering: str = "native", jit: bool = False) -> keras.Model:
    """Build all before the head. Outputs: the last map (n, size, size, channels), and its average (n, channels)."""
    inputs = keras.Input((image_size, image_size, 3), name="image")
    features = _backbone(inputs, arch, lowering, jit)
    return keras.Model(inputs, [features, _pool(features)], name=f"{arch.family}{arch.depth}_backbone")


def build_head(shape: tuple[int, ...], classes: int, head: Head) -> keras.Model:
    """Build the head alone, over features of one image of `shape`: pooled, or the whole map where it flattens."""
    inputs = keras.Input(shape, name="features")
    return keras.Model(inputs, _head(inputs, classes, head), name="head_only")


def stage_of(layer: str) -> int | None:
    """Return the stage of a layer by its name: 0 for the stem, 1 to 4 for a stage, None for the head.

    v2's last normalisation belongs to the last stage, whichever that is: LAST.
    """
    match = re.match(r"stem|last_|stage(\d)_", layer)
    if match is None:
        return None
    return LAST if match[0] == "last_" else int(match[1] or 0)


def _backbone(x: Any, arch: Architecture, lowering: str, jit: bool) -> Any:
    x = _conv_bn(x, stem_conv(arch), lowering)
    x = keras.layers.ReLU(name="stem_relu")(x)
    if arch.stem == "imagenet":
        x = MaxPool(sliced=jit, padding=arch.stem_pool, name="stem_pool")(x)
    for block in blocks(arch):
        x = _block_v2(x, block, lowering) if arch.variant == "v2" else _block(x, block, lowering, arch.zero_gamma)
    return _bn_relu(x, "last") if arch.variant == "v2" else x


def _pool(x: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _head(x: Any, classes: int, head: Head) -> Any:
    if head.pooling == "flatten":
        x = keras.layers.Flatten(name="flatten")(x)
    for number, width in enumerate((*head.hidden, classes), start=1):
        if head.dropout:
            x = Dropout(head.dropout, number, name=f"head_dropout{number}")(x)
        last = number > len(head.hidden)
        activation, name = (None, "head") if last else (head.activation, f"head_hidden{number}")
        x = keras.layers.Dense(width, activation, dtype="float32" if last else None, name=name)(x)
    return x


def _conv_bn(x: Any, conv: Conv, lowering: str, gamma: str = "ones") -> Any:
    x = Convolution(conv.outputs, conv.kernel, conv.stride, lowering, name=conv.name)(x)
    return BatchNorm(**BATCH_NORM, gamma_initializer=gamma, name=f"{conv.name}_bn")(x)


def _bn_relu(x: Any, name: str) -> Any:
    x = BatchNorm(**BATCH_NORM, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _block(x: Any, block: Block, lowering: str, zero_gamma: bool) -> Any:
    shortcut = x
    for conv in block.convs[:-1]:
        x = keras.layers.ReLU(name=f"{conv.name}_relu")(_conv_bn(x, conv, lowering))
    x = _conv_bn(x, block.convs[-1], lowering, "zeros" if zero_gamma else "ones")
    if isinstance(block.shortcut, Conv):
        shortcut = _conv_bn(shortcut, block.shortcut, lowering)
    return keras.layers.ReLU(name=block.name)(_add_shortcut(x, shortcut, block))


def _block_v2(x: Any, block: Block, lowering: str) -> Any:
    """Add a block of v2. An identity carries the block's input untouched, another shortcut its pre-activation."""
    shortcut = x
    for conv in block.convs:
        if conv.norm == "before":
            x = _bn_relu(x, conv.name)
        if conv is block.convs[0] and block.shortcut != "identity":
            shortcut = x
        x = Convolution(conv.outputs, conv.kernel, conv.stride, lowering, name=conv.name)(x)
    if isinstance(block.shortcut, Conv):
        project = block.shortcut
        shortcut = Convolution(project.outputs, project.kernel, project.stride, lowering, name=project.name)(shortcut)
    return keras.layers.Identity(name=block.name)(_add_shortcut(x, shortcut, block))


def _add_shortcut(x: Any, shortcut: Any, block: Block) -> Any:
    if block.shortcut == "none":
        return x
    if block.shortcut == "zero_pad":
        shortcut = ZeroPadShortcut(block.convs[-1].outputs, block.stride, name=f"{block.name}_shortcut")(shortcut)
    return keras.layers.Add(name=f"{block.name}_add")([x, shortcut])


def feeding_layers(layer: Any) -> list[str]:
    """Name the layers of a built network whose outputs a layer of it takes."""
    return [tensor._keras_history.operation.name for tensor in keras.tree.flatten(layer.input)]


def initialise(model: keras.Model, seed: int) -> None:
    """Set every weight to its initial value for `seed`.

    Kernels are normal with variance 2 / fan_in (He et al. 2015, arXiv 1502.01852, eq. 10), the last layer's with
    variance 1 / fan_in since no ReLU follows it; gammas and moving variances are 1, all else 0, and so are the
    gammas that `zero_gamma` built to start there. Each kernel has a generator of its own, keyed by (seed, layer
    name): it does not matter which other layers exist.
    """
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "kernel":
                gain = 1.0 if layer.name == "head" else 2.0
                fan_in = int(np.prod(weight.shape[:-1]))
                generator = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(layer.name.encode())]))
                draws = generator.standard_normal(weight.shape, dtype=np.float32)
                weight.assign(draws * np.float32(np.sqrt(gain / fan_in)))
            elif weight.name == "gamma":
                weight.assign(layer.gamma_initializer(weight.shape))
            else:
                weight.assign(np.full(weight.shape, weight.name == "moving_variance", np.float32))


def fold(model: keras.Model) -> None:
    """Multiply each batch norm that follows a convolution into that convolution's kernel, for inference alone.

    It saves a pass over every map. Outputs are the same sums, rounded otherwise.
    """
    for layer in model.layers:
        before = layer.input._keras_history.operation if isinstance(layer, BatchNorm) else None
        if isinstance(before, Convolution):
            scale = layer.gamma.numpy() / np.sqrt(layer.moving_variance.numpy() + np.float32(layer.epsilon))
            before.kernel.assign(before.kernel.numpy() * scale)
            layer.beta.assign(layer.beta.numpy() - layer.moving_mean.numpy() * scale)
            layer.folded = True
