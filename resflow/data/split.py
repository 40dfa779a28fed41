"""Splits: who trains, who validates, who tests; and one hash by which two people can compare them.

Official splits come with their source, a user's own with the photos. The stratified split is drawn here: 60/20/20 in
each class, with copies of one picture and photos of one group kept on one side. So is a part that a user's own split
lacks: a fifth of each class of those to train on. A draw depends on the images' names, on which of them are copies or
of one group, and on `split_seed`; not on the order of files, on the image size or on any library's random generator.

Photos that stay together are a unit, and units are placed greedily, as in scikit-learn's StratifiedGroupKFold and in
the iterative stratification of Sechidis, Tsoumakas and Vlahavas (ECML PKDD 2011): the most constrained first, each
where it is missed most. Shares are as near to 60/20/20 as a greedy placement of the units comes, and not exact.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from resflow.data.meta import PARTS
from resflow.errors import DataError
from resflow.study.split_notes import some

SPLIT_VERSION = 1  # raise with any change that moves an image of a stratified split
T = TypeVar("T")
HELD_OUT = 0.2  # of each class, for validation and for test each, or for the one of them that is drawn


def split_hash(names: Sequence[str], parts: Sequence[str]) -> str:
    """Return the hex sha256 over the sorted lines `name<TAB>part` of every image that is in a part."""
    lines = sorted(f"{name}\t{part}\n" for name, part in zip(names, parts, strict=True) if part)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_copies(digests: Sequence[str]) -> list[list[int]]:
    """Return the groups of two or more images with one digest, as positions."""
    return [group for group in _groups(digests) if len(group) > 1]


def _groups(digests: Sequence[str]) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    return list(groups.values())


def draw_stratified(
    names: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    digests: Sequence[str],
    seed: int,
    groups: Sequence[str] = (),
    parts: Sequence[str] = PARTS,
) -> list[str]:
    """Draw one of the `parts`, train and others, for each image. Raises DataError where a class cannot be in every one.

    `groups` has a group's name for each image, '' for those on their own. Units are placed as a whole: those that
    stand in several classes first, then the largest, and among equals in the order of a hash of the seed and their
    first name. Each goes where its classes miss the most images, and an empty part is served while there are still
    units for it.
    """
    units = _units(digests, groups)
    members = [Counter(int(labels[i]) for i in unit) for unit in units]
    unplaced = Counter(label for counts in members for label in counts)
    _check_enough(unplaced, class_names, parts, "different images or groups" if any(groups) else "different images")
    sizes = Counter(int(label) for label in labels)
    missing = {label: dict(zip(parts, _targets(size, len(parts) - 1), strict=True)) for label, size in sizes.items()}
    empty = {label: set(parts) for label in sizes}
    keys = [_key(seed, min(names[i] for i in unit)) for unit in units]

    def weight(unit: int, label: int) -> float:
        """Return how much a class counts in where a unit goes: then the squared errors of class shares fall most.

        Without groups all count alike: units are single images and copies, and splits that were drawn so stay.
        """
        return members[unit][label] / sizes[label] ** 2 if any(groups) else 1

    drawn = [""] * len(names)
    for u in sorted(range(len(units)), key=lambda u: (-len(members[u]), -len(units[u]), keys[u])):
        classes = sorted(members[u])
        served = [empty[label] for label in classes if unplaced[label] <= len(empty[label])]
        allowed = [part for part in parts if all(part in needs for needs in served)] or list(parts)
        gains = {part: sum(weight(u, label) * missing[label][part] for label in classes) for part in allowed}
        part = max(allowed, key=gains.__getitem__)  # of equals the first
        for index in units[u]:
            drawn[index] = part
            missing[int(labels[index])][part] -= 1
        for label in classes:
            empty[label].discard(part)
            unplaced[label] -= 1
    for label, needs in empty.items():
        if needs:
            raise DataError(
                f"class '{class_names[label]}' has no image for {' and '.join(sorted(needs))}: copies of its "
                "images in other classes, and images of one group, have to stay on one side. Remove the copies, or add "
                "images."
            )
    return drawn


def draw_missing(
    given: Sequence[str],
    names: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    digests: Sequence[str],
    seed: int,
    groups: Sequence[str] = (),
) -> list[str]:
    """Complete a split that lacks a part or two: these are drawn from the images to train on, the rest stays."""
    inside = [index for index, part in enumerate(given) if part == "train"]

    def pick(values: Sequence[T]) -> list[T]:
        return [values[index] for index in inside] if values else []

    parts = ("train", *missing_parts(given))
    drawn = draw_stratified(pick(names), pick(labels), class_names, pick(digests), seed, pick(groups), parts)
    completed = list(given)
    for index, part in zip(inside, drawn, strict=True):
        completed[index] = part
    return completed


def missing_parts(given: Sequence[str]) -> list[str]:
    """Return the parts that no image is in."""
    return [part for part in PARTS if part not in set(given)]


def _units(digests: Sequence[str], groups: Sequence[str]) -> list[list[int]]:
    """Return the images that stay together, as positions: copies, images of one group, and chains of both."""
    first = list(range(len(digests)))  # of its unit, as far as it is known

    def unit_of(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    named = [index for index, group in enumerate(groups) if group]
    of_groups = ([named[i] for i in places] for places in _groups([groups[index] for index in named]))
    for together in (*_groups(digests), *of_groups):
        for index in together[1:]:
            low, high = sorted((unit_of(together[0]), unit_of(index)))
            first[high] = low
    return _groups([str(unit_of(index)) for index in range(len(digests))])


def _check_enough(units: Counter[int], class_names: Sequence[str], parts: Sequence[str], what: str) -> None:
    few = [f"'{name}' ({units[label]})" for label, name in enumerate(class_names) if units[label] < len(parts)]
    if few:
        raise DataError(
            f"a stratified split needs at least {len(parts)} {what} in each class, one for each of "
            f"{', '.join(parts)}; too few in {some(few)}. Add images or remove these classes."
        )


def _targets(images: int, others: int) -> list[int]:
    """Return how many images of a class train, and how many are in each of the other parts."""
    held_out = max(1, round(HELD_OUT * images))
    return [images - others * held_out, *[held_out] * others]


def _key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"stratified {SPLIT_VERSION} {seed} {name}".encode()).digest()


def count_leaks(digests: Sequence[str], parts: Sequence[str]) -> dict[str, int]:
    """Return part -> how many of its images stand in an earlier part as well; nothing of parts without any."""
    seen: set[str] = set()
    leaks = {}
    for part in PARTS:
        own = [digest for digest, other in zip(digests, parts, strict=True) if other == part]
        if number := sum(digest in seen for digest in own):
            leaks[part] = number
        seen.update(own)
    return leaks


def find_crossing(groups: Iterable[Sequence[int]], values: Sequence[object]) -> list[Sequence[int]]:
    """Return those groups whose members differ in `values`, such as their part or their class."""
    return [group for group in groups if len({values[i] for i in group}) > 1]
