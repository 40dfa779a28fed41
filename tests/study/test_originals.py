"""Sizes of photos before they were resized, and the one sentence about those that were enlarged."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from resflow.study.originals import Originals, tell_enlarged

sides = st.integers(1, 5000)


@given(st.lists(sides, max_size=20))
def test_originals_are_of_photos_that_are_there(lengths: list[int]) -> None:
    found = Originals.measure(lengths)
    if found is None:
        assert not lengths
        return
    assert {found.smallest, found.median, found.largest} <= set(lengths)
    assert found.smallest == min(lengths)
    assert found.largest == max(lengths)
    assert 2 * sum(length <= found.median for length in lengths) >= len(lengths)
    assert 2 * sum(length >= found.median for length in lengths) >= len(lengths)


@given(st.lists(st.tuples(sides, sides), max_size=6))
def test_every_enlargement_is_told_with_both_sizes_and_no_other(pairs: list[tuple[int, int]]) -> None:
    larger = {pair for pair in pairs if pair[0] < pair[1]}
    text = tell_enlarged(pairs)
    told = {
        (int(median), int(size))
        for median, sizes in re.findall(r"of (\d+) pixels are enlarged to ([\d and]+)", text)
        for size in sizes.split(" and ")
    }
    assert told == larger
    assert bool(text) == bool(larger)
