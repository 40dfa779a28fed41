"""The loss around a trained network, along random directions (Li et al. 2018, arXiv 1712.09913)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resflow.inspection.network import Network
from resflow.quiet_tensorflow import keras, tf

BATCH = 128


def draw_directions(model: keras.Model, seed: int, count: int) -> list[dict[str, NDArray[np.float32]]]:
    """Draw directions with filter normalisation, by layer: each filter as long as the network's own (section 4).

    Kernels alone have one: biases, gammas and betas stay where they are, as in the paper. A layer's draws are keyed by
    (seed, number, its name), so that a plain net and its residual twin go the same way.
    """
    directions = []
    for number in range(count):
        direction = {}
        for layer in model.layers:
            kernel = getattr(layer, "kernel", None)
            if kernel is None:
                continue
            value = kernel.numpy()
            key = [seed, zlib.crc32(f"{number} {layer.name}".encode())]
            draws = np.random.Generator(np.random.Philox(key=key)).standard_normal(value.shape, dtype=np.float32)
            axes = tuple(range(value.ndim - 1))  # a filter is an output channel
            own, length = (np.sqrt(np.square(x).sum(axis=axes, keepdims=True)) for x in (value, draws))
            direction[layer.name] = draws * own / np.maximum(length, 1e-12)
        directions.append(direction)
    return directions


def compute_losses(
    network: Network,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    points: Sequence[tuple[float, ...]],
    seed: int,
) -> Iterator[float]:
    """Compute the cross-entropy (nats, inference mode) of images at w + Σ step · direction, for each of `points`.

    The network has its own weights again at the end.
    """
    model = network.model
    kernels = {layer.name: layer.kernel for layer in model.layers if getattr(layer, "kernel", None) is not None}
    start = {name: kernel.numpy() for name, kernel in kernels.items()}
    directions = draw_directions(model, seed, max(map(len, points)))
    try:
        for point in points:
            for name, kernel in kernels.items():
                steps = zip(point, directions, strict=False)
                kernel.assign(sum((step * direction[name] for step, direction in steps), start=start[name]))
            yield _loss(network, images, labels)
    finally:
        for name, kernel in kernels.items():
            kernel.assign(start[name])


def _loss(network: Network, images: Any, labels: Any) -> float:
    total = 0.0
    for first in range(0, len(images), BATCH):
        batch = labels[first : first + BATCH]
        logits = network.logits(tf.constant(images[first : first + BATCH]))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch, tf.cast(logits, tf.float32))
        total += float(tf.reduce_sum(losses))
    return total / len(images)


def line_steps(points: int, reach: float = 1.0) -> list[tuple[float, ...]]:
    """Return steps from -reach to reach, an odd number of them so that the network itself is one."""
    return [(float(step),) for step in np.linspace(-reach, reach, points)]


def plane_steps(points: int, reach: float = 1.0) -> list[tuple[float, ...]]:
    """Return the steps of a square grid of points, from -reach to reach along both directions."""
    steps = np.linspace(-reach, reach, points)
    return [(float(x), float(y)) for y in steps for x in steps]
