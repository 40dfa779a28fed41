"""A CSV file that lists photos: csv:FILE with a header and the columns path and label, and part and group if wanted.

    path,label,part,group
    rose/1.jpg,rose,train,plant 7

Paths are below the file's own folder, or below --data-dir. A path without a folder may name a photo in any folder
there, so that a list of official file names serves whoever keeps those photos by class. Commas, semicolons or tabs
separate; a byte order mark, quotes and either end of line are read as spreadsheets write them.
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

from resflow import reading
from resflow.data.dataset import SourceEntry
from resflow.data.sources.litter import is_litter
from resflow.data.sources.photos import (
    PART_NAMES,
    SPLITS,
    Listing,
    Photo,
    Photos,
    check_class_names,
    composed,
    hash_file,
)
from resflow.errors import DataError, nearest

REQUIRED, OPTIONAL = ("path", "label"), ("part", "group")
COLUMNS = (*REQUIRED, *OPTIONAL)
SEPARATORS = ",;\t"
LARGEST = 256 * reading.MEGABYTE  # some millions of rows
NAMED_IN_ERROR = 10
EXPECTED = "Expected a header with the columns path and label, and part and group if wanted: path,label,part,group."


class RowError(Exception):
    """The reason why one row lists no photo; all of a file are told in one DataError."""


@dataclass(frozen=True)
class Row:
    """A line's cells by column; `number` is the line's, from 1."""

    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """Return a cell that must not be empty."""
        if not (text := self.cells.get(column, "").strip()):
            raise RowError(f"{column} is empty")
        return composed(text)


def open_csv(name: str, data_dir: Path | None = None) -> Photos:
    """Return the source csv:FILE, called csv:<basename> so that records hold no path of a machine."""
    written = name.removeprefix("csv:")
    if not written:
        raise DataError("source 'csv:' lacks its file: write csv:FILE.")
    file = Path(written).expanduser().absolute()
    if not file.is_file():
        raise DataError(f"no file {file}: csv:FILE names a CSV file on this machine. {EXPECTED}")
    folder = file.parent if data_dir is None else data_dir.expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: with csv:FILE, --data-dir names the folder of its photos.")
    return Photos(f"csv:{file.resolve().name}", partial(list_photos, file, folder))


def list_photos(file: Path, folder: Path) -> Listing:
    """Read a CSV file and hash its photos, which lie below a folder. Raises DataError naming the lines at fault."""
    header, rows = read_rows(file)
    finder, photos, lines, problems = Finder(folder), [], dict[str, int](), list[str]()
    for row in rows:
        try:
            photo = _photo(row, finder, "part" in header, "group" in header)
            if photo.name in lines:
                raise RowError(f"{photo.name} is listed on line {lines[photo.name]} already")
            lines[photo.name] = row.number
            photos.append(photo)
        except (RowError, DataError) as error:
            problems.append(f"line {row.number}: {str(error).rstrip('.')}")
    if problems:
        more = f"\n  and {len(problems) - NAMED_IN_ERROR} more" if len(problems) > NAMED_IN_ERROR else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:NAMED_IN_ERROR])
        number = f"{len(problems)} line{'' if len(problems) == 1 else 's'}"
        raise DataError(f"{file}: {number} cannot be used; its paths begin in {folder}:{listed}{more}")
    classes = sorted({photo.label for photo in photos})
    check_class_names(classes, file)
    if len(classes) < 2:
        number = f"only one class, '{classes[0]}'" if classes else "no photo"
        raise DataError(f"{file} lists {number}: at least two classes are needed. {EXPECTED}")
    return Listing(photos, tuple(f"column {name} of {file.name}" for name in header if name not in COLUMNS))


def _photo(row: Row, finder: Finder, has_parts: bool, has_groups: bool) -> Photo:
    part = ""
    if has_parts:
        written = row.text("part")
        part = PART_NAMES.get(written.lower(), "")
        if not part:
            raise RowError(f"part is '{written}': expected train, val or test.{nearest(written.lower(), PART_NAMES)}")
    label, group = row.text("label"), row.text("group") if has_groups else ""
    name, path = finder.find(row.text("path"))
    return Photo(name, label, path, hash_file(path), part, group)


@dataclass(frozen=True)
class Finder:
    """Finds photos below a folder by the paths that a CSV file has for them."""

    folder: Path

    def find(self, written: str) -> tuple[str, Path]:
        """Return a photo's name and where it lies. Raises RowError."""
        name = self._name(written)
        for spelling in dict.fromkeys((name, unicodedata.normalize("NFD", name))):
            if os.path.lexists(path := self.folder / spelling):
                return name, path
        places = [] if "/" in name else self._by_name.get(name, [])
        if len(places) > 1:
            shown = " and ".join(str(place.relative_to(self.folder)) for place in places[:2])
            raise RowError(f"{name} stands there more than once, as {shown}: write its folder as well")
        if not places:
            raise RowError(f"no file {name} there: mend the path, or name the photos' folder with --data-dir")
        return name, places[0]

    def _name(self, written: str) -> str:
        path = PurePosixPath(written.replace("\\", "/"))
        if path.is_relative_to(self.folder):
            path = path.relative_to(self.folder)
        if "\0" in written or path.is_absolute() or ".." in path.parts or path == PurePosixPath():
            raise RowError(
                f"path '{ascii(written)[1:-1]}' leads out of there: write paths below that folder, or name "
                "another one with --data-dir"
            )
        return str(path)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        places: dict[str, list[Path]] = defaultdict(list)
        for place, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not is_litter(Path(place, name)))
            for name in sorted(files):
                places[composed(name)].append(Path(place, name))
        return places


def read_rows(file: Path) -> tuple[Sequence[str], list[Row]]:
    """Return the names of a CSV file's columns, and its rows. Raises DataError with the line at fault."""
    content = reading.read(file, LARGEST)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}:{line}: this is no UTF-8 text: save the file as CSV in UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        cells = iter([(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)])
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: this is no valid CSV: {error}.") from error
    number, first = next(cells, (1, []))
    header = [composed(name.strip().lower()) for name in first]
    _check_header(file, number, header)
    return header, list(_rows(file, header, cells))


def _separator(text: str) -> str:
    """Return what separates the cells of the header."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(SEPARATORS, key=header.count)


def _check_header(file: Path, number: int, header: Sequence[str]) -> None:
    for name in REQUIRED:
        if name not in header:
            named = ", ".join(filter(None, header)) or "nothing"
            raise DataError(f"{file}:{number}: no column '{name}' among {named}. {EXPECTED}")
    for place, name in enumerate(header):
        if name in COLUMNS and name in header[:place]:
            raise DataError(f"{file}:{number}: the column '{name}' stands there twice. {EXPECTED}")
        missing = [column for column in OPTIONAL if column not in header]
        if name not in COLUMNS and (guess := nearest(name, missing)):  # a misspelled group would let groups cross
            raise DataError(f"{file}:{number}: unknown column '{name}'.{guess} Rename it. {EXPECTED}")


def _rows(file: Path, header: Sequence[str], cells: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for number, row in cells:
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            raise DataError(
                f"{file}:{number}: {len(row)} cells, the header has {len(header)}: quote a cell that holds a separator."
            )
        yield Row(number, dict(zip(header, row, strict=False)))


SOURCES = (
    SourceEntry(
        "csv:FILE",
        "your own photos as a CSV file lists them: path, label, and part and group if wanted; groups never cross a "
        "split; --data-dir is the photos' folder where it is not the file's",
        SPLITS,
        open_csv,
        takes_data_dir=True,
    ),
)
