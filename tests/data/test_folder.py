"""folder:PATH: a user's own photos, and everything that such folders are known to hold."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.oxford_layout import drawn, encoded

from resflow.data.dataset import data_fingerprint, load_dataset
from resflow.data.decode import MAX_BYTES
from resflow.data.info import describe
from resflow.data.sources.litter import ALL_ENDINGS, ALL_NAMES
from resflow.data.sources.open import open_source
from resflow.errors import DataError
from resflow.study.originals import Originals

FLOWERS5 = Path(__file__).parents[3] / "shared" / "data" / "flowers5" / "flowers5_128.tgz"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of ten images in several formats."""
    folder = tmp_path / "photos"
    forms = [("PNG", "png"), ("JPEG", "JPG"), ("BMP", "bmp"), ("GIF", "gif"), ("WEBP", "webp")]
    for label, name in enumerate(("rose", "tulip")):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            form, ending = forms[i % 5]
            (folder / name / f"{i}.{ending}").write_bytes(encoded(drawn(100 * label + i), form))
    return folder


def prepare(folder: Path) -> Path:
    return open_source(f"folder:{folder}").prepare(8, progress=False)


def test_a_folder_becomes_a_dataset(photos: Path) -> None:
    source = open_source(f"folder:{photos}")
    data = load_dataset(source.prepare(8, progress=False))
    assert (data.source, data.class_names, data.split) == ("folder:photos", ("rose", "tulip"), "stratified")
    assert str(photos) not in "".join(data.names)
    assert all(
        data.class_names[label] == name.split("/")[0] for label, name in zip(data.labels, data.names, strict=True)
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 4, 4)
    assert data.split_hash != load_dataset(source.prepare(8), split_seed=1).split_hash


@pytest.mark.parametrize("turned", [False, True])
def test_originals_are_the_shorter_sides_of_the_photos_as_they_are_seen(photos: Path, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    for length, name in ((20, "rose/0.png"), (90, "tulip/1.JPG")):
        pixels = drawn(length, length + 7, length)
        (photos / name).write_bytes(encoded(pixels, "PNG" if name.endswith("png") else "JPEG", exif=exif.tobytes()))
    folder = prepare(photos)
    assert load_dataset(folder).originals == Originals(20, 30, 90)
    assert describe(folder).originals["largest"] == ((90, 97) if turned else (97, 90))


def test_images_in_no_part_of_a_split_have_no_part_in_its_originals(photos: Path) -> None:
    data = load_dataset(prepare(photos))
    assert data.shorter_sides is not None
    sides = np.arange(len(data.names)) + 1
    part = replace(data, shorter_sides=sides, train=data.train[:3], validation=data.validation[:2], test=data.test[:0])
    used = sides[[*part.train, *part.validation]]
    assert part.originals == Originals.measure(used.tolist())


def test_identity_is_of_the_content_wherever_it_lies(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "photos"
    shutil.copytree(photos, copy)
    first, second = open_source(f"folder:{photos}"), open_source(f"folder:{copy}")
    assert first.identity() == second.identity()
    assert data_fingerprint(first, 8, "auto", 0) == data_fingerprint(second, 8, "auto", 0)
    assert first.prepare(8, progress=False) == second.prepare(8, progress=False)
    (copy / "rose" / "0.png").write_bytes(encoded(drawn(999), "PNG"))
    assert open_source(f"folder:{copy}").identity() != first.identity()
    assert prepare(copy) != prepare(photos)


def test_moving_a_photo_to_another_class_changes_the_identity(photos: Path) -> None:
    before = open_source(f"folder:{photos}").identity()
    (photos / "rose" / "0.png").rename(photos / "tulip" / "x.png")
    assert open_source(f"folder:{photos}").identity() != before


def test_split_does_not_depend_on_the_image_size(photos: Path) -> None:
    source = open_source(f"folder:{photos}")
    assert (
        load_dataset(source.prepare(8, progress=False)).split_hash
        == load_dataset(source.prepare(16, progress=False)).split_hash
    )


def test_copies_stay_on_one_side_and_are_counted(photos: Path) -> None:
    for name in ("rose/copy.png", "tulip/copy.png"):
        shutil.copy(photos / "rose" / "0.png", photos / name)
    found = describe(prepare(photos))
    assert found.copies == found.across_classes == (("rose/0.png", "rose/copy.png", "tulip/copy.png"),)
    assert found.across_parts == ()


def test_litter_is_passed_over_and_other_files_are_reported(photos: Path) -> None:
    (photos / ".DS_Store").write_bytes(b"x")
    (photos / "__MACOSX").mkdir()
    (photos / "rose" / "Thumbs.db").write_bytes(b"x")
    (photos / "rose" / "._0.png").write_bytes(b"x")
    (photos / "LICENSE.txt").write_text("facts")
    source = open_source(f"folder:{photos}")
    found = describe(source.prepare(8, progress=False), litter=source.litter())
    assert found.totals == (12, 4, 4)
    assert found.ignored == ("LICENSE.txt",)
    assert found.litter == (".DS_Store", "__MACOSX", "rose/._0.png", "rose/Thumbs.db")


@pytest.mark.parametrize("name", [*sorted(ALL_NAMES), ".Trash-1000", ".ipynb_checkpoints", ".sync"])
def test_litter_is_no_class_and_no_photo_whatever_its_capitals_and_contents(photos: Path, name: str) -> None:
    identity = open_source(f"folder:{photos}").identity()
    for place in (photos / name, photos / name.upper(), photos / "rose" / name):
        place.mkdir(exist_ok=True)
        shutil.copy(photos / "rose" / "0.png", place / "x.png")
    (photos / "tulip" / name).write_bytes(b"litter")
    source = open_source(f"folder:{photos}")
    assert source.identity() == identity
    assert {f"rose/{name}", f"tulip/{name}", name} <= set(source.litter())


@pytest.mark.parametrize("ending", ALL_ENDINGS)
def test_unfinished_files_are_no_photos_and_a_class_may_be_called_so(photos: Path, ending: str) -> None:
    identity = open_source(f"folder:{photos}").identity()
    shutil.copy(photos / "rose" / "0.png", photos / "rose" / f"1.png{ending.upper()}")
    assert open_source(f"folder:{photos}").identity() == identity
    (photos / "tulip").rename(photos / f"tulip{ending}")
    assert load_dataset(prepare(photos)).class_names == ("rose", f"tulip{ending}")


def test_the_documents_tell_all_that_is_passed_over() -> None:
    text = (Path(__file__).parents[2] / "studies" / "README.md").read_text(encoding="utf-8").lower()
    for name in (*ALL_NAMES, *ALL_ENDINGS):
        assert f"`{name}`".replace("\r", "\\r") in text


@pytest.mark.parametrize(
    ("one", "other"),
    [("\xe9t\xe9", "e\u0301te\u0301"), ("\uac00", "\u1100\u1161"), ("\u212b", "\xc5"),
     ("rose", "rose "), ("rose", "rose."), ("rose", "ro\u200bse"), ("rose", "\ufeffrose"), ("rose", "rose\xad")],
)  # fmt: skip
def test_classes_that_nobody_could_tell_apart_are_refused_by_name(photos: Path, one: str, other: str) -> None:
    shutil.copytree(photos / "tulip", photos / other)
    if one != "rose":
        shutil.copytree(photos / "tulip", photos / one)
    with pytest.raises(DataError) as raised:
        prepare(photos)
    assert ascii(one) in str(raised.value)
    assert ascii(other) in str(raised.value)


def test_photos_whose_names_are_one_text_are_refused(photos: Path) -> None:
    for name in ("\xe9.png", "e\u0301.png"):
        shutil.copy(photos / "rose" / "0.png", photos / "rose" / name)
    with pytest.raises(DataError, match=r"'\\xe9.png' and 'e\\u0301.png'|'e\\u0301.png' and '\\xe9.png'"):
        prepare(photos)


def test_capitals_are_two_classes_and_told(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(photos / "rose", photos / "Rose")
    assert load_dataset(prepare(photos)).classes == 3
    assert "'Rose' and 'rose'" in caplog.text


def test_identity_does_not_depend_on_the_spelling_of_names(photos: Path, tmp_path: Path) -> None:
    (photos / "rose").rename(photos / "\xe9t\xe9")
    composed = open_source(f"folder:{photos}").identity()
    (photos / "\xe9t\xe9").rename(photos / "e\u0301te\u0301")
    assert open_source(f"folder:{photos}").identity() == composed


def test_what_is_no_regular_file_is_never_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "pipe")
    source = open_source(f"folder:{photos}")
    assert describe(source.prepare(8, progress=False)).ignored == ("pipe",)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        make(photos / "rose" / "pipe.jpg")
        with pytest.raises(DataError, match=r"pipe\.jpg: it is no regular file"):
            prepare(photos)
        (photos / "rose" / "pipe.jpg").unlink()


def test_file_that_no_photo_is_as_large_as_is_not_read(photos: Path) -> None:
    with (photos / "rose" / "large.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"large\.jpg: it has 512\.0 MB"):
        prepare(photos)


def test_whole_image_with_much_metadata_outside_the_classes_is_an_image(photos: Path) -> None:
    plain = encoded(drawn(1), "PNG")
    text = b"zTXtworkflow\0\0" + zlib.compress(b"{}" * 1_100_000)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (photos / "overview.png").write_bytes(plain[:33] + chunk + plain[33:])
    with pytest.raises(DataError, match="outside the class folders, such as 'overview"):
        prepare(photos)
    (photos / "overview.png").rename(photos / "rose" / "overview.png")
    assert sum(describe(prepare(photos)).totals) == 21


def test_text_that_begins_as_a_bitmap_does_is_none(photos: Path) -> None:
    (photos / "BMW.txt").write_text("BMW and others are no flowers")
    assert describe(prepare(photos)).ignored == ("BMW.txt",)


def test_name_does_not_matter_content_does(photos: Path) -> None:
    (photos / "rose" / "0.png").rename(photos / "rose" / "photo.jpg")
    (photos / "rose" / "2.bmp").rename(photos / "rose" / "no_ending")
    assert describe(prepare(photos)).totals == (12, 4, 4)


def test_every_bad_file_is_named_at_once(photos: Path) -> None:
    (photos / "rose" / "text.jpg").write_text("no image")
    (photos / "rose" / "empty.jpg").touch()
    whole = (photos / "tulip" / "1.JPG").read_bytes()
    (photos / "tulip" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "tulip" / "notes.txt").write_text("no image either")
    with pytest.raises(DataError) as raised:
        prepare(photos)
    message = str(raised.value)
    assert "4 files are not usable" in message
    assert "rose/text.jpg: not a JPEG" in message
    assert "rose/empty.jpg: empty file" in message
    assert "tulip/cut.jpg: damaged" in message
    assert "tulip/notes.txt" in message


def test_photo_that_changes_after_it_was_hashed_is_noticed(photos: Path) -> None:
    source = open_source(f"folder:{photos}")
    source.identity()
    (photos / "rose" / "0.png").write_bytes(encoded(drawn(999), "PNG"))
    with pytest.raises(DataError, match=r"rose/0\.png: changed"):
        source.prepare(8, progress=False)


def empty_class(photos: Path) -> None:
    (photos / "lily").mkdir()


def only_one_class(photos: Path) -> None:
    shutil.rmtree(photos / "rose")


def no_class(photos: Path) -> None:
    shutil.rmtree(photos / "rose")
    shutil.rmtree(photos / "tulip")


def nested(photos: Path) -> None:
    (photos / "rose" / "more").mkdir()


def loop_of_folders(photos: Path) -> None:
    (photos / "again").symlink_to(photos)


def loop_of_links(photos: Path) -> None:
    (photos / "rose" / "loop.jpg").symlink_to(photos / "rose" / "loop.jpg")


def broken_link(photos: Path) -> None:
    (photos / "rose" / "gone.jpg").symlink_to("nowhere.jpg")


def image_outside(photos: Path) -> None:
    shutil.copy(photos / "rose" / "0.png", photos / "stray.png")


def parts_of_a_split(photos: Path) -> None:
    (photos / "rose").rename(photos / "train")
    (photos / "tulip").rename(photos / "test")


def name_that_is_no_text(photos: Path) -> None:
    (photos / "rose" / "0.png").rename(os.fsdecode(os.fsencode(photos / "rose") + b"/\xff.png"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty_class, "lily is empty"),
        (only_one_class, "only one, 'tulip'"),
        (no_class, "holds none"),
        (nested, "holds the folder 'more'"),
        (loop_of_folders, "again holds the folder"),
        (loop_of_links, r"loop\.jpg is a broken link, a loop"),
        (broken_link, r"gone\.jpg is a broken link"),
        (image_outside, r"outside the class folders, such as 'stray\.png'"),
        (parts_of_a_split, "look like parts of a split"),
        (name_that_is_no_text, "not valid UTF-8"),
    ],
)
def test_wrong_layouts(photos: Path, spoil, message: str) -> None:
    spoil(photos)
    with pytest.raises(DataError, match=message):
        prepare(photos)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_read(photos: Path) -> None:
    (photos / "rose").chmod(0)
    with pytest.raises(DataError, match="cannot read"):
        prepare(photos)
    (photos / "rose").chmod(0o755)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:/no/such/place", "no folder"),
        ("folder:", "lacks its path"),
        ("oxford_flower102", "Did you mean 'oxford_flowers102'"),
        ("synthetics", "Did you mean 'synthetic'"),
    ],
)
def test_unknown_sources(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(name)


def test_path_without_prefix_and_data_dir_without_use(photos: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'folder:"):
        open_source(str(photos))
    with pytest.raises(DataError, match="takes no data folder"):
        open_source(f"folder:{photos}", photos)


@pytest.mark.skipif(not FLOWERS5.is_file(), reason="the real photos of shared/data/flowers5 are not here")
def test_real_flowers(tmp_path: Path) -> None:
    shutil.unpack_archive(FLOWERS5, tmp_path / "flowers5", filter="data")
    found = describe(prepare(tmp_path / "flowers5"))
    assert sum(found.totals) == 4317
    assert list(found.counts) == ["daisy", "dandelion", "rose", "sunflower", "tulip"]
    assert found.originals["largest"] == (128, 128)
    assert len(found.copies) == 6
    crossed = Counter(tuple(sorted({name.split("/")[0] for name in group})) for group in found.across_classes)
    assert crossed[("rose", "tulip")] >= 3
    assert found.across_parts == ()
    share = np.array(list(found.counts.values())) / np.sum(list(found.counts.values()), axis=1, keepdims=True)
    assert np.abs(share - (0.6, 0.2, 0.2)).max() < 0.005
