"""Photos of a user's own, however they are listed: hashed once, decoded into the cache, in the user's own parts if any.

What lists them (`folder`, `csv_file`) says where each photo lies, its class, and as far as the user knows them its part
of the split and its group. Names are compared and kept in one Unicode form, NFC, so that a copy on another system is
the same. The same photos under the same names, classes, parts and groups have one identity, whoever listed them.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

from resflow import reading
from resflow.data import cache
from resflow.data.decode import MAX_BYTES, BadImage, decode_all
from resflow.data.meta import PARTLY_DRAWN, PARTS, PREDEFINED, STRATIFIED
from resflow.errors import DataError, nearest
from resflow.study.settings import Split

logger = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = (STRATIFIED, PREDEFINED, PARTLY_DRAWN)  # which of them the photos decide
PART_NAMES = {  # as folders and CSV files call them, in small or capital letters
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Photo:
    """One file. `name` is its path below the photos' folder; `digest` is the hex sha256 of its bytes."""

    name: str
    label: str
    path: Path
    digest: str
    part: str = ""  # one of PARTS, of the user's own split
    group: str = ""  # the plant, the patient: all photos of one stay on one side

    def line(self) -> str:
        """Return what an identity says of it. The class is not said again where its folder's name says it."""
        said = {
            "label": self.label if PurePosixPath(self.name).parent.name != self.label else "",
            "part": self.part,
            "group": self.group,
        }
        return "\0".join([self.name, self.digest, *(f"{key}={value}" for key, value in said.items() if value)]) + "\n"


@dataclass(frozen=True)
class Listing:
    """The photos of a source. `beside` names what lies there and is no photo, `litter` what a rule passes over."""

    photos: Sequence[Photo]
    beside: tuple[str, ...] = ()
    litter: tuple[str, ...] = ()

    @cached_property
    def sorted_photos(self) -> tuple[Photo, ...]:
        return tuple(sorted(self.photos, key=lambda photo: photo.name))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({photo.label for photo in self.photos}))

    @property
    def split(self) -> Split:
        """The split that these photos have: drawn, the user's own, or the user's own with a drawn part."""
        given = {photo.part for photo in self.photos} - {""}
        return STRATIFIED if not given else PREDEFINED if given == set(PARTS) else PARTLY_DRAWN


class Photos:
    """A source of listed photos; `list_photos` is called once, when they are first needed."""

    def __init__(self, name: str, list_photos: Callable[[], Listing]) -> None:
        self.name, self._list = name, list_photos

    @cached_property
    def _listing(self) -> Listing:
        try:
            listing = self._list()
        except OSError as error:
            raise DataError(f"cannot read {error.filename or self.name}: {error.strerror}.") from error
        check_parts(listing.photos)
        return listing

    @property
    def splits(self) -> tuple[Split, ...]:
        return (self._listing.split,)

    def identity(self) -> str:
        """Return the hex sha256 over all that was listed of every photo; reads all files once, decodes none."""
        lines = (photo.line() for photo in self._listing.sorted_photos)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def litter(self) -> Sequence[str]:
        """Return the names of what is passed over, as it lies there now."""
        return self._listing.litter

    def outline(self, split: str) -> tuple[int, tuple[int, int, int]] | None:
        return None  # copies have to be found first

    def prepare(self, image_size: int, *, progress: bool = True, spent: cache.Spent = cache.never) -> Path:
        """Decode once into the cache, and return the cache folder. Raises DataError naming all bad files."""
        list_contents = partial(self._contents, image_size)
        return cache.build(self.name, self.identity(), image_size, list_contents, progress=progress, spent=spent)

    def _contents(self, image_size: int) -> cache.Contents:
        listing, photos = self._listing, self._listing.sorted_photos
        places = {name: place for place, name in enumerate(listing.class_names)}
        groups = [photo.group for photo in photos]
        return cache.Contents(
            names=[photo.name for photo in photos],
            labels=[places[photo.label] for photo in photos],
            class_names=listing.class_names,
            images=decode_all(((photo.name, partial(read_unchanged, photo)) for photo in photos), image_size),
            memberships={} if listing.split == STRATIFIED else {listing.split: [photo.part for photo in photos]},
            ignored=listing.beside,
            groups=groups if any(groups) else (),
        )


def check_parts(photos: Sequence[Photo]) -> None:
    """Raise DataError where a user's own split contradicts itself, or cannot train on all of its classes."""
    classes: dict[str, set[str]] = defaultdict(set)
    parts: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        if photo.part:
            classes[photo.part].add(photo.label)
            parts[photo.group].add(photo.part)
    if classes and not classes["train"]:
        raise DataError(
            f"no photo is to train on: the split has {' and '.join(sorted(filter(classes.get, classes)))} alone. "
            "Expected a part called train."
        )
    for part in PARTS[1:]:
        for name in sorted(classes[part] - classes["train"]):
            raise DataError(
                f"{part} has the class '{name}', which train lacks: no network can learn it."
                f"{nearest(name, classes['train'])} Add photos of it to train, or take it out of {part}."
            )
    for group in sorted(group for group, of_group in parts.items() if group and len(of_group) > 1):
        raise DataError(
            f"group '{group}' is in {' and '.join(part for part in PARTS if part in parts[group])}: photos of one "
            "group never cross a split. Put them into one part, or leave the column part out and have it drawn."
        )


def check_class_names(names: Iterable[str], place: Path) -> None:
    """Refuse classes that nobody could tell apart, and warn of those that some systems would not."""
    names = list(names)
    if same := alike(names, _look):
        one, other = map(ascii, same[:2])
        raise DataError(
            f"{place} holds {one} and {other}: two classes that nobody could tell apart by name, and one on some "
            "systems. Rename one of them, or put their images into one."
        )
    if same := alike(names, lambda name: _look(name).casefold()):  # two letters are two classes, A and a
        logger.warning(
            "%s holds the classes %s: they differ in capitals alone, and would be one on a system that passes over "
            "those",
            place,
            " and ".join(map(repr, same)),
        )


def alike(names: Iterable[str], key: Callable[[str], str]) -> list[str]:
    """Return the first names of which more than one has a key."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return next((group for group in groups.values() if len(group) > 1), [])


def composed(text: str) -> str:
    """Return a name in one Unicode spelling."""
    return unicodedata.normalize("NFC", text)


def _look(name: str) -> str:
    """Return what a name looks like: without what is invisible, and without spaces and dots at its end."""
    return "".join(c for c in composed(name) if unicodedata.category(c) != "Cf").strip().rstrip(". ")


def hash_file(path: Path) -> str:
    """Return the hex sha256 of a photo's bytes. Raises DataError where it is no regular file, gone or too large."""
    if not path.exists():
        raise DataError(f"{path} is a broken link, a loop of links or gone: remove it.")
    try:
        with reading.open_regular(path, MAX_BYTES) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except reading.UnusableFileError as error:
        raise DataError(f"{error}: expected a photo. Remove it.") from error


def read_unchanged(photo: Photo) -> bytes:
    """Read a photo again, which must still be the one that was hashed into the identity."""
    encoded = reading.read(photo.path, MAX_BYTES)
    if hashlib.sha256(encoded).hexdigest() != photo.digest:
        raise BadImage("changed while it was being read")
    return encoded
