"""Oxford Flowers from a folder that holds the three files, whole and spoiled."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from support.oxford_layout import COUNT, drawn, encoded, make_layout, members, write_archive

from resflow.data.dataset import data_fingerprint, load_dataset
from resflow.data.info import describe
from resflow.data.sources import oxford_files as oxford
from resflow.data.sources.open import open_source
from resflow.data.sources.oxford import Oxford, class_names
from resflow.data.sources.oxford_files import OFFICIAL, read_archive
from resflow.errors import DataError

NONE: frozenset[int] = frozenset()
SHARED = Path(__file__).parents[3] / "shared" / "data" / "oxford102"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real photos of shared/data/oxford102 are not here")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oxford")
    make_layout(folder)
    return folder


@pytest.fixture
def files(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "files"))


def prepare(folder: Path) -> Path:
    return open_source("oxford_flowers102", folder).prepare(8, progress=False)


def test_official_split_and_classes(files: Path) -> None:
    data = load_dataset(prepare(files))
    assert (data.source, data.split, data.classes) == ("oxford_flowers102", "official", 102)
    assert data.images.shape == (COUNT, 8, 8, 3)
    assert data.names[0] == "image_00001.jpg"
    assert data.class_names[:2] == ("pink primrose", "hard-leaved pocket orchid")
    assert np.array_equal(data.labels, np.arange(COUNT) // 3)
    assert np.array_equal(data.train, np.arange(0, COUNT, 3))
    assert np.array_equal(data.validation, np.arange(1, COUNT, 3))
    assert np.array_equal(data.test, np.arange(2, COUNT, 3))


def test_each_image_lies_at_its_number_whatever_the_order_of_the_archive(files: Path) -> None:
    before = np.array(load_dataset(prepare(files)).images)
    write_archive(files / "102flowers.tgz", dict(reversed(members().items())))
    assert np.array_equal(load_dataset(prepare(files)).images, before)


def test_identity_is_of_the_files_wherever_they_lie(files: Path, made: Path) -> None:
    first, second = (open_source("oxford_flowers102", folder) for folder in (files, made))
    assert first.identity() == second.identity()
    assert first.identity() != open_source("oxford_flowers10", files).identity()
    shutil.copy(files / "setid.mat", files / "imagelabels.mat")
    assert open_source("oxford_flowers102", files).identity() != second.identity()


def test_official_identity_is_known_without_a_download() -> None:
    source = open_source("oxford_flowers102")
    assert source.identity() == Oxford("oxford_flowers102", registry=OFFICIAL).identity()
    assert len(data_fingerprint(source, 64, "auto", 0)) == 64


@pytest.fixture
def extracted(files: Path, tmp_path: Path) -> Path:
    """The root that torchvision is given: `flowers-102/jpg/` beside the .mat files, without the archive."""
    shutil.unpack_archive(files / "102flowers.tgz", tmp_path / "root" / "flowers-102", "gztar", filter="data")
    for name in ("imagelabels.mat", "setid.mat"):
        shutil.copy(files / name, tmp_path / "root" / "flowers-102")
    return tmp_path / "root"


def test_extracted_photos_are_those_of_the_archive(files: Path, extracted: Path) -> None:
    one, other = load_dataset(prepare(files)), load_dataset(prepare(extracted))
    assert (one.names, one.class_names, one.split_hash) == (other.names, other.class_names, other.split_hash)
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.labels, other.labels)
    within = open_source("oxford_flowers102", extracted / "flowers-102")
    assert within.identity() == open_source("oxford_flowers102", extracted).identity() != one.identity
    photo = extracted / "flowers-102" / "jpg" / "image_00001.jpg"
    photo.write_bytes(encoded(drawn(999)))
    assert open_source("oxford_flowers102", extracted).identity() != other.identity


def test_extracted_photos_that_are_gone_or_change_are_named(extracted: Path) -> None:
    jpg = extracted / "flowers-102" / "jpg"
    source = open_source("oxford_flowers102", extracted)
    source.identity()
    (jpg / "image_00004.jpg").write_bytes(encoded(drawn(999)))
    with pytest.raises(DataError, match=r"image_00004\.jpg: changed while"):
        source.prepare(8, progress=False)
    (jpg / "image_00007.jpg").unlink()
    with pytest.raises(DataError, match=rf"jpg lacks 1 of {COUNT} photos, such as image_00007\.jpg"):
        prepare(extracted)


def test_102_class_names() -> None:
    assert len(set(class_names())) == 102


def spoil_archive(folder: Path, change) -> None:
    content = members()
    change(content)
    write_archive(folder / "102flowers.tgz", content)


def truncated(folder: Path) -> None:
    content = (folder / "102flowers.tgz").read_bytes()
    (folder / "102flowers.tgz").write_bytes(content[: len(content) // 2])


def not_an_archive(folder: Path) -> None:
    (folder / "102flowers.tgz").write_text("<html>Sign in to this network</html>")


def image_missing(folder: Path) -> None:
    spoil_archive(folder, lambda content: content.pop("jpg/image_00007.jpg"))


def image_too_many(folder: Path) -> None:
    spoil_archive(folder, lambda content: content.update({"jpg/image_00307.jpg": b"x"}))


def path_that_climbs(folder: Path) -> None:
    spoil_archive(folder, lambda content: content.update({"../../escape.jpg": b"x"}))


def image_damaged(folder: Path) -> None:
    spoil_archive(folder, lambda content: content.update({"jpg/image_00007.jpg": encoded(drawn(7))[:300]}))


def labels_not_matlab(folder: Path) -> None:
    (folder / "imagelabels.mat").write_text("no matrix")


def labels_empty(folder: Path) -> None:
    (folder / "imagelabels.mat").write_bytes(b"")


def labels_out_of_range(folder: Path) -> None:
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 103]])})


def labels_without_field(folder: Path) -> None:
    savemat(folder / "imagelabels.mat", {"classes": np.array([[1, 2]])})


def labels_of_text(folder: Path) -> None:
    savemat(folder / "imagelabels.mat", {"labels": "rose"})


def split_without_test(folder: Path) -> None:
    savemat(folder / "setid.mat", {"trnid": np.array([[1]]), "valid": np.array([[2]])})


def split_of_more_images(folder: Path) -> None:
    savemat(
        folder / "setid.mat",
        {name: np.array([[i + 400]]) for i, name in enumerate(("trnid", "valid", "tstid"))},
    )


def split_that_overlaps(folder: Path) -> None:
    savemat(folder / "setid.mat", {name: np.array([[1, 2]]) for name in ("trnid", "valid", "tstid")})


def pipe(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return put


def large(name: str) -> Callable[[Path], None]:
    def grow(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(oxford.MOST_BYTES + 1)

    return grow


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_annotations_that_are_too_large_are_not_read(files: Path, name: str) -> None:
    large(name)(files)
    with pytest.raises(DataError, match=rf"{name} is no readable MATLAB file .*at most 16\.0 MB are read"):
        prepare(files)


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat", "102flowers.tgz"])
def test_pipes_are_not_waited_for(files: Path, name: str) -> None:
    pipe(name)(files)
    with pytest.raises(DataError, match=f"lacks {name}"):
        prepare(files)
    read = (
        oxford.read_annotations if name.endswith(".mat") else lambda folder: list(read_archive(folder / name, 1, NONE))
    )
    with pytest.raises(DataError, match="no regular file"):
        read(files)


@pytest.mark.parametrize("kind", ["x", "g", "L", "K", "S", "0", "5", "7"])
def test_memory_is_bounded_whatever_a_header_claims(files: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of PAX, long names and links of GNU, maps of holes, and members: 2 GB claimed, and 40 MB there."""
    monkeypatch.setattr(oxford, "MOST_A_MEMBER", 4 * 2**20)
    header = tarfile.TarInfo("jpg/image_00001.jpg")
    header.type, header.size = kind.encode(), 2 * 10**9
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    filling = bytes(40 * 2**20)
    if kind == "S":  # each block of the map says that another one follows
        block[482] = 1
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        filling = (b"00000000001\0" * 42 + b"\1" + bytes(7)) * 80_000
    (files / "102flowers.tgz").write_bytes(gzip.compress(bytes(block) + filling, 1))
    del filling
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="which no photo has"):
            list(read_archive(files / "102flowers.tgz", 1, NONE))
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_archive_of_very_many_other_files_is_left(files: Path) -> None:
    write_archive(files / "102flowers.tgz", {f"{n}.txt": b"" for n in range(3 * oxford.MOST_STRANGE)})
    with pytest.raises(DataError, match=f"{oxford.MOST_STRANGE} unexpected or repeated"):
        prepare(files)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "truncated or no gzipped tar"),
        (not_an_archive, "truncated or no gzipped tar"),
        (image_missing, r"1 missing, such as jpg/image_00007\.jpg"),
        (image_too_many, r"unexpected or repeated, such as 'jpg/image_00307\.jpg'"),
        (path_that_climbs, r"unexpected or repeated, such as '\.\./\.\./escape\.jpg'"),
        (image_damaged, r"image_00007\.jpg: damaged"),
        (labels_not_matlab, r"imagelabels\.mat is no readable MATLAB file"),
        (labels_empty, r"imagelabels\.mat is no readable MATLAB file"),
        (labels_out_of_range, "expected 1 to 102"),
        (labels_without_field, "'labels', got no such field"),
        (labels_of_text, "expected one row of numbers in 'labels'"),
        (split_without_test, "'tstid', got no such field"),
        (split_of_more_images, "do not belong together"),
        (split_that_overlaps, "in another part too"),
    ],
)
def test_spoiled_files(files: Path, tmp_path: Path, spoil, message: str) -> None:
    spoil(files)
    with pytest.raises(DataError, match=message):
        prepare(files)
    assert not list(tmp_path.rglob("escape.jpg"))
    assert not list(tmp_path.rglob("images.npy"))


def test_data_dir_that_lacks_files(files: Path, tmp_path: Path) -> None:
    (files / "setid.mat").unlink()
    with pytest.raises(DataError, match=r"lacks setid\.mat"):
        open_source("oxford_flowers102", files)
    with pytest.raises(DataError, match="no folder"):
        open_source("oxford_flowers102", tmp_path / "nowhere")


def test_article_split_needs_the_official_images(files: Path) -> None:
    with pytest.raises(DataError, match="article's split is of 522 images"):
        open_source("oxford_flowers10", files).prepare(8, progress=False)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real photos, decoded once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESFLOW_CACHE", str(tmp_path_factory.mktemp("real")))
        return open_source("oxford_flowers102", SHARED).prepare(64, progress=False)


@real
def test_real_photos_with_the_official_split(photos: Path) -> None:
    found = describe(photos)
    assert found.totals == (1020, 1020, 6149)
    assert {row[:2] for row in found.counts.values()} == {(10, 10)}
    assert len(found.copies) == 5
    assert found.across_classes == ()
    assert found.split_hash.startswith("c11e121bccd06c39")


@real
def test_real_photos_with_the_articles_split(photos: Path) -> None:
    source = open_source("oxford_flowers10", SHARED)
    folder = source.prepare(64, progress=False)
    article = load_dataset(folder, "article")
    assert (len(article.train), len(article.validation), len(article.test)) == (427, 43, 52)
    assert article.classes == 10
    assert len(load_dataset(folder).train) == 100
    assert article.split_hash != load_dataset(folder).split_hash
    # the same pixels as in the source of all classes
    whole = load_dataset(photos)
    assert np.array_equal(article.images[0], whole.images[whole.names.index(article.names[0])])
