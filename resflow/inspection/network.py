"""A kept network as a Keras model again, to export it to other programs and to predict photos with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resflow import atomic
from resflow.data.decode import DECODE_VERSION, Decoded
from resflow.errors import WeightsError
from resflow.models.build import build_network
from resflow.quiet_tensorflow import keras, tf
from resflow.training import scoring
from resflow.weights import files
from resflow.weights.description import TrainedNetwork
from resflow.weights.load import find_weights, load_weights
from resflow.weights.saved import (
    ABOUT,
    KEPT,
    KERAS,
    MODEL,
    SavedNetwork,
    is_export,
    read_description,
    whole,
    write_network,
    writing,
)

BATCH = 32  # photos in a forward pass
PREPROCESSING = (
    "decode the first frame, apply its EXIF orientation, put transparency on white, convert to RGB (16-bit grey: "
    "divided by 257)",
    "take the largest centred square",
    "resample it to image_size x image_size by Lanczos, antialiased (Pillow's resize); a photo of that size stays as "
    "it is",
    "as float32 (images, rows, columns, channels) with pixels of 0 to 255: (pixel - mean) / deviation, a channel each",
)
OUTPUT = "logits, float32 (images, classes) in the order of classes; their softmax is the probabilities"


@dataclass(frozen=True)
class Network:
    """A trained network.

    `model` takes normalised images (n, size, size, 3); `logits` takes uint8 ones as decoded, which `normalise` turns
    into those.
    """

    model: keras.Model
    classes: tuple[str, ...]
    logits: Callable[[Any], Any]
    normalise: Callable[[Any], Any]


def rebuild_network(source: SavedNetwork) -> Network:
    """Build the network of a file. Raises WeightsError where the file does not hold the network that it describes."""
    model = _load_keras(source) if source.path.suffix == KERAS else _build(source)
    # Variables, as in training: of constants TensorFlow would make other sums, with other last bits.
    mean, deviation = (
        tf.Variable(np.array(values, np.float32), trainable=False)
        for values in (source.network.normalisation.mean, source.network.normalisation.deviation)
    )
    size = source.network.image_size

    def normalise(images: Any) -> Any:
        return (tf.cast(images, tf.float32) - mean) / deviation

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


def export_network(source: SavedNetwork, folder: Path, suffixes: Sequence[str], force: bool = False) -> list[Path]:
    """Write the network in each form, and last model.json: each file whole or not at all; return them all.

    A form that an export of another network left in the folder goes: a folder holds one network. Raises WeightsError
    where the disk refuses, or where there is no more than a Keras file to start from, and ResflowError where the folder
    holds files of these names that are no export: with `force` they are replaced, or removed.
    """
    if source.path.suffix == KERAS:
        raise WeightsError(f"{source.path} is exported already: expected RUN/TRIAL or a {KEPT} file.")
    names = [folder / f"{MODEL}{suffix}" for suffix in (KEPT, KERAS, ABOUT)]
    atomic.refuse_to_replace(names, force, ours=is_export)
    model = rebuild_network(source).model
    _clear_other(folder, source.network)
    paths = [folder / f"{MODEL}{suffix}" for suffix in suffixes]
    for path in paths:
        if path.suffix == KEPT:
            write_network(path, model, source.network)
        else:
            with whole(path) as draft:
                model.save(draft)
    rules = {"preprocessing": PREPROCESSING, "output": OUTPUT, "decode_version": DECODE_VERSION}
    there = [path for path in names[:2] if path.is_file()]
    digests = {"files": {path.name: files.sha256(path) for path in there}}  # by which `is_export` knows them
    description = {"format": "resflow", **source.network.model_dump(mode="json"), **rules, **digests}
    text = json.dumps(description, indent=1, ensure_ascii=False)
    paths.append(folder / f"{MODEL}{ABOUT}")
    with whole(paths[-1]) as draft:
        draft.write_text(f"{text}\n", encoding="utf-8")
    return paths


def _clear_other(folder: Path, network: TrainedNetwork) -> None:
    """Remove the files of another network."""
    with suppress(WeightsError):
        if read_description(folder / f"{MODEL}{ABOUT}") == network:
            return
    for path in (folder / f"{MODEL}{suffix}" for suffix in (KEPT, KERAS)):
        with writing(path):
            path.unlink(missing_ok=True)


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
