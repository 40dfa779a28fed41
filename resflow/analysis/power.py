"""The power of the tests over seeds: what so many seeds can resolve, and how many a difference needs.

All of it is exact for normal differences. With the spread s that a sample shows (s² (n-1) is chi-squared), a test
passes where the mean lies beyond a half-width that grows with s (`crossed.Spread`); power is the mean of that
probability over s. A spread that a few seeds gave is itself a guess, so what is planned from it uses its upper
confidence limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from resflow.analysis.seed_statistics import ALPHA, SAME

POWER = 0.8
ASSURANCE = 0.8  # confidence of the upper limit of a spread: so often the power that it promises is there (Browne 1995)
MOST_SEEDS = 1000  # no study has more
HALVINGS = 50

_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(200)[i] / 2 + (0.5, 0.0)[i] for i in range(2))  # on 0..1


@dataclass(frozen=True)
class Variation:
    """How the mean of paired differences varies: their standard deviation over seeds, and the images' variance."""

    sd: float = 1.0
    images: float = 0.0  # crossed.image_variance; no number of seeds makes it less

    def upper(self, n: int) -> Variation:
        """Return it with the upper confidence limit of its `sd`, which n seeds gave (of normal differences)."""
        return replace(self, sd=self.sd * float(np.sqrt((n - 1) / special.chdtri(n - 1, ASSURANCE))))

    def error(self, n: int) -> float:
        """Return the standard error of the mean over n seeds."""
        return float(np.sqrt(self.sd**2 / n + self.images))

    def half_widths(self, n: int, tail: float) -> NDArray[np.float64]:
        """Return the half-widths that leave out `tail` on each side, at the quantiles _NODES of the spread seen."""
        squares = special.chdtri(n - 1, 1 - _NODES) / (n - 1) * self.sd**2 / n
        return np.sqrt(special.stdtrit(n - 1, tail) ** 2 * squares + special.ndtri(tail) ** 2 * self.images)


def power(effect: float, n: int, alpha: float = ALPHA, variation: Variation | None = None) -> float:
    """Return the power of the two-sided test over n seeds at a true difference of `effect`.

    Without images and at a spread of 1 it is that of Student's paired t test. (scipy's nctdtr is NaN at many places.)
    """
    variation = variation or Variation()
    half, error = variation.half_widths(n, alpha / 2), variation.error(n)
    passes = special.ndtr((abs(effect) - half) / error) + special.ndtr((-abs(effect) - half) / error)
    return float(_WEIGHTS @ passes)


def equivalence_power(margin: float, n: int, alpha: float = ALPHA, variation: Variation | None = None) -> float:
    """Return the power of TOST within ±`margin` over n seeds where there is no difference."""
    variation = variation or Variation()
    room = (margin - variation.half_widths(n, alpha)) / variation.error(n)
    return float(_WEIGHTS @ np.where(room > 0, 2 * special.ndtr(room) - 1, 0.0))


def smallest_effect(n: int, alpha: float = ALPHA, variation: Variation | None = None) -> float:
    """Return the smallest true difference that the test over n seeds finds with the power POWER; NaN of one seed."""
    variation = variation or Variation()
    if n < 2:
        return np.nan
    low, high = 0.0, variation.error(n)
    while power(high, n, alpha, variation) < POWER:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, alpha, variation) >= POWER else (middle, high)
    return high


def seeds_to_find(effect: float, variation: Variation, alpha: float = ALPHA) -> float:
    """Return how many seeds find a true difference of `effect` with the power POWER.

    NaN without a spread; infinite beyond MOST_SEEDS, which more images may mend where those are the limit.
    """
    return _fewest(variation, lambda n: power(effect, n, alpha, variation))


def seeds_to_equate(margin: float, variation: Variation, alpha: float = ALPHA) -> float:
    """Return how many seeds call arms without a difference equivalent with the power POWER; as `seeds_to_find`."""
    return _fewest(variation, lambda n: equivalence_power(margin, n, alpha, variation))


def _fewest(variation: Variation, power_of: Callable[[int], float]) -> float:
    if not variation.sd > SAME:
        return np.nan
    if power_of(MOST_SEEDS) < POWER:
        return np.inf
    low, high = 1, MOST_SEEDS  # `low` seeds are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= POWER else (middle, high)
    return float(high)
