"""Both ways of computing each kind of convolution: the table of lowerings in `models.layers` rests on them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np

from resflow.bench import process
from resflow.models.layers import convolution, lowered, product
from resflow.study.settings import Execution
from resflow.training import train  # sets TensorFlow's environment as for a trial

import tensorflow as tf  # isort: skip

BATCH = 32
LEAST_RUNS = 5
# (kernel, stride, input channels, filters, input map): stages of ResNet-18 to 101 at full and quarter width, at 64
# pixels, and the large maps of their 1x1 convolutions at 224
SHAPES = [
    *[(3, 1, c, c, m) for c, m in ((64, 16), (128, 8), (256, 4), (512, 2), (512, 1))],
    *[(3, 1, c, c, m) for c, m in ((16, 16), (64, 4), (128, 2), (64, 2))],
    *[(3, 2, c, 2 * c, m) for c, m in ((64, 16), (128, 8), (256, 4), (512, 2), (16, 16), (64, 4), (128, 2))],
    *[(1, 1, 64, 256, 16), (1, 1, 512, 128, 8), (1, 1, 1024, 256, 4), (1, 1, 2048, 512, 2), (1, 1, 512, 2048, 1)],
    *[(1, 1, 16, 64, 16), (1, 1, 256, 64, 4), (1, 1, 128, 512, 2)],
    *[(1, 2, 256, 512, 16), (1, 2, 512, 1024, 8), (1, 2, 1024, 2048, 4), (1, 2, 512, 1024, 2), (1, 2, 128, 256, 4)],
    *[(1, 1, 64, 256, 56), (1, 1, 512, 128, 28), (1, 1, 16, 64, 56), (1, 2, 256, 512, 56)],
]


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure GFLOP/s of forward and backward pass by shape and lowering, for `seconds` each at least."""
    train.configure(Execution(device="cpu", threads=spec["threads"]))
    return {"shapes": [_measure(*shape, spec["seconds"]) for shape in SHAPES], "batch_size": BATCH}


def _measure(kernel: int, stride: int, channels: int, filters: int, side: int, seconds: float) -> dict[str, Any]:
    size = ceil(side / stride)
    draw = np.random.default_rng(0)
    inputs, weights, slope = (
        tf.constant(draw.standard_normal(shape, dtype=np.float32))
        for shape in ((BATCH, side, side, channels), (kernel, kernel, channels, filters), (BATCH, size, size, filters))
    )
    flops = 3 * 2 * kernel**2 * channels * filters * size**2 * BATCH  # of all taps, those on padding included
    ways: dict[str, Callable[..., Any]] = {"native": convolution, "product": product}
    return {
        "kernel": kernel,
        "stride": stride,
        "channels": channels,
        "filters": filters,
        "map": side,
        "chosen": lowered(kernel, size),
        "gflops": {
            name: flops / _seconds(way, inputs, weights, slope, stride, seconds) / 1e9 for name, way in ways.items()
        },
    }


def _seconds(way: Callable[..., Any], inputs: Any, weights: Any, slope: Any, stride: int, least: float) -> float:
    @tf.function
    def both(inputs: Any, weights: Any, slope: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            outputs = way(inputs, weights, stride)
        return tape.gradient(outputs, [inputs, weights], slope)

    for _ in range(3):
        both(inputs, weights, slope)
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < least:
        start = time.perf_counter()
        both(inputs, weights, slope)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    process.answer(job)
