"""Oxford 102 Flowers (Nilsback and Zisserman 2008), whole or as the ten classes of the article.

The official three files are downloaded, or taken from a folder that already holds them (`oxford_files`).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resflow import workspace
from resflow.data import cache
from resflow.data.dataset import SourceEntry
from resflow.data.decode import decode_all
from resflow.data.sources.oxford_files import CLASSES, LABELS, OFFICIAL, OfficialFiles, file_name, read_annotations
from resflow.errors import DataError
from resflow.study.settings import Split

if TYPE_CHECKING:
    from resflow.data.sources.download import Downloader

OFFICIAL_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
URL_VARIABLE = "RESFLOW_OXFORD_URL"  # a mirror; the md5s still hold
ARTICLE_PARTS = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Subset:
    """The photos of the first so many classes. Official parts to train and validate on have ten of each."""

    classes: int
    test: int  # images of the official part
    splits: tuple[Split, ...]
    help: str


SUBSETS = {
    "oxford_flowers102": Subset(
        CLASSES, 6149, ("official",), "Oxford 102 Flowers, downloaded and checked: 1,020 photos train, 6,149 test"
    ),
    "oxford_flowers10": Subset(
        10, 322, ("official", "article"), "the first ten classes of it: 100 photos train, 322 test"
    ),
}


class Oxford:
    """The source oxford_flowers102 or oxford_flowers10.

    `registry` maps the three files to their md5s; what lies in a `data_dir` is taken as it is, whatever its md5s. The
    same photos extracted are another identity than in their archive, whose md5 covers more than them.
    """

    def __init__(
        self,
        name: str,
        data_dir: Path | None = None,
        *,
        registry: Mapping[str, str] = OFFICIAL,
        downloader: Downloader | None = None,
    ) -> None:
        self.name, self.subset = name, SUBSETS[name]
        self.splits = self.subset.splits
        self._own = None if data_dir is None else OfficialFiles.find(data_dir)
        self._registry = dict(registry)
        self._downloader = downloader

    def identity(self) -> str:
        """Return the hex sha256 of the files' md5s (and of the article's figures where they matter)."""
        digests = self._registry if self._own is None else self._own.digests
        parts: dict[str, object] = {"source": self.name, "md5": digests}
        if "article" in self.splits:
            parts["article"] = sorted(_article().items())
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def fetch(self, *, progress: bool = True) -> OfficialFiles:
        """Return the official files, downloading and checking them where needed."""
        if self._own is not None:
            return self._own
        from resflow.data.sources.download import fetch_files  # requests takes a while, and planning has no use for it

        folder = workspace.cache(workspace.DOWNLOADS, "oxford_flowers102")  # one for both
        fetch_files(OFFICIAL_URL, URL_VARIABLE, self._registry, folder, self._downloader, progress=progress)
        return OfficialFiles(folder)

    def litter(self) -> Sequence[str]:
        return ()

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        """Return classes and counts: official photos train and validate ten a class, the article's are counted."""
        if self._own is not None:
            return None  # the folder's own files decide
        classes = self.subset.classes
        if split == "official":
            return classes, (10 * classes, 10 * classes, self.subset.test)
        parts = Counter(_article().values())
        return classes, (parts["train"], parts["validation"], parts["test"])

    def prepare(self, image_size: int, *, progress: bool = True, spent: cache.Spent = cache.never) -> Path:
        """Download, decode once into the cache, and return the cache folder. Raises DataError."""
        list_contents = partial(self._contents, image_size, progress)
        return cache.build(self.name, self.identity(), image_size, list_contents, progress=progress, spent=spent)

    def _contents(self, image_size: int, progress: bool) -> cache.Contents:
        files = self.fetch(progress=progress)
        notes = read_annotations(files.folder)
        numbers = [number for number, label in enumerate(notes.labels, 1) if label <= self.subset.classes]
        memberships = {"official": [notes.parts[number - 1] for number in numbers]}
        if "article" in self.splits:
            memberships["article"] = _article_parts(numbers, notes.labels)
        return cache.Contents(
            names=[file_name(number) for number in numbers],
            labels=[int(notes.labels[number - 1]) - 1 for number in numbers],
            class_names=class_names()[: self.subset.classes],
            images=decode_all(files.read_photos(len(notes.labels), frozenset(numbers)), image_size),
            memberships=memberships,
        )


def class_names() -> tuple[str, ...]:
    """Return the 102 names, in the order of the official class numbers."""
    return tuple(row["name"] for row in _table("oxford_class_names.csv"))


def _article() -> dict[int, str]:
    """Return image number -> part of the ten-class subset that the article trained on."""
    return {int(row["image"]): ARTICLE_PARTS[row["split"]] for row in _table("article_split.csv")}


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("resflow.data.sources") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _article_parts(numbers: Sequence[int], labels: np.ndarray) -> list[str]:
    article = _article()
    if set(article) != set(numbers):
        raise DataError(
            f"the article's split is of {len(article)} images in classes 1 to 10; {LABELS} has {len(numbers)} "
            f"there, and they are not the same. Use the official {LABELS} (md5 {OFFICIAL[LABELS]})."
        )
    return [article[number] for number in numbers]


SOURCES = tuple(
    SourceEntry(name, subset.help, subset.splits, Oxford, takes_data_dir=True) for name, subset in SUBSETS.items()
)
