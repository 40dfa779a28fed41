"""What a family of contrasts is called, in a study file and in effects.csv."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

BASELINE = "baseline"  # every arm against the baseline; other families are named after a factor, or after two
TIMES = ":"  # between the factors of an interaction


def names(factors: Sequence[str]) -> list[str]:
    """Every family that a study of these factors may declare."""
    return [BASELINE, *factors, *(TIMES.join(pair) for pair in permutations(factors, 2))]
