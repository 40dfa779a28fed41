"""Splits: who trains, who validates, who tests; and one hash by which two people can compare them.

Official splits come with their source. The stratified split is drawn here: 60/20/20 in each class, with
copies of one picture kept on one side. It depends on the images' names, on which of them are copies and on
`split_seed`; not on the order of files, on the image size or on any library's random generator.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from resflow.data.meta import PARTS
from resflow.errors import DataError

SPLIT_VERSION = 1  # raise with any change that moves an image of a stratified split
HELD_OUT = 0.2  # of each class, for validation and for test each


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
    names: Sequence[str], labels: Sequence[int], class_names: Sequence[str], digests: Sequence[str], seed: int
) -> list[str]:
    """Draw a part for each image. Raises DataError where a class cannot be in every part.

    Groups of copies are placed as a whole: those that stand in several classes first, then the largest,
    and among equals in the order of a hash of the seed and their first name. Each goes where its classes
    miss the most images, and an empty part is served while there are still groups for it.
    """
    groups = _groups(digests)
    classes = [sorted({int(labels[i]) for i in group}) for group in groups]
    unplaced = Counter(label for members in classes for label in members)
    _check_enough(unplaced, class_names)
    sizes = Counter(int(label) for label in labels)
    missing = {label: dict(zip(PARTS, _targets(size), strict=True)) for label, size in sizes.items()}
    empty = {label: set(PARTS) for label in sizes}
    keys = [_key(seed, min(names[i] for i in group)) for group in groups]

    parts = [""] * len(names)
    order = sorted(range(len(groups)), key=lambda g: (-len(classes[g]), -len(groups[g]), keys[g]))
    for g in order:
        served = [empty[label] for label in classes[g] if unplaced[label] <= len(empty[label])]
        allowed = [part for part in PARTS if all(part in needs for needs in served)] or list(PARTS)
        part = max(allowed, key=lambda p: (sum(missing[label][p] for label in classes[g]), -PARTS.index(p)))
        for index in groups[g]:
            parts[index] = part
            missing[int(labels[index])][part] -= 1
        for label in classes[g]:
            empty[label].discard(part)
            unplaced[label] -= 1
    for label, needs in empty.items():
        if needs:
            raise DataError(
                f"class '{class_names[label]}' has no image for {' and '.join(sorted(needs))}: copies of its "
                "images in other classes have to stay on one side. Remove the copies, or add images."
            )
    return parts


def _check_enough(groups: Counter[int], class_names: Sequence[str]) -> None:
    few = [f"'{name}' ({groups[label]})" for label, name in enumerate(class_names) if groups[label] < len(PARTS)]
    if few:
        raise DataError(
            f"a stratified split needs at least {len(PARTS)} different images in each class, one for each of "
            f"{', '.join(PARTS)}; too few in {_some(few)}. Add images or remove these classes."
        )


def _some(items: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _targets(images: int) -> tuple[int, int, int]:
    held_out = max(1, round(HELD_OUT * images))
    return images - 2 * held_out, held_out, held_out


def _key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"stratified {SPLIT_VERSION} {seed} {name}".encode()).digest()


def find_crossing(groups: Iterable[Sequence[int]], values: Sequence[object]) -> list[Sequence[int]]:
    """Return those groups whose members differ in `values`, such as their part or their class."""
    return [group for group in groups if len({values[i] for i in group}) > 1]
