"""Transfer of decoded images and pretrained weights from the driver's machine to nodes that lack them, once a node.

A parcel is a folder of such files. Its name says what is in it (its last part is a digest of the contents or of what
they were made from), so that a folder of that name in a node's cache is the parcel, if it holds what was written there:
each process of a node reads it once before it believes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock

from resflow import atomic, reading, workspace
from resflow.data import cache
from resflow.errors import DataError, WeightsError
from resflow.study.pretrained import Pretrained
from resflow.study.trial import Trial
from resflow.weights import files, metadata

CHUNK = 32 * 2**20  # bytes that are sent at a time


def list_parcels(trials: Iterable[Trial], folders: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Return the parcels that the trials of a run need: the path of each file by its name, by the parcel's name."""
    parcels: dict[str, dict[str, str]] = {}
    for trial in trials:
        folder = folders[trial.id]
        parcels[name_images(folder)] = {name: str((folder / name).absolute()) for name in workspace.IMAGE_FILES}
        if trial.pretrained is not None:
            path = trial.pretrained.path
            both = [file for file in (path, metadata.sidecar(path)) if file.is_file()]
            parcels[name_weights(trial.pretrained)] = {file.name: str(file.absolute()) for file in both}
    return parcels


def name_images(folder: Path) -> str:
    """Return the name of the parcel of a folder of decoded images."""
    return f"data/{folder.name}"


def name_weights(pretrained: Pretrained) -> str:
    """Return the name of the parcel of a file of weights."""
    return f"weights/{pretrained.digest}"


class FileServer:
    """Actor on the driver's machine that sends the files of its parcels, and no others."""

    def __init__(self, parcels: dict[str, dict[str, str]]) -> None:
        self.parcels = parcels
        self.digests: dict[str, str] = {}

    def list_digests(self, parcel: str) -> dict[str, str]:
        """Return the SHA-256 of each file of a parcel by the file's name."""
        return {name: self._digest(path) for name, path in self.parcels[parcel].items()}

    def read_chunk(self, parcel: str, name: str, start: int) -> bytes:
        """Return up to CHUNK bytes of a file from `start`; none at its end."""
        with reading.open_regular(Path(self.parcels[parcel][name])) as file:
            file.seek(start)
            return file.read(CHUNK)

    def _digest(self, path: str) -> str:
        if path not in self.digests:
            with reading.open_regular(Path(path)) as file:
                self.digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.digests[path]


def fetch_files(trial: Trial, folder: Path, file_server: Any) -> tuple[Trial, Path]:
    """Return the trial and its images' folder as this node has them, after fetching what it lacks.

    `file_server` is the actor, None where all runs on one machine. Raises DataError.
    """
    if file_server is None:
        return trial, folder
    folder = fetch_parcel(file_server, name_images(folder), cache.is_whole)
    weights = trial.pretrained
    if weights is not None and not _is_here(weights):
        name = weights.path.name
        place = fetch_parcel(
            file_server, name_weights(weights), lambda place: _holds_weights(place / name, weights.digest)
        )
        trial = replace(trial, pretrained=replace(weights, path=place / name))
    return trial, folder


def _is_here(weights: Pretrained) -> bool:
    return _holds_weights(weights.path, weights.digest)


def _holds_weights(path: Path, digest: str) -> bool:
    try:
        return files.digest(path) == digest
    except (WeightsError, OSError):
        return False


def fetch_parcel(file_server: Any, parcel: str, is_whole: Callable[[Path], bool]) -> Path:
    """Return the folder of a parcel in this node's cache; one process fetches it while others wait.

    `is_whole` tells whether the folder that is there is the parcel. Raises DataError.
    """
    final = workspace.cache() / parcel
    if is_whole(final):
        return final
    with (
        cache.writing(final.parent, f"what the driver sends of {parcel}"),
        FileLock(final.with_name(f"{final.name}.lock")),
    ):
        if not is_whole(final):
            atomic.sweep(final.parent, final.name)  # the lock is ours
            _receive(file_server, parcel, final)
    return final


def _receive(file_server: Any, parcel: str, final: Path) -> None:
    with atomic.folder(final) as draft:
        for name, digest in ray.get(file_server.list_digests.remote(parcel)).items():
            received = hashlib.sha256()
            with (draft / name).open("wb") as file:
                while chunk := ray.get(file_server.read_chunk.remote(parcel, name, file.tell())):
                    received.update(chunk)
                    file.write(chunk)
            if received.hexdigest() != digest:
                raise DataError(
                    f"{name} of {parcel} changed while it was sent to this node: run the same command again."
                )
