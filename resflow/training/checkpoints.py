"""Checkpoints: how far a running trial has come, kept as its epochs end, so that a trial that was cut off goes on.

    <storage>/<trial id>.safetensors    the network's and the optimiser's values, those of the best epoch so far, and
                                        the rest as JSON in the metadata

Storage is a folder, or any URL that fsspec opens. A checkpoint is of one trial id and of one TensorFlow: both decide
the numbers that follow, to the bit. One that cannot be read is no checkpoint: the trial starts from its beginning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import safetensors.numpy
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError

from resflow import atomic, reading, workspace
from resflow.errors import TrainingError
from resflow.study.settings import Recipe
from resflow.training.schedule import Patience

log = logging.getLogger("resflow.checkpoints")
Arrays = dict[str, np.ndarray]
PLAIN = ("history", "drops", "lowest", "stopped", "gradients")  # fields of a state that JSON has as they are
TIMES = ("seconds", "computed", "waited")
COUNTERS = ("stopping", "plateau")
MOST_BYTES = 16 * 2**30  # of a checkpoint
SHARE = 0.05  # of a trial's time, at most, that writing checkpoints takes


@dataclass
class TrainingState:
    """The state of a trial after an epoch, but for the values of its network and optimiser."""

    history: list[dict[str, float]]
    stopping: Patience
    plateau: Patience
    drops: int = 0  # of the learning rate, at plateaus
    lowest: float = float("inf")  # validation loss
    last_epoch: int = 0
    best_epoch: int = 0  # that of the lowest validation loss
    stopped: bool = False  # early
    gradients: list[Any] = field(default_factory=list)  # (epoch, norms) of the steps that diagnostics watched
    seconds: float = 0.0  # its own so far
    computed: dict[str, float] = field(default_factory=dict)  # seconds so far of work that it shares, by kind
    waited: float = 0.0  # seconds of its epochs in which the device waited for input

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> TrainingState:
        """Return the state of a trial before its first epoch."""
        return cls([], Patience(recipe.early_stopping), Patience(recipe.plateau_patience))

    def end_epoch(self, epoch: int, validation_loss: float, recipe: Recipe) -> bool:
        """Take note that an epoch has ended; return whether it is the best so far."""
        best = validation_loss < self.lowest
        if best:
            self.lowest, self.best_epoch = validation_loss, epoch
        self.last_epoch = epoch
        self.drops += recipe.schedule == "plateau" and self.plateau.update(validation_loss)
        self.stopped = self.stopping.update(validation_loss)
        return best

    @property
    def input_wait(self) -> float | None:
        """The share of its epochs' time in which the device waited for input; None before the first has ended."""
        seconds = sum(row["seconds"] for row in self.history)
        return min(1.0, self.waited / seconds) if seconds > 0 else None

    def as_json(self) -> str:
        """Return this state for a later process."""
        fields = {name: getattr(self, name) for name in (*PLAIN, *TIMES)}
        fields["epochs"] = {"best": self.best_epoch, "last": self.last_epoch}
        fields |= {name: [getattr(self, name).best, getattr(self, name).waited] for name in COUNTERS}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, recipe: Recipe, text: str) -> TrainingState:
        """Return the state that `as_json` gave. Raises ValueError, KeyError or TypeError where the text has none."""
        state, fields = cls.from_recipe(recipe), json.loads(text)
        for name in COUNTERS:
            counter = getattr(state, name)
            counter.best, counter.waited = fields.pop(name)
        for name in PLAIN:
            setattr(state, name, fields.pop(name))
        state.seconds = fields["seconds"]
        state.computed, state.waited = fields.get("computed", {}), fields.get("waited", 0.0)  # older ones have none
        state.best_epoch, state.last_epoch = fields["epochs"]["best"], fields["epochs"]["last"]
        return state


def checkpoint_place(run: Path, state: Path, storage: str | None) -> str:
    """Return where a run's checkpoints lie: in `storage` where that is set, else in the run's ignored folder."""
    return f"{storage.rstrip('/')}/{run.name}" if storage else str((state / workspace.CHECKPOINTS).absolute())


class Storage:
    """A folder or a URL that holds one file a trial. Writing replaces a file whole or not at all."""

    def __init__(self, place: str) -> None:
        try:
            self.files, root = fsspec.core.url_to_fs(place)
        except (ValueError, ImportError) as error:
            raise TrainingError(
                f"checkpoints cannot be kept at {place}: {error}. Name a folder, or a URL that fsspec opens."
            ) from error
        self.root = str(root).rstrip("/")
        self.local = isinstance(self.files, LocalFileSystem)

    def path(self, trial_id: str) -> str:
        """Return the path of a trial's file."""
        return f"{self.root}/{trial_id}.safetensors"

    def read(self, trial_id: str) -> bytes | None:
        """Return a trial's checkpoint, None where there is none."""
        try:
            if self.local:
                return reading.read(Path(self.path(trial_id)), MOST_BYTES)
            content: bytes = self.files.cat_file(self.path(trial_id))
        except FileNotFoundError:
            return None
        return content

    def write(self, trial_id: str, content: bytes) -> None:
        """Write a trial's checkpoint in place of the one before. Raises OSError where the storage refuses."""
        final = self.path(trial_id)
        if self.local:
            with atomic.file(Path(final)) as whole:
                whole.write_bytes(content)
            return
        draft = f"{self.root}/.{trial_id}.{uuid.uuid4().hex[:8]}"
        self.files.makedirs(self.root, exist_ok=True)
        try:
            self.files.pipe_file(draft, content)
            self.files.mv(draft, final)
        finally:
            if self.files.exists(draft):
                self.files.rm_file(draft)

    def remove(self, trial_id: str) -> None:
        """Remove a trial's checkpoint, if there is one."""
        try:
            self.files.rm_file(self.path(trial_id))
        except FileNotFoundError:
            pass
        except OSError as error:  # its record is written: nothing may run again for this
            log.warning("the checkpoint of %s stays: %s", trial_id, error)

    def sweep(self, finished: set[str]) -> None:
        """Remove what finished trials, and processes that were killed in writing, left behind."""
        if not self.files.isdir(self.root):
            return
        for path in self.files.ls(self.root, detail=False):
            name = str(path).rsplit("/", 1)[-1]
            if name.startswith(".") or name.removesuffix(".safetensors") in finished:
                self.files.rm_file(path)


class Checkpoints:
    """The checkpoint of one trial. Trouble with it costs time, never the trial: it is logged, and training goes on."""

    def __init__(self, storage: Storage, trial_id: str, numerics: dict[str, str]) -> None:
        self.storage, self.trial_id = storage, trial_id
        self.numerics = {"trial": trial_id, **numerics}
        self.next = 0.0  # when writing one more keeps to SHARE, by time.monotonic

    def load(self, recipe: Recipe) -> tuple[TrainingState, Arrays] | None:
        """Return what was kept last; None where there is nothing, or nothing that can be used."""
        try:
            content = self.storage.read(self.trial_id)
            if content is None:
                return None
            metadata, arrays = _metadata(content), safetensors.numpy.load(content)
            digest, text = metadata.pop("digest"), metadata.pop("course")
            if digest != _digest(arrays, text):
                raise ValueError("it is not what was written")
            if metadata != self.numerics:
                raise ValueError(f"it is of {metadata}, expected {self.numerics}")
            return TrainingState.from_json(recipe, text), arrays
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("its checkpoint cannot be used, it starts from its beginning: %s", error)
            return None

    def save(self, state: TrainingState, arrays: Callable[[], Arrays]) -> None:
        """Keep this one in place of the one before, unless that would take more than SHARE of the time."""
        start = time.monotonic()
        if start < self.next:
            return
        values, text = arrays(), state.as_json()
        metadata = {**self.numerics, "digest": _digest(values, text), "course": text}
        try:
            self.storage.write(self.trial_id, safetensors.numpy.save(values, metadata))
        except OSError as error:
            log.warning("no checkpoint after epoch %d: %s", state.last_epoch, error)
        end = time.monotonic()
        self.next = end + (end - start) / SHARE


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return dict(header["__metadata__"])


def _digest(arrays: Arrays, text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
