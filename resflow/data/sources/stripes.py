"""The source `stripes`: gratings of eight orientations, made from a seed. A first thing to try a network on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from resflow.data import cache
from resflow.data.dataset import SourceEntry
from resflow.data.decode import Decoded
from resflow.study.settings import Split

VERSION = 1  # raise with any change that alters a pixel
CLASSES = 8
COUNTS = {"train": 80, "validation": 40, "test": 40}


class Stripes:
    """The source itself; see `resflow.data.dataset.Source`."""

    name = "stripes"
    splits: tuple[Split, ...] = ("generated",)

    def identity(self) -> str:
        return hashlib.sha256(f"stripes {VERSION} {COUNTS}".encode()).hexdigest()

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        train, validation, test = (COUNTS[part] for part in cache.PARTS)
        return CLASSES, (train, validation, test)

    def prepare(self, image_size: int, *, progress: bool = True) -> Path:
        """Draw the set once into the cache and return its folder."""
        contents = partial(self._contents, image_size)
        return cache.build(self.name, self.identity(), image_size, contents, progress=progress)

    def _contents(self, image_size: int) -> cache.Contents:
        places = [(part, index) for part in cache.PARTS for index in range(COUNTS[part])]
        names = [f"{part}-{index:03d}" for part, index in places]

        def drawn() -> Iterator[Decoded]:
            for name, (part, index) in zip(names, places, strict=True):
                yield Decoded.drawn(name, picture(part, index, image_size))

        return cache.Contents(
            names=names,
            labels=[index % CLASSES for _, index in places],
            class_names=[f"{180 * k // CLASSES} degrees" for k in range(CLASSES)],
            images=drawn(),
            memberships={"generated": [part for part, _ in places]},
        )


def picture(part: str, index: int, image_size: int) -> np.ndarray:
    """Draw one image, (image_size, image_size, 3) uint8."""
    rng = np.random.default_rng([cache.PARTS.index(part), index])
    angle = np.pi * (index % CLASSES) / CLASSES
    y, x = np.mgrid[:image_size, :image_size] / image_size
    wave = np.sin(2 * np.pi * (6 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform()))
    pixels = 0.5 + 0.3 * wave[..., None] * rng.uniform(0.5, 1, 3) + 0.05 * rng.standard_normal((image_size,) * 2 + (3,))
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


SOURCES = (
    SourceEntry(
        Stripes.name, "gratings of eight orientations, drawn from a seed", Stripes.splits, lambda *_: Stripes()
    ),
)
