"""The official files of Oxford 102 Flowers: two .mat files, and the photos as an archive or a folder of its members.

Photos are read straight from the archive: only members called jpg/image_%05d.jpg are opened, none is ever extracted.
A folder is laid out as torchvision leaves it, `flowers-102/jpg/` beside the .mat files; only such files are read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np

from resflow import reading
from resflow.data.sources.photos import Photo, hash_file, read_unchanged
from resflow.errors import DataError
from resflow.reading import MEGABYTE

ARCHIVE, LABELS, SPLIT = "102flowers.tgz", "imagelabels.mat", "setid.mat"
OFFICIAL = {  # file -> md5
    ARCHIVE: "52808999861908f626f3c1f4e79d11fa",
    LABELS: "e0620be6f572b9609742df49c70aed4d",
    SPLIT: "a5357ecc9cb78c4bef273ce3793fc85c",
}
TORCHVISION, JPG = "flowers-102", "jpg"  # its folder below the root that it is given, and that of the photos
FIELDS = {"train": "trnid", "validation": "valid", "test": "tstid"}  # of setid.mat: image numbers from 1
CLASSES = 102
MOST_BYTES = 16 * MEGABYTE  # of a photo, the largest official one has 93 kB; of a .mat file, and numbers in its field
MOST_A_MEMBER = 4 * MOST_BYTES  # bytes that are read of the archive from one photo to the next
MOST_STRANGE = 1000  # members that are no photos, after which nobody looks on


@dataclass(frozen=True)
class Annotations:
    """The contents of the two .mat files: `labels[i]` is the class (from 1), `parts[i]` the part of image i + 1."""

    labels: np.ndarray
    parts: tuple[str, ...]


@dataclass(frozen=True)
class OfficialFiles:
    """A folder that holds both .mat files, and the archive or the folder of its members."""

    folder: Path

    @classmethod
    def find(cls, data_dir: Path) -> OfficialFiles:
        """Look for the files in a folder and in torchvision's below it. Raises DataError where some are missing."""
        if not data_dir.is_dir():
            raise DataError(f"no folder {data_dir}: --data-dir names one that holds {', '.join(OFFICIAL)}.")
        lacking = {folder: cls(folder)._missing() for folder in (data_dir, data_dir / TORCHVISION)}
        whole = [folder for folder, missing in lacking.items() if not missing]
        if not whole:
            raise DataError(
                f"{data_dir} lacks {', '.join(lacking[data_dir])}: --data-dir names a folder with {LABELS}, {SPLIT} "
                f"and {ARCHIVE}, or the folder {JPG}/ of its photos in the archive's place. Without --data-dir they "
                "are downloaded."
            )
        return cls(whole[0])

    def _missing(self) -> list[str]:
        lacking = [name for name in OFFICIAL if not (self.folder / name).is_file()]
        return [name for name in lacking if name != ARCHIVE or not (self.folder / JPG).is_dir()]

    @property
    def extracted(self) -> bool:
        """True where the photos lie in a folder and not in the archive."""
        return not (self.folder / ARCHIVE).is_file()

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The md5 of each file; of extracted photos a hex sha256 over all names and bytes, which is another's."""
        files = {name: _md5(self.folder / name) for name in OFFICIAL if (self.folder / name).is_file()}
        if not self.extracted:
            return files
        lines = "".join(photo.line() for photo in self._photos.values())
        return {**files, f"{JPG}/": hashlib.sha256(lines.encode()).hexdigest()}

    @cached_property
    def _photos(self) -> dict[str, Photo]:
        paths = sorted((self.folder / JPG).glob("image_[0-9][0-9][0-9][0-9][0-9].jpg"))
        return {path.name: Photo(path.name, "", path, hash_file(path)) for path in paths}

    def read_photos(self, count: int, numbers: frozenset[int]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield (name, read) of the images with some numbers of the `count` that there are. Raises DataError."""
        if not self.extracted:
            yield from read_archive(self.folder / ARCHIVE, count, numbers)
            return
        missing = [name for name in map(file_name, range(1, count + 1)) if name not in self._photos]
        if missing:
            raise DataError(
                f"{self.folder / JPG} lacks {len(missing)} of {count} photos, such as {missing[0]}: extract {ARCHIVE} "
                "again."
            )
        for name in map(file_name, sorted(numbers)):
            yield name, partial(read_unchanged, self._photos[name])


def _md5(path: Path) -> str:
    try:
        with reading.open_regular(path) as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def file_name(number: int) -> str:
    """Return the official name of an image's file."""
    return f"image_{number:05d}.jpg"


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
    expected = {f"jpg/{file_name(number)}": number for number in range(1, count + 1)}
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
                    yield file_name(number), partial(bytes, encoded)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} is truncated or no gzipped tar archive ({error}). Fetch it again; the official file's "
            f"md5 is {OFFICIAL[ARCHIVE]}."
        ) from error
    if expected or strange:
        problems = [f"{len(expected)} missing, such as {min(expected)}"] if expected else []
        problems += [f"{len(strange)} unexpected or repeated, such as {strange[0]!r}"] if strange else []
        raise DataError(
            f"{path}: expected the members jpg/{file_name(1)} to jpg/{file_name(count)} and nothing else; "
            f"{' and '.join(problems)}. Fetch the archive again."
        )
