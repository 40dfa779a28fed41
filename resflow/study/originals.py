"""The sizes that photos have of their own, before they are brought to the one that networks take."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Originals:
    """Shorter sides of photos in pixels; at least half of the photos are no larger than the median."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def measure(cls, sides: Sequence[int]) -> Originals | None:
        """Summarise shorter sides; None where there are none."""
        return cls(min(sides), statistics.median_low(sides), max(sides)) if len(sides) else None


def tell_enlarged(sizes: Iterable[tuple[int, int]]) -> str:
    """Say which photos are enlarged, given pairs of a median original and a network's input; empty where none are."""
    inputs = defaultdict(list)
    for median, size in sorted(set(sizes)):
        if median < size:
            inputs[median].append(str(size))
    if not inputs:
        return ""
    parts = [f"{median} pixels are enlarged to {' and '.join(larger)}" for median, larger in inputs.items()]
    return f"Photos of a median shorter side of {'; of '.join(parts)}: detail finer than the originals does not exist."
