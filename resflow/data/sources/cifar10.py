"""CIFAR-10 (Krizhevsky 2009), from the official binary archive: ten classes of 32 x 32 pixels, no flowers.

It is here for its known outcome: section 4.2 of He et al. 2015 (arXiv 1512.03385) trains plain and residual nets of 20
to 110 layers on it. The archive holds records of one label byte and 3,072 bytes of pixels, red, green and blue, row by
row; the layout has no pickles. It is downloaded, or taken from a folder that holds it or what was extracted from it.

The official parts are for training and test; validation images are the last ones of each class in the order of the
files: a tenth of the training images, as in the paper, and a thousand at least.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resflow import reading, workspace
from resflow.data import cache
from resflow.data.dataset import SourceEntry
from resflow.data.decode import Decoded, resized
from resflow.errors import DataError
from resflow.reading import MEGABYTE
from resflow.study.settings import Split

if TYPE_CHECKING:
    from resflow.data.sources.download import Downloader

NAME, ARCHIVE, FOLDER = "cifar10", "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
OFFICIAL = {ARCHIVE: "c32a1d4ab5d03f1284b67883e8d87530"}  # file -> md5
OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/"
URL_VARIABLE = "RESFLOW_CIFAR10_URL"  # a mirror; the md5 still holds
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, RECORD = 32, 1 + 3 * 32 * 32
TRAINING, TEST, NAMES = "data_batch_", "test_batch", "batches.meta.txt"
COUNTS = (45_000, 5_000, 10_000)  # of the official archive, to train, validate and test on
VALIDATION, LEAST_VALIDATION = 10, 1000  # one in so many of the training images, and so many at least
MOST_BYTES = 64 * MEGABYTE  # of a batch, an official one has 31 MB


class Cifar10:
    """The source cifar10. `registry` maps the archive to its md5; a `data_dir` is taken as it is."""

    name = NAME
    splits: tuple[Split, ...] = ("official",)

    def __init__(
        self,
        name: str = NAME,
        data_dir: Path | None = None,
        *,
        registry: Mapping[str, str] = OFFICIAL,
        downloader: Downloader | None = None,
    ) -> None:
        self.data_dir, self._registry, self._downloader = data_dir, dict(registry), downloader
        if data_dir is not None:
            self._given = _find(data_dir)

    def identity(self) -> str:
        """Return the hex sha256 of the archive's md5, or of the batches in a folder."""
        return hashlib.sha256(json.dumps({"source": NAME, "md5": self._md5s}, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _md5s(self) -> dict[str, str]:
        if self.data_dir is None:
            return self._registry
        if self._given.is_file():  # an official archive is what would have been downloaded
            with reading.open_regular(self._given) as file:
                return {ARCHIVE: hashlib.file_digest(file, "md5").hexdigest()}
        return {name: hashlib.md5(content).hexdigest() for name, content in sorted(_batches(self._given))}

    def fetch(self, *, progress: bool = True) -> Path:
        """Return the archive, downloading and checking it where needed, or the folder that was given."""
        if self.data_dir is not None:
            return self._given
        from resflow.data.sources.download import fetch_files  # requests takes a while, and planning has no use for it

        folder = workspace.cache(workspace.DOWNLOADS, NAME)
        fetch_files(OFFICIAL_URL, URL_VARIABLE, self._registry, folder, self._downloader, progress=progress)
        return folder / ARCHIVE

    def litter(self) -> Sequence[str]:
        return ()

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        """Return classes and counts; None where a folder's own files decide."""
        return None if self.data_dir is not None else (len(CLASS_NAMES), COUNTS)

    def prepare(self, image_size: int, *, progress: bool = True, spent: cache.Spent = cache.never) -> Path:
        """Download, bring to the size into the cache, and return the cache folder. Raises DataError."""
        list_contents = partial(self._contents, image_size, progress)
        return cache.build(NAME, self.identity(), image_size, list_contents, progress=progress, spent=spent)

    def _contents(self, image_size: int, progress: bool) -> cache.Contents:
        place = self.fetch(progress=progress)
        names, labels, parts, images = [], [], [], []
        for batch, content in sorted(_batches(place)):
            records = _records(place, batch, content)
            names += [f"{batch}/{number:05d}" for number in range(len(records))]
            labels += records[:, 0].tolist()
            parts += ["test" if batch == TEST else "train"] * len(records)
            images.append(records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        return cache.Contents(
            names=names,
            labels=labels,
            class_names=CLASS_NAMES,
            images=_decoded(names, np.concatenate(images), image_size),
            memberships={"official": _with_validation(labels, parts, place)},
        )


def _decoded(names: Sequence[str], images: np.ndarray, image_size: int) -> Iterator[Decoded]:
    for name, pixels in zip(names, images, strict=True):
        yield resized(name, pixels, image_size)


def _with_validation(labels: Sequence[int], parts: Sequence[str], place: Path) -> list[str]:
    """Return the parts, with the last training images of each class for validation."""
    training = [number for number, part in enumerate(parts) if part == "train"]
    wanted = max(LEAST_VALIDATION, len(training) // VALIDATION) // len(CLASS_NAMES)  # of each class
    result = list(parts)
    for label, name in enumerate(CLASS_NAMES):
        of_class = [number for number in training if labels[number] == label]
        if len(of_class) <= wanted:
            raise DataError(
                f"{place} has {len(of_class)} training images of the class {name}, of which {wanted} are for "
                f"validation: expected more. The official archive has 5,000 (md5 {OFFICIAL[ARCHIVE]})."
            )
        for number in of_class[-wanted:]:
            result[number] = "validation"
    return result


def _find(folder: Path) -> Path:
    """Return the extracted folder, or the archive, that lies in a folder. Raises DataError where there is none."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: --data-dir names one that holds {ARCHIVE} or {FOLDER}/.")
    if folder.name == FOLDER or (folder / FOLDER).is_dir():
        return folder if folder.name == FOLDER else folder / FOLDER
    archives = sorted(folder.glob("cifar-10-binary*.tar.gz"))
    if len(archives) != 1:
        found = ", ".join(path.name for path in archives) or "none of them"
        raise DataError(
            f"{folder} holds {found}: --data-dir names a folder with {ARCHIVE}, or with {FOLDER}/ as it was extracted "
            "from it. Without --data-dir it is downloaded."
        )
    return archives[0]


def _batches(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name, without its ending, and the content of each batch. Raises DataError where they are not all."""
    found: dict[str, bytes] = {}
    for name, read in _members(place):
        stem = name.removesuffix(".bin")
        if stem == TEST or stem.removeprefix(TRAINING).isdigit():
            found[stem] = read()
        elif name == NAMES and (names := tuple(read().decode("ascii", "replace").split())) != CLASS_NAMES:
            raise DataError(f"{place}: {NAMES} names {', '.join(names)[:200]}; expected {', '.join(CLASS_NAMES)}.")
    if TEST not in found or len(found) < 2:
        raise DataError(
            f"{place}: expected {TRAINING}1.bin to {TRAINING}5.bin and {TEST}.bin, got "
            f"{', '.join(sorted(found)) or 'none of them'}. Fetch {ARCHIVE} again."
        )
    yield from found.items()


def _members(place: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each file of a folder or an archive, and what reads it. Nothing is extracted."""
    try:
        if place.is_dir():
            for path in sorted(place.iterdir()):
                yield path.name, partial(reading.read, path, MOST_BYTES)
            return
        with reading.open_regular(place) as source, tarfile.open(fileobj=source, mode="r:gz") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder == FOLDER and member.isfile():
                    if member.size > MOST_BYTES:
                        raise tarfile.TarError(f"{name[:100]!r} claims {member.size:,} bytes, which no batch has")
                    file = archive.extractfile(member)
                    content = file.read() if file else b""
                    yield name, partial(bytes, content)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise DataError(
            f"{place} cannot be read ({error}). Fetch it again; the official archive's md5 is {OFFICIAL[ARCHIVE]}."
        ) from error


def _records(place: Path, batch: str, content: bytes) -> np.ndarray:
    """Return a batch as (n, RECORD) uint8: a label, then 1,024 bytes each of red, green and blue."""
    if not content or len(content) % RECORD:
        raise DataError(
            f"{place}: {batch}.bin has {len(content):,} bytes, expected a multiple of {RECORD:,}: the binary version "
            "has one label byte and 3,072 of pixels an image."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    if (largest := int(records[:, 0].max())) >= len(CLASS_NAMES):
        raise DataError(f"{place}: {batch}.bin has a label {largest}, expected 0 to {len(CLASS_NAMES) - 1}.")
    return records


SOURCES = (
    SourceEntry(
        NAME,
        "CIFAR-10, downloaded and checked: 45,000 images of 32 pixels train, 10,000 test; ten classes, no flowers",
        Cifar10.splits,
        Cifar10,
        takes_data_dir=True,
    ),
)
