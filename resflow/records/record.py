"""Records: what a trial leaves on disk.

    results/<run>/trials/<id>/record.json          the Record below
    results/<run>/trials/<id>/history.csv          a row an epoch: HISTORY_COLUMNS
    results/<run>/trials/<id>/predictions.parquet  a row a test image: PREDICTION_COLUMNS
    results/<run>/trials/<id>/diagnostics.parquet  a row a layer and kind of figure: DIAGNOSTIC_COLUMNS

A record appears whole or not at all: its files are written and synced in a hidden folder beside
the final one, which one rename then puts in place. Fractions are 0..1.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from resflow import atomic, workspace
from resflow.errors import RecordError
from resflow.workspace import trial_folder

if TYPE_CHECKING:
    from resflow.study.trial import Trial

SCHEMA_VERSION = 1
Status = Literal["completed", "diverged", "failed", "pruned"]
HISTORY_COLUMNS = (
    "epoch",  # 1, 2, …
    "learning_rate",  # of the epoch's last step
    "batch_loss",  # mean over the epoch's training batches, training mode, augmented, as optimised
    "train_loss",  # cross-entropy on the clean training images, inference mode
    "train_top1",
    "validation_loss",
    "validation_top1",
    "seconds",  # wall time of the epoch, evaluation included
)
PREDICTION_COLUMNS = (
    "image",  # the image's name in its source
    "label",  # true class, 0-based
    "predicted",  # most probable class
    "probability",  # softmax probability of the true class
    "rank",  # other classes that score at least as high as the true one; 0 is a correct answer, < 5 a top-5 one
)
DIAGNOSTIC_COLUMNS = (
    "kind",  # gradient_norm, response_sd, bn_scale, dead_units, shortcut_share (training/diagnostics.py)
    "layer",  # its name
    "place",  # 0, 1, … among the layers of this kind, from the input on
    "epoch",  # whose end the value is of; 0 is the first step
    "value",
)
PARQUET = b"PAR1"  # what such a file begins and ends with


class CandidateFacts(BaseModel):
    """The candidate of a tuning phase that a record is of."""

    model_config = ConfigDict(extra="allow", frozen=True)

    search: str  # its arm's
    number: int  # 1, 2, … within the search
    values: dict[str, str | bool | int | float]  # hyperparameter -> value; choices by their labels
    epochs: int  # that it may train for
    reached: dict[str, float] = {}  # where it was pruned: epoch and validation_top1


class Record(BaseModel):
    """One trial's outcome. Immutable; `metrics` is empty unless the status is completed."""

    model_config = ConfigDict(extra="allow", frozen=True)  # newer fields must not break older readers

    schema_version: int = SCHEMA_VERSION
    id: str
    study: str
    arm: str
    levels: dict[str, str]  # factor -> label of its level
    seed: int
    split_seed: int
    status: Status
    reason: str = ""  # one line, unless completed
    candidate: CandidateFacts | None = None  # of a tuning phase; None for a trial
    settings: dict[str, dict[str, Any]]  # network, recipe, data: everything that was asked for
    execution: dict[str, Any]  # device, threads, precision, jit, lowering
    data: dict[str, Any] = {}  # source, fingerprint, split, split_hash, image_size, classes, counts
    network: dict[str, Any] = {}  # parameters, multiply_adds, stem
    metrics: dict[str, float] = {}  # of the test images, and of the others under the same weights
    best_epoch: int | None = None  # the epoch whose weights were tested
    epochs_run: int = 0
    seconds: float = 0.0  # wall time of the trial
    provenance: dict[str, Any] = {}

    @field_validator("candidate", mode="before")
    @classmethod
    def _none_of_a_trial(cls, value: Any) -> Any:
        return value or None


def make_record(trial: Trial, **facts: Any) -> Record:
    """Return a trial's record: its settings, and the `facts` of its training."""
    names = {name: getattr(trial, name) for name in ("id", "study", "arm", "levels", "seed", "split_seed")}
    candidate = trial.candidate and CandidateFacts.model_validate(trial.candidate, from_attributes=True)
    return Record(
        **names, candidate=candidate, settings=trial.settings(), execution=trial.execution.model_dump(), **facts
    )


@dataclass(frozen=True)
class Outcome:
    """A record with its history, predictions and diagnostics, as training hands it over."""

    record: Record
    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(HISTORY_COLUMNS)))
    predictions: pd.DataFrame | None = None
    diagnostics: pd.DataFrame | None = None


def write_record(run: Path, outcome: Outcome) -> Path:
    """Write one record, whole or not at all, and return its folder. Replaces an older one."""
    with _whole(run, outcome.record) as draft:
        outcome.history.to_csv(draft / workspace.HISTORY, index=False)
        if outcome.predictions is not None:
            outcome.predictions.to_parquet(draft / workspace.PREDICTIONS, index=False)
        if outcome.diagnostics is not None:
            outcome.diagnostics.to_parquet(draft / workspace.DIAGNOSTICS, index=False)
    return trial_folder(run, outcome.record.id)


def take_over(run: Path, trial: Trial, folder: Path) -> Path:
    """Copy the record that another run has of a trial, under this one's names of study and arm; return its folder.

    Its id says that nothing else differs; the record says where it came from. Raises RecordError.
    """
    record = read_record(folder)
    names = {"study": trial.study, "arm": trial.arm, "levels": trial.levels}
    provenance = {**record.provenance, "taken_over": folder.resolve().parents[1].name}
    with _whole(run, record.model_copy(update={**names, "provenance": provenance})) as draft:
        for name in (workspace.HISTORY, workspace.PREDICTIONS, workspace.DIAGNOSTICS):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, draft / name)
    return trial_folder(run, trial.id)


@contextmanager
def _whole(run: Path, record: Record) -> Iterator[Path]:
    """Give a draft folder for the tables beside a record; it takes the record's place when all of it is on the disk."""
    try:
        with atomic.folder(trial_folder(run, record.id)) as draft:
            yield draft
            text = json.dumps(record.model_dump(), indent=1) + "\n"
            (draft / workspace.RECORD).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(
            f"cannot write the record of trial {record.id} below {run}: {error}. "
            "Free space or choose another folder with --out, then run the same command again."
        ) from error


def set_aside(run: Path, ids: Iterable[str], place: Path) -> Path:
    """Move the records of some trials out of a run, and return the new folder below `place` that holds them."""
    target = place / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    try:
        target.mkdir(parents=True)
        for trial_id in ids:
            shutil.move(trial_folder(run, trial_id), target / trial_id)
    except OSError as error:
        raise RecordError(
            f"cannot move records of {run} to {target}: {error}. Free space or mend it by hand."
        ) from error
    return target


def read_record(folder: Path) -> Record:
    """Read one record folder. Raises RecordError where it is not a whole, known record."""
    path = folder / workspace.RECORD
    try:
        record = Record.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordError(f"{folder} holds no record.json: it is not a trial's folder.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": error}
        raise RecordError(
            f"{path} is no valid record ({first['msg']}). Remove the folder {folder} and run the study "
            "again: only that trial will run."
        ) from error
    if record.schema_version > SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema version {record.schema_version}, this resflow reads up to {SCHEMA_VERSION}. "
            "Upgrade resflow."
        )
    if record.id != folder.name:  # ids become paths
        raise RecordError(f"{path} is the record of another trial, {record.id!r}: rename or remove that folder.")
    if problem := _truncated(folder, record):
        raise RecordError(f"{problem}. Remove the folder {folder} and run the study again: only that trial will run.")
    return record


def _truncated(folder: Path, record: Record) -> str:
    """Return the damage that a copy cut short, or a bad disk, did beside record.json; empty where all is well."""
    history = folder / workspace.HISTORY
    rows = history.read_bytes().count(b"\n") - 1 if history.is_file() else 0
    if rows != record.epochs_run:
        return f"{history} has {max(rows, 0)} whole rows, its record is of {record.epochs_run} epochs"
    for name in (workspace.PREDICTIONS, workspace.DIAGNOSTICS):
        path = folder / name
        if path.is_file() and not _whole_parquet(path):
            return f"{path} is no whole Parquet file"
    return ""


def _whole_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(PARQUET)))
        return size > len(PARQUET) and file.read() == PARQUET
