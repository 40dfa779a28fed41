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
from scipy import special  # scipy.stats has the same, at twenty times the time a call, and of a report there are many

from resflow.analysis import image_statistics

Verdict = Literal["helps", "hurts", "equivalent", "undecided"]

ALPHA = 0.05
CONFIDENCE = 0.95
EXACT_SEEDS = 16  # 2**15 sign patterns: more are not enumerated
POWER = 0.8
MOST_SEEDS = 1000  # no study has more
SAME = 1e-6  # coarser than float32 rounding, finer than one image of any test split

_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(200)[i] / 2 + (0.5, 0.0)[i] for i in range(2))  # on 0..1

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
        """Tell whether the interval holds a value."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Paired:
    """Paired differences, arm minus reference, over the seeds that both completed."""

    difference: Mean
    p: float  # paired t test, two-sided
    p_sign_flip: float  # exact sign-flip test, two-sided: a sensitivity line
    p_sign_flip_smallest: float  # the smallest p that this many seeds allow
    p_equivalence: float  # TOST within the margin; NaN without one
    g: float  # standardised
    signs: Signs
    seeds_needed: float  # to resolve a difference like this one


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


def paired(differences: ArrayLike, margin: float | None = None, *, higher_is_better: bool = True) -> Paired:
    """Return everything that is said about one contrast, from its differences of shape (n,), one a paired seed."""
    x = _finite(differences)
    return Paired(
        difference=mean_interval(x),
        p=t_test(x),
        p_sign_flip=sign_flip(x),
        p_sign_flip_smallest=smallest_sign_flip(len(x)),
        p_equivalence=np.nan if margin is None else tost(x, margin),
        g=hedges_g(x),
        signs=signs(x, higher_is_better=higher_is_better),
        seeds_needed=seeds_needed(x),
    )


def t_test(differences: ArrayLike) -> float:
    """Return p of the two-sided paired t test of no difference: t = mean · sqrt(n) / sd, n-1 degrees of freedom."""
    x = _finite(differences)
    if len(x) < 2 or _same(x):
        return np.nan
    t = x.mean() * np.sqrt(len(x)) / x.std(ddof=1)
    return float(2 * special.stdtr(len(x) - 1, -abs(t)))


def sign_flip(differences: ArrayLike) -> float:
    """Return p of the exact two-sided sign-flip test (Fisher 1935, section 21; Pitman 1937).

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
    """Return the smallest two-sided p that the sign-flip test can give with n seeds: 2 / 2**n, so 0.25 at n = 3."""
    return 2.0 ** (1 - n) if n > 0 else np.nan


def tost(differences: ArrayLike, margin: float) -> float:
    """Return p of two one-sided t tests of |mean difference| < margin (Schuirmann 1987), the larger of the two.

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
    """Adjust p by Holm's step-down procedure (Holm 1979): the k-th smallest p times m-k+1, made monotone, at most 1.

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


def hedges_g(differences: ArrayLike) -> float:
    """Return the standardised paired difference: mean / sd, times Hedges' correction (Hedges 1981, eq. 6e).

    The correction J = Γ(m/2) / (√(m/2) Γ((m-1)/2)) with m = n-1 takes out the bias of small samples; it needs n >= 3.
    """
    x = _finite(differences)
    if len(x) < 3 or _same(x):
        return np.nan
    m = len(x) - 1
    correction = np.exp(special.gammaln(m / 2) - special.gammaln((m - 1) / 2)) / np.sqrt(m / 2)
    return float(correction * x.mean() / x.std(ddof=1))


@dataclass(frozen=True)
class Signs:
    """The number of seeds in which an arm did better, of the `n` where the two differ at all, and the chance of it.

    `low` and `high` are Clopper and Pearson's 95 % interval of that chance; NaN where no seed tells the two apart.
    """

    better: int
    n: int
    low: float
    high: float


def signs(differences: ArrayLike, *, higher_is_better: bool = True) -> Signs:
    """Count paired signs, for P(better); seeds with the same value in both arms say nothing and are left out."""
    x = _finite(differences)
    apart = x[np.abs(x) > SAME]
    better = int(np.sum((apart > 0) == higher_is_better))
    if len(apart) == 0:
        return Signs(0, 0, np.nan, np.nan)
    return Signs(better, len(apart), *image_statistics.clopper_pearson(better, len(apart)))


def welch(first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE) -> Mean:
    """Return the difference of two unpaired means with Welch's t interval (Welch 1947).

    `n` is the smaller sample's; there is no `sd`.
    """
    x, y = _finite(first), _finite(second)
    n = min(len(x), len(y))
    if n < 2 or (_same(x) and _same(y)):
        note = NO_SPREAD if n > 1 else ONE_VALUE if n else NO_VALUE
        return Mean(n, float(x.mean() - y.mean()) if n else np.nan, np.nan, np.nan, np.nan, note)
    from scipy import stats  # a second of import, for comparisons of two runs alone

    limits = stats.ttest_ind(x, y, equal_var=False).confidence_interval(confidence)
    return Mean(n, float(x.mean() - y.mean()), np.nan, float(limits.low), float(limits.high))


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided paired t test over n seeds at a true `effect`, mean / sd of differences.

    With the spread s that a sample shows (s² (n-1) is chi-squared), t passes its bound c with the probability
    Φ(δ - c s) + Φ(-δ - c s), δ = effect · √n; this is its mean over s. (scipy's nctdtr is NaN at many such places.)
    """
    critical, shift = special.stdtrit(n - 1, 1 - alpha / 2), abs(effect) * np.sqrt(n)
    spread = np.sqrt(special.chdtri(n - 1, 1 - _NODES) / (n - 1))
    passes = special.ndtr(shift - critical * spread) + special.ndtr(-shift - critical * spread)
    return float(_WEIGHTS @ passes)


def seeds_needed(differences: ArrayLike, target: float = POWER) -> float:
    """Return how many seeds give the paired t test the power `target`, were difference and spread as seen.

    Unadjusted for other contrasts. NaN without a spread; infinite beyond MOST_SEEDS.
    """
    x = _finite(differences)
    if len(x) < 2 or _same(x):
        return np.nan
    effect = abs(float(x.mean() / x.std(ddof=1)))
    if power(effect, MOST_SEEDS) < target:
        return np.inf
    low, high = 1, MOST_SEEDS  # `low` seeds are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle) >= target else (middle, high)
    return float(high)


def verdict(
    difference: Mean,
    p_holm: float,
    p_equivalence: float,
    *,
    higher_is_better: bool = True,
    better_above_chance: bool = True,
    both_above_chance: bool = True,
) -> Verdict:
    """Apply the one verdict rule of resflow.

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
