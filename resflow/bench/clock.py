"""The timing of training, one way for every contender. Standard library only: PyTorch may live in another Python."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

BATCHES = 16  # in memory; a pass over them is the contenders' epoch
LEAST_STEPS = 10
WARM_STEPS = 3
EVALUATION_BATCH = 256  # images


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


def time_passes(run: Callable[[], object], images: int, least_seconds: float) -> dict[str, float]:
    """Measure whole passes over so many images, where `run` makes one and returns when it is done.

    The first pass compiles and the second warms up; the others, as many as last `least_seconds`, count. compile_s is
    by how much the first was slower than one of those.
    """
    first, _ = _seconds(lambda _: run(), 1), run()
    passes, start, seconds = 0, time.perf_counter(), 0.0
    while passes == 0 or seconds < least_seconds:
        run()
        passes += 1
        seconds = time.perf_counter() - start
    return {
        "images_per_s": passes * images / seconds,
        "compile_s": max(0.0, first - seconds / passes),
        "passes": passes,
        "seconds": seconds,
    }


def input_wait(alone: float, fed: Sequence[float]) -> dict[str, float]:
    """Return the part of its time that a device waits for input, from the seconds of the same steps without any.

    `fed` are the seconds of the steps of each epoch that was timed, the first two left out, which compile and warm up.
    """
    return {"input_wait": max(0.0, 1 - alone / statistics.median(fed[2:] or fed))}


def _seconds(train: Callable[[int], object], steps: int) -> float:
    start = time.perf_counter()
    train(steps)
    return time.perf_counter() - start
