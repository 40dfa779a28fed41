"""A trained network as an ONNX graph, node by node from the layers of `models`.

Written by `onnx.helper` alone. The converter that Keras calls, tf2onnx 1.17, lacks TensorFlow's Erfc: it writes a
network with GELU in its head as a file that no runtime loads, and raises no error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resflow.architectures import pool_padding
from resflow.errors import MissingExtraError
from resflow.inspection.network import PIXELS
from resflow.models.build import feeding_layers
from resflow.models.layers import BatchNorm, Convolution, MaxPool, ZeroPadShortcut
from resflow.quiet_tensorflow import keras
from resflow.study.pretrained import Normalisation

OPSET, IR = 20, 9  # of ONNX 1.15, the first with Gelu: runtimes of 2024 and later read them
LOGITS = "logits"  # the output's name
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
ACTIVATIONS = {"relu": "Relu", "elu": "Elu", "gelu": "Gelu", "tanh": "Tanh"}


def import_onnx() -> Any:
    """Import onnx. Raises MissingExtraError where it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            "--format onnx needs the package onnx, which this installation lacks. Install it with: "
            "pip install 'resflow[onnx]', or '.[onnx]' in a clone."
        ) from error
    return onnx


def write_onnx(path: Path, model: keras.Model, normalisation: Normalisation, description: Mapping[str, Any]) -> None:
    """Write a network of `models.build`, with a description among the properties of the file.

    Input: `pixels`, float32 (n, size, size, 3), 0..255, RGB. Output: `logits`, float32 (n, classes).
    """
    onnx = import_onnx()
    graph = _Graph(onnx)
    _, height, width, channels = model.input_shape
    classes = model.output_shape[-1]
    graph.add_network(model, normalisation)
    tensor = onnx.TensorProto.FLOAT
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            model.name,
            [onnx.helper.make_tensor_value_info(PIXELS, tensor, ("n", height, width, channels))],
            [onnx.helper.make_tensor_value_info(LOGITS, tensor, ("n", classes))],
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="resflow",
    )
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in description.items()}
    onnx.helper.set_model_props(proto, texts)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path)


class _Graph:
    """Nodes and constants as they are added; a layer's output has the layer's name."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add_network(self, model: keras.Model, normalisation: Normalisation) -> None:
        """Add the normalisation, every layer, and the names of the whole network's input and output."""
        first, *layers = model.layers
        centred = self.add("Sub", [PIXELS, self.constant("mean", normalisation.mean)], "centred")
        scaled = self.add("Div", [centred, self.constant("deviation", normalisation.deviation)], "scaled")
        self.add("Transpose", [scaled], first.name, perm=TO_CHANNELS_FIRST)
        for layer in layers:
            self._add_layer(layer, feeding_layers(layer))
        self.add("Identity", [layers[-1].name], LOGITS)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant tensor and return its name."""
        array = np.ascontiguousarray(values, dtype)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def _add_layer(self, layer: keras.Layer, inputs: list[str]) -> None:
        name = layer.name
        match layer:
            case Convolution():
                self._add_convolution(layer, inputs)
            case BatchNorm():
                weights = [self.constant(f"{name}/{weight.name}", weight.numpy()) for weight in layer.weights]
                self.add("BatchNormalization", [*inputs, *weights], name, epsilon=layer.epsilon)
            case MaxPool():
                pads = [pool_padding(layer.padding, layer.input.shape[1])] * 2 + [1, 1]
                self.add("MaxPool", inputs, name, kernel_shape=[3, 3], strides=[2, 2], pads=pads)
            case ZeroPadShortcut():
                self._add_zero_pad(layer, inputs)
            case keras.layers.GlobalAveragePooling2D():
                mean = self.add("GlobalAveragePool", inputs, f"{name}_map")
                self.add("Flatten", [mean], name)
            case keras.layers.Flatten():
                channels_last = self.add("Transpose", inputs, f"{name}_map", perm=TO_CHANNELS_LAST)
                self.add("Flatten", [channels_last], name)
            case keras.layers.Dense():
                self._add_dense(layer, inputs)
            case keras.layers.ReLU():
                self.add("Relu", inputs, name)
            case keras.layers.Add():
                self.add("Add", inputs, name)
            case keras.layers.Dropout() | keras.layers.Identity():
                self.add("Identity", inputs, name)
            case _:
                raise TypeError(f"{name} is a {type(layer).__name__}: no node of ONNX is written for such a layer")

    def _add_convolution(self, layer: Convolution, inputs: list[str]) -> None:
        kernel = self.constant(f"{layer.name}/kernel", layer.kernel.numpy().transpose(3, 2, 0, 1))
        side, stride, pad = layer.kernel_size, layer.stride, layer.kernel_size // 2
        shape = {"kernel_shape": [side, side], "strides": [stride, stride], "pads": [pad] * 4}
        self.add("Conv", [*inputs, kernel], layer.name, **shape)

    def _add_zero_pad(self, layer: ZeroPadShortcut, inputs: list[str]) -> None:
        strides = {"kernel_shape": [1, 1], "strides": [layer.stride, layer.stride]}
        subsampled = self.add("MaxPool", inputs, f"{layer.name}_subsampled", **strides)
        before, behind = layer.new_channels(layer.input.shape)
        pads = self.constant(f"{layer.name}/pads", [0, before, 0, 0, 0, behind, 0, 0], np.int64)
        self.add("Pad", [subsampled, pads], layer.name)

    def _add_dense(self, layer: keras.layers.Dense, inputs: list[str]) -> None:
        weights = [self.constant(f"{layer.name}/{weight.name}", weight.numpy()) for weight in layer.weights]
        activation = keras.activations.serialize(layer.activation)
        sums = layer.name if activation == "linear" else f"{layer.name}_sums"
        self.add("Gemm", [*inputs, *weights], sums)
        if sums != layer.name:
            self.add(ACTIVATIONS[activation], [sums], layer.name)
