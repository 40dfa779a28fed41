"""Pretrained weights before anything is built: where they lie and how a network must fit them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Normalisation:
    """The scale that a network wants pixels on, RGB in 0..255: (pixel - mean) / deviation."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class Notes:
    """What readers must know of weights beside their name; empty where nothing is known. No number depends on it."""

    origin: str = ""  # where they come from, as their file says
    note: str = ""  # whatever else it says to readers
    altered: str = ""  # how they differ from what was trained


NO_NOTES = Notes()
RAW = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Pretrained:
    """A file of weights, found and checked."""

    path: Path
    digest: str  # sha256 of the file, hex
    origin: str  # for records; never a path of this machine
    normalisation: Normalisation | None  # None: the file does not say
    stem_pool: str  # architectures.STEM_POOLS
    variant: str | None  # what it was trained as, where the file says
    notes: Notes = NO_NOTES
