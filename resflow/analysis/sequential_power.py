"""The power of a sequential design, by simulation of normal differences; the same draws every time."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from resflow.analysis.holm import ALPHA
from resflow.analysis.power import POWER, Variation
from resflow.analysis.sequential import AnytimeSpread

DRAWS = 4000  # a share of 80 % is known to half a point or so
HALVINGS = 20


def find_share(effect: float, most: int, alpha: float = ALPHA, variation: Variation | None = None) -> float:
    """Return how often a true difference of `effect` is found by `most` seeds, looking after each."""
    variation = variation or Variation()
    of_seeds, of_images = _noise(most)
    seeds = np.arange(1, most + 1)
    samples = effect + variation.sd * of_seeds + np.sqrt(variation.images) * of_images
    means = np.cumsum(samples, axis=1) / seeds
    squares = np.maximum(np.cumsum(samples**2, axis=1) - seeds * means**2, 0)[:, 1:]  # around the mean, from two on
    errors = squares / (seeds[1:] - 1) / seeds[1:]
    reach = np.array([AnytimeSpread(1.0, int(n) - 1).quantile(alpha / 2) for n in seeds[1:]])
    bounds = reach**2 * errors + special.ndtri(alpha / 2) ** 2 * variation.images
    return float((means[:, 1:] ** 2 > bounds).any(axis=1).mean())


def smallest_effect(most: int, alpha: float = ALPHA, variation: Variation | None = None) -> float:
    """Return the smallest true difference that is found with the power POWER by `most` seeds."""
    low, high = 0.0, (variation or Variation()).error(most)
    while find_share(high, most, alpha, variation) < POWER:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if find_share(middle, most, alpha, variation) >= POWER else (middle, high)
    return high


@cache
def _noise(most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    draw = np.random.default_rng(most)
    return draw.normal(0, 1, (DRAWS, most)), draw.normal(0, 1, (DRAWS, 1))
