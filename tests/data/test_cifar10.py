"""CIFAR-10's binary archive: read as it is published, from where it lies, and refused where it is something else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resflow.data.dataset import Dataset, load_dataset
from resflow.data.sources import cifar10
from resflow.data.sources.cifar10 import ARCHIVE, CLASS_NAMES, FOLDER, RECORD, SIDE, Cifar10
from resflow.data.sources.open import open_source
from resflow.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


def batch(images: int, first: int, seed: int) -> bytes:
    """Return records whose labels go round, with random pixels."""
    records = np.random.default_rng(seed).integers(0, 256, (images, RECORD), dtype=np.uint8)
    records[:, 0] = (np.arange(images) + first) % 10
    return records.tobytes()


FILES = {
    "data_batch_1.bin": batch(60, 0, 1),
    "data_batch_2.bin": batch(40, 0, 2),
    "test_batch.bin": batch(20, 3, 3),
    "batches.meta.txt": "\n".join([*CLASS_NAMES, "", ""]).encode(),
    "readme.html": b"<p>",
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cifar10, "LEAST_VALIDATION", 20)
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))


def archived(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


def extracted(folder: Path, files: dict[str, bytes]) -> Path:
    (folder / FOLDER).mkdir(parents=True)
    for name, content in files.items():
        (folder / FOLDER / name).write_bytes(content)
    return folder


def dataset(place: Path, size: int = SIDE) -> Dataset:
    return load_dataset(open_source("cifar10", place).prepare(size, progress=False))


def test_an_archive_and_what_was_extracted_from_it_are_the_same_data(tmp_path: Path) -> None:
    one, other = dataset(archived(tmp_path / "a", FILES)), dataset(extracted(tmp_path / "b", FILES))
    assert one.split_hash == other.split_hash
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.labels, other.labels)
    assert dataset(tmp_path / "b" / FOLDER).identity == other.identity
    assert one.counts == (80, 20, 20)
    assert one.class_names == CLASS_NAMES


def test_pixels_are_red_green_and_blue_planes_row_by_row(tmp_path: Path) -> None:
    data = dataset(extracted(tmp_path / "b", FILES))
    record = np.frombuffer(FILES["data_batch_2.bin"], np.uint8).reshape(-1, RECORD)[7]
    position = data.names.index("data_batch_2/00007")
    assert data.labels[position] == record[0]
    for channel, row, column in [(0, 0, 0), (1, 0, 31), (2, 31, 5)]:
        assert data.images[position, row, column, channel] == record[1 + channel * 1024 + row * SIDE + column]


def test_validation_has_the_last_training_images_of_each_class(tmp_path: Path) -> None:
    data = dataset(extracted(tmp_path / "b", FILES))
    names, labels = np.array(data.names), data.labels
    assert all(name.startswith("test_batch/") for name in names[data.test])
    for label in range(10):
        chosen = sorted(names[[n for n in data.validation if labels[n] == label]])
        trained = sorted(names[[n for n in data.train if labels[n] == label]])
        assert len(chosen) == 2
        assert trained[-1] < chosen[0]


def test_other_sizes_are_the_same_pictures(tmp_path: Path) -> None:
    small_, large = (dataset(extracted(tmp_path / str(size), FILES), size) for size in (16, 32))
    assert small_.images.shape[1:] == (16, 16, 3)
    differences = small_.images.astype(float).mean(axis=(1, 2)) - large.images.astype(float).mean(axis=(1, 2))
    assert np.abs(differences).max() < 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data_batch_2.bin": FILES["data_batch_2.bin"][:-1]}, "expected a multiple of 3,073"),
        ({"data_batch_1.bin": b"\x0a" + FILES["data_batch_1.bin"][1:]}, "has a label 10, expected 0 to 9"),
        ({"batches.meta.txt": b"rose\ntulip\n"}, "names rose, tulip; expected airplane"),
        ({"test_batch.bin": None}, r"expected data_batch_1.bin .* got data_batch_1, data_batch_2"),
        ({"data_batch_1.bin": None, "data_batch_2.bin": batch(20, 0, 2)}, "of which 2 are for validation"),
    ],
)
@pytest.mark.parametrize("kept", [archived, extracted])
def test_another_layout_is_refused(tmp_path: Path, changed: dict[str, bytes | None], said: str, kept: object) -> None:
    files = {name: content for name, content in {**FILES, **changed}.items() if content is not None}
    with pytest.raises(DataError, match=said):
        dataset(kept(tmp_path / "place", files))  # type: ignore[operator]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b" + bytes(50)])
def test_a_damaged_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read .* md5 is c32a1d4ab5d03f1284b67883e8d87530"):
        dataset(tmp_path)


def test_a_cut_archive_is_told(tmp_path: Path) -> None:
    path = archived(tmp_path / "a", FILES) / ARCHIVE
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match="cannot be read"):
        dataset(path.parent)


def test_a_folder_with_nothing_of_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"holds none of them.*{ARCHIVE}, or with {FOLDER}/"):
        Cifar10(data_dir=tmp_path)
    with pytest.raises(DataError, match="no folder"):
        Cifar10(data_dir=tmp_path / "none")


def test_what_a_plan_needs_is_known_before_anything_is_downloaded() -> None:
    source = open_source("cifar10")
    assert source.outline("official") == (10, (45_000, 5_000, 10_000))
    assert source.identity() == Cifar10().identity()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the part of CIFAR-10 that development has beside the repository")
def test_a_part_of_the_official_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "LEAST_VALIDATION", 1000)
    data = dataset(REAL)
    assert data.counts == (7000, 1000, 2000)
    assert set(np.bincount(data.labels[data.test])) == {200}
