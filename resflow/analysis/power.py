"""The power of the paired t test: what so many seeds can resolve, and how many a difference needs."""

from __future__ import annotations

import numpy as np
from scipy import special

from resflow.analysis.seed_statistics import ALPHA, SAME, Mean

POWER = 0.8
MOST_SEEDS = 1000  # no study has more

_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(200)[i] / 2 + (0.5, 0.0)[i] for i in range(2))  # on 0..1


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided paired t test over n seeds at a true `effect`, mean / sd of differences.

    With the spread s that a sample shows (s² (n-1) is chi-squared), t passes its bound c with the probability
    Φ(δ - c s) + Φ(-δ - c s), δ = effect · √n; this is its mean over s. (scipy's nctdtr is NaN at many such places.)
    """
    critical, shift = special.stdtrit(n - 1, 1 - alpha / 2), abs(effect) * np.sqrt(n)
    spread = np.sqrt(special.chdtri(n - 1, 1 - _NODES) / (n - 1))
    passes = special.ndtr(shift - critical * spread) + special.ndtr(-shift - critical * spread)
    return float(_WEIGHTS @ passes)


def seeds_needed(difference: Mean, target: float = POWER) -> float:
    """Return how many seeds give the paired t test the power `target`, were difference and spread as seen.

    Unadjusted for other contrasts. NaN without a spread; infinite beyond MOST_SEEDS.
    """
    if not difference.sd > SAME:
        return np.nan
    effect = abs(difference.mean / difference.sd)
    if power(effect, MOST_SEEDS) < target:
        return np.inf
    low, high = 1, MOST_SEEDS  # `low` seeds are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle) >= target else (middle, high)
    return float(high)
