"""The embedded source `synthetic`: ten classes of drawn flowers, made from a seed in seconds.

Nothing is downloaded and nothing licensed; the same call gives the same scenes everywhere. Classes are
structures (`scene.KINDS`: petal count and outline, whorls, centre); colour, texture, viewpoint, clutter,
occlusion and light are drawn alike for all, so that a linear classifier on pixels stays far below a
small ResNet (tests/data/test_synthetic.py holds both figures).

Every image is drawn from its own generator, keyed by (seed, part, index): none depends on another. The
identity covers the recipe, not the pixels: on one machine with one numpy they repeat to the bit; another
platform's floating point may change a pixel by one level. A numpy that changes its random streams (its
policy NEP 19 allows that) would draw other scenes, which the tests would show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from resflow.data import cache
from resflow.data.dataset import DRAWN, SourceEntry
from resflow.data.decode import Decoded
from resflow.data.sources import scene
from resflow.data.sources.drawing import Canvas
from resflow.errors import DataError
from resflow.study.settings import Split

GENERATOR_VERSION = 1  # raise with any change to drawing.py, scene.py or this file that alters a pixel
SEED = 102
COUNTS = {"train": 800, "validation": 300, "test": 600}  # each a multiple of the ten classes
IMAGE_SIZES = (16, 224)  # smallest and largest
OVERSAMPLE = 2  # pixels of the canvas for each of the image's, along each axis
CANVAS = 64  # at least: below it thin stems and petal tips would come and go with the size
NOISE = (0.005, 0.018)  # least and largest standard deviation of a pixel, of 0..1


class Synthetic:
    """The source itself; see `dataset.Source`. Other seeds and counts are for tests and for play."""

    name = DRAWN
    splits: tuple[Split, ...] = ("generated",)

    def __init__(self, *, seed: int = SEED, counts: Mapping[str, int] = COUNTS) -> None:
        self.seed, self.counts = seed, dict(counts)

    def identity(self) -> str:
        """Return the hex sha256 of generator version, seed, counts and constants."""
        recipe = {
            "version": GENERATOR_VERSION,
            "seed": self.seed,
            "counts": [[part, self.counts[part]] for part in cache.PARTS],
            "kinds": repr(scene.KINDS),
            "colours": repr(scene.PETAL_COLOURS),
            "textures": scene.TEXTURES,
            "raster": [OVERSAMPLE, CANVAS, NOISE],
        }
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()

    def litter(self) -> Sequence[str]:
        return ()

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        train, validation, test = (self.counts[part] for part in cache.PARTS)
        return len(scene.KINDS), (train, validation, test)

    def prepare(self, image_size: int, *, progress: bool = True, spent: cache.Spent = cache.never) -> Path:
        """Draw the set once into the cache and return its folder. Raises DataError for an odd size."""
        low, high = IMAGE_SIZES
        if not low <= image_size <= high:
            raise DataError(
                f"synthetic flowers of {image_size}x{image_size} pixels: expected an image size of {low} to "
                f"{high}. Set data.image_size within that."
            )
        contents = partial(self._contents, image_size)
        return cache.build(self.name, self.identity(), image_size, contents, progress=progress, spent=spent)

    def _contents(self, image_size: int) -> cache.Contents:
        places = [(part, index) for part in cache.PARTS for index in range(self.counts[part])]
        names = [f"{part}-{index:04d}" for part, index in places]

        def draw() -> Iterator[Decoded]:
            for name, (part, index) in zip(names, places, strict=True):
                yield Decoded.drawn(name, picture(self.seed, part, index, image_size))

        return cache.Contents(
            names=names,
            labels=[label_of(index) for _, index in places],
            class_names=[kind.name for kind in scene.KINDS],
            images=draw(),
            memberships={"generated": [part for part, _ in places]},
        )


def label_of(index: int) -> int:
    """Return the 0-based class of an image by its place in its part: classes take turns."""
    return index % len(scene.KINDS)


def picture(seed: int, part: str, index: int, image_size: int) -> np.ndarray:
    """Draw one image, (image_size, image_size, 3) uint8. The scene does not depend on the size."""
    rng = np.random.default_rng([seed, cache.PARTS.index(part), index])
    scale = max(OVERSAMPLE, -(-CANVAS // image_size))
    canvas = Canvas(scale * image_size)
    scene.draw(label_of(index), rng, canvas)
    pixels = canvas.pixels.reshape(image_size, scale, image_size, scale, 3).mean(axis=(1, 3))
    pixels += rng.uniform(*NOISE) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


SOURCES = (
    SourceEntry(
        Synthetic.name,
        "ten kinds of drawn flowers that differ in structure, not in colour; made from a seed, nothing is downloaded",
        Synthetic.splits,
        lambda *_: Synthetic(),
    ),
)
