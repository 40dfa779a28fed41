"""Sources by name."""

from __future__ import annotations

from pathlib import Path

from resflow.data.dataset import Source
from resflow.errors import DataError, one_of

SOURCES = ("synthetic", "oxford_flowers102", "oxford_flowers10", "folder:PATH")


def open_source(name: str, data_dir: Path | None = None) -> Source:
    """Return the source called `name`, reading nothing yet.

    `data_dir` is a folder that already holds the three official files of Oxford Flowers; other sources
    take none. Raises DataError for an unknown name, or a folder that is not there.
    """
    if name in ("oxford_flowers102", "oxford_flowers10"):
        from resflow.data.sources.oxford import Oxford

        return Oxford(name, data_dir=data_dir)
    if data_dir is not None:
        raise DataError(
            f"source '{name}' takes no data folder: --data-dir is for oxford_flowers102 and "
            "oxford_flowers10. For your own photos, one folder a class, say folder:PATH."
        )
    if name == "synthetic":
        from resflow.data.sources import synthetic

        return synthetic.Synthetic()
    if name.startswith("folder:"):
        from resflow.data.sources.folder import Folder

        return Folder(name.removeprefix("folder:"))
    hint = f" Did you mean 'folder:{name}'?" if Path(name).is_dir() else ""
    raise DataError(one_of(name, SOURCES, "data source") + hint)
