"""The figures of `resflow data info`: counts, hashes, sizes, copies; and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resflow import atomic, fonts
from resflow.data import cache
from resflow.data import split as splitting
from resflow.data.dataset import Dataset, fingerprint_of, load_dataset
from resflow.errors import DataError
from resflow.study.split_notes import SplitNotes

NAME_WIDTH, NAME_SIZE, GAP, ROWS = 150, 11, 2, 26  # of the contact sheet: pixels, and classes in one column
Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Description:
    """A prepared source in figures.

    `counts` has class name -> (train, validation, test) images; `unused` images are in no part of this
    split. `originals` maps smallest, median and largest (by area) to (width, height) before resizing; empty of drawn
    images.
    `copies` are the groups of names of pixel-identical images; those in `across_parts` stand in more than
    one part of the split, those in `across_classes` in more than one class. An official split keeps them.
    """

    source: str
    identity: str
    fingerprint: str
    image_size: int
    split: str
    split_hash: str
    counts: dict[str, tuple[int, int, int]]
    unused: int
    originals: dict[str, tuple[int, int]]
    copies: Groups
    across_parts: Groups
    across_classes: Groups
    ignored: tuple[str, ...]  # files beside the class folders, which are no images
    litter: tuple[str, ...]  # what is passed over by the rule of `sources.litter`
    notes: SplitNotes  # of what must not be overlooked in the split
    groups: int  # that images are of, as a CSV file says
    folder: Path
    bytes_on_disk: int

    @property
    def totals(self) -> tuple[int, int, int]:
        """Images in train, validation and test."""
        train, validation, test = zip(*self.counts.values(), strict=True)
        return sum(train), sum(validation), sum(test)


def describe(folder: Path, split: str = "auto", split_seed: int = 0, litter: Sequence[str] = ()) -> Description:
    """Describe a prepared cache folder under one split; `litter` is its source's. Raises DataError."""
    data, meta = load_dataset(folder, split, split_seed), cache.read_meta(folder)
    indices = (data.train, data.validation, data.test)
    per_part = [np.bincount(data.labels[index], minlength=data.classes) for index in indices]
    parts = [""] * len(data.names)
    for part, index in zip(cache.PARTS, indices, strict=True):
        for i in index:
            parts[i] = part
    copies = splitting.find_copies(meta.digests)
    used = [[i for i in group if parts[i]] for group in copies]
    return Description(
        source=data.source,
        identity=data.identity,
        fingerprint=fingerprint_of(data.identity, data.image_size, data.split, split_seed),
        image_size=data.image_size,
        split=data.split,
        split_hash=data.split_hash,
        counts={
            name: (int(row[0]), int(row[1]), int(row[2]))
            for name, row in zip(data.class_names, np.stack(per_part, axis=1), strict=True)
        },
        unused=parts.count(""),
        originals={} if data.shorter_sides is None else _sizes(meta.originals),
        copies=_named(copies, data),
        across_parts=_named(splitting.find_crossing(used, parts), data),
        across_classes=_named(splitting.find_crossing(copies, data.labels.tolist()), data),
        ignored=tuple(meta.ignored),
        litter=tuple(litter),
        notes=data.notes,
        groups=len(set(meta.groups) - {""}),
        folder=folder,
        bytes_on_disk=sum(path.stat().st_size for path in folder.iterdir()),
    )


def _sizes(originals: list[list[int]]) -> dict[str, tuple[int, int]]:
    ordered = sorted(((width, height) for width, height in originals), key=lambda size: (size[0] * size[1], size))
    return {"smallest": ordered[0], "median": ordered[len(ordered) // 2], "largest": ordered[-1]}


def _named(groups: list, data: Dataset) -> Groups:
    return tuple(tuple(data.names[i] for i in group) for group in groups)


def contact_sheet(data: Dataset, path: Path, per_class: int = 8) -> None:
    """Write a PNG or JPEG with up to `per_class` images of each class, evenly spaced through its images.

    Raises DataError where the file cannot be written.
    """
    if per_class < 1:
        raise DataError(f"{per_class} images a class: expected at least 1.")
    cell = data.image_size + GAP
    width = NAME_WIDTH + per_class * cell + GAP
    columns, rows = -(-data.classes // ROWS), min(data.classes, ROWS)
    sheet = Image.new("RGB", (columns * width, rows * cell + GAP), "white")
    names = [fonts.drawable(name) for name in data.class_names]
    draw, pen = ImageDraw.Draw(sheet), _Pen(names)
    for label, name in enumerate(names):
        left, top = label // ROWS * width, label % ROWS * cell + GAP
        pen.write(draw, (left + 4, top + cell // 2), pen.short(name))
        members = np.flatnonzero(data.labels == label)
        examples = members[np.linspace(0, len(members) - 1, min(per_class, len(members)), dtype=int)]
        for column, index in enumerate(examples):
            sheet.paste(Image.fromarray(np.asarray(data.images[index])), (left + NAME_WIDTH + column * cell, top))
    try:
        with atomic.file(path) as draft:
            sheet.save(draft)
    except (OSError, ValueError) as error:  # ValueError: an unknown ending
        raise DataError(f"cannot write the contact sheet {path}: {error}. Name a .png or .jpg file.") from error


class _Pen:
    """What writes names on a contact sheet: each letter in the first font at hand that has it."""

    def __init__(self, names: Sequence[str]) -> None:
        used = (fonts.base(), *fonts.fallbacks(names))
        self.faces = [(font.letters, ImageFont.truetype(font.path, NAME_SIZE)) for font in used]

    def write(self, draw: ImageDraw.ImageDraw, place: tuple[float, float], name: str) -> None:
        """Write a name from `place` on, its middle line."""
        x, y = place
        for face, letters in self._runs(name):
            draw.text((x, y), letters, "black", face, anchor="lm")
            x += face.getlength(letters)

    def short(self, name: str) -> str:
        """Cut a name to what fits beside the photos."""
        while sum(face.getlength(letters) for face, letters in self._runs(name)) > NAME_WIDTH - 8:
            name = name.rstrip("…")[:-1] + "…"
        return name

    def _runs(self, name: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
        for face, letters in groupby(name, self._face):
            yield face, "".join(letters)

    def _face(self, letter: str) -> ImageFont.FreeTypeFont:
        return next((face for letters, face in self.faces if letter in letters), self.faces[0][1])
