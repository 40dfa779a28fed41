"""A user's own photos: one folder a class, images directly inside.

Every file in a class folder has to be an image, whatever its name's ending says; what is not is an error that
names it. Hidden files and the litter of every system are passed over (`litter` has the rule). Files beside the
class folders (a licence, a read-me) are passed over too. `resflow data info` lists both.

Names are compared and kept in one Unicode form, NFC, so that a copy of the folder on another system is the same.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from resflow import reading
from resflow.data import cache, containers
from resflow.data.dataset import SourceEntry
from resflow.data.decode import MAX_BYTES, BadImage, decode_all
from resflow.data.sources.litter import is_litter
from resflow.errors import DataError
from resflow.study.settings import Split

logger = logging.getLogger(__name__)

PARTS_SEEN = ("train", "training", "val", "valid", "validation", "test", "testing")
EXPECTED = "Expected one folder a class with images directly inside, such as PATH/rose/1.jpg and PATH/tulip/2.png."


@dataclass(frozen=True)
class Photo:
    """One file: `name` is class/file; `digest` is the hex sha256 of its bytes."""

    name: str
    label: int
    path: Path
    digest: str


@dataclass(frozen=True)
class Scan:
    """The contents of a folder, sorted by name; `beside` are files at the top, which are no images.

    `litter` is passed over wherever it lies.
    """

    class_names: tuple[str, ...]
    photos: tuple[Photo, ...]
    beside: tuple[str, ...]
    litter: tuple[str, ...]


class Folder:
    """The source folder:PATH, called folder:<basename> so that records hold no path of a machine."""

    splits: tuple[Split, ...] = (cache.STRATIFIED,)

    def __init__(self, path: str) -> None:
        if not path:
            raise DataError("source 'folder:' lacks its path: write folder:PATH.")
        self._folder = Path(path).expanduser().absolute()
        if not self._folder.is_dir():
            raise DataError(f"no folder {self._folder}: folder:PATH names a folder on this machine. {EXPECTED}")
        self.name = f"folder:{self._folder.resolve().name}"

    @cached_property
    def _scan(self) -> Scan:
        try:
            return scan(self._folder)
        except OSError as error:
            raise DataError(f"cannot read {error.filename or self._folder}: {error.strerror}.") from error

    def identity(self) -> str:
        """Return the hex sha256 over every image's class, name and bytes; reads all files once, decodes none."""
        lines = (f"{photo.name}\0{photo.digest}\n" for photo in self._scan.photos)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def litter(self) -> Sequence[str]:
        """Return the names of what is passed over, as it lies there now."""
        return self._scan.litter

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        return None  # copies have to be found first

    def prepare(self, image_size: int, *, progress: bool = True) -> Path:
        """Decode once into the cache, and return the cache folder. Raises DataError naming all bad files."""
        list_contents = partial(self._contents, image_size)
        return cache.build(self.name, self.identity(), image_size, list_contents, progress=progress)

    def _contents(self, image_size: int) -> cache.Contents:
        contents = self._scan
        return cache.Contents(
            names=[photo.name for photo in contents.photos],
            labels=[photo.label for photo in contents.photos],
            class_names=contents.class_names,
            images=decode_all(((photo.name, partial(_unchanged, photo)) for photo in contents.photos), image_size),
            memberships={},
            ignored=contents.beside,
        )


def _unchanged(photo: Photo) -> bytes:
    """Read a photo again, which must still be the one that was hashed into the identity."""
    encoded = reading.read(photo.path, MAX_BYTES)
    if hashlib.sha256(encoded).hexdigest() != photo.digest:
        raise BadImage("changed while it was being read")
    return encoded


def scan(folder: Path) -> Scan:
    """List and hash what lies in a folder. Raises DataError where it is not one folder a class."""
    entries = _visible(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    beside = [entry for entry in entries if not entry.is_dir()]
    _check_classes(folder, classes)
    _check_beside(folder, beside)
    photos = [photo for label, entry in enumerate(classes) for photo in _photos(entry, label)]
    photos.sort(key=lambda photo: photo.name)
    names = tuple(map(_text, classes))
    return Scan(names, tuple(photos), tuple(map(_text, beside)), tuple(_list_litter(folder, classes)))


def _visible(folder: Path) -> list[Path]:
    entries = sorted((entry for entry in folder.iterdir() if not is_litter(entry)), key=_text)
    if same := _alike(entries, _text):
        one, other = (ascii(entry.name) for entry in same[:2])
        raise DataError(
            f"{folder} holds {one} and {other}: one name, which Unicode spells in two ways. Rename one of them, or "
            "put what belongs together into one."
        )
    return entries


def _alike(entries: Iterable[Path], key: Callable[[Path], str]) -> list[Path]:
    """Return the first entries of which more than one has a key."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return next((group for group in groups.values() if len(group) > 1), [])


def _list_litter(folder: Path, classes: Iterable[Path]) -> list[str]:
    """Return the names of all litter, '?' for what no text stands for; nothing below it is looked at."""
    places = [(place, "" if place == folder else f"{place.name}/") for place in (folder, *classes)]
    names = [f"{before}{entry.name}" for place, before in places for entry in place.iterdir() if is_litter(entry)]
    return sorted(name.encode(errors="replace").decode() for name in names)


def _text(path: Path) -> str:
    """Return a file's name in one Unicode spelling, so that a copy of the folder on another system has the same."""
    name = unicodedata.normalize("NFC", path.name)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of {path.name!r} in {path.parent} is not valid UTF-8: rename it.") from error
    return name


def _look(path: Path) -> str:
    """Return what a name looks like: without what is invisible, and without spaces and dots at its end."""
    return "".join(c for c in _text(path) if unicodedata.category(c) != "Cf").strip().rstrip(". ")


def _check_classes(folder: Path, classes: list[Path]) -> None:
    names = [entry.name for entry in classes]
    if same := _alike(classes, _look):
        one, other = (ascii(entry.name) for entry in same[:2])
        raise DataError(
            f"{folder} holds {one} and {other}: two classes that nobody could tell apart by name, and one on some "
            "systems. Rename one of them, or put their images into one."
        )
    if same := _alike(classes, lambda entry: _look(entry).casefold()):  # two letters are two classes, A and a
        logger.warning(
            "%s holds the classes %s: they differ in capitals alone, and would be one on a system that passes over "
            "those",
            folder,
            " and ".join(repr(entry.name) for entry in same),
        )
    if len(classes) < 2:
        number = f"only one, '{names[0]}'" if names else "none"
        raise DataError(f"{folder} holds {number}: at least two class folders are needed. {EXPECTED}")
    if all(name.lower() in PARTS_SEEN for name in names):
        raise DataError(
            f"{folder} holds {', '.join(names)}, which look like parts of a split and not like classes. "
            f"resflow draws the split itself: put the class folders of all parts into one. {EXPECTED}"
        )
    for entry in classes:
        inside = _visible(entry)
        if not inside:
            raise DataError(f"class folder {entry} is empty: add images, or remove it.")
        nested = [inner.name for inner in inside if inner.is_dir()]
        if nested:
            raise DataError(f"class folder {entry} holds the folder '{nested[0]}'. {EXPECTED}")


def _check_beside(folder: Path, beside: list[Path]) -> None:
    for entry in beside:
        if entry.is_symlink() and not entry.exists():
            raise DataError(f"{entry} is a link to nothing, where a class may be meant: mend it, or remove it.")
    images = [entry.name for entry in beside if _is_image(entry)]
    if images:
        raise DataError(
            f"{folder} holds {len(images)} image(s) outside the class folders, such as '{images[0]}': move "
            f"each into its class's folder. {EXPECTED}"
        )


def _is_image(path: Path) -> bool:
    """Tell by its first bytes whether a file is an image: a pipe or a device is none."""
    try:
        with reading.open_regular(path) as file:
            return containers.is_image(file.read(64))
    except reading.UnusableFileError:
        return False


def _photos(folder: Path, label: int) -> list[Photo]:
    return [Photo(f"{_text(folder)}/{_text(path)}", label, path, _sha256(path)) for path in _visible(folder)]


def _sha256(path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path} is a broken link, a loop of links or gone: remove it.")
    try:
        with reading.open_regular(path, MAX_BYTES) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except reading.UnusableFileError as error:
        raise DataError(f"{error}: expected a photo. Remove it.") from error


SOURCES = (
    SourceEntry(
        "folder:PATH",
        "your own photos, one folder a class; the split is drawn from split_seed, copies stay on one side",
        Folder.splits,
        lambda name, _: Folder(name.removeprefix("folder:")),
    ),
)
