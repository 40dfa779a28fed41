"""Intervals, paired tests and the verdict rule. Pure functions on arrays; nothing here reads a file.

Every function takes the values of one arm, or the paired differences of two, one value a seed. A figure
that the data cannot give is NaN, and `note` says why: one seed has no interval, and neither have values
that are the same in every seed (their variance estimate is 0, which no small sample can support).

With `image_variance` (crossed.image_variance) an interval and a test are over seeds and test images together;
without it they are over seeds, Student's own. Where values are of a `sequential` design, in the order of its seeds,
both hold at all looks together (`sequential`): the interval is what those after each seed have in common, p is the
smallest so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats has the same, at twenty times the time a call, and of a report there are many

from resflow.analysis import image_statistics
from resflow.analysis.crossed import CONFIDENCE, Spread
from resflow.analysis.holm import ALPHA
from resflow.analysis.sequential import AnytimeSpread

Verdict = Literal["helps", "hurts", "equivalent", "undecided"]

EXACT_SEEDS = 16  # 2**15 sign patterns: more are not enumerated
SAME = 1e-6  # coarser than float32 rounding, finer than one image of any test split

NO_VALUE = "no completed seed"
ONE_VALUE = "one seed: no interval"
TWO_VALUES = "two seeds: no interval"  # with one degree of freedom it would be wider than what it is of
NO_SPREAD = "the same value in every seed: no interval"
TOO_FEW = "too few seeds for a sequential interval"
NO_OVERLAP = "the intervals after each seed have nothing in common: the seeds are not alike"


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
    """Paired differences, arm minus reference, over the seeds that both completed.

    `difference`, `p` and `p_equivalence` are over seeds and test images where the images' variance is known.
    """

    difference: Mean
    p: float  # of no difference, two-sided
    over_seeds: Mean  # the same difference, with its t interval over seeds alone
    p_seeds: float  # paired t test, two-sided
    p_sign_flip: float  # exact sign-flip test, two-sided: a sensitivity line
    p_sign_flip_smallest: float  # the smallest p that this many seeds allow
    p_equivalence: float  # TOST within the margin; NaN without one
    g: float  # standardised
    signs: Signs


def mean_interval(
    values: ArrayLike,
    confidence: float = CONFIDENCE,
    *,
    image_variance: float = 0.0,
    largest: float = np.inf,
    sequential: bool = False,
) -> Mean:
    """Mean with its two-sided interval: over seeds ± t(n-1) · sd / sqrt(n) (Student 1908), else `crossed.Spread`'s.

    `values` has shape (n,), one a seed. Over seeds it is exact on normal data for every n >= 2. It ends at ±`largest`.
    """
    x = _finite(values)
    ends = [
        (mean - half, mean + half)
        for mean, half in _half_widths(_looks(x, image_variance, sequential), (1 - confidence) / 2)
    ]
    return _shared(x, ends, -largest, largest)


def level_interval(
    values: ArrayLike, low: float = 0.0, high: float = 1.0, confidence: float = CONFIDENCE, *, sequential: bool = False
) -> Mean:
    """Mean of values that lie between `low` and `high` (infinity for a loss), with an interval that does so too.

    Student's t interval on the logit scale, or the logarithm's, around the transformed mean (by the delta method).
    Two values have none: with one degree of freedom it says nothing.
    """
    x = _finite(values)
    looks = [(mean, spread) for mean, spread in _looks(x, 0.0, sequential) if low < mean < high]
    if looks and len(x) == 2:
        return Mean(2, float(x.mean()), float(x.std(ddof=1)), np.nan, np.nan, TWO_VALUES)
    ends = [_within(mean, half, low, high) for mean, half in _half_widths(looks, (1 - confidence) / 2)]
    return _shared(x, ends, low, high)


def _within(mean: float, half: float, low: float, high: float) -> tuple[float, float]:
    """Return the ends of a level's interval: mean ± half, made on a scale on which no value leaves its bounds."""
    above = mean - low
    if np.isinf(high):
        return low + above * float(np.exp(-half / above)), low + above * float(np.exp(half / above))
    width, share = high - low, above / (high - low)
    middle, step = special.logit(share), half / width / (share * (1 - share))
    return low + width * float(special.expit(middle - step)), low + width * float(special.expit(middle + step))


Look = tuple[float, Spread]  # the mean over some seeds, and its uncertainty


def _looks(x: NDArray[np.float64], image_variance: float, sequential: bool) -> list[Look]:
    """Return the mean over all seeds, of a sequential design after each; none without a spread."""
    kind = AnytimeSpread if sequential else Spread
    seen = [x[:n] for n in range(2, len(x) + 1)] if sequential else [x]
    if len(x) < 2 or _same(x):
        return []
    return [
        (float(part.mean()), kind(float(part.var(ddof=1)) / len(part), len(part) - 1, image_variance))
        for part in seen
        if not _same(part)
    ]


def _half_widths(looks: Sequence[Look], tail: float) -> list[tuple[float, float]]:
    return [(mean, spread.half_width(tail)) for mean, spread in looks]


def _shared(x: NDArray[np.float64], ends: Sequence[tuple[float, float]], lowest: float, highest: float) -> Mean:
    """Return the mean with what its intervals have in common, within its bounds."""
    if not ends:
        return _without_interval(x)
    low, high = max(end for end, _ in ends), min(end for _, end in ends)
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    if low > high or not np.isfinite(high - low):
        return Mean(len(x), mean, sd, np.nan, np.nan, NO_OVERLAP if low > high else TOO_FEW)
    return Mean(len(x), mean, sd, max(lowest, low), min(highest, high))


def _without_interval(x: NDArray[np.float64]) -> Mean:
    if len(x) == 0:
        return Mean(0, np.nan, np.nan, np.nan, np.nan, NO_VALUE)
    sd, note = (np.nan, ONE_VALUE) if len(x) == 1 else (float(x.std(ddof=1)), NO_SPREAD)
    return Mean(len(x), float(x.mean()), sd, np.nan, np.nan, note)


def paired(
    differences: ArrayLike,
    margin: float | None = None,
    *,
    image_variance: float = 0.0,
    largest: float = np.inf,
    higher_is_better: bool = True,
    sequential: bool = False,
) -> Paired:
    """Return everything that is said about one contrast, from its differences of shape (n,), one a paired seed.

    No difference is more than `largest`. Of a sequential design there is no sign-flip test and no interval of signs:
    they do not hold where seeds were added by what others showed.
    """
    x = _finite(differences)
    counts = signs(x, higher_is_better=higher_is_better)
    return Paired(
        difference=mean_interval(x, image_variance=image_variance, largest=largest, sequential=sequential),
        p=t_test(x, image_variance, sequential=sequential),
        over_seeds=mean_interval(x, largest=largest, sequential=sequential),
        p_seeds=t_test(x, sequential=sequential),
        p_sign_flip=np.nan if sequential else sign_flip(x),
        p_sign_flip_smallest=np.nan if sequential else smallest_sign_flip(len(x)),
        p_equivalence=np.nan if margin is None else tost(x, margin, image_variance, sequential=sequential),
        g=hedges_g(x),
        signs=replace(counts, low=np.nan, high=np.nan) if sequential else counts,
    )


def t_test(differences: ArrayLike, image_variance: float = 0.0, *, sequential: bool = False) -> float:
    """Return p of the two-sided test of no difference; over seeds the paired t test, t = mean · sqrt(n) / sd.

    Below 0.05 exactly when the 95 % interval excludes 0.
    """
    looks = _looks(_finite(differences), image_variance, sequential)
    return min((2 * spread.tail(abs(mean)) for mean, spread in looks), default=np.nan)


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


def tost(differences: ArrayLike, margin: float, image_variance: float = 0.0, *, sequential: bool = False) -> float:
    """Return p of two one-sided tests of |mean difference| < margin (Schuirmann 1987), the larger of the two.

    Below 0.05 exactly when the 90 % interval lies inside (-margin, margin); of a sequential design the 95 % interval.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin}: expected a fraction above 0, such as 0.01.")
    looks = _looks(_finite(differences), image_variance, sequential)
    return min((spread.p_above(margin - abs(mean)) for mean, spread in looks), default=np.nan)


def beyond(differences: ArrayLike, margin: float, *, sequential: bool = False) -> float:
    """Return p of the two-sided t test that the mean lies outside (-margin, margin): the reverse of `tost`."""
    looks = _looks(_finite(differences), 0.0, sequential)
    return min((min(1.0, 2 * spread.p_above(abs(mean) - margin)) for mean, spread in looks), default=np.nan)


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
    parts = [float(one.var(ddof=1)) / len(one) for one in (x, y)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (x, y), strict=True))
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * np.sqrt(sum(parts))
    middle = float(x.mean() - y.mean())
    return Mean(n, middle, np.nan, middle - half, middle + half)


def verdict(
    difference: Mean,
    p_holm: float,
    p_equivalence: float,
    *,
    higher_is_better: bool = True,
    better_above_chance: bool = True,
    both_above_chance: bool = True,
    identical: bool = False,
) -> Verdict:
    """Apply the one verdict rule of resflow. Both p are Holm-adjusted.

    `helps` or `hurts` when the test of no difference is under 0.05 and the interval excludes 0; `equivalent` when TOST
    holds within the declared margin, or where the arms gave the same answer to each image in every seed; else
    `undecided`. No winner is named that is not itself above chance, and two arms are not called equal in skill where
    one shows none.
    """
    clear = p_holm < ALPHA and not np.isnan(difference.low) and not difference.includes(0.0)
    if clear and better_above_chance:
        return "helps" if (difference.low > 0) == higher_is_better else "hurts"
    if (identical or p_equivalence < ALPHA) and both_above_chance:
        return "equivalent"
    return "undecided"


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise ValueError(f"expected one value a seed, shape (n,), got shape {x.shape}.")
    return x[np.isfinite(x)]


def _same(x: NDArray[np.float64]) -> bool:
    return bool(np.ptp(x) <= SAME)
