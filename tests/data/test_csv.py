"""csv:FILE: photos as a spreadsheet lists them, and every way in which such a file goes wrong."""

from __future__ import annotations

import csv
import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.flowers import write_classes, write_parts, write_photo

from resflow.data.dataset import data_fingerprint, load_dataset
from resflow.data.info import describe
from resflow.data.sources.open import open_source
from resflow.errors import DataError

Rows = list[list[str]]
PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "oxford_photos" / "oxford_photos_256.tar"
CLASSES = {"rose": 6, "tulip": 6}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "photos", CLASSES)


def rows_of(folder: Path) -> Rows:
    """The photos of class folders as rows: path, label."""
    return [[path.relative_to(folder).as_posix(), path.parent.name] for path in sorted(folder.rglob("*.png"))]


def write(path: Path, header: list[str], rows: Rows, *, separator: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=quoting).writerows([header, *rows])  # type: ignore[arg-type]
    path.write_bytes(text.getvalue().encode())
    return path


def identity(file: Path, folder: Path | None = None) -> str:
    return open_source(f"csv:{file}", folder).identity()


def test_same_photos_have_one_fingerprint_as_a_folder_and_as_a_list(photos: Path) -> None:
    listed = open_source(f"csv:{write(photos / 'list.csv', ['path', 'label'], rows_of(photos))}")
    folder = open_source(f"folder:{photos}")
    assert data_fingerprint(listed, 8) == data_fingerprint(folder, 8)
    one, other = (load_dataset(source.prepare(8, progress=False)) for source in (listed, folder))
    assert (one.names, one.class_names, one.split_hash) == (other.names, other.class_names, other.split_hash)
    assert np.array_equal(one.images, other.images)
    assert (one.source, other.source) == ("csv:list.csv", "folder:photos")


def test_same_own_split_has_one_fingerprint_as_folders_and_as_a_column(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "photos", ("train", "val", "test"), CLASSES)
    rows = [[path, label, path.split("/")[0]] for path, label in rows_of(folder)]
    listed = open_source(f"csv:{write(folder / 'list.csv', ['path', 'label', 'part'], rows)}")
    assert data_fingerprint(listed, 8) == data_fingerprint(open_source(f"folder:{folder}"), 8)
    assert load_dataset(listed.prepare(8, progress=False)).split == "predefined"


def test_labels_parts_and_groups_are_part_of_the_identity(photos: Path) -> None:
    rows = rows_of(photos)
    swapped = [[path, {"rose": "tulip", "tulip": "rose"}[label]] for path, label in rows]
    files = {
        "plain": write(photos / "plain.csv", ["path", "label"], rows),
        "swapped": write(photos / "swapped.csv", ["path", "label"], swapped),
        "groups": write(photos / "groups.csv", ["path", "label", "group"], [[*row, row[0]] for row in rows]),
        "parts": write(photos / "parts.csv", ["path", "label", "part"], [[*row, "train"] for row in rows]),
        "fewer": write(photos / "fewer.csv", ["path", "label"], rows[1:]),
    }
    assert len({identity(file) for file in files.values()}) == len(files)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_file_reads_alike_however_a_spreadsheet_writes_it(
    photos: Path, separator: str, mark: bytes, end: bytes, quoting: int
) -> None:
    plain = identity(write(photos / "plain.csv", ["path", "label"], rows_of(photos)))
    rows = [["", label.join((" ", " ")), path.replace("/", "\\")] for path, label in rows_of(photos)]
    file = write(photos / "list.csv", ["Note", " LABEL", "Path"], rows, separator=separator, quoting=quoting)
    file.write_bytes(mark + file.read_bytes().replace(b"\r\n", end) + end + end)
    assert identity(file) == plain
    assert describe(open_source(f"csv:{file}").prepare(8, progress=False)).ignored == ("column note of list.csv",)


def test_official_names_find_photos_in_any_folder_and_say_where_two_have_one(photos: Path, tmp_path: Path) -> None:
    names = [["7.png", "seven"], ["8.png", "eight"]]
    for number, folder in (("7", "a/b"), ("8", "c")):
        write_photo(tmp_path / "official" / folder / f"{number}.png", int(number))
    file = write(tmp_path / "split.csv", ["path", "label"], names)
    source = open_source(f"csv:{file}", tmp_path / "official")
    (tmp_path / "flat").mkdir()
    for path in (tmp_path / "official").rglob("*.png"):
        shutil.copy(path, tmp_path / "flat")
    assert source.identity() == identity(file, tmp_path / "flat")  # of the names and the photos, not of their folders
    write_photo(tmp_path / "official" / "d" / "8.png", 9)
    with pytest.raises(DataError, match=r"line 3: 8\.png stands there more than once, as c/8\.png and d/8\.png"):
        identity(file, tmp_path / "official")


def test_absolute_paths_below_the_folder_leave_no_path_of_a_machine(photos: Path) -> None:
    rows = [[str(photos / path), label] for path, label in rows_of(photos)]
    assert identity(write(photos / "list.csv", ["path", "label"], rows)) == open_source(f"folder:{photos}").identity()


def test_groups_never_cross_a_drawn_split(photos: Path) -> None:
    rows = [[path, label, f"plant {place // 2}"] for place, (path, label) in enumerate(rows_of(photos))]
    source = open_source(f"csv:{write(photos / 'list.csv', ['path', 'label', 'group'], rows)}")
    data = load_dataset(source.prepare(8, progress=False))
    group = {path: name for path, _, name in rows}
    sides = [{group[data.names[i]] for i in index} for index in (data.train, data.validation, data.test)]
    assert [len(side) for side in sides] == [2, 2, 2]
    assert len(set.union(*sides)) == 6
    without = write(photos / "without.csv", ["path", "label"], [row[:2] for row in rows])
    assert data.split_hash != load_dataset(open_source(f"csv:{without}").prepare(8, progress=False)).split_hash


def change(place: int, cell: int, value: str) -> Callable[[Rows], None]:
    def spoil(rows: Rows) -> None:
        rows[place][cell] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(0, 0, "rose/99.png"), r"line 2: no file rose/99\.png there: .*--data-dir"),
        (change(3, 0, "rose/0.png"), r"line 5: rose/0\.png is listed on line 2 already"),
        (change(1, 0, ""), "line 3: path is empty"),
        (change(1, 1, "  "), "line 3: label is empty"),
        (change(1, 2, ""), "line 3: part is empty"),
        (change(2, 2, "trian"), "line 4: part is 'trian': expected train, val or test. Did you mean 'train'"),
        (change(1, 3, ""), "line 3: group is empty"),
        (change(0, 0, "../photos/rose/0.png"), "line 2: path .* leads out of there: .*--data-dir"),
        (change(0, 0, "/etc/passwd"), "line 2: path '/etc/passwd' leads out"),
        (change(0, 0, "rose"), "line 2: .*rose: it is a folder, not a file"),
        (change(0, 2, "test"), "group 'a' is in train and test: photos of one group never cross a split"),
    ],
)
def test_rows_at_fault_are_named_by_line(photos: Path, spoil: Callable[[Rows], None], message: str) -> None:
    rows = [[*row, "train", "a"] for row in rows_of(photos)]
    spoil(rows)
    file = write(photos / "list.csv", ["path", "label", "part", "group"], rows)
    with pytest.raises(DataError, match=message) as raised:
        identity(file)
    assert "Traceback" not in str(raised.value)


def test_all_rows_at_fault_are_told_at_once_and_no_more_than_ten(photos: Path) -> None:
    file = write(photos / "list.csv", ["path", "label"], [[f"rose/x{i}.png", "rose"] for i in range(14)])
    with pytest.raises(
        DataError, match=r"14 lines cannot be used; its paths begin in .*photos:(.|\n)*line 11: (.|\n)*and 4 more"
    ):
        identity(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "list.csv:1: no column 'path' among nothing"),
        (b"file,label\nrose/0.png,rose\n", "list.csv:1: no column 'path' among file, label"),
        (b"path,label,path\na,b,c\n", "list.csv:1: the column 'path' stands there twice"),
        (b"path,label,grup\na,b,c\n", "list.csv:1: unknown column 'grup'. Did you mean 'group'"),
        (b"path,label\nrose/0.png,rose,red\n", "list.csv:2: 3 cells, the header has 2"),
        (b'path,label\n"rose/0.png"x,rose\n', "list.csv:2: this is no valid CSV"),
        (b"path,label\nrose/\xff.png,rose\n", "list.csv:2: this is no UTF-8 text"),
        ("path,label\nrose/0.png,rose\n".encode("utf-16"), "list.csv:1: this is no UTF-8 text"),
        (b"path,label\n\n", "lists no photo: at least two classes"),
        (b"path,label\nrose/0.png,rose\n", "lists only one class, 'rose'"),
        (b"path,label\nrose/0.png,rose\ntulip/0.png,rose.\n", "that nobody could tell apart"),
        (b"path,label\nrose/0.png\ntulip/0.png,tulip\n", "line 2: label is empty"),
        (b"path,label\nrose\0.png,rose\ntulip/0.png,tulip\n", "line 2: path .* leads out"),
    ],
)
def test_files_that_are_no_such_list(photos: Path, content: bytes, message: str) -> None:
    file = photos / "list.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        identity(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [("csv:", "lacks its file"), ("csv:/no/such.csv", "no file"), ("list.csv", "mean 'csv:list.csv'")],
)
def test_sources_without_a_file(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(name)


def test_unreadable_photos_are_named_as_those_of_a_folder_are(photos: Path) -> None:
    (photos / "rose" / "0.png").write_text("no image")
    (photos / "tulip" / "1.png").write_bytes(b"")
    source = open_source(f"csv:{write(photos / 'list.csv', ['path', 'label'], rows_of(photos))}")
    with pytest.raises(
        DataError, match=r"2 files are not usable(.|\n)*rose/0\.png: not a JPEG(.|\n)*tulip/1\.png: empty"
    ):
        source.prepare(8, progress=False)


@pytest.mark.skipif(not PHOTOS.is_file(), reason="the photos of shared/data/oxford_photos are not here")
def test_official_names_with_official_parts_find_photos_that_lie_by_class(tmp_path: Path) -> None:
    with (PHOTOS.parent / "official_split.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["class"]) in (97, 98, 102)]
    with tarfile.open(PHOTOS) as archive:
        wanted = [member for member in archive if re.search(r"/(097|098|102)_", member.name)]
        archive.extractall(tmp_path / "photos", wanted, filter="data")
    listed = [[row["image"], f"{int(row['class']):03d}", row["official_part"]] for row in rows]
    source = open_source(f"csv:{write(tmp_path / 'split.csv', ['path', 'label', 'part'], listed)}", tmp_path / "photos")
    data = load_dataset(source.prepare(16, progress=False))
    part = {row["image"]: row["official_part"] for row in rows}
    assert sum(data.counts) == len(rows) > 100
    for index, name in ((data.train, "train"), (data.validation, "validation"), (data.test, "test")):
        assert {part[data.names[i]] for i in index} == {name}
