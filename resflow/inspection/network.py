"""A kept or exported network as a Keras model again, and what it predicts of photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from resflow.data.decode import Decoded
from resflow.errors import WeightsError
from resflow.models.build import build_network
from resflow.quiet_tensorflow import keras, tf
from resflow.training import scoring
from resflow.weights.load import find_weights, load_weights
from resflow.weights.saved import ABOUT, KERAS, SavedNetwork

PIXELS = "pixels"  # the input of a Keras file that normalises by itself, as exports do since 0.2
BATCH = 32  # photos in a forward pass


@dataclass(frozen=True)
class Network:
    """A trained network.

    `model` takes images (n, size, size, 3) as `normalise` makes them of uint8 ones, `logits` uint8 ones as decoded.
    """

    model: keras.Model
    classes: tuple[str, ...]
    logits: Callable[[Any], Any]
    normalise: Callable[[Any], Any]


def rebuild_network(source: SavedNetwork) -> Network:
    """Build the network of a file. Raises WeightsError where the file does not hold the network that it describes."""
    model = _load_keras(source) if source.path.suffix == KERAS else _build(source)
    is_normalising = model.inputs[0].name == PIXELS
    # Variables, as in training: of constants TensorFlow would make other sums, with other last bits.
    mean, deviation = (
        tf.Variable(np.array(values, np.float32), trainable=False)
        for values in (source.network.normalisation.mean, source.network.normalisation.deviation)
    )
    size = source.network.image_size

    def normalise(images: Any) -> Any:
        pixels = tf.cast(images, tf.float32)
        return pixels if is_normalising else (pixels - mean) / deviation

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)], autograph=False)
    def logits(images: Any) -> Any:
        return model(normalise(images), training=False)

    return Network(model, source.network.classes, logits, normalise)


def _build(source: SavedNetwork) -> keras.Model:
    network, arch = source.network, source.network.architecture
    with _policy(network.computed.precision):
        model = build_network(
            arch, network.image_size, len(network.classes), network.computed.lowering, head=network.head
        )
    load_weights(model, find_weights(str(source.path.absolute()), arch.family, arch.depth), head=True)
    return model


def _load_keras(source: SavedNetwork) -> keras.Model:
    try:
        model = keras.models.load_model(source.path, compile=False)
    except Exception as error:  # of a damaged file Keras, zipfile, json and h5py raise what they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{source.path} is no readable Keras file: {reason} Export the network again.") from error
    size, classes = source.network.image_size, len(source.network.classes)
    if (model.input_shape, model.output_shape) != ((None, size, size, 3), (None, classes)):
        raise WeightsError(
            f"{source.path} takes {model.input_shape} and gives {model.output_shape}: expected images of {size} pixels "
            f"and {classes} classes, as {source.path.with_suffix(ABOUT).name} beside it says. Export the network again."
        )
    return model


@contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Let layers that are built inside compute as they did in training; each keeps its policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def predict_photos(network: Network, photos: Sequence[Decoded], top: int) -> list[dict[str, Any]]:
    """Return a row a photo: its name, and its `top` most probable classes with their 0-based index."""
    rows = []
    for start in range(0, len(photos), BATCH):
        batch = photos[start : start + BATCH]
        logits = network.logits(np.stack([photo.pixels for photo in batch])).numpy()
        for photo, probabilities in zip(batch, np.exp(scoring.log_softmax(logits)), strict=True):
            best = np.argsort(-probabilities, kind="stable")[:top]
            rows.append(
                {
                    "image": photo.name,
                    "classes": [
                        {"class": network.classes[i], "index": int(i), "probability": float(probabilities[i])}
                        for i in best
                    ],
                }
            )
    return rows
