"""Intervals, paired tests and the verdict rule. Pure functions on arrays; nothing here reads a file.

Every function takes the values of one arm, or the paired differences of two, one value a seed. A figure
that the data cannot give is NaN, and `note` says why: one seed has no interval, and neither have values
that are the same in every seed (their variance estimate is 0, which no small sample can support).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats has the same, for a second more of import

Verdict = Literal["helps", "hurts", "equivalent", "undecided"]

ALPHA = 0.05
CONFIDENCE = 0.95
EXACT_SEEDS = 16  # 2**15 sign patterns: more are not enumerated
SAME = 1e-6  # coarser than float32 rounding, finer than one image of any test split

NO_VALUE = "no completed seed"
ONE_VALUE = "one seed: no interval"
NO_SPREAD = "the same value in every seed: no interval"


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and its t interval. `low`, `high` and `sd` are NaN where `note` says why."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    note: str = ""

    def includes(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Paired:
    """Paired differences, arm minus reference, over the seeds that both completed."""

    difference: Mean
    p: float  # paired t test, two-sided
    p_sign_flip: float  # exact sign-flip test, two-sided: a sensitivity line
    p_sign_flip_smallest: float  # the smallest p that this many seeds allow
    p_equivalence: float  # TOST within the margin; NaN without one


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Mean:
    """Mean with its two-sided Student t interval, mean ± t(n-1) · sd / sqrt(n) (Student 1908).

    `values` has shape (n,), one a seed. Exact on normal data for every n >= 2.
    """
    x = _finite(values)
    if len(x) == 0:
        return Mean(0, np.nan, np.nan, np.nan, np.nan, NO_VALUE)
    mean = float(x.mean())
    if len(x) == 1:
        return Mean(1, mean, np.nan, np.nan, np.nan, ONE_VALUE)
    if _same(x):
        return Mean(len(x), mean, 0.0, np.nan, np.nan, NO_SPREAD)
    sd = float(x.std(ddof=1))
    half = float(special.stdtrit(len(x) - 1, (1 + confidence) / 2)) * sd / np.sqrt(len(x))
    return Mean(len(x), mean, sd, mean - half, mean + half)


def paired(differences: ArrayLike, margin: float | None = None) -> Paired:
    """Everything that is said about one contrast, from its differences of shape (n,), one a paired seed."""
    x = _finite(differences)
    return Paired(
        difference=mean_interval(x),
        p=t_test(x),
        p_sign_flip=sign_flip(x),
        p_sign_flip_smallest=smallest_sign_flip(len(x)),
        p_equivalence=np.nan if margin is None else tost(x, margin),
    )


def t_test(differences: ArrayLike) -> float:
    """Two-sided paired t test of a mean difference of 0: t = mean · sqrt(n) / sd, n-1 degrees of freedom."""
    x = _finite(differences)
    if len(x) < 2 or _same(x):
        return np.nan
    t = x.mean() * np.sqrt(len(x)) / x.std(ddof=1)
    return float(2 * special.stdtr(len(x) - 1, -abs(t)))


def sign_flip(differences: ArrayLike) -> float:
    """Exact two-sided sign-flip test (Fisher 1935, section 21; Pitman 1937).

    The share of the 2**n sign patterns whose absolute mean is at least the one seen. It assumes only that
    each difference is symmetric about 0 when nothing changes. NaN without seeds or above EXACT_SEEDS of them.
    """
    x = _finite(differences)
    n = len(x)
    if not 0 < n <= EXACT_SEEDS:
        return np.nan
    # A pattern and its negative have the same absolute mean: the first sign may stay +.
    patterns = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    sums = np.abs((1 - 2 * patterns) @ x)
    return float(np.mean(sums >= abs(x.sum()) - SAME * n))


def smallest_sign_flip(n: int) -> float:
    """The smallest two-sided p that the sign-flip test can give with n seeds: 2 / 2**n, so 0.25 at n = 3."""
    return 2.0 ** (1 - n) if n > 0 else np.nan


def tost(differences: ArrayLike, margin: float) -> float:
    """Two one-sided t tests of |mean difference| < margin (Schuirmann 1987); the larger of the two p.

    Below 0.05 exactly when the 90 % t interval lies inside (-margin, margin).
    """
    if not margin > 0:
        raise ValueError(f"margin {margin}: expected a fraction above 0, such as 0.01.")
    x = _finite(differences)
    if len(x) < 2 or _same(x):
        return np.nan
    error, df = x.std(ddof=1) / np.sqrt(len(x)), len(x) - 1
    above_low = special.stdtr(df, -(x.mean() + margin) / error)
    below_high = special.stdtr(df, (x.mean() - margin) / error)
    return float(max(above_low, below_high))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment (Holm 1979): the k-th smallest p times m-k+1, made monotone, at most 1.

    A NaN (a declared contrast that cannot be tested yet) stays NaN and still counts in m, so that an
    unfinished run is never more lenient than the finished one.
    """
    raw = np.atleast_1d(np.asarray(p, dtype=float))
    filled = np.where(np.isnan(raw), 1.0, raw)
    order = np.argsort(filled, kind="stable")
    steps = filled[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return np.where(np.isnan(raw), np.nan, adjusted)


def wilson(share: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share seen on n images (Wilson 1927): it samples images, not seeds."""
    z = float(special.ndtri((1 + confidence) / 2))
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def verdict(
    difference: Mean,
    p_holm: float,
    p_equivalence: float,
    *,
    higher_is_better: bool = True,
    better_above_chance: bool = True,
    both_above_chance: bool = True,
) -> Verdict:
    """The one verdict rule of resflow.

    `helps` or `hurts` when the Holm-adjusted paired t test is under 0.05 and the interval excludes 0;
    `equivalent` when TOST holds within the declared margin; else `undecided`. No winner is named that is
    not itself above chance, and two arms are not called equal in skill where one shows none.
    """
    clear = p_holm < ALPHA and not np.isnan(difference.low) and not difference.includes(0.0)
    if clear and better_above_chance:
        return "helps" if (difference.mean > 0) == higher_is_better else "hurts"
    if p_equivalence < ALPHA and both_above_chance:
        return "equivalent"
    return "undecided"


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise ValueError(f"expected one value a seed, shape (n,), got shape {x.shape}.")
    return x[np.isfinite(x)]


def _same(x: NDArray[np.float64]) -> bool:
    return bool(np.ptp(x) <= SAME)
