"""A trained network as a .keras file of stock Keras layers alone, which any Keras opens without resflow."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resflow.architectures import pool_padding
from resflow.inspection.network import PIXELS
from resflow.models.build import feeding_layers
from resflow.models.layers import BatchNorm, Convolution, Dropout, MaxPool, ZeroPadShortcut
from resflow.quiet_tensorflow import keras
from resflow.study.pretrained import Normalisation

METADATA = "metadata.json"  # a member of every .keras file, which Keras writes and does not read


def write_keras(path: Path, model: keras.Model, normalisation: Normalisation, description: Mapping[str, Any]) -> None:
    """Write a network of `models.build` as `stock_twin`, with a description in the metadata of the file."""
    stock_twin(model, normalisation).save(path)
    saved = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w") as archive:
        for member in saved.infolist():
            content = saved.read(member)
            if member.filename == METADATA:
                content = json.dumps({**json.loads(content), **description}, ensure_ascii=False).encode()
            archive.writestr(member, content)


def stock_twin(model: keras.Model, normalisation: Normalisation) -> keras.Model:
    """Build a network's twin of stock Keras layers, with its weights and the names of its layers.

    Input: pixels of 0..255 (n, size, size, 3), uint8 or float, RGB. Output: logits (n, classes). It computes in
    float32, whatever the network was trained in.
    """
    pixels = keras.Input(model.input_shape[1:], name=PIXELS)
    variance = [deviation**2 for deviation in normalisation.deviation]
    first, *layers = model.layers
    outputs = {first.name: keras.layers.Normalization(mean=list(normalisation.mean), variance=variance)(pixels)}
    for layer in layers:
        inputs = [outputs[name] for name in feeding_layers(layer)]
        outputs[layer.name] = _apply_stock(layer, inputs[0] if len(inputs) == 1 else inputs)
    twin = keras.Model(pixels, outputs[layers[-1].name], name=model.name)
    for layer in layers:
        if layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


def _apply_stock(layer: keras.Layer, x: Any) -> Any:
    """Compute by stock layers what a layer of `models` computes."""
    match layer:
        case Convolution():
            pad = layer.kernel_size // 2
            padded = keras.layers.ZeroPadding2D(pad, name=f"{layer.name}_pad")(x) if pad else x
            conv = keras.layers.Conv2D(layer.filters, layer.kernel_size, layer.stride, use_bias=False, name=layer.name)
            return conv(padded)
        case BatchNorm():
            return keras.layers.BatchNormalization(momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name)(x)
        case MaxPool():
            padding = ((pool_padding(layer.padding, x.shape[1]), 1),) * 2
            padded = keras.layers.ZeroPadding2D(padding, name=f"{layer.name}_pad")(x)  # zeros are least after a ReLU
            return keras.layers.MaxPooling2D(3, 2, name=layer.name)(padded)
        case ZeroPadShortcut():
            return _zero_pad_shortcut(layer, x)
        case Dropout():
            return keras.layers.Dropout(layer.rate, name=layer.name)(x)
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})(x)


def _zero_pad_shortcut(layer: ZeroPadShortcut, x: Any) -> Any:
    if layer.stride > 1:  # a window of one pixel: every `stride`-th is taken as it is
        x = keras.layers.MaxPooling2D(1, layer.stride, name=f"{layer.name}_subsampled")(x)
    padding = ((0, 0), layer.new_channels(x.shape))
    # Stock layers pad the two axes of a map alone: told that channels come first, these are columns and channels.
    return keras.layers.ZeroPadding2D(padding, data_format="channels_first", name=layer.name)(x)
