"""Intervals cover, tests agree with scipy, corrections keep their properties, verdicts follow the rule."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from resflow import stats

DRAWS = 20_000
SEEDS = (3, 5, 8)
differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 5)), min_size=2, max_size=8)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def monte_carlo_error(share):
    return np.sqrt(share * (1 - share) / DRAWS)


@pytest.mark.parametrize("n", SEEDS)
def test_the_t_interval_covers_the_mean_of_normal_seeds(n):
    draws = np.random.default_rng(n).normal(0.3, 0.02, (DRAWS, n))
    covered = sum(stats.mean_interval(row).includes(0.3) for row in draws) / DRAWS
    assert abs(covered - 0.95) < 4 * monte_carlo_error(0.95)


@pytest.mark.parametrize("n", SEEDS)
def test_the_t_test_rejects_a_true_null_as_often_as_it_says(n):
    draws = np.random.default_rng(10 + n).normal(0, 0.02, (DRAWS, n))
    rejected = np.mean([stats.t_test(row) < 0.05 for row in draws])
    assert abs(rejected - 0.05) < 4 * monte_carlo_error(0.05)


def test_the_sign_flip_test_never_rejects_too_often():
    draws = np.random.default_rng(1).laplace(0, 0.02, (4000, 6))  # symmetric, not normal
    rejected = np.mean([stats.sign_flip(row) <= 2 / 2**6 for row in draws])
    assert abs(rejected - 2 / 2**6) < 4 * np.sqrt(2 / 2**6 / 4000)


def test_tost_is_rarely_wrong_at_the_margin():
    draws = np.random.default_rng(2).normal(0.02, 0.005, (DRAWS, 5))
    claimed = np.mean([stats.tost(row, 0.02) < 0.05 for row in draws])
    assert abs(claimed - 0.05) < 4 * monte_carlo_error(0.05)


@given(differences, differences)
def test_the_paired_test_and_interval_are_scipys(arm, base):
    n = min(len(arm), len(base))
    arm, base = np.array(arm[:n]), np.array(base[:n])
    assume(np.ptp(arm - base) > 1e-4)
    expected = reference.ttest_rel(arm, base)
    assert stats.t_test(arm - base) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    mean = stats.mean_interval(arm - base)
    limits = expected.confidence_interval(0.95)
    assert (mean.low, mean.high) == pytest.approx((limits.low, limits.high), rel=1e-6, abs=1e-9)


@given(differences, st.randoms(use_true_random=False))
def test_the_order_of_seeds_changes_nothing(values, random):
    shuffled = random.sample(values, len(values))
    one, other = stats.paired(values, 0.1), stats.paired(shuffled, 0.1)
    for name in ("p", "p_sign_flip", "p_equivalence"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True, rel=1e-6, abs=1e-12)
    assert one.difference.mean == pytest.approx(other.difference.mean, abs=1e-12)
    assert one.difference.low == pytest.approx(other.difference.low, nan_ok=True, abs=1e-9)


@given(differences)
def test_changing_sides_changes_only_the_sign(values):
    one, other = stats.paired(values), stats.paired([-x for x in values])
    assert one.difference.mean == pytest.approx(-other.difference.mean, abs=1e-12)
    assert one.difference.low == pytest.approx(-other.difference.high, nan_ok=True, abs=1e-12)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert one.p_sign_flip == pytest.approx(other.p_sign_flip)


@given(differences)
def test_the_interval_excludes_zero_exactly_when_the_t_test_is_significant(values):
    result = stats.paired(values)
    assume(not np.isnan(result.p) and abs(result.p - 0.05) > 1e-9)
    assert (result.p < 0.05) == (not result.difference.includes(0.0))


@given(differences, st.floats(0.001, 1))
def test_tost_holds_exactly_when_the_90_percent_interval_is_inside_the_margin(values, margin):
    p, mean = stats.tost(values, margin), stats.mean_interval(values, confidence=0.90)
    assume(not np.isnan(p) and abs(p - 0.05) > 1e-9)
    assert (p < 0.05) == (-margin < mean.low and mean.high < margin)


@given(differences)
def test_the_sign_flip_test_is_the_enumeration(values):
    signs = itertools.product((1, -1), repeat=len(values))
    sums = [abs(np.dot(pattern, values)) for pattern in signs]
    seen = abs(sum(values))
    low = np.mean([s >= seen + stats.SAME * len(values) for s in sums])
    high = np.mean([s >= seen - 2 * stats.SAME * len(values) for s in sums])
    assert low <= stats.sign_flip(values) <= high
    assert stats.smallest_sign_flip(len(values)) <= stats.sign_flip(values) <= 1


@pytest.mark.parametrize(("n", "smallest"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_sign_flip_p(n, smallest):
    assert stats.sign_flip(np.linspace(1, 2, n)) == smallest == stats.smallest_sign_flip(n)


def test_the_sign_flip_test_says_nothing_of_seeds_that_it_cannot_enumerate():
    assert np.isnan(stats.sign_flip([]))
    assert np.isnan(stats.sign_flip(np.linspace(1, 2, stats.EXACT_SEEDS + 1)))


def test_holm_by_hand():
    # 0.01·4, 0.02·3, 0.03·2 = 0.06, then 0.04·1 raised to the 0.06 before it.
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_counts_what_cannot_be_tested_yet():
    adjusted = stats.holm([0.01, np.nan, np.nan])
    assert adjusted[0] == pytest.approx(0.03)
    assert np.isnan(adjusted[1:]).all()


@given(p_values, st.randoms(use_true_random=False))
def test_holm_lies_between_none_and_bonferroni_keeps_order_and_ignores_positions(p, random):
    adjusted = stats.holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = random.sample(range(len(p)), len(p))
    assert stats.holm([p[i] for i in order]) == pytest.approx(adjusted[order])


def test_one_seed_has_no_interval_and_says_so():
    mean = stats.mean_interval([0.4])
    assert (mean.n, mean.mean, mean.note) == (1, 0.4, stats.ONE_VALUE)
    assert np.isnan([mean.sd, mean.low, mean.high]).all()
    assert np.isnan(stats.t_test([0.4]))


def test_no_seed_has_nothing():
    assert stats.mean_interval([np.nan]).note == stats.NO_VALUE


@given(st.floats(-1, 1), st.integers(2, 8))
def test_equal_differences_have_no_interval_and_decide_nothing(value, n):
    values = value + np.random.default_rng(n).normal(0, 1e-9, n)  # as float32 rounding leaves them
    result = stats.paired(values, margin=0.5)
    assert result.difference.note == stats.NO_SPREAD
    assert np.isnan([result.difference.low, result.p, result.p_equivalence]).all()
    assert stats.verdict(result.difference, result.p, result.p_equivalence) == "undecided"


def test_wilson_of_the_article():
    # 38 of 43 images: 75.5 % to 94.9 %
    assert stats.wilson(38 / 43, 43) == pytest.approx((0.755, 0.949), abs=5e-4)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    right, n = counts
    limits = reference.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert stats.wilson(right / n, n) == pytest.approx((limits.low, limits.high), abs=1e-9)


def mean(low, high):
    return stats.Mean(5, (low + high) / 2, 0.01, low, high)


@pytest.mark.parametrize(
    ("difference", "p_holm", "p_equivalence", "chance", "expected"),
    [
        (mean(0.01, 0.03), 0.04, np.nan, {}, "helps"),
        (mean(-0.03, -0.01), 0.04, np.nan, {}, "hurts"),
        (mean(0.01, 0.03), 0.06, np.nan, {}, "undecided"),  # Holm is not under 0.05
        (mean(-0.01, 0.03), 0.04, np.nan, {}, "undecided"),  # the interval includes 0
        (mean(-0.01, 0.01), 0.9, 0.04, {}, "equivalent"),
        (mean(-0.01, 0.01), 0.9, 0.06, {}, "undecided"),
        (mean(0.01, 0.03), 0.04, 0.04, {}, "helps"),
        (mean(0.01, 0.03), 0.04, np.nan, {"better_above_chance": False}, "undecided"),
        (mean(-0.01, 0.01), 0.9, 0.04, {"both_above_chance": False}, "undecided"),
        (mean(0.01, 0.03), 0.04, np.nan, {"higher_is_better": False}, "hurts"),
        (mean(np.nan, np.nan), np.nan, np.nan, {}, "undecided"),
    ],
)
def test_the_verdict_rule(difference, p_holm, p_equivalence, chance, expected):
    assert stats.verdict(difference, p_holm, p_equivalence, **chance) == expected


@settings(max_examples=50)
@given(differences, st.floats(0, 1))
def test_a_verdict_never_outruns_its_numbers(values, p_holm):
    result = stats.paired(values, margin=0.05)
    word = stats.verdict(result.difference, p_holm, result.p_equivalence)
    if word in ("helps", "hurts"):
        assert p_holm < 0.05
        assert not result.difference.includes(0)
        assert (word == "helps") == (result.difference.mean > 0)
    if word == "equivalent":
        assert result.p_equivalence < 0.05


def test_a_margin_must_be_positive():
    with pytest.raises(ValueError, match="above 0"):
        stats.tost([0.1, 0.2], 0.0)
