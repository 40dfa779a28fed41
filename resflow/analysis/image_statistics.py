"""Trust in a share of images: intervals and tests over images and other yes-or-no counts, not over seeds.

The images of a test set are a sample; another sample would give another accuracy, whatever the seeds do. These
functions say by how much. Pure functions; nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats has the same, at hundreds of times the time a call

from resflow.analysis import crossed

CONFIDENCE = 0.95


def wilson(share: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval of a share seen on n images (Wilson 1927)."""
    z = float(special.ndtri((1 + confidence) / 2))
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(center - half)), min(1.0, float(center + half))


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


@dataclass(frozen=True)
class OverImages:
    """Two arms on the same test images, over the seeds that both completed.

    `first_only` and `second_only` are images a seed, means over seeds; `p_low`, `p_high` the smallest and the largest
    McNemar p of the seeds; `low`, `high` the 95 % interval of the difference when the images are drawn anew and the
    trained networks stay; `both_low`, `both_high` that where seeds are drawn anew as well, NaN with one seed.
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
    both_low: float
    both_high: float


def over_images(first: ArrayLike, second: ArrayLike) -> OverImages:
    """Compare two arms' correct answers, arrays of bool of one shape (seeds, images), a row a seed that both have.

    The interval is normal, mean ± z · sd / sqrt(images), of each image's difference averaged over seeds: with one seed
    it is Wald's interval for paired shares, whose test is McNemar's without his correction.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"expected two arrays of one shape (seeds, images), got {a.shape} and {b.shape}.")
    seeds, images = a.shape
    alone, other = (a & ~b).sum(axis=1), (b & ~a).sum(axis=1)
    p = [mcnemar(int(x), int(y)) for x, y in zip(alone, other, strict=True)]
    by_image = (a.astype(float) - b).mean(axis=0)
    mean = float(by_image.mean())
    error = float(by_image.std(ddof=1) / np.sqrt(images)) if images > 1 else np.nan
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * error
    both = crossed.interval(a.astype(float) - b)
    return OverImages(
        seeds=seeds,
        images=images,
        first_only=float(alone.mean()),
        second_only=float(other.mean()),
        p_low=min(p),
        p_high=max(p),
        difference=mean,
        low=mean - half,
        high=mean + half,
        both_low=both.low,
        both_high=both.high,
    )
