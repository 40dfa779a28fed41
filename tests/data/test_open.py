"""The table of sources: every one has a line of help, and opens as the table says."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.oxford_layout import drawn, encoded

from resflow.data.dataset import SourceEntry
from resflow.data.sources.open import SOURCES, open_source
from resflow.errors import DataError


@pytest.mark.parametrize("entry", SOURCES, ids=lambda entry: entry.name)
def test_a_source_is_what_its_entry_says(entry: SourceEntry, tmp_path: Path) -> None:
    photos, listed = tmp_path / "photos", tmp_path / "photos.csv"
    lines = ["path,label"]
    for label in ("rose", "tulip"):
        (photos / label).mkdir(parents=True)
        (photos / label / "1.png").write_bytes(encoded(drawn(len(label)), "PNG"))
        lines.append(f"photos/{label}/1.png,{label}")
    listed.write_text("\n".join(lines))
    name = entry.name.replace("PATH", str(photos)).replace("FILE", str(listed))
    source = open_source(name)
    assert set(source.splits) <= set(entry.splits)
    assert ":" in name or source.splits == entry.splits  # the photos of a user decide which of the splits they have
    kind, colon, path = name.partition(":")
    assert source.name == f"{kind}{colon}{Path(path).name if colon else ''}"
    assert entry.help
    refused = "takes no data folder: --data-dir is for oxford_flowers102, "
    message = "no folder|lacks|holds none of them" if entry.takes_data_dir else refused
    with pytest.raises(DataError, match=message):
        open_source(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["folder", "csv", "synthetic:1", "oxford_flowers102:", "PATH", ""])
def test_only_a_folder_and_a_csv_file_take_an_argument(name: str) -> None:
    with pytest.raises(DataError, match=r"unknown data source .*synthetic, oxford_flowers102, .*folder:PATH, csv:FILE"):
        open_source(name)
