"""A prepared cache folder as arrays, and the fingerprint by which trials know their data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from resflow import workspace
from resflow.data import split as splitting
from resflow.data.cache import Spent, never
from resflow.data.decode import DECODE_VERSION
from resflow.data.meta import DRAWN_SPLITS, PARTLY_DRAWN, PARTS, Meta, damaged, map_array, read_meta
from resflow.errors import DataError, one_of
from resflow.study.originals import Originals
from resflow.study.settings import Split, TrainedOn
from resflow.study.split_notes import JOINED, SplitNotes

DRAWN = "synthetic"  # the source whose images are made at the size that is asked for, and have no other


class Source(Protocol):
    """A place that images come from. `name` is as in records, never a path."""

    name: str

    @property
    def splits(self) -> tuple[Split, ...]:
        """The legal split names, the first being the default."""

    def identity(self) -> str:
        """Return the hex sha256 of all that defines images and labels, decoding nothing."""

    def prepare(self, image_size: int, *, progress: bool = True, spent: Spent = never) -> Path:
        """Download where needed, decode once into the cache, and return the cache folder.

        Raises DataError where images are bad, or the time for decoding them is `spent`.
        """

    def litter(self) -> Sequence[str]:
        """Return the names of what is passed over by a rule, and lies among the photos now."""

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        """Return classes and (training, validation, test) images of a split, None where the images must be seen."""


@dataclass(frozen=True)
class SourceEntry:
    """A source as `data.source` and `resflow data list` name it; a name such as folder:PATH takes an argument."""

    name: str
    help: str  # one line
    splits: tuple[Split, ...]
    open: Callable[[str, Path | None], Source]  # of the name as it was typed, and of --data-dir
    takes_data_dir: bool = False

    def matches(self, name: str) -> bool:
        """Tell whether a name that was typed is of this source."""
        stem, colon, _ = self.name.partition(":")
        return name.startswith(stem + colon) if colon else name == stem


@dataclass(frozen=True)
class Dataset:
    """Decoded images with one split of them. `train`, `validation`, `test` are positions in `images`."""

    source: str
    identity: str
    image_size: int
    images: np.ndarray  # (n, size, size, 3) uint8, memory-mapped, read-only
    labels: np.ndarray  # (n,) int64, 0-based
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    split: str
    split_hash: str
    train: np.ndarray  # int64
    validation: np.ndarray
    test: np.ndarray
    shorter_sides: np.ndarray | None = None  # (n,) int64, pixels before resizing; None of drawn images
    notes: SplitNotes = field(default_factory=SplitNotes)  # of the split

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.train), len(self.validation), len(self.test)

    @property
    def originals(self) -> Originals | None:
        """The sizes of the photos of all parts before they were resized; None of drawn images."""
        if self.shorter_sides is None:
            return None
        return Originals.measure(self.shorter_sides[np.concatenate((self.train, self.validation, self.test))].tolist())


def data_fingerprint(
    source: Source, image_size: int, split: str = "auto", split_seed: int = 0, train: TrainedOn = "train"
) -> str:
    """Return 64 hex digits that change with anything a trial sees of its data. Decodes nothing.

    `split_seed` takes part only where the split is drawn from it. Raises DataError for an unknown split.
    """
    name = resolve_split(split, source.splits, source.name)
    return fingerprint_of(source.identity(), image_size, name, split_seed, train)


def fingerprint_of(identity: str, image_size: int, split: str, split_seed: int, train: TrainedOn = "train") -> str:
    """Return the fingerprint of a source's identity and a resolved split."""
    parts: dict[str, object] = {"identity": identity, "image_size": image_size, "decode": DECODE_VERSION}
    parts["split"] = split
    if split in DRAWN_SPLITS:
        parts |= {"split_seed": split_seed, "split_version": splitting.SPLIT_VERSION}
    if train == JOINED:
        parts["train"] = train
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def resolve_split(split: str, legal: Sequence[str], source: str) -> str:
    """Return the split's name, with 'auto' resolved to the source's default. Raises DataError."""
    if split == "auto":
        return legal[0]
    if split not in legal:
        raise DataError(one_of(split, ("auto", *legal), f"split of {source}"))
    return split


def load_dataset(folder: Path, split: str = "auto", split_seed: int = 0, train: TrainedOn = "train") -> Dataset:
    """Open a prepared cache folder; images stay on disk until they are used.

    With `train` JOINED the validation images are trained on, and there are none of them.
    Raises DataError for an unknown split, or where the folder is damaged.
    """
    meta = read_meta(folder)
    split = resolve_split(split, meta.splits, meta.source)
    try:
        images, labels = (map_array(folder / name) for name in (workspace.PIXELS, workspace.LABELS))
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from error
    expected = (len(meta.names), meta.image_size, meta.image_size, 3)
    if (images.shape, images.dtype) != (expected, np.uint8):
        raise damaged(folder, f"images of shape {images.shape} and {images.dtype}, expected {expected} and uint8")
    if (labels.shape, labels.dtype) != (expected[:1], np.int64):
        raise damaged(folder, f"labels of shape {labels.shape} and {labels.dtype}, expected {expected[:1]} and int64")
    labels = np.array(labels)
    if labels.min() < 0 or labels.max() >= len(meta.class_names):
        raise damaged(folder, f"labels {labels.min()} to {labels.max()} of {len(meta.class_names)} classes")
    parts = _place(meta, labels.tolist(), split, split_seed)
    if train == JOINED:
        parts = ["train" if part == "validation" else part for part in parts]
    member = np.array(parts)
    index = [np.flatnonzero(member == part).astype(np.int64) for part in PARTS]
    return Dataset(
        source=meta.source,
        identity=meta.identity,
        image_size=meta.image_size,
        images=images,
        labels=labels,
        names=tuple(meta.names),
        class_names=tuple(meta.class_names),
        split=split,
        split_hash=splitting.split_hash(meta.names, parts),
        train=index[0],
        validation=index[1],
        test=index[2],
        shorter_sides=None if meta.source == DRAWN else np.array(meta.originals, dtype=np.int64).min(axis=1),
        notes=_take_notes(meta, labels, parts, split, train),
    )


def _place(meta: Meta, labels: Sequence[int], split: str, split_seed: int) -> Sequence[str]:
    """Return the part of each image, drawn where the source's own split does not say it."""
    images = (meta.names, labels, meta.class_names, meta.digests, split_seed, meta.groups)
    given = meta.memberships.get(split)
    if given is None:
        return splitting.draw_stratified(*images)
    return splitting.draw_missing(given, *images) if split == PARTLY_DRAWN else given


def _take_notes(meta: Meta, labels: np.ndarray, parts: Sequence[str], split: str, train: TrainedOn) -> SplitNotes:
    """Return what is to be told of a split as it is."""
    classes = range(len(meta.class_names))
    member = np.array(parts)
    present = {part: set(labels[member == part].tolist()) for part in PARTS}
    return SplitNotes(
        drawn=tuple(splitting.missing_parts(meta.memberships[split])) if split == PARTLY_DRAWN else (),
        leaks=splitting.count_leaks(meta.digests, parts),
        absent={
            part: tuple(meta.class_names[label] for label in classes if label not in own)
            for part, own in present.items()
            if 0 < len(own) < len(classes)
        },
        joined=train == JOINED,
    )
