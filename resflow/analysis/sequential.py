"""Inference that holds however often one looks: seeds are added until a comparison is decided, and p still is p.

Lai's (1976) t mixture, as Wang and Ramdas (2024, "Anytime-valid t-tests") give it: the likelihood ratio of the seeds so
far, the standardised effect being normal around 0 with variance 1 / CONCENTRATION against its being 0,

    G = √(c / (n + c)) · ((n + c) V / ((n + c) V - S²))^(n/2),    S = Σx, V = Σx², c = CONCENTRATION,

is a martingale that begins at 1, whatever the spread of normal differences. So it comes to 1/α at any time with a
probability of no more than α (Ville 1939): 1/G is a p-value at every look at once, its running minimum as well, and the
values at which G stays below 1/α are an interval that covers at all looks together. Over 20 seeds it errs far less
often than that, and so stays below 5 % where differences are moderately skewed; `resflow bench coverage` counts.

Test images are drawn once, not seed by seed: the martingale holds given the images, and their variance joins the
interval as it does elsewhere (`crossed`), at the same level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resflow.analysis.crossed import Spread

CONCENTRATION = 0.1  # effects of three spreads are what five seeds resolve; three seeds can decide with it


@dataclass(frozen=True)
class AnytimeSpread(Spread):
    """The uncertainty of a mean over the seeds so far, at every look at once."""

    def quantile(self, tail: float) -> float:
        """Return how many standard errors over seeds the interval reaches; infinite of too few seeds for the level."""
        n, c = self.freedom + 1, CONCENTRATION
        bound = ((n + c) / c / (2 * tail) ** 2) ** (1 / n)
        room = n + c - bound * c
        return float(np.sqrt((n - 1) * (bound - 1) * (n + c) / room)) if room > 0 else np.inf

    def seeds_tail(self, errors: float) -> float:
        """Return half of p, 1/G, of a value that lies so many standard errors from the mean."""
        n, c, square = self.freedom + 1, CONCENTRATION, errors**2
        ratio = (n + c) * (square + n - 1) / (c * square + (n + c) * (n - 1))
        return float(min(0.5, np.exp(-0.5 * np.log(c / (n + c)) - n / 2 * np.log(ratio)) / 2))

    def p_above(self, distance: float) -> float:
        """Return p that a mean lies `distance` above its bound: that of the two-sided test, which covers both."""
        return 2 * self.tail(distance) if distance >= 0 else 1.0
