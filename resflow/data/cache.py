"""The decoded cache: one folder a source and image size, written whole or not at all.

    <cache>/data/<source>-<size>-<key>/images.npy   (n, size, size, 3) uint8, memory-mapped by every process
    <cache>/data/<source>-<size>-<key>/labels.npy   (n,) int64, 0-based classes
    <cache>/data/<source>-<size>-<key>/meta.json    Meta: names, classes, digests, original sizes, memberships
    <cache>/data/<source>-<size>-<key>/digest.json  Seal: the sha256 of the three

<cache> is the user's cache folder (`platformdirs`), or the environment's RESFLOW_CACHE. The key hashes the
source's identity, the image size and the decoder's version, so that a changed photo makes a new folder.
A source calls `build` with a function that lists its Contents; it is called when nothing is cached that is what was
written. That is checked once a process, which is once a run: the driver prepares the data, trials load it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resflow import atomic, workspace
from resflow.data.decode import DECODE_VERSION, Decoded
from resflow.data.meta import META_VERSION, Meta, find_problem, write_meta
from resflow.data.meta import PARTS as PARTS
from resflow.data.meta import STRATIFIED as STRATIFIED
from resflow.data.meta import read_meta as read_meta
from resflow.errors import DataError

logger = logging.getLogger(__name__)

Spent = Callable[[], str]  # says why no more time may be spent; nothing for as long as it may
_checked: dict[tuple[object, ...], bool] = {}  # the state of each folder that was looked into -> whether it was whole


@dataclass(frozen=True)
class Contents:
    """The contents of a source, in its own order; `images` may come in any order, each name once.

    `memberships` maps a split's name to one of PARTS for each image, or '' where it is in none of them;
    the first is the default. With no memberships the split is STRATIFIED.
    A PARTLY_DRAWN split lacks a part.
    `ignored` names files that lie beside the images and are none; `resflow data info` shows them.
    `groups` names the group of each image, '' on its own: the images of one stay on one side of a drawn split.
    """

    names: Sequence[str]
    labels: Sequence[int]  # 0-based
    class_names: Sequence[str]
    images: Iterable[Decoded]
    memberships: Mapping[str, Sequence[str]]
    ignored: Sequence[str] = ()
    groups: Sequence[str] = ()


def never() -> str:
    """Say that there is time enough."""
    return ""


def folder_of(source: str, identity: str, image_size: int) -> Path:
    """Return where a source's decoded images lie, whether they do yet or not."""
    key = hashlib.sha256(f"{source} {identity} {image_size} {DECODE_VERSION}".encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_.]+", "_", source)[:40]
    return workspace.cache(workspace.IMAGES) / f"{readable}-{image_size}-{key}"


def build(
    source: str,
    identity: str,
    image_size: int,
    contents: Callable[[], Contents],
    *,
    progress: bool = True,
    spent: Spent = never,
) -> Path:
    """Return the cache folder of a source, decoding into it first where it does not exist yet or is damaged.

    One process decodes while others wait for its lock. Raises DataError where images are bad, the disk does not take
    them, or the time for it is `spent`; nothing half-written stays in place.
    """
    if image_size < 1:
        raise DataError(f"image size {image_size}: expected a whole number of pixels, at least 1.")
    final = folder_of(source, identity, image_size)
    check = partial(is_whole, final, (source, identity, image_size, DECODE_VERSION))
    if check():
        return final
    with (
        writing(final.parent, f"the decoded images of {source}"),
        locked(final.with_name(f"{final.name}.lock")),
    ):
        if not check():
            atomic.sweep(final.parent, final.name)  # the lock is ours
            write_folder(final, source, identity, image_size, _in_time(contents(), source, image_size, spent), progress)
    return final


def _in_time(contents: Contents, source: str, image_size: int, spent: Spent) -> Contents:
    """Return contents whose images end in a DataError when the time for them is spent."""

    def images() -> Iterator[Decoded]:
        for done, image in enumerate(contents.images):
            if reason := spent():
                raise DataError(
                    f"{reason}, and {done:,} of {len(contents.names):,} photos of {source} are decoded: nothing has "
                    "started, and nothing was cached. Allow more time, or decode them beforehand with `resflow data "
                    f"fetch SOURCE --image-size {image_size}`, which later runs share."
                )
            yield image

    return replace(contents, images=images())


def is_whole(folder: Path, of: tuple[str, str, int, int] | None = None) -> bool:
    """Tell whether a folder is there and holds what was decoded into it, as `meta.find_problem` has it.

    All of it is read once a process for each state of it; why one is not used is told.
    """
    try:
        state = (folder, of, *_stamps(folder))
    except (FileNotFoundError, NotADirectoryError):  # another process may be about to replace it
        return False
    if state not in _checked:
        problem = find_problem(folder, of)
        if problem:
            logger.warning("%s is not used, but made anew: %s", folder, problem)
        _checked[state] = not problem
    return _checked[state]


def _stamps(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    for path in sorted(folder.iterdir()):
        stat = path.lstat()
        yield path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Make `folder`, and turn a disk's refusal into one clear message."""
    try:
        workspace.make_cache_folder(folder)
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            f"cannot store {what} below {folder}: {'the disk is full' if full else error}. "
            f"{'Free space there' if full else 'Make it writable'}, or set RESFLOW_CACHE to another folder, "
            "and run the same command again."
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, saying so if another process has to finish first."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        Console(stderr=True).print(f"Waiting for another resflow that holds {path.name} …", highlight=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_folder(final: Path, source: str, identity: str, size: int, contents: Contents, progress: bool) -> None:
    """Decode into a folder of the cache, whole or not at all."""
    with atomic.folder(final) as draft:
        with (draft / workspace.PIXELS).open("wb") as file:
            digests, originals = _write_images(file, contents, size, f"Decoding {source}", progress)
        np.save(draft / workspace.LABELS, np.asarray(contents.labels, dtype=np.int64))
        meta = Meta(
            version=META_VERSION,
            source=source,
            identity=identity,
            image_size=size,
            decode_version=DECODE_VERSION,
            class_names=list(contents.class_names),
            names=list(contents.names),
            digests=digests,
            originals=originals,
            splits=list(contents.memberships) or [STRATIFIED],
            memberships={split: list(parts) for split, parts in contents.memberships.items()},
            ignored=list(contents.ignored),
            groups=list(contents.groups),
        )
        write_meta(draft, meta)


def _write_images(
    file: BinaryIO, contents: Contents, size: int, title: str, progress: bool
) -> tuple[list[str], list[list[int]]]:
    """Write images.npy by plain writes: on a full disk these fail, a memory map would kill the process."""
    names = list(contents.names)
    positions = {name: index for index, name in enumerate(names)}
    if len(positions) != len(names):
        raise ValueError("a source listed the same image name twice")
    digests, originals = [""] * len(names), [[0, 0]] * len(names)
    shape = (size, size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    start, missing = file.tell(), set(names)
    for image in _with_progress(contents.images, len(names), title, progress):
        if image.pixels.shape != shape or image.pixels.dtype != np.uint8:
            raise ValueError(f"expected {shape} uint8, got {image.pixels.shape} {image.pixels.dtype}")
        missing.remove(image.name)
        index = positions[image.name]
        file.seek(start + index * size * size * 3)
        file.write(image.pixels.tobytes())
        digests[index], originals[index] = image.digest, list(image.original)
    if missing:
        raise ValueError(f"a source listed {len(missing)} images that it did not deliver")
    return digests, originals


def _with_progress(images: Iterable[Decoded], total: int, title: str, progress: bool) -> Iterator[Decoded]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # A notebook's own widgets would want more packages: there the bar is a line of text.
    with Progress(*columns, console=Console(stderr=True, force_jupyter=False), disable=not progress) as bar:
        yield from bar.track(images, total=total, description=title)
