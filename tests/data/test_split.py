"""The stratified split: copies together, every class in every part, and nothing but the seed moves it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow.data.split import draw_stratified, find_copies, find_crossing, split_hash
from resflow.errors import DataError

PARTS = {"train", "validation", "test"}
NAMES = ("a", "b", "c")


@st.composite
def images(draw: st.DrawFn) -> tuple[list[str], list[int], list[str]]:
    """Labels and digests, in which copies are common and may cross classes."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=80))
    return [f"{label}/{i}.jpg" for i, (label, _) in enumerate(pairs)], *map(
        list, zip(*((label, str(digest)) for label, digest in pairs), strict=True)
    )


@given(images(), st.integers(0, 5))
def test_copies_stay_together_and_every_class_is_everywhere(images: tuple, seed: int) -> None:
    names, labels, digests = images
    groups = {label: {d for other, d in zip(labels, digests, strict=True) if other == label} for label in range(3)}
    try:
        parts = draw_stratified(names, labels, NAMES, digests, seed)
    except DataError:
        crossed = find_crossing(find_copies(digests), labels)
        assert crossed or min(len(group) for group in groups.values()) < 3
        return
    assert not find_crossing(find_copies(digests), parts)
    for label in range(3):
        assert {part for part, other in zip(parts, labels, strict=True) if other == label} == PARTS


@given(images(), st.randoms(use_true_random=False))
def test_order_of_the_files_does_not_matter(images: tuple, random: object) -> None:
    names, labels, digests = images
    order = list(range(len(names)))
    random.shuffle(order)  # type: ignore[attr-defined]
    try:
        parts = draw_stratified(names, labels, NAMES, digests, 0)
    except DataError:
        return
    again = draw_stratified(
        *([values[i] for i in order] if values is not NAMES else NAMES for values in (names, labels, NAMES, digests)),
        0,
    )
    assert again == [parts[i] for i in order]
    assert split_hash(names, parts) == split_hash([names[i] for i in order], again)


@pytest.mark.parametrize(("size", "expected"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (10, (6, 2, 2)), (101, (61, 20, 20))])
def test_fractions_without_copies(size: int, expected: tuple[int, int, int]) -> None:
    names = [str(i) for i in range(2 * size)]
    labels = [i % 2 for i in range(2 * size)]
    parts = draw_stratified(names, labels, NAMES[:2], names, 0)
    for label in (0, 1):
        counts = Counter(part for part, other in zip(parts, labels, strict=True) if other == label)
        assert (counts["train"], counts["validation"], counts["test"]) == expected


def test_seed_moves_images_and_the_hash_says_so() -> None:
    names = [f"{i}.jpg" for i in range(60)]
    splits = {seed: draw_stratified(names, [i % 3 for i in range(60)], NAMES, names, seed) for seed in range(20)}
    assert len({split_hash(names, parts) for parts in splits.values()}) == 20
    # every image is held out under some seed: no position is favoured
    assert all(any(parts[i] != "train" for parts in splits.values()) for i in range(60))


def test_too_few_images_name_the_class() -> None:
    with pytest.raises(DataError, match=r"at least 3 different images .* 'b' \(2\)"):
        draw_stratified(list("pqrstuv"), [0, 0, 0, 1, 1, 1, 1], ("a", "b"), ["1", "2", "3", "4", "5", "5", "5"], 0)


def test_hash_is_of_names_and_membership_only() -> None:
    assert split_hash(["x", "y"], ["train", "test"]) == split_hash(["y", "x"], ["test", "train"])
    assert split_hash(["x", "y"], ["train", "test"]) != split_hash(["x", "y"], ["test", "train"])
    assert split_hash(["x", "y"], ["train", ""]) == split_hash(["x"], ["train"])
