"""From the decoded cache to batches: order, augmentation and prefetching, all drawn from (seed, epoch, image).

Nothing here keeps random state. An epoch's order is one permutation keyed by (seed, epoch); the view of
image i is row i of a table keyed by (seed, epoch). Arms of one seed therefore see the same images in the
same order under the same transformations, and any epoch can be made again by itself.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar

import cv2
import numpy as np

from resflow.data.dataset import Dataset
from resflow.quiet_tensorflow import tf
from resflow.study.memory import EVALUATION_BATCH
from resflow.study.settings import Augmentation

PREFETCH = 4  # batches, at least
INTERPOLATION = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
cv2.setNumThreads(1)  # batches are made side by side, not the rows of one image
Batch = TypeVar("Batch")
Waiting = Callable[[], AbstractContextManager[None]]


def generator(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """Return the stream of draws of one epoch for one purpose."""
    bits = np.random.Philox(key=[seed, zlib.crc32(purpose.encode())], counter=[0, 0, 0, epoch])
    return np.random.Generator(bits)


def order(seed: int, epoch: int, images: int) -> np.ndarray:
    """Return the permutation of the training images in one epoch, int64 (images,)."""
    return generator(seed, epoch, "order").permutation(images)


def views(
    augmentation: Augmentation, seed: int, epoch: int, images: int, size: int, purpose: str = "views"
) -> np.ndarray | None:
    """Return one projective transformation an image, float32 (images, 6), None where nothing is augmented.

    Rows map an output pixel to the input pixel it is taken from, x = a x' + b y' + e and y = c x' + d y' + f, as
    (a, b, e, c, d, f). Flip, rotation, shear, zoom and shift are composed about the image's centre before anything is
    sampled, so an image is interpolated once.
    """
    if augmentation == Augmentation():
        return None
    # A fixed number of draws an image: switching one transformation on leaves the others' draws alone.
    draws = generator(seed, epoch, purpose).random((images, 7))
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
    return np.stack([a, b, e, c, d, f], axis=1).astype(np.float32)


def transform(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Apply `views` to uint8 images (n, size, size, 3): bilinear, edge pixels repeated outside, rounded to uint8.

    OpenCV and not TensorFlow's ImageProjectiveTransformV3: three to five times as fast, with the same result.
    """
    outputs = np.empty_like(images)
    for image, row, out in zip(images, rows.astype(np.float64), outputs, strict=True):
        cv2.warpAffine(image, row[:6].reshape(2, 3), image.shape[:2], out, INTERPOLATION, cv2.BORDER_REPLICATE)
    return outputs


def training_batches(
    dataset: Dataset,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    batch_size: int,
    threads: int = 1,
    waiting: Waiting = nullcontext,
) -> Iterator[tuple[Any, Any]]:
    """Yield an epoch's (uint8 images, int64 labels) in batches of one size.

    What does not fill a last batch is left out of this epoch; the next one draws another order. `threads` make
    batches side by side, and change none of them; `waiting` is that of `ahead`.
    """
    n = len(dataset.train)
    steps = n // batch_size
    positions = order(seed, epoch, n)[: steps * batch_size].reshape(steps, batch_size)
    table = views(augmentation, seed, epoch, n, dataset.image_size)

    def batch(step: int) -> tuple[Any, Any]:
        index = dataset.train[positions[step]]
        images = dataset.images[index]
        if table is not None:
            images = transform(images, table[positions[step]])
        return on_device(images), on_device(dataset.labels[index])

    return ahead(batch, steps, threads, waiting)


def evaluation_batches(
    dataset: Dataset,
    part: np.ndarray,
    table: np.ndarray | None = None,
    threads: int = 1,
    waiting: Waiting = nullcontext,
) -> Iterator[Any]:
    """Yield the images of a part in its order, uint8, in batches of EVALUATION_BATCH, the last one padded.

    One size means one graph; the caller drops what lies beyond `len(part)`. `table` has a row of `views` for each
    image of the part where they are to be augmented; `threads` and `waiting` as above.
    """
    rows = padded(len(part))

    def batch(step: int) -> Any:
        images = dataset.images[part[rows[step]]]
        return on_device(images if table is None else transform(images, table[rows[step]]))

    return ahead(batch, len(rows), threads, waiting)


def padded(images: int) -> np.ndarray:
    """Return the positions of so many images in their order as batches of EVALUATION_BATCH; the last is repeated."""
    return np.minimum(np.arange(-(-images // EVALUATION_BATCH) * EVALUATION_BATCH), images - 1).reshape(
        -1, EVALUATION_BATCH
    )


def on_device(array: np.ndarray) -> Any:
    """Return an array as a tensor in the memory of the device that computes: the first GPU of this process, or none."""
    device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    with tf.device(f"/{device}:0"):
        return tf.constant(array)


def ahead(
    make: Callable[[int], Batch], steps: int, threads: int = 1, waiting: Waiting = nullcontext
) -> Iterator[Batch]:
    """Yield make(0), make(1), … in order, made ahead by threads of their own, and by them put on the device.

    Where the next one is not ready, it is waited for within `waiting()`. Threads and not tf.data: the work lets go of
    Python's lock, a graph for it would be traced again in every epoch, and TensorFlow never gives the memory of such
    graphs back.
    """
    pool = ThreadPoolExecutor(threads, "resflow-input")
    try:
        following = iter(range(steps))
        coming = deque(pool.submit(make, step) for step in islice(following, max(PREFETCH, 2 * threads)))
        while coming:
            first = coming.popleft()
            if not first.done():
                with waiting():
                    wait([first])
            ready = first.result()
            coming.extend(pool.submit(make, step) for step in islice(following, 1))
            yield ready
    finally:
        pool.shutdown(cancel_futures=True)


def channel_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel over the training images, float32 (3,), in 0..255."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for start in range(0, len(dataset.train), EVALUATION_BATCH):
        pixels = dataset.images[dataset.train[start : start + EVALUATION_BATCH]].reshape(-1, 3).astype(np.float64)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
        count += len(pixels)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # a channel without contrast stays finite
    return mean.astype(np.float32), deviation.astype(np.float32)
