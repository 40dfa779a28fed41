"""The table of sources. A new one is a module here that has SOURCES as these have, and its name in MODULES."""

from __future__ import annotations

from pathlib import Path

from resflow.data.dataset import Source
from resflow.data.sources import cifar10, csv_file, folder, oxford, synthetic
from resflow.errors import DataError, one_of

MODULES = (synthetic, oxford, cifar10, folder, csv_file)
SOURCES = tuple(entry for module in MODULES for entry in module.SOURCES)


def open_source(name: str, data_dir: Path | None = None) -> Source:
    """Return the source called `name`, reading nothing yet.

    `data_dir` is a folder that already holds a source's official files; most sources take none. Raises DataError for
    an unknown name, or a folder that is not there.
    """
    entry = next((entry for entry in SOURCES if entry.matches(name)), None)
    if entry is None:
        kind = "folder:" if Path(name).is_dir() else "csv:" if name.lower().endswith(".csv") else ""
        hint = f" Did you mean '{kind}{name}'?" if kind else ""
        raise DataError(one_of(name, [entry.name for entry in SOURCES], "data source") + hint)
    if data_dir is not None and not entry.takes_data_dir:
        takers = ", ".join(entry.name for entry in SOURCES if entry.takes_data_dir)
        raise DataError(
            f"source '{name}' takes no data folder: --data-dir is for {takers}. For your own photos, say folder:PATH."
        )
    return entry.open(name, data_dir)
