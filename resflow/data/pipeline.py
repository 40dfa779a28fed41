"""From the decoded cache to batches: order, augmentation and prefetching, all drawn from (seed, epoch, image).

Nothing here keeps random state. An epoch's order is one permutation keyed by (seed, epoch); the view of
image i is row i of a table keyed by (seed, epoch). Arms of one seed therefore see the same images in the
same order under the same transformations, and any epoch can be made again by itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from resflow.data.dataset import Dataset
from resflow.settings import Augmentation

EVALUATION_BATCH = 256
PREFETCH = 4


def generator(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """The stream of draws of one epoch for one purpose."""
    bits = np.random.Philox(key=[seed, zlib.crc32(purpose.encode())], counter=[0, 0, 0, epoch])
    return np.random.Generator(bits)


def order(seed: int, epoch: int, images: int) -> np.ndarray:
    """The permutation of the training images in one epoch, int64 (images,)."""
    return generator(seed, epoch, "order").permutation(images)


def views(augmentation: Augmentation, seed: int, epoch: int, images: int, size: int) -> np.ndarray | None:
    """One projective transformation an image, float32 (images, 8), None where nothing is augmented.

    Rows are TensorFlow's ImageProjectiveTransformV3: they map output pixels to input pixels. Flip, rotation,
    shear, zoom and shift are composed about the image's centre before anything is sampled, so an image is
    interpolated once.
    """
    if augmentation == Augmentation():
        return None
    # A fixed number of draws an image: switching one transformation on leaves the others' draws alone.
    draws = generator(seed, epoch, "views").random((images, 7))
    signed = 2 * draws - 1
    mirror = np.where(augmentation.flip & (draws[:, 0] < 0.5), -1.0, 1.0)
    angle = np.deg2rad(augmentation.rotation) * signed[:, 1]
    shear = augmentation.shear * signed[:, 2]
    scale = 1 / (1 + augmentation.zoom * signed[:, 3])
    reach = 2 * augmentation.crop_padding + 1
    shift_x, shift_y = (np.floor(draws[:, column] * reach) - augmentation.crop_padding for column in (4, 5))
    cos, sin = np.cos(angle), np.sin(angle)
    # rotation @ shear @ scale, its first column mirrored; (x, y) are measured from the centre
    a, b = scale * cos * mirror, scale * (cos * shear - sin)
    c, d = scale * sin * mirror, scale * (sin * shear + cos)
    centre = (size - 1) / 2
    e = centre + shift_x - (a + b) * centre
    f = centre + shift_y - (c + d) * centre
    zero = np.zeros(images)
    return np.stack([a, b, e, c, d, f, zero, zero], axis=1).astype(np.float32)


def transform(images: Any, rows: Any) -> Any:
    """Apply `views` to a uint8 batch (n, size, size, 3): bilinear, edge pixels repeated outside."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=rows,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def training_batches(
    dataset: Dataset, augmentation: Augmentation, seed: int, epoch: int, batch_size: int, threads: int
) -> Iterator[tuple[Any, Any]]:
    """Yield an epoch's (uint8 images, int64 labels) in batches of one size.

    What does not fill a last batch is left out of this epoch; the next one draws another order.
    """
    n = len(dataset.train)
    steps = n // batch_size
    chosen = order(seed, epoch, n)[: steps * batch_size].reshape(steps, batch_size)
    table = views(augmentation, seed, epoch, n, dataset.image_size)
    index = dataset.train[chosen]
    batches = tf.data.Dataset.from_tensor_slices((index, dataset.labels[index]))
    batches = batches.map(lambda i, y: (_gather(dataset, i), y), num_parallel_calls=threads, deterministic=True)
    if table is not None:
        rows = tf.data.Dataset.from_tensor_slices(table[chosen])
        batches = tf.data.Dataset.zip(batches, rows).map(
            lambda batch, row: (transform(batch[0], row), batch[1]),
            num_parallel_calls=threads,
            deterministic=True,
        )
    return iter(_bounded(batches, threads))


def evaluation_batches(dataset: Dataset, part: np.ndarray, threads: int) -> Iterator[Any]:
    """Yield the images of a part in its order, uint8, in batches of EVALUATION_BATCH, the last one padded.

    One size means one graph; the caller drops what lies beyond `len(part)`.
    """
    missing = -len(part) % EVALUATION_BATCH
    index = np.concatenate([part, np.repeat(part[-1:], missing)]).reshape(-1, EVALUATION_BATCH)
    batches = tf.data.Dataset.from_tensor_slices(index)
    batches = batches.map(lambda i: _gather(dataset, i), num_parallel_calls=threads, deterministic=True)
    return iter(_bounded(batches, threads))


def _gather(dataset: Dataset, index: Any) -> Any:
    images = tf.numpy_function(lambda i: dataset.images[i], [index], tf.uint8, stateful=False)
    images.set_shape([index.shape[0], dataset.image_size, dataset.image_size, 3])
    return images


def _bounded(batches: Any, threads: int) -> Any:
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = False
    return batches.prefetch(PREFETCH).with_options(options)


def channel_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over the training images, float32 (3,), in 0..255."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for start in range(0, len(dataset.train), EVALUATION_BATCH):
        pixels = dataset.images[dataset.train[start : start + EVALUATION_BATCH]].reshape(-1, 3).astype(np.float64)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
        count += len(pixels)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # a channel without contrast stays finite
    return mean.astype(np.float32), deviation.astype(np.float32)
