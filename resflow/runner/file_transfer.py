"""Files of the driver's machine for nodes that lack them: decoded images and pretrained weights, once a node.

A parcel is a folder of such files. Its name says what is in it (its last part is a digest of the contents or of what
they were made from), so that a folder of that name in a node's cache is the parcel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock

from resflow import atomic, workspace
from resflow.data import cache
from resflow.errors import DataError, WeightsError
from resflow.study.pretrained import Pretrained
from resflow.study.trial import Trial
from resflow.weights import files, metadata

PIECE = 32 * 2**20  # bytes that are sent at a time


def list_parcels(trials: Iterable[Trial], folders: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """What the trials of a run need: the path of each file by its name, by the parcel's name."""
    found: dict[str, dict[str, str]] = {}
    for trial in trials:
        folder = folders[trial.id]
        found[images_parcel(folder)] = {path.name: str(path.absolute()) for path in sorted(folder.iterdir())}
        if trial.pretrained is not None:
            path = trial.pretrained.path
            both = [some for some in (path, metadata.sidecar(path)) if some.is_file()]
            found[weights_parcel(trial.pretrained)] = {some.name: str(some.absolute()) for some in both}
    return found


def images_parcel(folder: Path) -> str:
    return f"data/{folder.name}"


def weights_parcel(pretrained: Pretrained) -> str:
    return f"weights/{pretrained.digest}"


class FileServer:
    """On the driver's machine: hands out what is in the parcels, and nothing else."""

    def __init__(self, parcels: dict[str, dict[str, str]]) -> None:
        self.parcels = parcels
        self.digests: dict[str, str] = {}

    def contents(self, parcel: str) -> dict[str, str]:
        """The digest of each file by its name."""
        return {name: self._digest(path) for name, path in self.parcels[parcel].items()}

    def piece(self, parcel: str, name: str, start: int) -> bytes:
        """Up to PIECE bytes of a file; none at its end."""
        with Path(self.parcels[parcel][name]).open("rb") as file:
            file.seek(start)
            return file.read(PIECE)

    def _digest(self, path: str) -> str:
        if path not in self.digests:
            with Path(path).open("rb") as file:
                self.digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.digests[path]


def bring_files(trial: Trial, folder: Path, courier: Any) -> tuple[Trial, Path]:
    """The trial and its images' folder as this node has them; what it lacks is brought first.

    `courier` is the actor, None where all runs on one machine.
    """
    if courier is None:
        return trial, folder
    folder = bring_parcel(courier, images_parcel(folder))
    weights = trial.pretrained
    if weights is not None and not _is_here(weights):
        place = bring_parcel(courier, weights_parcel(weights)) / weights.path.name
        trial = replace(trial, pretrained=replace(weights, path=place))
    return trial, folder


def _is_here(weights: Pretrained) -> bool:
    try:
        return files.digest(weights.path) == weights.digest
    except (WeightsError, OSError):
        return False


def bring_parcel(courier: Any, parcel: str) -> Path:
    """The folder of a parcel in this node's cache; one process fetches it while others wait. Raises DataError."""
    final = workspace.cache() / parcel
    if final.is_dir():
        return final
    with (
        cache.writing(final.parent, f"what the driver sends of {parcel}"),
        FileLock(final.with_name(f"{final.name}.lock")),
    ):
        if not final.is_dir():
            atomic.sweep(final.parent, final.name)  # the lock is ours
            _fetch(courier, parcel, final)
    return final


def _fetch(courier: Any, parcel: str, final: Path) -> None:
    with atomic.folder(final) as draft:
        for name, digest in ray.get(courier.contents.remote(parcel)).items():
            came = hashlib.sha256()
            with (draft / name).open("wb") as file:
                while piece := ray.get(courier.piece.remote(parcel, name, file.tell())):
                    came.update(piece)
                    file.write(piece)
            if came.hexdigest() != digest:
                raise DataError(
                    f"{name} of {parcel} changed while it was sent to this node: run the same command again."
                )
