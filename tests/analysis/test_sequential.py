"""Inference that holds however often one looks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats

from resflow.analysis import holm, power, seed_statistics, sequential_power
from resflow.analysis.power import Variation
from resflow.analysis.sequential import CONCENTRATION, AnytimeSpread

DRAWS, SEEDS = 1500, 20
values = st.lists(st.floats(-1, 1), min_size=3, max_size=12).filter(lambda x: np.ptp(x) > 0.01)
spreads = st.builds(AnytimeSpread, st.floats(1e-6, 1), st.integers(2, 19), st.sampled_from([0.0, 1e-6, 0.01]))
Sampler = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SAMPLERS: dict[str, Sampler] = {
    "normal": lambda draw, shape: draw.normal(0, 1, shape),
    "skewed": lambda draw, shape: draw.gamma(4, 1, shape) - 4,  # skewness 1
    "discrete": lambda draw, shape: draw.binomial(4, 0.5, shape) - 2.0,  # a few images more or less
}


@pytest.mark.parametrize("n", [2, 3, 8, 20])
@pytest.mark.parametrize("t", [0.3, 2.0, 6.0])
def test_p_is_the_inverse_of_the_likelihood_ratio_of_a_normal_effect(n: int, t: float) -> None:
    def weighted(effect: float) -> float:
        shifted = stats.nct.pdf(t, n - 1, effect * np.sqrt(n))
        return float(shifted * stats.norm.pdf(effect, 0, CONCENTRATION**-0.5))

    ratio = integrate.quad(weighted, -8, 12, limit=200)[0] / stats.t.pdf(t, n - 1)
    assert 2 * AnytimeSpread(1.0, n - 1).seeds_tail(t) == pytest.approx(min(1, 1 / ratio), rel=2e-2)


@given(spreads, st.floats(1e-6, 0.2))
def test_the_test_is_where_the_interval_ends(spread: AnytimeSpread, tail: float) -> None:
    half = spread.half_width(tail)
    assume(np.isfinite(half))
    assert spread.tail(half) == pytest.approx(tail, rel=1e-3)


@given(values)
def test_p_and_interval_agree_and_only_grow_surer(x: list[float]) -> None:
    before = None
    for n in range(2, len(x) + 1):
        p = seed_statistics.t_test(x[:n], sequential=True)
        interval = seed_statistics.mean_interval(x[:n], sequential=True)
        assert np.isnan(p) or np.isnan(interval.low) or (p < 0.05) == (not interval.includes(0.0))
        if before is not None and not np.isnan(interval.low):
            assert np.isnan(before[0]) or p <= before[0]
            assert np.isnan(before[1].low) or before[1].low <= interval.low <= interval.high <= before[1].high
        before = (p, interval)


@given(values)
def test_equivalence_is_an_interval_within_the_margin_after_any_seed(x: list[float]) -> None:
    looks = seed_statistics._looks(np.array(x), 0.0, sequential=True)
    for margin in (0.1, 0.5, 1.0, 2.0):
        within = any(abs(mean) + spread.half_width(0.025) < margin for mean, spread in looks)
        assert (seed_statistics.tost(x, margin, sequential=True) < 0.05) == within


@given(values, st.floats(0.01, 100))
def test_units_and_signs_say_nothing(x: list[float], scale: float) -> None:
    assume(scale * np.ptp(x) > 0.01)
    p = seed_statistics.t_test(x, sequential=True)
    assert seed_statistics.t_test([-scale * one for one in x], sequential=True) == pytest.approx(p, rel=1e-6)


@given(values)
def test_it_is_wider_than_students(x: list[float]) -> None:
    last = AnytimeSpread(1.0, len(x) - 1)
    assert last.quantile(0.025) > -stats.t.ppf(0.025, len(x) - 1)
    assert last.p_above(1.0) >= stats.t.sf(1.0, len(x) - 1)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_however_often_one_looks_few_verdicts_are_false(kind: str) -> None:
    samples = SAMPLERS[kind](np.random.default_rng(len(kind)), (DRAWS, SEEDS))
    wrong = np.mean([seed_statistics.t_test(row, sequential=True) < 0.05 for row in samples])
    looking = [any(seed_statistics.t_test(row[:n]) < 0.05 for n in range(3, SEEDS + 1)) for row in samples[:300]]
    assert 0.001 < wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)
    assert np.mean(looking) > 0.1  # what the t test makes of it


def test_few_false_verdicts_of_many_comparisons_that_share_a_baseline() -> None:
    arms = np.random.default_rng(5).normal(0, 1, (300, SEEDS, 7))
    wrong = 0
    for study in arms:
        p = [seed_statistics.t_test(study[:, arm] - study[:, 0], sequential=True) for arm in range(1, 7)]
        wrong += bool((holm.adjust(p) < 0.05).any())
    assert wrong / len(arms) < 0.05


@pytest.mark.parametrize("margin", [1.0, 2.0])
def test_a_difference_of_the_margin_is_seldom_called_equivalent(margin: float) -> None:
    samples = np.random.default_rng(9).normal(margin, 1, (600, SEEDS))
    assert np.mean([seed_statistics.tost(row, margin, sequential=True) < 0.05 for row in samples]) < 0.05


def test_with_images_the_interval_covers_at_every_look() -> None:
    draw, images = np.random.default_rng(11), 0.1
    missed = 0
    for _ in range(400):
        row = draw.normal(0, 1, SEEDS) + draw.normal(0, np.sqrt(images))
        missed += seed_statistics.t_test(row, images, sequential=True) < 0.05
    assert missed / 400 < 0.05


def test_clear_effects_are_found_within_a_few_seeds() -> None:
    samples = np.random.default_rng(13).normal(2, 1, (300, SEEDS))
    decided = [
        next((n for n in range(3, SEEDS + 1) if seed_statistics.t_test(row[:n], sequential=True) < 0.05), SEEDS + 1)
        for row in samples
    ]
    assert np.mean(decided) < 7
    assert max(decided) <= SEEDS


def test_what_gives_no_interval_says_why() -> None:
    assert seed_statistics.mean_interval([0.1, 0.1, 0.1], sequential=True).note == seed_statistics.NO_SPREAD
    assert seed_statistics.mean_interval([0.1, 0.2], sequential=True).note == seed_statistics.TOO_FEW
    apart = [0.1, 0.1001] * 5 + [0.9, 0.9001] * 200  # these seeds are not those from before
    assert seed_statistics.mean_interval(apart, sequential=True).note == seed_statistics.NO_OVERLAP


def test_of_looks_there_is_no_sign_flip_test() -> None:
    result = seed_statistics.paired([0.1, 0.2, 0.15, 0.12], 0.01, sequential=True)
    assert np.isnan([result.p_sign_flip, result.p_sign_flip_smallest, result.signs.low, result.signs.high]).all()
    assert result.signs.better == 4


@given(st.lists(st.floats(0.05, 0.95), min_size=4, max_size=12).filter(lambda x: np.ptp(x) > 0.01))
def test_a_level_stays_within_its_bounds(x: list[float]) -> None:
    interval = seed_statistics.level_interval(x, sequential=True)
    fixed = seed_statistics.level_interval(x)
    assert np.isnan(interval.low) or 0 <= interval.low <= interval.high <= 1
    assert interval.mean == fixed.mean


@pytest.mark.parametrize(("images", "declared"), [(0.0, 1), (0.0, 6), (0.1, 1)])
def test_the_smallest_difference_is_found_as_often_as_promised(images: float, declared: int) -> None:
    level, variation = holm.first_level(declared), Variation(0.5, images)
    effect = sequential_power.smallest_effect(12, level, variation)
    draw = np.random.default_rng(17)
    samples = draw.normal(effect, 0.5, (1000, 12)) + draw.normal(0, np.sqrt(images), (1000, 1))
    found = np.mean([seed_statistics.t_test(row, images, sequential=True) < level for row in samples])
    assert abs(found - 0.8) < 5 * np.sqrt(0.16 / 1000)
    assert effect > power.smallest_effect(12, level, variation)
