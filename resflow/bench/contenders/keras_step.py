"""An opponent of resflow's step: the same network of stock Keras layers, trained by `fit` on images in memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resflow.architectures import Architecture, Block, Conv, blocks, stem_conv
from resflow.bench import process
from resflow.bench.clock import BATCHES, time_training

layers = keras.layers
AHEAD = 2  # batches


def build_network(arch: Architecture, image_size: int, classes: int, l2: float = 0.0) -> keras.Model:
    """Build the tables of `architectures` of stock layers, under resflow's layer names.

    It computes what `models.build.build_network` computes. `l2` > 0 adds l2 |w|^2 of every kernel to the loss.
    """
    penalty = keras.regularizers.L2(l2) if l2 else None
    net = build_backbone(arch, image_size, penalty)
    head = layers.Dense(classes, dtype="float32", kernel_regularizer=penalty, name="head")
    return keras.Model(net.input, head(layers.GlobalAveragePooling2D()(net.output)))


def build_backbone(arch: Architecture, image_size: int, penalty: Any = None) -> keras.Model:
    """Build all layers before the head; the output is the last map. Variants v1 and v1.5.

    Padding is explicit only where Keras' `same` would be lopsided, as in keras.applications.
    """

    def convolved(x: Any, conv: Conv) -> Any:
        padding = "same"
        if conv.kernel > 1 and conv.stride > 1:
            x, padding = layers.ZeroPadding2D(conv.kernel // 2)(x), "valid"
        x = layers.Conv2D(
            conv.outputs,
            conv.kernel,
            conv.stride,
            padding,
            use_bias=False,
            kernel_regularizer=penalty,
            name=conv.name,
        )(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{conv.name}_bn")(x)

    def block(x: Any, table: Block) -> Any:
        shortcut = x
        for conv in table.convs[:-1]:
            x = layers.ReLU()(convolved(x, conv))
        x = convolved(x, table.convs[-1])
        if isinstance(table.shortcut, Conv):
            shortcut = convolved(shortcut, table.shortcut)
        elif table.shortcut == "zero_pad":
            extra = table.convs[-1].outputs - shortcut.shape[-1]
            thinned = shortcut[:, :: table.stride, :: table.stride]
            shortcut = keras.ops.pad(thinned, [[0, 0], [0, 0], [0, 0], [extra // 2, extra - extra // 2]])
        if table.shortcut != "none":
            x = layers.Add()([x, shortcut])
        return layers.ReLU()(x)

    inputs = keras.Input((image_size, image_size, 3))
    x = layers.ReLU()(convolved(inputs, stem_conv(arch)))
    if arch.stem == "imagenet":
        x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for table in blocks(arch):
        x = block(x, table)
    return keras.Model(inputs, x)


def make_batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return arrays as batches in their order, for `fit` and `evaluate`; the last one may be smaller.

    Keras itself feeds arrays through tf.data's autotuning, with which a short `fit` took 1.1 to 1.4 times as long under
    TensorFlow 2.21: `resflow bench step --all` measures both.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    rows = tf.data.Dataset.from_tensor_slices((images, labels))
    return rows.batch(batch_size).prefetch(AHEAD).with_options(options)


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Train for a while, on arrays unless `dataset`; `jit` is `compile`'s jit_compile, stock is "auto"."""
    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(spec["threads"])
    keras.mixed_precision.set_global_policy(spec["precision"])
    arch, size, batch_size, classes = Architecture(**spec["arch"]), spec["size"], spec["batch_size"], spec["classes"]
    model = build_network(arch, size, classes)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=spec.get("jit", "auto"),
    )
    draw = np.random.default_rng(0)
    images = draw.standard_normal((BATCHES * batch_size, size, size, 3), dtype=np.float32)
    labels = draw.integers(0, classes, len(images))

    def train(steps: int) -> None:
        part = slice(steps * batch_size)
        if spec.get("dataset"):
            model.fit(make_batches(images[part], labels[part], batch_size), shuffle=False, verbose=0)
        else:
            model.fit(images[part], labels[part], batch_size, epochs=1, verbose=0)
        model.trainable_variables[-1].numpy()  # of the last step: a GPU may still be at it when `fit` returns

    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return {**time_training(train, batch_size, spec["seconds"]), "parameters": parameters, "keras": keras.__version__}


if __name__ == "__main__":
    process.answer(job)
