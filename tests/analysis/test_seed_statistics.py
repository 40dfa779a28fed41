"""Intervals cover, tests agree with scipy, corrections keep their properties, verdicts follow the rule."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from resflow.analysis import holm, seed_statistics

DRAWS = 20_000
SEEDS = (3, 5, 8, 12)
differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 5)), min_size=2, max_size=8)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def monte_carlo_error(share):
    return np.sqrt(share * (1 - share) / DRAWS)


@pytest.mark.parametrize("n", SEEDS)
def test_the_t_interval_covers_the_mean_of_normal_seeds(n):
    draws = np.random.default_rng(n).normal(0.3, 0.02, (DRAWS, n))
    covered = sum(seed_statistics.mean_interval(row).includes(0.3) for row in draws) / DRAWS
    assert abs(covered - 0.95) < 4 * monte_carlo_error(0.95)


@pytest.mark.parametrize("n", SEEDS)
def test_the_t_test_rejects_a_true_null_as_often_as_it_says(n):
    draws = np.random.default_rng(10 + n).normal(0, 0.02, (DRAWS, n))
    rejected = np.mean([seed_statistics.t_test(row) < 0.05 for row in draws])
    assert abs(rejected - 0.05) < 4 * monte_carlo_error(0.05)


@pytest.mark.parametrize("n", SEEDS)
def test_the_sign_flip_test_rejects_a_true_null_no_more_often_than_it_says(n):
    draws = np.random.default_rng(20 + n).laplace(0, 0.02, (DRAWS // 4, n))  # symmetric, not normal
    level = max(0.05, seed_statistics.smallest_sign_flip(n))
    level = np.floor(level * 2 ** (n - 1)) / 2 ** (n - 1)  # the test's p are multiples of this
    rejected = np.mean([seed_statistics.sign_flip(row) <= level + 1e-12 for row in draws])
    assert abs(rejected - level) < 4 * np.sqrt(level * (1 - level) / (DRAWS // 4))


@pytest.mark.parametrize("n", SEEDS)
def test_tost_is_wrong_at_the_margin_as_often_as_it_says(n):
    # Far from the other end of the margin the two one-sided tests are one, of size 0.05.
    draws = np.random.default_rng(30 + n).normal(0.02, 0.002, (DRAWS, n))
    claimed = np.mean([seed_statistics.tost(row, 0.02) < 0.05 for row in draws])
    assert abs(claimed - 0.05) < 4 * monte_carlo_error(0.05)


@pytest.mark.parametrize("n", SEEDS)
def test_holm_keeps_the_chance_of_any_false_verdict(n):
    """Six contrasts that share their reference and differ from it in nothing: at most 5 % of studies name one."""
    draws = np.random.default_rng(40 + n).normal(0, 0.02, (DRAWS // 6, n, 7))
    wrong = 0
    for study in draws:
        p = [seed_statistics.t_test(study[:, arm] - study[:, 0]) for arm in range(1, 7)]
        wrong += bool((holm.adjust(p) < 0.05).any())
    assert wrong / len(draws) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / len(draws))


@pytest.mark.parametrize("n", SEEDS)
def test_the_chance_of_doing_better_is_covered_at_least_as_often_as_it_says(n):
    truth = 0.7
    draws = np.random.default_rng(50 + n).normal(reference.norm.ppf(truth), 1, (DRAWS, n))
    found = [seed_statistics.signs(row) for row in draws]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert covered > 0.95 - 4 * monte_carlo_error(0.95)


@pytest.mark.parametrize("n", SEEDS)
def test_hedges_g_is_unbiased(n):
    truth = 0.8
    draws = np.random.default_rng(60 + n).normal(truth, 1, (DRAWS, n))
    found = np.array([seed_statistics.hedges_g(row) for row in draws])
    if n > 3:  # three seeds' g has no variance, so its mean is not to be had by simulation
        assert abs(found.mean() - truth) < 4 * found.std() / np.sqrt(DRAWS)
    assert np.isnan(seed_statistics.hedges_g([0.1, 0.2]))


@given(differences)
def test_signs_count_each_seed_that_tells_the_arms_apart(values):
    found = seed_statistics.signs(values)
    apart = [x for x in values if abs(x) > seed_statistics.SAME]
    assert (found.better, found.n) == (sum(x > 0 for x in apart), len(apart))
    mirrored = seed_statistics.signs(values, higher_is_better=False)
    assert mirrored.better == found.n - found.better
    if apart:
        assert found.low <= found.better / found.n <= found.high
        assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


@given(differences, differences)
def test_the_paired_test_and_interval_are_scipys(arm, base):
    n = min(len(arm), len(base))
    arm, base = np.array(arm[:n]), np.array(base[:n])
    assume(np.ptp(arm - base) > 1e-4)
    expected = reference.ttest_rel(arm, base)
    assert seed_statistics.t_test(arm - base) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    mean = seed_statistics.mean_interval(arm - base)
    limits = expected.confidence_interval(0.95)
    assert (mean.low, mean.high) == pytest.approx((limits.low, limits.high), rel=1e-6, abs=1e-9)


@given(differences, st.randoms(use_true_random=False))
def test_the_order_of_seeds_changes_nothing(values, random):
    shuffled = random.sample(values, len(values))
    one, other = seed_statistics.paired(values, 0.1), seed_statistics.paired(shuffled, 0.1)
    for name in ("p", "p_sign_flip", "p_equivalence"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True, rel=1e-6, abs=1e-12)
    assert one.difference.mean == pytest.approx(other.difference.mean, abs=1e-12)
    assert one.difference.low == pytest.approx(other.difference.low, nan_ok=True, abs=1e-9)


@given(differences)
def test_changing_sides_changes_only_the_sign(values):
    one, other = seed_statistics.paired(values), seed_statistics.paired([-x for x in values])
    assert one.difference.mean == pytest.approx(-other.difference.mean, abs=1e-12)
    assert one.difference.low == pytest.approx(-other.difference.high, nan_ok=True, abs=1e-12)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert one.p_sign_flip == pytest.approx(other.p_sign_flip)


@given(differences)
def test_the_interval_excludes_zero_exactly_when_the_t_test_is_significant(values):
    result = seed_statistics.paired(values)
    assume(not np.isnan(result.p) and abs(result.p - 0.05) > 1e-9)
    assert (result.p < 0.05) == (not result.difference.includes(0.0))


@given(differences, st.floats(0.001, 1))
def test_tost_holds_exactly_when_the_90_percent_interval_is_inside_the_margin(values, margin):
    p, mean = seed_statistics.tost(values, margin), seed_statistics.mean_interval(values, confidence=0.90)
    assume(not np.isnan(p) and abs(p - 0.05) > 1e-9)
    assert (p < 0.05) == (-margin < mean.low and mean.high < margin)


@given(differences)
def test_the_sign_flip_test_is_the_enumeration(values):
    signs = itertools.product((1, -1), repeat=len(values))
    sums = [abs(np.dot(pattern, values)) for pattern in signs]
    seen = abs(sum(values))
    low = np.mean([s >= seen + seed_statistics.SAME * len(values) for s in sums])
    high = np.mean([s >= seen - 2 * seed_statistics.SAME * len(values) for s in sums])
    assert low <= seed_statistics.sign_flip(values) <= high
    assert seed_statistics.smallest_sign_flip(len(values)) <= seed_statistics.sign_flip(values) <= 1


@pytest.mark.parametrize(("n", "smallest"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_sign_flip_p(n, smallest):
    assert seed_statistics.sign_flip(np.linspace(1, 2, n)) == smallest == seed_statistics.smallest_sign_flip(n)


def test_the_sign_flip_test_says_nothing_of_seeds_that_it_cannot_enumerate():
    assert np.isnan(seed_statistics.sign_flip([]))
    assert np.isnan(seed_statistics.sign_flip(np.linspace(1, 2, seed_statistics.EXACT_SEEDS + 1)))


def test_holm_by_hand():
    # 0.01·4, 0.02·3, 0.03·2 = 0.06, then 0.04·1 raised to the 0.06 before it.
    assert holm.adjust([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_counts_what_cannot_be_tested_yet():
    adjusted = holm.adjust([0.01, np.nan, np.nan])
    assert adjusted[0] == pytest.approx(0.03)
    assert np.isnan(adjusted[1:]).all()


@given(p_values, st.randoms(use_true_random=False))
def test_holm_lies_between_none_and_bonferroni_keeps_order_and_ignores_positions(p, random):
    adjusted = holm.adjust(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = random.sample(range(len(p)), len(p))
    assert holm.adjust([p[i] for i in order]) == pytest.approx(adjusted[order])


@given(p_values)
def test_a_p_is_below_the_level_that_holm_leaves_it_exactly_when_its_adjusted_p_is_below_005(p):
    assume(all(abs(one * k - 0.05) > 1e-9 for one in p for k in range(1, len(p) + 1)))
    assert list(np.array(p) < holm.levels(p)) == list(holm.adjust(p) < 0.05)


shares = st.lists(st.floats(0.001, 0.999), min_size=3, max_size=8)


@given(shares)
def test_an_accuracy_has_an_interval_of_accuracies(values):
    found = seed_statistics.level_interval(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert np.isnan(found.low) or 0 <= found.low <= found.mean <= found.high <= 1


@given(shares)
def test_right_and_wrong_answers_have_the_same_interval(values):
    found, turned = (seed_statistics.level_interval(v) for v in (values, 1 - np.array(values)))
    assert [found.low, found.high] == pytest.approx([1 - turned.high, 1 - turned.low], nan_ok=True, abs=1e-9)


@given(st.lists(st.floats(0.01, 50), min_size=3, max_size=8))
def test_a_loss_has_an_interval_above_0(values):
    found = seed_statistics.level_interval(values, 0.0, np.inf)
    assert np.isnan(found.low) or 0 <= found.low <= found.mean <= found.high


def test_two_accuracies_have_a_mean_and_no_interval():
    found = seed_statistics.level_interval([0.2, 0.6])
    assert (found.n, found.mean, found.note) == (2, pytest.approx(0.4), seed_statistics.TWO_VALUES)
    assert np.isnan([found.low, found.high]).all()


@settings(max_examples=40)
@given(differences, st.sampled_from([0.0, 1e-6, 1e-3]))
def test_over_images_too_a_p_is_the_level_of_the_interval_that_ends_at_0(values, variance):
    result = seed_statistics.paired(values, image_variance=variance)
    assume(1e-9 < result.p < 1 - 1e-9)
    ends = seed_statistics.mean_interval(values, 1 - result.p, image_variance=variance)
    assert min(abs(ends.low), abs(ends.high)) == pytest.approx(0, abs=1e-6)
    assert result.p >= result.p_seeds * (1 - 1e-9)


@settings(max_examples=40)
@given(differences, st.floats(0.001, 0.5))
def test_what_is_shown_inside_a_margin_is_never_shown_outside(values, margin):
    inside, outside = seed_statistics.tost(values, margin), seed_statistics.beyond(values, margin)
    assert np.isnan(inside) or max(inside, outside) > 0.05


def test_one_seed_has_no_interval_and_says_so():
    mean = seed_statistics.mean_interval([0.4])
    assert (mean.n, mean.mean, mean.note) == (1, 0.4, seed_statistics.ONE_VALUE)
    assert np.isnan([mean.sd, mean.low, mean.high]).all()
    assert np.isnan(seed_statistics.t_test([0.4]))


def test_no_seed_has_nothing():
    assert seed_statistics.mean_interval([np.nan]).note == seed_statistics.NO_VALUE


@given(st.floats(-1, 1), st.integers(2, 8))
def test_equal_differences_have_no_interval_and_decide_nothing(value, n):
    values = value + np.random.default_rng(n).normal(0, 1e-9, n)  # as float32 rounding leaves them
    result = seed_statistics.paired(values, margin=0.5)
    assert result.difference.note == seed_statistics.NO_SPREAD
    assert np.isnan([result.difference.low, result.p, result.p_equivalence]).all()
    assert seed_statistics.verdict(result.difference, result.p, result.p_equivalence) == "undecided"


def mean(low, high):
    return seed_statistics.Mean(5, (low + high) / 2, 0.01, low, high)


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
        (mean(np.nan, np.nan), np.nan, np.nan, {"identical": True}, "equivalent"),
        (mean(np.nan, np.nan), np.nan, np.nan, {"identical": True, "both_above_chance": False}, "undecided"),
    ],
)
def test_the_verdict_rule(difference, p_holm, p_equivalence, chance, expected):
    assert seed_statistics.verdict(difference, p_holm, p_equivalence, **chance) == expected


@settings(max_examples=50)
@given(differences, st.floats(0, 1))
def test_a_verdict_never_outruns_its_numbers(values, p_holm):
    result = seed_statistics.paired(values, margin=0.05)
    word = seed_statistics.verdict(result.difference, p_holm, result.p_equivalence)
    if word in ("helps", "hurts"):
        assert p_holm < 0.05
        assert not result.difference.includes(0)
        assert (word == "helps") == (result.difference.mean > 0)
    if word == "equivalent":
        assert result.p_equivalence < 0.05


def test_a_margin_must_be_positive():
    with pytest.raises(ValueError, match="above 0"):
        seed_statistics.tost([0.1, 0.2], 0.0)
