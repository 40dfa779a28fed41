"""The stratified split: copies together, every class in every part, and nothing but the seed moves it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow.data.split import count_leaks, draw_missing, draw_stratified, find_copies, find_crossing, split_hash
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


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[str], list[int], list[str], list[str]]:
    """Names, labels, digests and groups: of one class mostly, of several at times; some images are on their own."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9), st.booleans()), min_size=9, max_size=40))
    labels, groups = [], []
    for number, (label, size, mixed) in enumerate(sizes):
        own = f"plant {number}" if size > 1 or mixed else ""
        labels += [(label + mixed * (i % 2)) % 3 for i in range(size)]
        groups += [own] * size
    copies = draw(st.lists(st.integers(0, len(labels) - 1), max_size=3))
    digests = [str(i) for i in range(len(labels))]
    for index in copies:
        digests[index] = digests[0]
    return [f"{i}.jpg" for i in range(len(labels))], labels, digests, groups


def together(digests: list[str], groups: list[str]) -> list[list[int]]:
    """Images that must stay on one side: copies, and those of a group."""
    places = {group: [i for i, own in enumerate(groups) if own == group] for group in set(groups) - {""}}
    return [*find_copies(digests), *places.values()]


@given(grouped(), st.integers(0, 3))
def test_groups_and_copies_never_cross_and_every_class_is_everywhere(images: tuple, seed: int) -> None:
    names, labels, digests, groups = images
    try:
        parts = draw_stratified(names, labels, NAMES, digests, seed, groups)
    except DataError:
        return
    assert not find_crossing(together(digests, groups), parts)
    for label in set(labels):
        assert {part for part, other in zip(parts, labels, strict=True) if other == label} == PARTS


@given(grouped(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_groups_are_drawn_alike_in_any_order_under_any_name(images: tuple, seed: int, random: object) -> None:
    names, labels, digests, groups = images
    order = list(range(len(names)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = ([values[i] for i in order] for values in (names, labels, digests))
    renamed = [groups[i] and f"{groups[i]} again" for i in order]
    try:
        parts = draw_stratified(names, labels, NAMES, digests, seed, groups)
    except DataError:
        return
    names_, labels_, digests_ = shuffled
    assert draw_stratified(names_, labels_, NAMES, digests_, seed, renamed) == [parts[i] for i in order]


@given(st.lists(st.lists(st.integers(1, 12), min_size=5, max_size=40), min_size=2, max_size=3), st.integers(0, 3))
def test_class_shares_are_kept_as_near_as_the_largest_group_allows(sizes: list[list[int]], seed: int) -> None:
    labels = [label for label, own in enumerate(sizes) for size in own for _ in range(size)]
    groups = [
        f"{label} {place}" for label, own in enumerate(sizes) for place, size in enumerate(own) for _ in range(size)
    ]
    names = [str(i) for i in range(len(labels))]
    parts = draw_stratified(names, labels, NAMES[: len(sizes)], names, seed, groups)
    for label, own in enumerate(sizes):
        counts = Counter(part for part, other in zip(parts, labels, strict=True) if other == label)
        wanted = max(1, round(0.2 * sum(own)))
        for part in ("validation", "test"):
            assert abs(counts[part] - wanted) <= max(own)


@given(images(), st.integers(0, 5))
def test_groups_of_one_image_each_change_no_split_that_was_drawn_without(images: tuple, seed: int) -> None:
    names, labels, digests = images
    try:
        parts = draw_stratified(names, labels, NAMES, digests, seed)
    except DataError:
        return
    assert draw_stratified(names, labels, NAMES, digests, seed, [""] * len(names)) == parts


@given(grouped(), st.sampled_from([("test",), ("validation",), ()]), st.integers(0, 3))
def test_missing_part_is_drawn_from_training_images_alone(images: tuple, given_: tuple[str, ...], seed: int) -> None:
    names, labels, digests, groups = images
    held_out = dict.fromkeys(sorted(set(groups) - {""})[:2], given_[0]) if given_ else {}
    before = [held_out.get(group, "train") for group in groups]
    try:
        after = draw_missing(before, names, labels, NAMES, digests, seed, groups)
    except DataError:
        return
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "train")
    assert set(after) == PARTS
    inside = [unit for unit in together(digests, groups) if {before[i] for i in unit} == {"train"}]
    assert not find_crossing(inside, after)


def test_leaks_count_images_that_an_earlier_part_has_as_well() -> None:
    digests, parts = list("aabbcda"), ["train", "test", "validation", "test", "train", "test", "validation"]
    assert count_leaks(digests, parts) == {"validation": 1, "test": 2}
    assert count_leaks(digests, ["train"] * 7) == count_leaks(list("abcdefg"), parts) == {}


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
