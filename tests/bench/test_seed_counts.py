"""Simulations of how many seeds: what they count is what they say."""

from __future__ import annotations

import numpy as np
import pytest

from resflow.analysis import holm, seed_statistics
from resflow.bench import coverage, page, seed_counts


@pytest.fixture(scope="module")
def result() -> dict[str, object]:
    said: list[str] = []
    found = seed_counts.run(100, said.append, {"normal": coverage.KINDS["normal"]})
    assert len(said) == 5  # what it does, as it goes on
    return found


def test_every_share_is_one_and_every_kind_is_there(result: dict[str, list[dict[str, float]]]) -> None:
    assert [row["differences"] for row in result["sequential"]] == ["normal", "moderately skewed", "discrete"]
    for row in result["sequential"]:
        assert all(0 <= row[name] <= 1 for name in row if name != "differences")
        assert row["one_comparison"] < row["t_test_at_each_look"]
    for row in result["planned_by_prior"]:
        assert row["upper_seeds_50"] > row["point_seeds_50"]
        assert row["upper_found"] >= row["point_found"]


def test_larger_effects_take_fewer_seeds(result: dict[str, list[dict[str, float]]]) -> None:
    for declared in seed_counts.DECLARED:
        seeds = [row["mean_seeds"] for row in result["sequential_seeds"] if row["comparisons"] == declared]
        assert seeds == sorted(seeds, reverse=True)
        assert seed_counts.LEAST <= seeds[-1] < seeds[0] <= seed_counts.MOST


@pytest.mark.parametrize("effect", [0.0, 1.0, 3.0])
def test_the_end_is_the_first_seed_that_decides(effect: float) -> None:
    level = holm.first_level(2)
    for row in np.random.default_rng(3).normal(effect, 1, (20, seed_counts.MOST)):
        p = [seed_statistics.t_test(row[:n], sequential=True) for n in range(seed_counts.LEAST, seed_counts.MOST + 1)]
        first = next((place + seed_counts.LEAST for place, one in enumerate(p) if one < level), seed_counts.MOST + 1)
        assert seed_counts._decided_after(row, level) == first


def test_a_page_has_a_row_a_figure_and_none_of_older_results(result: dict[str, list[dict[str, float]]]) -> None:
    assert len(seed_counts.rows(result)) == sum(map(len, result.values()))
    assert seed_counts.rows({}) == []
    older = {"benchmark": "coverage", "settings": {}, "over_seeds": [], "mixed_model": [], "over_images": []}
    assert page.rows(older) == []
    assert page.rows({**older, **result}) == seed_counts.rows(result)
