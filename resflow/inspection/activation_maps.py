"""The places of an image that a trained network answers by: activation maps by stage, and Grad-CAM."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resflow.inspection.network import Network
from resflow.quiet_tensorflow import keras, tf

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class ActivationMaps:
    """Maps of n images in one network, and its answers.

    `stages` has, by stage, maps (n, h, w) of the mean activation over channels, each image's scaled to 0..1; `cam` is
    Grad-CAM's map (n, h, w) for the `answer` (n,) with its `probability` (n,).
    """

    stages: dict[str, Maps]
    cam: Maps
    answer: NDArray[np.int64]
    probability: NDArray[np.float32]


def stage_outputs(model: keras.Model) -> dict[str, Any]:
    """Map each stage to the tensor after its last block, in order."""
    outputs = {}
    for layer in model.layers:
        if match := re.fullmatch(r"(stage\d+)_block\d+", layer.name):
            outputs[match[1]] = layer.output
    return outputs


def compute_maps(network: Network, images: NDArray[np.uint8]) -> ActivationMaps:
    """Run images, uint8 (n, size, size, 3), through a network; n should be small, all maps are in memory at once.

    Grad-CAM is Selvaraju et al. 2017 (arXiv 1610.02391), eqs. 1 and 2: the last stage's channels, weighted by the mean
    over places of the answer's gradient, summed, and what is below zero left out.
    """
    outputs = stage_outputs(network.model)
    last = list(outputs)[-1]
    inside = keras.Model(network.model.input, {**outputs, "logits": network.model.output})
    with tf.GradientTape() as tape:
        values = inside(network.normalise(tf.constant(images)), training=False)
        logits = tf.cast(values["logits"], tf.float32)
        answer = tf.argmax(logits, axis=1)
        score = tf.reduce_sum(tf.gather(logits, answer, axis=1, batch_dims=1))
    gradient = tf.cast(tape.gradient(score, values[last]), tf.float32)
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * tf.cast(values[last], tf.float32), axis=-1))
    probabilities = tf.nn.softmax(logits)
    return ActivationMaps(
        stages={name: _scale(tf.reduce_mean(tf.cast(values[name], tf.float32), axis=-1).numpy()) for name in outputs},
        cam=_scale(cam.numpy()),
        answer=answer.numpy(),
        probability=tf.gather(probabilities, answer, axis=1, batch_dims=1).numpy(),
    )


def _scale(maps: Maps) -> Maps:
    """Scale each map from its own lowest to its own highest value; one that is the same everywhere is 0."""
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    scaled: Maps = np.divide(maps - low, spread, out=np.zeros_like(maps), where=spread > 0)
    return scaled
