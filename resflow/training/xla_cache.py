"""XLA's compilations, kept across processes: a cache on disk for each model of processor and GPU, and TensorFlow."""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from resflow import gpu_driver, provenance, workspace

LIMIT = 2 * 1024**3  # bytes of all of it; a compiled ResNet-101 takes some megabytes
FLAG = "--tf_xla_persistent_cache_directory"


def root() -> Path:
    """Return the folder of every processor's compilations."""
    return workspace.cache(workspace.COMPILED)


def folder() -> Path:
    """Return the folder of compilations for this machine by this TensorFlow: code of another processor would crash.

    Where there is a GPU, it is of its kind and driver as well.
    """
    target = f"{provenance.environment()['cpu']} {metadata.version('tensorflow')} {gpu_driver.kind()}".rstrip()
    return root() / hashlib.sha256(target.encode()).hexdigest()[:16]


def flags() -> str:
    """Return TF_XLA_FLAGS with which XLA uses the cache; TensorFlow reads the variable when it is imported."""
    of_user = os.environ.get("TF_XLA_FLAGS", "")
    return of_user if FLAG in of_user else f"{of_user} {FLAG}={folder()}".strip()  # the user's own choice counts


def prune(limit: int = LIMIT) -> None:
    """Remove the files that were written longest ago until no more than `limit` bytes are left."""
    workspace.make_cache_folder(folder())
    own = {".lock", workspace.CACHE_TAG}
    with FileLock(root() / ".lock"):
        files = sorted((p for p in root().rglob("*") if p.is_file() and p.name not in own), key=_written)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= limit:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)  # a process that reads it has it open or compiles anew


def _written(path: Path) -> float:
    return path.stat().st_mtime
