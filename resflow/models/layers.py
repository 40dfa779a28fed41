"""The two layers Keras lacks: a convolution with symmetric padding, and He et al.'s option A shortcut."""

from __future__ import annotations

from math import ceil
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="resflow")
class Convolution(keras.layers.Layer):
    """Convolution without bias over (n, size, size, channels) that pads kernel // 2 zeros on every side.

    Keras' `padding="same"` pads a strided convolution on the right and bottom only; He et al.'s nets, and
    every public set of their weights, pad both sides. The kernel has Keras' own shape
    (kernel, kernel, inputs, outputs).

    `lowering` says how the same sum is computed: `native` is TensorFlow's convolution; `table` writes
    kernels of 1x1 as one matrix product, since TensorFlow's backward convolution is slow for them on CPUs.
    """

    def __init__(self, filters: int, kernel: int, stride: int, lowering: str = "native", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.stride, self.lowering = filters, kernel, stride, lowering

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")

    def call(self, inputs: Any) -> Any:
        if self.lowering == "table" and self.kernel_size == 1:
            return tf.matmul(inputs[:, :: self.stride, :: self.stride], self.kernel[0, 0])
        pad = [self.kernel_size // 2] * 2
        return tf.nn.conv2d(inputs, self.kernel, self.stride, [[0, 0], pad, pad, [0, 0]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, _ = input_shape
        halve = lambda side: None if side is None else ceil(side / self.stride)  # noqa: E731
        return (batch, halve(height), halve(width), self.filters)

    def get_config(self) -> dict[str, Any]:
        mine = {
            "filters": self.filters,
            "kernel": self.kernel_size,
            "stride": self.stride,
            "lowering": self.lowering,
        }
        return {**super().get_config(), **mine}


@keras.saving.register_keras_serializable(package="resflow")
class ZeroPadShortcut(keras.layers.Layer):
    """Option A of He et al. 2015, section 4.1: every `stride`-th pixel, new channels are zeros.

    The zeros are split evenly between the first and the last channels. There is nothing to train.
    """

    def __init__(self, filters: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.stride = filters, stride

    def call(self, inputs: Any) -> Any:
        extra = self.filters - inputs.shape[-1]
        channels = [extra // 2, extra - extra // 2]
        return tf.pad(inputs[:, :: self.stride, :: self.stride], [[0, 0], [0, 0], [0, 0], channels])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, _ = input_shape
        halve = lambda side: None if side is None else ceil(side / self.stride)  # noqa: E731
        return (batch, halve(height), halve(width), self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}
