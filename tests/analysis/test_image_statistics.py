"""Intervals and tests over images agree with scipy and statsmodels, and hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar

from resflow.analysis import image_statistics

DRAWS = 20_000
counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_of_the_article():
    # 38 of 43 images: 75.5 % to 94.9 %
    assert image_statistics.wilson(38 / 43, 43) == pytest.approx((0.755, 0.949), abs=5e-4)


@given(counts)
def test_wilson_and_clopper_pearson_are_scipys(given_counts):
    right, n = given_counts
    limits = reference.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert image_statistics.wilson(right / n, n) == pytest.approx((limits.low, limits.high), abs=1e-9)
    limits = reference.binomtest(right, n).proportion_ci(0.95, method="exact")
    assert image_statistics.clopper_pearson(right, n) == pytest.approx((limits.low, limits.high), abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_statsmodels_and_knows_no_sides(first, second):
    theirs = their_mcnemar([[10, first], [second, 10]], exact=True).pvalue
    assert image_statistics.mcnemar(first, second) == pytest.approx(min(1.0, theirs), abs=1e-12)
    assert image_statistics.mcnemar(first, second) == image_statistics.mcnemar(second, first)


@pytest.mark.parametrize("n", [43, 300, 6149])
def test_wilson_covers_over_shares(n):
    """Its coverage swings with the share; over shares drawn evenly it is the nominal one to half a point."""
    draw = np.random.default_rng(n)
    shares = draw.uniform(0.02, 0.98, DRAWS)
    seen = draw.binomial(n, shares)
    limits = {count: image_statistics.wilson(count / n, n) for count in set(seen)}
    covered = np.mean([limits[k][0] <= p <= limits[k][1] for k, p in zip(seen, shares, strict=True)])
    assert abs(covered - 0.95) < 0.005 + 4 * np.sqrt(0.95 * 0.05 / DRAWS)


@pytest.mark.parametrize(("n", "share"), [(3, 0.7), (5, 0.5), (8, 0.9), (12, 0.6), (43, 0.88)])
def test_clopper_pearson_covers_at_least_as_often_as_it_says(n, share):
    limits = [image_statistics.clopper_pearson(count, n) for count in range(n + 1)]
    mass = reference.binom.pmf(np.arange(n + 1), n, share)
    assert sum(p for p, (low, high) in zip(mass, limits, strict=True) if low <= share <= high) >= 0.95


@pytest.mark.parametrize("images", [50, 500])
def test_mcnemar_rejects_equal_nets_no_more_often_than_it_says(images):
    draw = np.random.default_rng(images)
    apart = draw.binomial(images, 0.2, DRAWS)
    first = draw.binomial(apart, 0.5)
    rejected = np.mean([image_statistics.mcnemar(int(a), int(b - a)) < 0.05 for a, b in zip(first, apart, strict=True)])
    assert rejected < 0.05 + 4 * np.sqrt(0.05 * 0.95 / DRAWS)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_interval_over_images_covers_what_other_images_give(seeds):
    """Two arms whose nets agree on most images; another draw of 400 images is another test set."""
    draw, images, draws = np.random.default_rng(seeds), 400, 3000
    hard = draw.random((20_000, 1))  # images that are hard are so for every net
    first, second = ((draw.random((20_000, seeds)) * 0.5 + hard * 0.5) < level for level in (0.55, 0.5))
    truth = (first.mean() - second.mean()).item()
    covered = 0
    for _ in range(draws):
        these = draw.integers(0, 20_000, images)
        found = image_statistics.over_images(first[these].T, second[these].T)
        covered += found.low <= truth <= found.high
    assert abs(covered / draws - 0.95) < 0.01 + 4 * np.sqrt(0.95 * 0.05 / draws)


@given(st.integers(1, 4), st.integers(2, 40), st.randoms(use_true_random=False))
def test_two_arms_over_images_by_hand(seeds, images, random):
    first = np.array([[random.random() < 0.6 for _ in range(images)] for _ in range(seeds)])
    second = np.array([[random.random() < 0.5 for _ in range(images)] for _ in range(seeds)])
    found = image_statistics.over_images(first, second)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert found.first_only - found.second_only == pytest.approx(images * found.difference)
    assert found.p_low <= found.p_high
    turned = image_statistics.over_images(second, first)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    shuffled = random.sample(range(images), images)
    assert image_statistics.over_images(first[:, shuffled], second[:, shuffled]).low == pytest.approx(found.low)


def test_arms_on_other_images_are_not_compared():
    with pytest.raises(ValueError, match="one shape"):
        image_statistics.over_images(np.ones((2, 5)), np.ones((2, 6)))


@pytest.mark.parametrize(
    ("first_only", "second_only", "images", "low", "high"),
    [(10, 2, 43, 0.0324, 0.3438), (0, 0, 43, -0.0820, 0.0820), (1, 0, 50, -0.0531, 0.1054)],
)
def test_tango_is_the_score_interval(first_only, second_only, images, low, high):
    """Where nothing differs it is ± z² / (n + z²); elsewhere its ends have the score statistic z, by its likelihood."""
    found = image_statistics.tango(first_only, second_only, images)
    assert found == pytest.approx((low, high), abs=5e-4)
    turned = image_statistics.tango(second_only, first_only, images)
    assert turned == pytest.approx((-found[1], -found[0]))


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_interval_over_few_images_covers_near_100_percent(seeds):
    """43 images, 97 % against 99 %: where a normal interval covers 76 % of one seed's differences."""
    draw, images, draws = np.random.default_rng(seeds), 43, 1000
    covered = 0
    for _ in range(draws):
        hard = draw.random(images)
        first, second = (draw.random((seeds, images)) < np.where(hard < 0.1, 1 - 10 * e, 1) for e in (0.03, 0.01))
        found = image_statistics.over_images(first, second)
        covered += found.low <= -0.02 <= found.high
    assert covered / draws > 0.93


def test_answers_that_are_the_same_are_called_so():
    answers = np.random.default_rng(0).random((3, 43)) < 0.9
    found = image_statistics.over_images(answers, answers)
    assert found.identical
    assert found.low == pytest.approx(-found.high)
    assert found.high > 0.01
    assert not image_statistics.over_images(answers, ~answers).identical
