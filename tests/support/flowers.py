"""Small photos of a user's own, written as files: noise, each unlike the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from support.oxford_layout import drawn, encoded


def write_photo(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(drawn(number, 12, 10), "PNG"))
    return path


def write_classes(folder: Path, counts: Mapping[str, int], first: int = 0) -> Path:
    """Write class folders with so many photos each; photos of different `first` are different."""
    for place, (label, count) in enumerate(counts.items()):
        for number in range(count):
            write_photo(folder / label / f"{number}.png", first + 1000 * place + number)
    return folder


def write_parts(folder: Path, parts: Iterable[str], counts: Mapping[str, int]) -> Path:
    """Write the parts of a split, each with its own photos of every class."""
    for place, part in enumerate(parts):
        write_classes(folder / part, counts, 100_000 * (place + 1))
    return folder
