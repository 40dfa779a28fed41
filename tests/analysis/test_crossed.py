"""Intervals over seeds and images together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from resflow.analysis import crossed, seed_statistics
from resflow.analysis.crossed import Spread

TABLES = arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 9)),
    elements=st.sampled_from([-1.0, 0.0, 1.0]),
)
SPREADS = st.builds(Spread, st.floats(1e-6, 1), st.integers(1, 20), st.sampled_from([0.0, 1e-6, 0.01, 0.5]))


@given(TABLES)
def test_the_parts_make_up_the_whole(table: np.ndarray) -> None:
    seeds, images = table.shape
    of_seeds, of_images, rest = crossed.mean_squares(table)
    parts = of_seeds * (seeds - 1) + of_images * (images - 1) + rest * (seeds - 1) * (images - 1)
    assert parts == pytest.approx(((table - table.mean()) ** 2).sum(), abs=1e-9)


@given(TABLES)
def test_the_interval_is_wider_than_that_over_seeds(table: np.ndarray) -> None:
    values = table.mean(axis=1)
    both = seed_statistics.mean_interval(values, image_variance=crossed.image_variance(table))
    seeds = seed_statistics.mean_interval(values)
    assert np.isnan(both.low) == np.isnan(seeds.low)
    assert np.isnan(both.low) or both.low < seeds.low <= both.mean == seeds.mean <= seeds.high < both.high


@given(TABLES)
def test_order_and_sign_of_seeds_and_images_say_nothing(table: np.ndarray) -> None:
    assert crossed.image_variance(table) == pytest.approx(crossed.image_variance(-table[::-1, ::-1]))


def test_where_seeds_agree_images_have_the_variance_of_a_mean_over_images() -> None:
    row = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 4000)
    table = np.stack([row, row, row])
    assert crossed.image_variance(table) == pytest.approx(row.var(ddof=1) / len(row), rel=1e-3)


def test_one_seed_or_one_image_has_no_variance() -> None:
    for shape in ((1, 9), (4, 1)):
        assert np.isnan(crossed.image_variance(np.ones(shape)))
    with pytest.raises(ValueError, match="seeds, images"):
        crossed.image_variance(np.ones(3))


def test_what_images_have_in_common_is_found() -> None:
    """Planted: seeds 0.01, images 0.04, the rest 0.09; the mean of many estimates is near."""
    draw, shape = np.random.default_rng(2), (5, 40)
    found = []
    for _ in range(400):
        table = 0.1 * draw.normal(size=(5, 1)) + 0.2 * draw.normal(size=(1, 40)) + 0.3 * draw.normal(size=shape)
        found.append(crossed.image_variance(table) - 1 / (5 * 40**2))
    assert np.mean(found) == pytest.approx(0.04 / 40, rel=0.1)


@given(SPREADS, st.floats(1e-6, 0.49))
def test_a_tail_is_what_its_interval_leaves_out(spread: Spread, tail: float) -> None:
    half = spread.half_width(tail)
    assume(half > 1e-9)
    assert spread.tail(half) == pytest.approx(tail, rel=1e-6)
    assert spread.p_above(half) + spread.p_above(-half) == pytest.approx(1)


@given(SPREADS, st.floats(0, 3), st.floats(0, 3))
def test_what_lies_further_is_less_likely(spread: Spread, one: float, other: float) -> None:
    near, far = sorted((one, other))
    assert spread.tail(far) <= spread.tail(near) * (1 + 1e-9)
