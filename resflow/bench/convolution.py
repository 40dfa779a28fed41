"""The speed of each kind of convolution, forward and backward, by both lowerings of `models.layers`."""

from __future__ import annotations

import statistics
from typing import Any

from resflow.bench.contest import Contender, Say, ask_in_turn


def run(threads: int, seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    """Measure each lowering of each kind of convolution in resflow's networks, in GFLOP/s."""
    spec = {"threads": threads, "seconds": seconds}
    answers = ask_in_turn([Contender("convolutions", "lowerings", spec)], rounds, say)["convolutions"]
    shapes = []
    for position, shape in enumerate(answers[0]["shapes"]):
        speeds = {
            lowering: round(statistics.median(a["shapes"][position]["gflops"][lowering] for a in answers), 1)
            for lowering in shape["gflops"]
        }
        shapes.append({**shape, "gflops": speeds})
    return {
        "benchmark": "convolution",
        "shapes": shapes,
        "settings": {"threads": threads, "batch_size": answers[0]["batch_size"], "rounds": rounds},
    }
