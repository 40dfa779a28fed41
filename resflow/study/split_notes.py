"""What a reader must know of a split: parts that were drawn, photos in two of them, classes that one of them lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JOINED = "train+validation"  # the setting under which validation images are trained on


@dataclass(frozen=True)
class SplitNotes:
    """Facts of a split; all empty where there is nothing to tell. They follow from the images and the settings."""

    drawn: tuple[str, ...] = ()  # parts that were drawn from the user's training images
    leaks: Mapping[str, int] = field(default_factory=dict)  # part -> its images that are in an earlier part as well
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # part -> classes that it has no image of
    joined: bool = False  # whether validation images are trained on

    def as_json(self) -> dict[str, Any]:
        """Return what there is to tell, as a record keeps it."""
        values = {
            "drawn": list(self.drawn),
            "leaks": dict(self.leaks),
            "absent": {part: list(names) for part, names in self.absent.items()},
            "joined": self.joined,
        }
        return {key: value for key, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Any) -> SplitNotes:
        """Return what a record says; older ones say nothing."""
        values = values if isinstance(values, Mapping) else {}
        absent = {part: tuple(names) for part, names in values.get("absent", {}).items()}
        return cls(tuple(values.get("drawn", ())), values.get("leaks", {}), absent, bool(values.get("joined")))


def tell_split(notes: SplitNotes) -> Iterator[tuple[str, str]]:
    """Yield a label and a sentence for everything that a reader could take for more than it is."""
    if notes.joined:
        yield (
            "no validation images",
            "Validation images were trained on: they selected nothing, and have no figures of their own.",
        )
    if notes.drawn:
        yield (
            "partly drawn split",
            f"The user's own split lacks {' and '.join(notes.drawn)}, drawn from its training images by split_seed.",
        )
    if notes.leaks:
        parts = [f"{number} {part} image{'' if number == 1 else 's'}" for part, number in notes.leaks.items()]
        yield (
            "photos in two parts",
            f"In an earlier part of the split as well, pixel for pixel: {' and '.join(parts)}. Accuracy there is of "
            "memory, too.",
        )
    for part, names in notes.absent.items():
        yield (
            f"classes without {part} images",
            f"{some(names)}: the split has no {part} image of {'it' if len(names) == 1 else 'them'}, so nothing is "
            f"said of {'it' if len(names) == 1 else 'them'} there.",
        )


def tell_splits(recorded: Iterable[Any]) -> list[tuple[str, str]]:
    """Return what is to be told of the splits of some records, each thing once."""
    return list(dict.fromkeys(told for values in recorded for told in tell_split(SplitNotes.from_json(values))))


def some(names: Sequence[str], most: int = 10) -> str:
    """List names, of many the first ones and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
