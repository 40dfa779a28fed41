"""The machine's own limit: a large matrix product by TensorFlow, in float32, and on a GPU in bfloat16 as well."""

from __future__ import annotations

import time
from typing import Any

import tensorflow as tf

from resflow.bench import process

SIDES = {"cpu": (2048, 4096), "gpu": (8192, 16384)}
REPEATS = 5


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure the best of all repeats and sides on `threads` threads, or on a GPU, in GFLOP/s."""
    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    device = spec.get("device", "cpu")
    answer = {"gflops": max(_gflops(side, tf.float32) for side in SIDES[device]), "tensorflow": tf.__version__}
    if device == "gpu":
        answer["bf16_gflops"] = max(_gflops(side, tf.bfloat16) for side in SIDES[device])
    return answer


def _gflops(side: int, kind: Any) -> float:
    a, b = (tf.cast(tf.random.normal((side, side)), kind) for _ in range(2))
    product = tf.function(tf.matmul)
    best = float("inf")
    for _ in range(1 + REPEATS):  # the first one traces and is never the best
        start = time.perf_counter()
        product(a, b)[0, 0].numpy()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


if __name__ == "__main__":
    process.answer(job)
