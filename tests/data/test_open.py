"""The table of sources: every one has a line of help, and opens as the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from resflow.data.dataset import SourceEntry
from resflow.data.sources.open import SOURCES, open_source
from resflow.errors import DataError


@pytest.mark.parametrize("entry", SOURCES, ids=lambda entry: entry.name)
def test_a_source_is_what_its_entry_says(entry: SourceEntry, tmp_path: Path) -> None:
    name = entry.name.replace("PATH", str(tmp_path))
    source = open_source(name)
    assert source.splits == entry.splits
    assert source.name == (f"folder:{tmp_path.name}" if ":" in name else name)
    assert entry.help
    refused = "takes no data folder: --data-dir is for oxford_flowers102 and"
    message = "lacks|holds none of them" if entry.takes_data_dir else refused
    with pytest.raises(DataError, match=message):
        open_source(name, tmp_path)


@pytest.mark.parametrize("name", ["folder", "synthetic:1", "oxford_flowers102:", "PATH", ""])
def test_only_a_folder_takes_an_argument(name: str) -> None:
    with pytest.raises(DataError, match=r"unknown data source .*synthetic, oxford_flowers102, .*folder:PATH"):
        open_source(name)
