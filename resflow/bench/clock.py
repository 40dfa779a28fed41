"""The timing of training, one way for every contender. Standard library only: PyTorch may live in another Python."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BATCHES = 16  # in memory; a pass over them is the contenders' epoch
LEAST_STEPS = 10
WARM_STEPS = 3


def time_training(
    train: Callable[[int], object], batch_size: int, least_seconds: float, batches: int = BATCHES
) -> dict[str, float]:
    """Measure `train(steps)`, which makes one pass of at most `batches` steps and returns when they are done.

    Returns images_per_s over whole passes that last at least `least_seconds` and LEAST_STEPS steps, both
    counted, and compile_s, by how much the very first step was slower than a later one.
    """
    first = _seconds(train, 1)
    warm = min(WARM_STEPS, batches)
    step = _seconds(train, warm) / warm
    steps = min(batches, max(LEAST_STEPS, math.ceil(least_seconds / step)))
    step_count, start = 0, time.perf_counter()
    seconds = 0.0
    while step_count < LEAST_STEPS or seconds < least_seconds:
        train(steps)
        step_count += steps
        seconds = time.perf_counter() - start
    return {
        "images_per_s": step_count * batch_size / seconds,
        "compile_s": max(0.0, first - seconds / step_count),
        "steps": step_count,
        "seconds": seconds,
    }


def _seconds(train: Callable[[int], object], steps: int) -> float:
    start = time.perf_counter()
    train(steps)
    return time.perf_counter() - start
