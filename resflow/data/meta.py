"""What lies beside decoded images: their names, classes and splits, and the digest by which all of it is known again.

meta.json and digest.json lie in a folder of the cache, which anything may have happened to since it was written: a
flipped bit, an edited label, a folder that was copied over another. The digest is of the images, the labels and what
meta.json means, and whoever starts a run checks it once (`cache.build`); trials then believe the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from resflow import reading, workspace
from resflow.data import jpeg_check
from resflow.errors import DataError, RecordError
from resflow.study import validation
from resflow.study.settings import Split

META_VERSION, DIGEST_VERSION = 1, 1
PARTS = ("train", "validation", "test")
STRATIFIED: Split = "stratified"  # the split of a source that has none of its own, drawn when loading
PREDEFINED: Split = "predefined"  # a user's own, every part of it
PARTLY_DRAWN: Split = "partly-drawn"  # a user's own that lacks a part, which is drawn when loading
DRAWN_SPLITS = (STRATIFIED, PARTLY_DRAWN)  # which `split_seed` decides about
MOST_META = 512 * reading.MEGABYTE  # some millions of images
Count = Annotated[int, Field(ge=1)]
Names = Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True)
class Meta:
    """meta.json. `digests` are of the pixels before resizing; `originals` are (width, height)."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    version: int
    source: str
    identity: str
    image_size: Count
    decode_version: int
    class_names: Names
    names: Names
    digests: list[str]
    originals: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]
    splits: Names
    memberships: dict[str, list[str]]
    ignored: list[str]
    groups: list[str] = field(default_factory=list)  # of each image, '' on its own; empty where none is of a group


@dataclass(frozen=True)
class Seal:
    """digest.json. `jpegs_checked` is False where OpenCV was missing, so that nobody looked for corrupt data."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    version: int
    sha256: str
    jpegs_checked: bool


META, SEAL = TypeAdapter(Meta), TypeAdapter(Seal)


def read_meta(folder: Path) -> Meta:
    """Read meta.json of a prepared folder. Raises DataError where it is none, or does not agree with itself."""
    try:
        meta = META.validate_json(reading.read(folder / workspace.META, MOST_META))
    except ValidationError as error:
        raise damaged(folder, f"{workspace.META}: {validation.first_problem(error)}") from error
    except OSError as error:
        raise damaged(folder, error) from error
    if meta.version != META_VERSION:
        raise damaged(folder, f"meta version {meta.version}, expected {META_VERSION}")
    if problem := _contradiction(meta):
        raise damaged(folder, f"{workspace.META}: {problem}")
    return meta


def _contradiction(meta: Meta) -> str:
    images = len(meta.names)
    lists: dict[str, Sized] = {"digests": meta.digests, "originals": meta.originals, **meta.memberships}
    lists |= {"groups": meta.groups} if meta.groups else {}
    if wrong := [name for name, values in lists.items() if len(values) != images]:
        return f"{images} names, but {len(lists[wrong[0]])} values of {wrong[0]!r}"
    if len(set(meta.names)) != images:
        return "a name stands there twice"
    if list(meta.memberships or [STRATIFIED]) != meta.splits:
        return f"splits {meta.splits}, but memberships of {list(meta.memberships)}"
    parts = {part for members in meta.memberships.values() for part in members} - {*PARTS, ""}
    return f"an image of the part {min(parts)!r}" if parts else ""


def damaged(folder: Path, reason: object) -> DataError:
    """Return the error for a cache folder that cannot be read."""
    return DataError(
        f"{folder} is no readable cache of decoded images ({reason}). Remove that folder and run the same "
        "command again: the images are decoded anew."
    )


def map_array(path: Path) -> np.ndarray:
    """Return the array of a regular .npy file, memory-mapped. Raises OSError and ValueError where it is none."""
    with reading.open_regular(path):
        try:
            array: np.ndarray = np.load(path, mmap_mode="r")
        except OSError:
            raise
        except Exception as error:  # of a damaged header NumPy, ast and tokenize raise what they like
            raise ValueError(f"{path.name} is no array: {str(error) or type(error).__name__}") from error
        return array


def write_meta(folder: Path, meta: Meta) -> None:
    """Write meta.json and, of all that is in the folder by now, digest.json."""
    (folder / workspace.META).write_text(json.dumps(_values(meta)), encoding="utf-8")
    seal = Seal(DIGEST_VERSION, _digest(folder, meta), jpeg_check.available())
    (folder / workspace.DIGEST).write_text(json.dumps(asdict(seal)), encoding="utf-8")


def _values(meta: Meta) -> dict[str, Any]:
    """Return what meta.json says: of images without groups it is what it was before there were any."""
    return {key: value for key, value in asdict(meta).items() if value or key != "groups"}


def find_problem(folder: Path, of: tuple[str, str, int, int] | None = None) -> str:
    """Say why a folder does not hold the images that were decoded into it; nothing where it does.

    `of` is the source, identity, image size and version of the decoder that they are to be of.
    """
    try:
        workspace.refuse_links_out(folder)
        seal = SEAL.validate_json(reading.read(folder / workspace.DIGEST))
        meta = read_meta(folder)
        if of not in (None, (meta.source, meta.identity, meta.image_size, meta.decode_version)):
            return "it is of other images"
        if seal.version != DIGEST_VERSION or seal.sha256 != _digest(folder, meta):
            return "it does not hold what was written"
        if jpeg_check.available() and not seal.jpegs_checked:
            return "it was decoded without OpenCV, and so without a look for corrupt data"
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        return "it has no digest, as before resflow 0.2" if missing == workspace.DIGEST else f"it lacks {missing}"
    except (ValidationError, DataError, RecordError, OSError, ValueError) as error:
        return str(error).splitlines()[0]
    return ""


def _digest(folder: Path, meta: Meta) -> str:
    """Return the hex sha256 of images, labels and what meta.json means, however it is written."""
    parts = [hashlib.sha256(json.dumps(_values(meta), sort_keys=True).encode()).hexdigest()]
    for name in (workspace.PIXELS, workspace.LABELS):
        with reading.open_regular(folder / name) as file:
            parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
