"""What `resflow data info` tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from support.oxford_layout import drawn

from resflow.data import cache
from resflow.data.dataset import load_dataset
from resflow.data.decode import Decoded
from resflow.data.info import contact_sheet, describe
from resflow.errors import DataError

PARTS = ["train", "train", "validation", "test", "", "train", "validation", "test"]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
DRAWN_AS = [0, 1, 2, 0, 4, 5, 1, 7]  # image 3 is a copy of 0 in another part; 6 of 1, in another class too


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    names = [f"{i}.png" for i in range(8)]
    images = (Decoded.drawn(name, drawn(seed, 16, 16)) for name, seed in zip(names, DRAWN_AS, strict=True))
    made = cache.Contents(names, LABELS, ("rose", "a tulip with a very long name indeed"), images, {"given": PARTS})
    return cache.build("drawn", "1", 16, lambda: made, progress=False)


def test_counts_and_copies(folder: Path) -> None:
    found = describe(folder)
    assert list(found.counts.values()) == [(2, 1, 1), (1, 1, 1)]
    assert (found.totals, found.unused) == ((3, 2, 2), 1)
    assert found.originals == dict.fromkeys(("smallest", "median", "largest"), (16, 16))
    assert set(found.copies) == set(found.across_parts) == {("0.png", "3.png"), ("1.png", "6.png")}
    assert found.across_classes == (("1.png", "6.png"),)
    assert found.split_hash == load_dataset(folder).split_hash
    assert found.bytes_on_disk > 8 * 16 * 16 * 3


@pytest.mark.parametrize("name", ["sheet.png", "below/sheet.jpg"])
def test_contact_sheet(folder: Path, tmp_path: Path, name: str) -> None:
    contact_sheet(load_dataset(folder), tmp_path / name, per_class=3)
    with Image.open(tmp_path / name) as sheet:
        assert sheet.height == 2 * 18 + 2
        assert sheet.width > 3 * 18
        corner = sheet.getpixel((sheet.width - 1, sheet.height - 1))
    assert min(corner) > 240  # white around the images


def test_contact_sheet_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "sheet.unknown", tmp_path / "cache" / "data"):
        with pytest.raises(DataError, match=r"\.png or \.jpg"):
            contact_sheet(load_dataset(folder), path)
    with pytest.raises(DataError, match="at least 1"):
        contact_sheet(load_dataset(folder), tmp_path / "sheet.png", per_class=0)
