"""What so many seeds can resolve: against statsmodels, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from statsmodels.stats.power import TTestPower

from resflow.analysis import holm, power, seed_statistics
from resflow.analysis.crossed import Spread
from resflow.analysis.power import Variation

DRAWS = 4000
VARIATIONS = st.builds(Variation, st.floats(0.001, 1), st.sampled_from([0.0, 1e-6, 1e-4]))
LEVELS = st.integers(1, 12).map(holm.first_level)


def monte_carlo_error(share: float) -> float:
    return float(np.sqrt(share * (1 - share) / DRAWS))


@pytest.mark.parametrize(("effect", "n"), [(0.5, 34), (0.8, 15), (1.2, 8), (2.0, 5), (5.0, 3), (60.0, 2)])
def test_seeds_to_find_a_difference_are_those_of_statsmodels(effect: float, n: int) -> None:
    assert power.seeds_to_find(effect, Variation()) == power.seeds_to_find(-effect, Variation()) == n
    assert power.seeds_to_find(effect / 50, Variation(1 / 50)) == n
    if n > 2:
        assert n == np.ceil(TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8))


@pytest.mark.parametrize("declared", [1, 6])
@pytest.mark.parametrize("images", [0.0, 0.02])
@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_promised_power_is_there_at_the_level_of_holms_first_step(n: int, images: float, declared: int) -> None:
    """The spread is known: so often the test over seeds, or over seeds and images, finds the smallest difference."""
    alpha, variation = holm.first_level(declared), Variation(1.0, images)
    effect = power.smallest_effect(n, alpha, variation)
    draw = np.random.default_rng([n, declared])
    samples = draw.normal(effect, 1, (DRAWS, n)) + draw.normal(0, np.sqrt(images), (DRAWS, 1))
    found = np.mean([seed_statistics.t_test(row, images) < alpha for row in samples])
    assert abs(found - power.POWER) < 4 * monte_carlo_error(power.POWER)


@pytest.mark.parametrize("images", [0.0, 0.02])
def test_the_power_of_equivalence_is_how_often_tost_holds(images: float) -> None:
    draw, n, margin = np.random.default_rng(7), 8, 1.1
    samples = draw.normal(0, 1, (DRAWS, n)) + draw.normal(0, np.sqrt(images), (DRAWS, 1))
    found = np.mean([seed_statistics.tost(row, margin, images) < 0.05 for row in samples])
    assert abs(found - power.equivalence_power(margin, n, 0.05, Variation(1.0, images))) < 4 * monte_carlo_error(0.5)


@pytest.mark.parametrize("prior", [3, 5, 10])
def test_seeds_by_the_spread_of_a_prior_run_keep_the_promise(prior: int) -> None:
    """The spread is estimated: in so many plans as ASSURANCE says the power is there, and in the mean of all."""
    effect, alpha, draws = 1.0, holm.first_level(4), 300
    spreads = np.random.default_rng(prior).normal(0, 1, (draws, prior)).std(axis=1, ddof=1)
    seeds = [power.seeds_to_find(effect, Variation(sd).upper(prior), alpha) for sd in spreads]
    true = np.array([power.power(effect, int(min(n, power.MOST_SEEDS)), alpha) for n in seeds])
    assert true.mean() > power.POWER
    assert np.mean(true >= power.POWER) > power.ASSURANCE - 4 * np.sqrt(0.16 / draws)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_upper_limit_of_a_spread_lies_above_it_as_often_as_promised(n: int) -> None:
    spreads = np.random.default_rng(n).normal(0, 1, (DRAWS, n)).std(axis=1, ddof=1)
    above = np.mean([Variation(sd).upper(n).sd > 1 for sd in spreads])
    assert abs(above - power.ASSURANCE) < 4 * monte_carlo_error(power.ASSURANCE)


@given(VARIATIONS, st.integers(2, 40), LEVELS)
@settings(max_examples=25, deadline=None)
def test_the_smallest_difference_has_the_promised_power(variation: Variation, n: int, alpha: float) -> None:
    smallest = power.smallest_effect(n, alpha, variation)
    assert power.power(smallest, n, alpha, variation) == pytest.approx(power.POWER, abs=1e-6)
    assert power.smallest_effect(n + 1, alpha, variation) < smallest


@given(VARIATIONS, st.floats(0.001, 1), LEVELS)
@settings(max_examples=25, deadline=None)
def test_the_seeds_needed_are_enough_and_one_less_is_not(variation: Variation, effect: float, alpha: float) -> None:
    for needed, power_of in (
        (power.seeds_to_find(effect, variation, alpha), power.power),
        (power.seeds_to_equate(effect, variation, alpha), power.equivalence_power),
    ):
        if np.isfinite(needed):
            assert power_of(effect, int(needed), alpha, variation) >= power.POWER
            assert needed == 2 or power_of(effect, int(needed) - 1, alpha, variation) < power.POWER


@given(st.integers(2, 30), st.floats(0.001, 0.4), VARIATIONS)
def test_half_widths_are_those_of_the_interval(n: int, tail: float, variation: Variation) -> None:
    squares = special.chdtri(n - 1, 1 - power._NODES) / (n - 1) * variation.sd**2
    expected = [Spread(square / n, n - 1, variation.images).half_width(tail) for square in squares[::40]]
    assert variation.half_widths(n, tail)[::40] == pytest.approx(expected)


def test_what_no_study_resolves_needs_infinitely_many_seeds() -> None:
    assert power.seeds_to_find(0.003, Variation()) == np.inf
    assert power.seeds_to_find(0.01, Variation(0.01, images=1e-4)) == np.inf  # more images would
    assert power.seeds_to_equate(0.0001, Variation()) == np.inf
    assert np.isnan(power.seeds_to_find(0.1, Variation(0.0)))
    assert np.isnan(power.smallest_effect(1))
