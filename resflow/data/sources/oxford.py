"""Oxford 102 Flowers (Nilsback and Zisserman 2008), whole or as the ten classes of the article.

The official three files are downloaded, or taken from a folder that already holds them. Photos are read
straight from the archive: only members called jpg/image_%05d.jpg are opened, none is ever extracted.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from resflow import reading, workspace
from resflow.data import cache
from resflow.data.dataset import SourceEntry
from resflow.data.decode import decode_all
from resflow.errors import DataError
from resflow.reading import MEGABYTE
from resflow.study.settings import Split

if TYPE_CHECKING:
    from resflow.data.sources.download import Downloader

ARCHIVE, LABELS, SPLIT = "102flowers.tgz", "imagelabels.mat", "setid.mat"
OFFICIAL = {  # file -> md5
    ARCHIVE: "52808999861908f626f3c1f4e79d11fa",
    LABELS: "e0620be6f572b9609742df49c70aed4d",
    SPLIT: "a5357ecc9cb78c4bef273ce3793fc85c",
}
OFFICIAL_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
URL_VARIABLE = "RESFLOW_OXFORD_URL"  # a mirror; the md5s still hold
FIELDS = {"train": "trnid", "validation": "valid", "test": "tstid"}  # of setid.mat: image numbers from 1
CLASSES = 102
MOST_BYTES = 16 * MEGABYTE  # of a photo, the largest official one has 93 kB; of a .mat file, and numbers in its field
MOST_A_MEMBER = 4 * MOST_BYTES  # bytes that are read of the archive from one photo to the next
MOST_STRANGE = 1000  # members that are no photos, after which nobody looks on
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


@dataclass(frozen=True)
class Annotations:
    """The contents of the two .mat files: `labels[i]` is the class (from 1), `parts[i]` the part of image i + 1."""

    labels: np.ndarray
    parts: tuple[str, ...]


class Oxford:
    """The source oxford_flowers102 or oxford_flowers10.

    `registry` maps the three files to their md5s; a `data_dir` is taken as it is, whatever its md5s.
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
        self.data_dir = data_dir
        self._registry = dict(registry)
        self._downloader = downloader
        if data_dir is not None:
            _holds_files(data_dir)

    def identity(self) -> str:
        """Return the hex sha256 of the files' md5s (and of the article's figures where they matter)."""
        parts: dict[str, object] = {"source": self.name, "md5": self._md5s}
        if "article" in self.splits:
            parts["article"] = sorted(_article().items())
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _md5s(self) -> dict[str, str]:
        if self.data_dir is None:
            return self._registry
        return {name: _md5(self.data_dir / name) for name in OFFICIAL}

    def fetch(self, *, progress: bool = True) -> Path:
        """Return the folder that holds the three files, downloading and checking them where needed."""
        if self.data_dir is not None:
            return self.data_dir
        from resflow.data.sources.download import fetch_files  # requests takes a while, and planning has no use for it

        folder = workspace.cache(workspace.DOWNLOADS, "oxford_flowers102")  # one for both
        fetch_files(OFFICIAL_URL, URL_VARIABLE, self._registry, folder, self._downloader, progress=progress)
        return folder

    def litter(self) -> Sequence[str]:
        return ()

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        """Return classes and counts: official photos train and validate ten a class, the article's are counted."""
        if self.data_dir is not None:
            return None  # the folder's own files decide
        classes = self.subset.classes
        if split == "official":
            return classes, (10 * classes, 10 * classes, self.subset.test)
        parts = Counter(_article().values())
        return classes, (parts["train"], parts["validation"], parts["test"])

    def prepare(self, image_size: int, *, progress: bool = True) -> Path:
        """Download, decode once into the cache, and return the cache folder. Raises DataError."""
        list_contents = partial(self._contents, image_size, progress)
        return cache.build(self.name, self.identity(), image_size, list_contents, progress=progress)

    def _contents(self, image_size: int, progress: bool) -> cache.Contents:
        folder = self.fetch(progress=progress)
        notes = read_annotations(folder)
        numbers = [number for number, label in enumerate(notes.labels, 1) if label <= self.subset.classes]
        memberships = {"official": [notes.parts[number - 1] for number in numbers]}
        if "article" in self.splits:
            memberships["article"] = _article_parts(numbers, notes.labels)
        files = read_archive(folder / ARCHIVE, len(notes.labels), frozenset(numbers))
        return cache.Contents(
            names=[_file(number) for number in numbers],
            labels=[int(notes.labels[number - 1]) - 1 for number in numbers],
            class_names=class_names()[: self.subset.classes],
            images=decode_all(files, image_size),
            memberships=memberships,
        )


def _holds_files(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: --data-dir names one that holds {', '.join(OFFICIAL)}.")
    missing = [name for name in OFFICIAL if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}: --data-dir names a folder with all of "
            f"{', '.join(OFFICIAL)}. Without --data-dir they are downloaded."
        )


def _md5(path: Path) -> str:
    try:
        with reading.open_regular(path) as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def _file(number: int) -> str:
    return f"image_{number:05d}.jpg"


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


def read_annotations(folder: Path) -> Annotations:
    """Read and check imagelabels.mat and setid.mat. Raises DataError where they are not as published."""
    labels = _numbers(folder / LABELS, "labels")
    if labels.min() < 1 or labels.max() > CLASSES:
        raise DataError(f"{folder / LABELS}: classes {labels.min()} to {labels.max()}, expected 1 to {CLASSES}.")
    parts = [""] * len(labels)
    for part, field in FIELDS.items():
        for number in _numbers(folder / SPLIT, field):
            if not 1 <= number <= len(labels) or parts[number - 1]:
                raise DataError(
                    f"{folder / SPLIT}: image {number} in '{field}' is in another part too, or not one of "
                    f"the {len(labels)} images of {LABELS}. The two files do not belong together."
                )
            parts[number - 1] = part
    return Annotations(labels, tuple(parts))


def _numbers(path: Path, field: str) -> np.ndarray:
    """Read one row of whole numbers from a .mat file, as (n,) int64."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        content = io.BytesIO(reading.read(path, MOST_BYTES))
        sizes = {name: math.prod(shape) for name, shape, _ in whosmat(content)}  # by the headers alone
        if sizes.get(field, 0) > MOST_BYTES:
            raise ValueError(f"'{field}' claims {sizes[field]:,} numbers")
        values = loadmat(content, variable_names=[field]).get(field)
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError, MemoryError, zlib.error) as error:
        raise DataError(f"{path} is no readable MATLAB file ({error}). Fetch it again.") from error
    if values is None or values.ndim != 2 or values.shape[0] != 1 or not values.size:
        shape = "no such field" if values is None else f"shape {values.shape}"
        raise DataError(f"{path}: expected one row of numbers in '{field}', got {shape}. Fetch it again.")
    if not np.issubdtype(values.dtype, np.number) or np.any(values != np.floor(values)):
        raise DataError(f"{path}: expected whole numbers in '{field}', got {values.dtype}. Fetch it again.")
    return values[0].astype(np.int64)


class _Bounded:
    """A stream that gives no more than MOST_A_MEMBER bytes until it is told that another member has come.

    What tarfile reads whole into memory, such as names, notes and maps of holes, is bounded by that.
    """

    def __init__(self, packed: BufferedReader) -> None:
        self.file, self.left = gzip.GzipFile(fileobj=packed), MOST_A_MEMBER

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.TarError(f"more than {MOST_A_MEMBER:,} bytes for one member, which no photo has")
        return self.file.read(size)

    def start_member(self) -> None:
        self.left = MOST_A_MEMBER


def read_archive(path: Path, count: int, numbers: frozenset[int]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield (name, read) of the images with some numbers, in the order of the archive.

    Raises DataError where the archive is truncated, or lacks one of the `count` images, or holds anything
    else. Reading is sequential, so that the archive is decompressed once.
    """
    expected = {f"jpg/{_file(number)}": number for number in range(1, count + 1)}
    strange: list[str] = []
    try:
        with (
            reading.open_regular(path) as source,
            tarfile.open(fileobj=cast(Any, stream := _Bounded(source)), mode="r|") as archive,
        ):
            for member in archive:
                stream.start_member()
                number = expected.pop(member.name.removeprefix("./"), None)
                if member.isdir() and number is None:
                    continue
                if member.size > MOST_BYTES:
                    raise tarfile.TarError(f"{member.name[:100]!r} claims {member.size:,} bytes, which no photo has")
                if number is None or not member.isfile():
                    strange.append(member.name)
                    if len(strange) >= MOST_STRANGE:
                        break
                elif number in numbers:
                    file = archive.extractfile(member)
                    encoded = file.read() if file else b""
                    yield _file(number), partial(bytes, encoded)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} is truncated or no gzipped tar archive ({error}). Fetch it again; the official file's "
            f"md5 is {OFFICIAL[ARCHIVE]}."
        ) from error
    if expected or strange:
        problems = [f"{len(expected)} missing, such as {min(expected)}"] if expected else []
        problems += [f"{len(strange)} unexpected or repeated, such as {strange[0]!r}"] if strange else []
        raise DataError(
            f"{path}: expected the members jpg/{_file(1)} to jpg/{_file(count)} and nothing else; "
            f"{' and '.join(problems)}. Fetch the archive again."
        )


SOURCES = tuple(
    SourceEntry(name, subset.help, subset.splits, Oxford, takes_data_dir=True) for name, subset in SUBSETS.items()
)
