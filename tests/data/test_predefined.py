"""A user's own split: folders called train, val and test, what they lack, and what contradicts itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.flowers import write_classes, write_parts, write_photo

from resflow.data.dataset import data_fingerprint, load_dataset
from resflow.data.info import describe
from resflow.data.sources.open import open_source
from resflow.errors import DataError

CLASSES = {"rose": 10, "tulip": 5}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))


def prepare(folder: Path) -> Path:
    return open_source(f"folder:{folder}").prepare(8, progress=False)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "VALID", "testing"), ("train", "validation", "Test")]
)
def test_own_split_is_kept_whatever_its_parts_are_called(tmp_path: Path, names: tuple[str, str, str]) -> None:
    data = load_dataset(prepare(write_parts(tmp_path / "photos", names, CLASSES)))
    assert (data.split, data.class_names, data.counts) == ("predefined", ("rose", "tulip"), (15, 15, 15))
    for index, name in zip((data.train, data.validation, data.test), names, strict=True):
        assert {data.names[i].split("/")[0] for i in index} == {name}
        assert all(data.names[i].split("/")[1] == data.class_names[data.labels[i]] for i in index)
    assert not data.notes.as_json()


def test_own_split_depends_on_no_seed_and_a_moved_photo_makes_another(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "photos", ("train", "val", "test"), CLASSES)
    source = open_source(f"folder:{folder}")
    before = data_fingerprint(source, 8, split_seed=0), load_dataset(prepare(folder)).split_hash
    assert before == (data_fingerprint(source, 8, split_seed=1), load_dataset(prepare(folder), split_seed=1).split_hash)
    (folder / "val" / "rose" / "0.png").rename(folder / "train" / "rose" / "moved.png")
    assert data_fingerprint(open_source(f"folder:{folder}"), 8) != before[0]
    assert load_dataset(prepare(folder)).split_hash != before[1]


@pytest.mark.parametrize(
    ("given", "drawn", "counts"),
    [
        (("train", "test"), ("validation",), (12, 3, 15)),
        (("train", "val"), ("test",), (12, 15, 3)),
        (("train",), ("validation", "test"), (9, 3, 3)),
    ],
)
def test_missing_part_is_drawn_from_train_and_told(
    tmp_path: Path, given: tuple[str, ...], drawn: tuple[str, ...], counts: tuple[int, int, int]
) -> None:
    folder = write_parts(tmp_path / "photos", given, CLASSES)
    shutil.copy(folder / "train" / "rose" / "0.png", folder / "train" / "rose" / "copy.png")
    (folder / "train" / "rose" / "1.png").unlink()  # ten roses again, two of them copies
    data = load_dataset(prepare(folder))
    assert (data.split, data.counts, data.notes.drawn) == ("partly-drawn", counts, drawn)
    assert not describe(prepare(folder)).across_parts
    for part in given[1:]:
        kept = data.test if part == "test" else data.validation
        assert {data.names[i].split("/")[0] for i in kept} == {part}
    again = load_dataset(prepare(folder), split_seed=1)
    assert again.split_hash != data.split_hash
    source = open_source(f"folder:{folder}")
    assert data_fingerprint(source, 8, split_seed=0) != data_fingerprint(source, 8, split_seed=1)
    assert set(np.unique(data.labels[data.validation])) == set(np.unique(data.labels[data.test])) == {0, 1}


def test_photo_in_two_parts_is_told_as_a_leak(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "photos", ("train", "val", "test"), CLASSES)
    shutil.copy(folder / "train" / "rose" / "0.png", folder / "test" / "rose" / "leaked.png")
    shutil.copy(folder / "val" / "rose" / "0.png", folder / "test" / "tulip" / "leaked.png")
    facts = describe(prepare(folder))
    assert set(facts.across_parts) == {
        ("test/rose/leaked.png", "train/rose/0.png"),
        ("test/tulip/leaked.png", "val/rose/0.png"),
    }
    assert facts.notes.leaks == {"test": 2}


def test_class_that_test_lacks_is_told(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "photos", ("train", "val", "test"), {**CLASSES, "lily": 2})
    shutil.rmtree(folder / "test" / "lily")
    data = load_dataset(prepare(folder))
    assert data.classes == 3
    assert data.notes.absent == {"test": ("lily",)}


def lacks_in_train(folder: Path) -> None:
    shutil.rmtree(folder / "train" / "tulip")
    write_classes(folder / "train", {"tulips": 3}, 7)


def without_train(folder: Path) -> None:
    shutil.rmtree(folder / "train")


def two_of_one_part(folder: Path) -> None:
    write_classes(folder / "valid", CLASSES, 7)


def flat_test(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    write_photo(folder / "test" / "1.png", 1)


def empty_test(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()


def another_folder(folder: Path) -> None:
    write_classes(folder / "extra", CLASSES, 7)


def stray_photo(folder: Path) -> None:
    write_photo(folder / "test" / "stray.png", 7)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lacks_in_train,
            "validation has the class 'tulip', which train lacks.*Did you mean 'tulips'",
        ),
        (without_train, "no photo is to train on: the split has test and validation alone"),
        (two_of_one_part, "'val' and 'valid', which are one part of a split, validation"),
        (flat_test, "'test' holds no class folders.*is drawn where there is no folder of it.*csv:FILE"),
        (empty_test, "'test' holds no class folders"),
        (another_folder, "holds the folder 'rose'.*these in folders called train, val and test"),
        (stray_photo, r"outside the class folders, such as 'stray\.png'"),
    ],
)
def test_splits_that_contradict_themselves(tmp_path: Path, spoil, message: str) -> None:
    folder = write_parts(tmp_path / "photos", ("train", "val", "test"), CLASSES)
    spoil(folder)
    with pytest.raises(DataError, match=message):
        prepare(folder)


def test_other_files_and_litter_of_parts_are_named_with_their_part(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "photos", ("train", "test"), CLASSES)
    (folder / "LICENSE").write_text("facts")
    (folder / "test" / "notes.txt").write_text("facts")
    (folder / "test" / "rose" / "Thumbs.db").write_text("x")
    (folder / "train" / ".DS_Store").write_text("x")
    source = open_source(f"folder:{folder}")
    facts = describe(source.prepare(8, progress=False), litter=source.litter())
    assert facts.ignored == ("LICENSE", "test/notes.txt")
    assert facts.litter == ("test/rose/Thumbs.db", "train/.DS_Store")
