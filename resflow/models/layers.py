"""Layers that Keras lacks: convolution and batch norm as fast on CPUs as TensorFlow can, option A, keyed dropout."""

from __future__ import annotations

import functools
from math import ceil
from typing import Any

from resflow.architectures import pool_padding
from resflow.quiet_tensorflow import keras, tf

# A file of the user's, keras.json, says otherwise where there is one.
keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")
keras.config.set_epsilon(1e-7)


def lowered(kernel: int, output_size: int) -> str:
    """Say how `lowering: table` computes a convolution on CPUs: `native` or `product`. Static shapes alone decide.

    `native` is TensorFlow's convolution, `product` is matrix products. Where the crossover lies was measured with
    `resflow bench convolution` (results/bench/): a 1x1 convolution is a matrix product already; of larger kernels
    oneDNN's convolutions win, but where a map has so few pixels that its blocks stay empty, at any number of
    channels. Changing this needs a new NUMERICS_VERSION.
    """
    return "product" if kernel == 1 or output_size <= 2 else "native"


@keras.saving.register_keras_serializable(package="resflow")
class Convolution(keras.layers.Layer):
    """Convolution without bias over (n, size, size, channels) that pads kernel // 2 zeros on every side.

    Keras' `padding="same"` pads a strided convolution on the right and bottom only; He et al.'s nets, and
    every public set of their weights, pad both sides. The kernel has Keras' own shape
    (kernel, kernel, inputs, outputs). `lowering` is `native` or `table`, see `lowered`.
    """

    def __init__(self, filters: int, kernel: int, stride: int, lowering: str = "native", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.stride, self.lowering = filters, kernel, stride, lowering

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")

    def call(self, inputs: Any) -> Any:
        output_size = ceil(inputs.shape[1] / self.stride)
        if self.lowering == "table" and lowered(self.kernel_size, output_size) == "product":
            return product(inputs, self.kernel, self.stride)
        return convolution(inputs, self.kernel, self.stride)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return _strided_shape(input_shape, self.stride, self.filters)

    def get_config(self) -> dict[str, Any]:
        own = {
            "filters": self.filters,
            "kernel": self.kernel_size,
            "stride": self.stride,
            "lowering": self.lowering,
        }
        return {**super().get_config(), **own}


def convolution(inputs: Any, kernel: Any, stride: int) -> Any:
    """Convolve as TensorFlow does, with kernel.shape[0] // 2 zeros on every side.

    Never with a list of paddings: TensorFlow hands those to its own backward kernels instead of oneDNN's, which made
    a training step of ResNet-18 five times slower. SAME is the same padding where the stride is 1.
    """
    pad = [kernel.shape[0] // 2] * 2
    if stride == 1 or pad[0] == 0:
        return tf.nn.conv2d(inputs, kernel, stride, "SAME")
    return tf.nn.conv2d(tf.pad(inputs, [[0, 0], pad, pad, [0, 0]]), kernel, stride, "VALID")


def product(inputs: Any, kernel: Any, stride: int) -> Any:
    """Compute the sums of `convolution` as matrix products: one of all pixels for a 1x1 kernel, else one a pixel.

    A pixel's product is of the inputs under the kernel, (n, taps * channels), and the taps above them: padding is
    neither made nor multiplied, of nine taps one is left on a map of one pixel.
    """
    k, channels, filters, side = kernel.shape[0], kernel.shape[2], kernel.shape[3], inputs.shape[1]
    if k == 1:
        sampled = subsampled(inputs, stride)
        size = sampled.shape[1]
        sums = tf.matmul(tf.reshape(sampled, (-1, channels)), tf.reshape(kernel, (channels, filters)))
        return tf.reshape(sums, (-1, size, size, filters))
    starts = [o * stride - k // 2 for o in range(ceil(side / stride))]  # where each output's first tap lies
    spans = [(start, max(0, -start), min(k, side - start)) for start in starts]  # and the taps that lie on the map
    pixels = []
    for y, top, bottom in spans:
        for x, left, right in spans:
            taps = (bottom - top, right - left)
            patch = tf.slice(inputs, (0, y + top, x + left, 0), (-1, *taps, channels))
            part = tf.slice(kernel, (top, left, 0, 0), (*taps, channels, filters))
            length = taps[0] * taps[1] * channels
            pixels.append(tf.matmul(tf.reshape(patch, (-1, length)), tf.reshape(part, (length, filters))))
    return tf.reshape(tf.stack(pixels, axis=1), (-1, len(spans), len(spans), filters))


def subsampled(inputs: Any, stride: int) -> Any:
    """Take every `stride`-th pixel of a square map, from the first one on.

    It is a slice of a reshaped map: the gradient of a slice is a padding, that of a strided slice takes TensorFlow
    several times as long on CPUs.
    """
    if stride == 1:
        return inputs
    side, channels = inputs.shape[1], inputs.shape[3]
    size = ceil(side / stride)
    if extra := size * stride - side:
        inputs = tf.pad(inputs, ((0, 0), (0, extra), (0, extra), (0, 0)))
    cells = tf.reshape(inputs, (-1, size, stride, size, stride * channels))
    return tf.reshape(tf.slice(cells, (0, 0, 0, 0, 0), (-1, size, 1, size, channels)), (-1, size, size, channels))


@keras.saving.register_keras_serializable(package="resflow")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation over all but the last axis (Ioffe and Szegedy 2015, arXiv 1502.03167), in one fused kernel.

    Weights, their names and their order are those of Keras' BatchNormalization, and so is inference. In training
    the moving variance takes the unbiased variance of the batch, as PyTorch's does; Keras' own layer takes the
    biased one. A layer that is not trainable, or `frozen`, stays in inference mode; `folded` into the convolution
    before it (`build.fold`), it adds its beta and no more.
    """

    frozen = False  # set where a graph is traced; not `trainable`, which Keras hands on to the weights
    folded = False

    def __init__(self, momentum: float, epsilon: float, gamma_initializer: Any = "ones", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def weight(name: str, initializer: Any, trainable: bool) -> Any:
            # autocast off: the kernel wants float32 statistics under mixed precision as well
            return self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=trainable,
                autocast=False,
                dtype="float32",
            )

        self.gamma = weight("gamma", self.gamma_initializer, True)
        self.beta = weight("beta", "zeros", True)
        self.moving_mean = weight("moving_mean", "zeros", False)
        self.moving_variance = weight("moving_variance", "ones", False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.folded:
            return tf.nn.bias_add(inputs, tf.cast(self.beta, inputs.dtype))
        learning = training and self.trainable and not self.frozen
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            tf.convert_to_tensor(self.moving_mean),
            tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=learning,
            exponential_avg_factor=1 - self.momentum,
        )
        if learning:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
        }
        return {**super().get_config(), **own}


def _strided_shape(shape: tuple[int | None, ...], stride: int, channels: int) -> tuple[int | None, ...]:
    batch, height, width, _ = shape
    halve = lambda side: None if side is None else ceil(side / stride)  # noqa: E731
    return (batch, halve(height), halve(width), channels)


@keras.saving.register_keras_serializable(package="resflow")
class MaxPool(keras.layers.Layer):
    """3x3 max-pooling of stride 2 that pads with zeros: right after a ReLU only.

    Zeros are as good as minus infinity there. `padding` is `both`, one pixel on every side as in PyTorch's nets, or
    `same`, TensorFlow's: of an even map, on the right and below alone. `sliced` is for XLA, which has no deterministic
    gradient of a pooling window: a chain of maxima over nine shifted slices. The outputs are equal to the bit.
    """

    def __init__(self, sliced: bool = False, padding: str = "both", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sliced, self.padding = sliced, padding

    def call(self, inputs: Any) -> Any:
        pad = [pool_padding(self.padding, inputs.shape[1]), 1]
        padded = tf.pad(inputs, [[0, 0], pad, pad, [0, 0]])
        if not self.sliced:
            return tf.nn.max_pool2d(padded, 3, 2, "VALID")
        reach = [(ceil(side / 2) - 1) * 2 + 1 for side in inputs.shape[1:3]]
        taps = [padded[:, i : i + reach[0] : 2, j : j + reach[1] : 2] for i in range(3) for j in range(3)]
        return functools.reduce(tf.maximum, taps)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return _strided_shape(input_shape, 2, input_shape[-1])  # type: ignore[arg-type]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sliced": self.sliced, "padding": self.padding}


@keras.saving.register_keras_serializable(package="resflow")
class Dropout(keras.layers.Dropout):
    """Keras' dropout, whose masks can be keyed: `drawn_from` takes (seed, step), and this layer adds its `number`.

    The same seed, step and number give the same mask in any process. Without `drawn_from` it is Keras' own layer.
    """

    def __init__(self, rate: float, number: int = 0, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.number = number
        self._key: Any = None

    def drawn_from(self, seed: Any, step: Any) -> None:
        """Key the masks of the next calls by these int64 scalars."""
        self._key = (seed, step)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self._key is None:
            return super().call(inputs, training=training)
        seed, step = self._key
        draws = tf.random.stateless_uniform(tf.shape(inputs), tf.stack([seed, step * 1000 + self.number]))
        mask = tf.cast(draws >= self.rate, inputs.dtype)
        return inputs * mask / tf.cast(1 - self.rate, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "number": self.number}


@keras.saving.register_keras_serializable(package="resflow")
class ZeroPadShortcut(keras.layers.Layer):
    """Option A of He et al. 2015, section 4.1: every `stride`-th pixel, new channels are zeros.

    The zeros are split evenly between the first and the last channels. There is nothing to train.
    """

    def __init__(self, filters: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.stride = filters, stride

    def call(self, inputs: Any) -> Any:
        channels = self.new_channels(inputs.shape)
        return tf.pad(subsampled(inputs, self.stride), [[0, 0], [0, 0], [0, 0], channels])

    def new_channels(self, shape: tuple[int | None, ...]) -> tuple[int, int]:
        """Return how many channels of zeros come before and behind those of a map (n, size, size, channels)."""
        extra = self.filters - shape[-1]  # type: ignore[operator]
        return extra // 2, extra - extra // 2

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return _strided_shape(input_shape, self.stride, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}
