"""Simulations of intervals: each kind of differences is of the spread that they are judged by."""

from __future__ import annotations

import numpy as np
import pytest

from resflow.bench import coverage

DRAWS, ERRORS = 2000, 4  # standard errors that a share may be off


@pytest.mark.parametrize("kind", coverage.KINDS)
def test_differences_have_mean_zero_and_a_spread_of_one(kind: str) -> None:
    values = coverage.KINDS[kind](np.random.default_rng(1), (1_000_000,))
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.1)


def test_the_interval_of_a_spread_covers_normal_differences_and_fewer_that_are_skewed() -> None:
    draw = np.random.default_rng(1)
    normal, skewed = (
        coverage._rates(coverage.SD * coverage.KINDS[kind](draw, (DRAWS, 5)))["deviation_covers"]
        for kind in ("normal", "skewed")
    )
    assert abs(normal - 0.95) < ERRORS * np.sqrt(0.95 * 0.05 / DRAWS)
    assert skewed < 0.85
