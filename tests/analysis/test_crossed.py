"""Intervals over seeds and images together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

from resflow.analysis import crossed, seed_statistics

TABLES = arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 9)),
    elements=st.sampled_from([-1.0, 0.0, 1.0]),
)


@given(TABLES)
def test_the_parts_make_up_the_whole(table: np.ndarray) -> None:
    seeds, images = table.shape
    of_seeds, of_images, rest = crossed.mean_squares(table)
    parts = of_seeds * (seeds - 1) + of_images * (images - 1) + rest * (seeds - 1) * (images - 1)
    assert parts == pytest.approx(((table - table.mean()) ** 2).sum(), abs=1e-9)


@given(TABLES)
def test_the_interval_is_never_narrower_than_that_over_seeds(table: np.ndarray) -> None:
    both = crossed.interval(table)
    seeds = seed_statistics.mean_interval(table.mean(axis=1))
    assert both.mean == pytest.approx(table.mean())
    assert both.low <= both.mean <= both.high
    if not np.isnan(seeds.low):
        assert both.low <= max(-1.0, seeds.low) + 1e-9
        assert both.high >= min(1.0, seeds.high) - 1e-9


@given(TABLES)
def test_order_and_sign_of_seeds_and_images_say_nothing(table: np.ndarray) -> None:
    both, turned = crossed.interval(table), crossed.interval(-table[::-1, ::-1])
    assert (both.low, both.high) == pytest.approx((-turned.high, -turned.low))


def test_where_seeds_agree_it_is_the_interval_over_images() -> None:
    row = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 400)
    both = crossed.interval(np.stack([row, row, row]))
    error = row.std(ddof=1) / np.sqrt(len(row))
    assert both.high - both.mean == pytest.approx(special.ndtri(0.975) * error)


def test_where_images_agree_it_is_the_interval_over_seeds() -> None:
    column = np.array([[0.1], [0.3], [0.2]])
    both, seeds = crossed.interval(np.repeat(column, 50, axis=1)), seed_statistics.mean_interval(column[:, 0])
    assert (both.low, both.high) == pytest.approx((seeds.low, seeds.high))


def test_one_seed_or_one_image_has_no_interval() -> None:
    for shape in ((1, 9), (4, 1)):
        assert np.isnan(crossed.interval(np.ones(shape)).low)
    with pytest.raises(ValueError, match="seeds, images"):
        crossed.interval(np.ones(3))


def test_components_of_variance_are_found() -> None:
    """Planted: seeds 0.01, images 0.04, the rest 0.09; the mean of many estimates is near."""
    draw, shape = np.random.default_rng(2), (5, 40)
    found = []
    for _ in range(400):
        table = 0.1 * draw.normal(size=(5, 1)) + 0.2 * draw.normal(size=(1, 40)) + 0.3 * draw.normal(size=shape)
        one = crossed.interval(table)
        found.append((one.seed_variance, one.image_variance, one.interaction_variance))
    assert np.mean(found, axis=0) == pytest.approx([0.01, 0.04, 0.09], rel=0.1)
