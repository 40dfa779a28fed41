"""A folder of a user's own photos: one folder a class, or the parts of a split with one folder a class in each.

    PATH/rose/1.jpg                the split is drawn
    PATH/train/rose/1.jpg          the user's own: train, val (valid, validation), test; a missing part is drawn

Every file in a class folder has to be an image, whatever its name's ending says; what is not is an error that
names it. Hidden files and the litter of every system are passed over (`litter` has the rule). Files beside the
class folders (a licence, a read-me) are passed over too. `resflow data info` lists both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from resflow import reading
from resflow.data import containers
from resflow.data.dataset import SourceEntry
from resflow.data.sources.litter import is_litter
from resflow.data.sources.photos import (
    PART_NAMES,
    SPLITS,
    Listing,
    Photo,
    Photos,
    alike,
    check_class_names,
    composed,
    hash_file,
)
from resflow.errors import DataError

EXPECTED = (
    "Expected one folder a class with images directly inside, such as PATH/rose/1.jpg and PATH/tulip/2.png; or "
    "these in folders called train, val and test."
)


def open_folder(name: str, _: Path | None = None) -> Photos:
    """Return the source folder:PATH, called folder:<basename> so that records hold no path of a machine."""
    path = name.removeprefix("folder:")
    if not path:
        raise DataError("source 'folder:' lacks its path: write folder:PATH.")
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: folder:PATH names a folder on this machine. {EXPECTED}")
    return Photos(f"folder:{folder.resolve().name}", partial(scan, folder))


def scan(folder: Path) -> Listing:
    """List and hash what lies in a folder. Raises DataError where it is in neither of the two layouts."""
    parts = _find_parts(folder)
    if not parts:
        return _scan_classes(folder)
    beside = [entry for entry in _visible(folder) if not entry.is_dir()]
    _check_beside(folder, beside)
    photos: list[Photo] = []
    others = list(map(_text, beside))
    litter = list(_list_litter(folder, "", ()))
    for part, place in parts.items():
        one = _scan_classes(place, part, f"{_text(place)}/")
        photos += one.photos
        others += [f"{_text(place)}/{name}" for name in one.beside]
        litter += one.litter
    return Listing(photos, tuple(others), tuple(sorted(litter)))


def _find_parts(folder: Path) -> dict[str, Path]:
    """Return part -> its folder, nothing where the folders are classes: parts hold folders, classes hold images."""
    named = [entry for entry in _visible(folder) if entry.is_dir()]
    if not named or any(entry.name.lower() not in PART_NAMES for entry in named):
        return {}
    flat = [entry.name for entry in named if not any(inner.is_dir() for inner in _visible(entry))]
    if flat:
        raise DataError(
            f"{folder} holds {', '.join(entry.name for entry in named)}, which look like parts of a split, and "
            f"'{flat[0]}' holds no class folders. {EXPECTED} A part that you do not have is drawn where there is no "
            "folder of it. Where these are the classes themselves, rename them, or list the photos in csv:FILE."
        )
    parts: dict[str, Path] = {}
    for entry in named:
        part = PART_NAMES[entry.name.lower()]
        if part in parts:
            raise DataError(
                f"{folder} holds '{parts[part].name}' and '{entry.name}', which are one part of a split, {part}: put "
                "their photos into one of them."
            )
        parts[part] = entry
    return parts


def _scan_classes(folder: Path, part: str = "", prefix: str = "") -> Listing:
    """List the class folders of a folder, which is one part of a split where `part` says so."""
    entries = _visible(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    beside = [entry for entry in entries if not entry.is_dir()]
    _check_classes(folder, classes, least=1 if part in ("validation", "test") else 2)
    _check_beside(folder, beside)
    photos = [
        Photo(f"{prefix}{_text(entry)}/{_text(path)}", _text(entry), path, hash_file(path), part)
        for entry in classes
        for path in _visible(entry)
    ]
    return Listing(photos, tuple(map(_text, beside)), tuple(_list_litter(folder, prefix, classes)))


def _visible(folder: Path) -> list[Path]:
    entries = sorted((entry for entry in folder.iterdir() if not is_litter(entry)), key=_text)
    if same := alike((entry.name for entry in entries), composed):
        one, other = map(ascii, same[:2])
        raise DataError(
            f"{folder} holds {one} and {other}: one name, which Unicode spells in two ways. Rename one of them, or "
            "put what belongs together into one."
        )
    return entries


def _list_litter(folder: Path, prefix: str, classes: Iterable[Path]) -> Iterator[str]:
    """Yield the names of all litter, '?' for what no text stands for; nothing below it is looked at."""
    places = [(folder, prefix), *((place, f"{prefix}{place.name}/") for place in classes)]
    names = [f"{before}{entry.name}" for place, before in places for entry in place.iterdir() if is_litter(entry)]
    yield from sorted(name.encode(errors="replace").decode() for name in names)


def _text(path: Path) -> str:
    """Return a file's name in one Unicode spelling, so that a copy of the folder on another system has the same."""
    name = composed(path.name)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of {path.name!r} in {path.parent} is not valid UTF-8: rename it.") from error
    return name


def _check_classes(folder: Path, classes: list[Path], least: int) -> None:
    names = [entry.name for entry in classes]
    check_class_names(names, folder)
    if len(classes) < least:
        number = f"only one, '{names[0]}'" if names else "none"
        raise DataError(f"{folder} holds {number}: at least two class folders are needed. {EXPECTED}")
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


SOURCES = (
    SourceEntry(
        "folder:PATH",
        "your own photos, one folder a class, or these in train, val and test; what you do not split is drawn from "
        "split_seed, copies stay on one side",
        SPLITS,
        open_folder,
    ),
)
