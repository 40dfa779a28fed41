"""Trust in a share of images: intervals and tests over images and other yes-or-no counts, not over seeds.

The images of a test set are a sample; another sample would give another accuracy, whatever the seeds do. These
functions say by how much. Pure functions; nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats has the same, at hundreds of times the time a call

from resflow.analysis.crossed import CONFIDENCE


def wilson(share: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval of a share seen on n images (Wilson 1927)."""
    z = float(special.ndtri((1 + confidence) / 2))
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def newcombe(
    first: float, first_n: int, second: float, second_n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the interval of a difference of two independent shares, from their Wilson limits (Newcombe 1998)."""
    limits = wilson(first, first_n, confidence), wilson(second, second_n, confidence)
    below = np.hypot(first - limits[0][0], limits[1][1] - second)
    above = np.hypot(limits[0][1] - first, second - limits[1][0])
    return float(first - second - below), float(first - second + above)


def clopper_pearson(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a share of `count` in n (Clopper and Pearson 1934), which covers it often enough."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(special.betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(special.betaincinv(count + 1, n - count, 1 - tail))
    return low, high


def mcnemar(first_only: int, second_only: int) -> float:
    """Return p of the exact two-sided McNemar test (McNemar 1947) of two nets on the same images.

    `first_only` images are classified correctly by the first net alone, `second_only` by the second alone. 1 where
    there are none of either.
    """
    both = first_only + second_only
    if both == 0:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(first_only, second_only), both, 0.5)))


def tango(first_only: float, second_only: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the score interval of a difference of paired shares (Tango 1998), counts as in `mcnemar`, of n images.

    It holds where few images differ, and where none does. Counts need not be whole.
    """
    z, seen = float(special.ndtri((1 + confidence) / 2)), (first_only - second_only) / n

    def apart(difference: float) -> float:
        """Standard errors between what was seen and `difference`, with the share of `second_only` most likely then."""
        linear = -first_only - second_only + (2 * n - first_only + second_only) * difference
        constant = -second_only * difference * (1 - difference)
        share = (np.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        distance = n * (seen - difference)
        return float(distance / np.sqrt(variance)) if variance > 0 else float(np.copysign(np.inf, distance))

    return _crossing(apart, z, -1.0, seen), _crossing(apart, -z, seen, 1.0)


def _crossing(falling: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Return where a falling function comes to a level between `low` and `high`."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class OverImages:
    """Two arms on the same test images, over the seeds that both completed.

    `first_only` and `second_only` are images a seed, means over seeds; `p_low`, `p_high` the smallest and the largest
    McNemar p of the seeds; `low`, `high` the 95 % interval of the difference when the images are drawn anew and the
    trained networks stay; `identical` tells whether no image of any seed is right in one arm alone.
    """

    seeds: int
    images: int
    first_only: float
    second_only: float
    p_low: float
    p_high: float
    difference: float
    low: float
    high: float
    identical: bool


def over_images(first: ArrayLike, second: ArrayLike) -> OverImages:
    """Compare two arms' correct answers, arrays of bool of one shape (seeds, images), a row a seed that both have.

    The interval of one seed is Tango's. That of several is Tango's too, of as many images as would give one seed the
    variance that the seeds' mean has, as Rao and Scott (1992) count what comes in clusters.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"expected two arrays of one shape (seeds, images), got {a.shape} and {b.shape}.")
    seeds, images = a.shape
    alone, other = (a & ~b).sum(axis=1), (b & ~a).sum(axis=1)
    p = [mcnemar(int(x), int(y)) for x, y in zip(alone, other, strict=True)]
    by_image = (a.astype(float) - b).mean(axis=0)
    first_only, second_only, mean = float(alone.mean()), float(other.mean()), float(by_image.mean())
    of_one, of_mean = (first_only + second_only) / images - mean**2, float(by_image.var())
    worth = of_one / max(of_mean, of_one / seeds) if of_one > 0 else 1.0
    low, high = tango(worth * first_only, worth * second_only, worth * images)
    return OverImages(
        seeds=seeds,
        images=images,
        first_only=first_only,
        second_only=second_only,
        p_low=min(p),
        p_high=max(p),
        difference=mean,
        low=low,
        high=high,
        identical=not (alone.any() or other.any()),
    )
