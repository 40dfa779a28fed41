"""Records: what a trial leaves on disk, and a folder of them as tidy frames.

    results/<run>/trials/<id>/record.json          the Record below
    results/<run>/trials/<id>/history.csv          a row an epoch: HISTORY_COLUMNS
    results/<run>/trials/<id>/predictions.parquet  a row a test image: PREDICTION_COLUMNS
    results/<run>/trials/<id>/diagnostics.parquet  a row a layer and kind of figure: DIAGNOSTIC_COLUMNS

A record appears whole or not at all: its files are written and synced in a hidden folder beside
the final one, which one rename then puts in place. Fractions are 0..1.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from resflow.errors import RecordError

if TYPE_CHECKING:
    from resflow.trial import Trial

SCHEMA_VERSION = 1
STATUSES = ("completed", "diverged", "failed", "pruned")
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
    "kind",  # gradient_norm, response_sd, bn_scale, dead_units, shortcut_share (diagnostics.py)
    "layer",  # its name
    "place",  # 0, 1, … among the layers of this kind, from the input on
    "epoch",  # whose end the value is of; 0 is the first step
    "value",
)
PARQUET = b"PAR1"  # what such a file begins and ends with
PLAN_KEYS = ("id", "arm", "seed")
PLAN_NUMBERS = ("seed", "parameters", "multiply_adds", "epochs")
_PLAN_AGAIN = "Remove it and run the study again: finished trials are kept."
METRICS = ("test_top1", "test_top5", "test_mean_class_accuracy", "test_loss")


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
    status: Literal["completed", "diverged", "failed", "pruned"]
    reason: str = ""  # one line, unless completed
    settings: dict[str, dict[str, Any]]  # network, recipe, data: everything that was asked for
    execution: dict[str, Any]  # device, threads, precision, jit, lowering
    data: dict[str, Any] = {}  # source, fingerprint, split, split_hash, image_size, classes, counts
    network: dict[str, Any] = {}  # parameters, multiply_adds, stem
    metrics: dict[str, float] = {}  # METRICS, and train/validation figures of the chosen weights
    best_epoch: int | None = None  # the epoch whose weights were tested
    epochs_run: int = 0
    seconds: float = 0.0  # wall time of the trial
    provenance: dict[str, Any] = {}


def record_of(trial: Trial, **facts: Any) -> Record:
    """A trial's record: what was asked for, and the `facts` of what came of it."""
    same = {name: getattr(trial, name) for name in ("id", "study", "arm", "levels", "seed", "split_seed")}
    return Record(**same, settings=trial.settings(), execution=trial.execution.model_dump(), **facts)


@dataclass(frozen=True)
class Outcome:
    """A record with its history and its predictions, as `train` hands it over."""

    record: Record
    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(HISTORY_COLUMNS)))
    predictions: pd.DataFrame | None = None
    diagnostics: pd.DataFrame | None = None


def trial_folder(run: Path, trial_id: str) -> Path:
    return run / "trials" / trial_id


def write(run: Path, outcome: Outcome) -> Path:
    """Write one record, whole or not at all, and return its folder. Replaces an older one."""
    final = trial_folder(run, outcome.record.id)
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.parent / f".{final.name}.{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir()
        outcome.history.to_csv(draft / "history.csv", index=False)
        if outcome.predictions is not None:
            outcome.predictions.to_parquet(draft / "predictions.parquet", index=False)
        if outcome.diagnostics is not None:
            outcome.diagnostics.to_parquet(draft / "diagnostics.parquet", index=False)
        (draft / "record.json").write_text(json.dumps(outcome.record.model_dump(), indent=1) + "\n", encoding="utf-8")
        for path in [*draft.iterdir(), draft]:
            _sync(path)
        if final.exists():
            shutil.rmtree(final)
        draft.rename(final)
        _sync(final.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise RecordError(
            f"cannot write the record of trial {outcome.record.id} below {run}: {error}. "
            "Free space or choose another folder with --out, then run the same command again."
        ) from error
    return final


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def read(folder: Path) -> Record:
    """Read one record folder. Raises RecordError where it is not a whole, known record."""
    path = folder / "record.json"
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
    """What a copy that was cut short, or a bad disk, made of the files beside record.json; empty where all is well."""
    history = folder / "history.csv"
    rows = history.read_bytes().count(b"\n") - 1 if history.is_file() else 0
    if rows != record.epochs_run:
        return f"{history} has {max(rows, 0)} whole rows, its record is of {record.epochs_run} epochs"
    for name in ("predictions", "diagnostics"):
        path = folder / f"{name}.parquet"
        if path.is_file() and not _whole_parquet(path):
            return f"{path} is no whole Parquet file"
    return ""


def _whole_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(PARQUET)))
        return size > len(PARQUET) and file.read() == PARQUET


def finished(run: Path) -> dict[str, Record]:
    """Return every readable record of a run by trial id; broken ones are left out (see `load`)."""
    return {record.id: record for record in load(run).records}


@dataclass(frozen=True)
class Run:
    """A results folder as read: `records`, a message by folder name for each unreadable one, and its files.

    `plan` has a row for each planned trial (id, arm, seed, factor columns, parameters, multiply_adds)
    and is empty for a foreign folder without plan.csv. `study` is the resolved study as a mapping.
    """

    folder: Path
    records: tuple[Record, ...]
    broken: dict[str, str]
    plan: pd.DataFrame
    study: dict[str, Any]

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of all trials' folders, readable or not."""
        return (*(record.id for record in self.records), *self.broken)

    def frame(self) -> pd.DataFrame:
        """A row a record: id, arm, seed, status, reason, a column a factor, metrics, costs."""
        return pd.DataFrame([_row(record) for record in self.records])

    def histories(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row an epoch of each record with a history: id, arm, seed, HISTORY_COLUMNS."""
        wanted = None if ids is None else set(ids)
        mine = [r for r in self.records if r.epochs_run and (wanted is None or r.id in wanted)]
        tables = _tables([trial_folder(self.folder, record.id) / "history.csv" for record in mine])
        if not mine:
            return pd.DataFrame(columns=["id", "arm", "seed", *HISTORY_COLUMNS])
        rows = [record.epochs_run for record in mine]
        of_record = {
            name: np.repeat([getattr(record, name) for record in mine], rows) for name in ("id", "arm", "seed")
        }
        return tables.assign(**of_record)

    def predictions(self, trial_id: str) -> pd.DataFrame:
        """The test predictions of one trial: PREDICTION_COLUMNS."""
        path = trial_folder(self.folder, trial_id) / "predictions.parquet"
        if not path.is_file():
            raise RecordError(f"trial {trial_id} kept no predictions: {path} does not exist.")
        return _table(pd.read_parquet, path)

    def diagnostics(self, ids: Iterable[str]) -> pd.DataFrame:
        """What the trials that kept some saw inside: id, arm, seed, DIAGNOSTIC_COLUMNS."""
        known = {record.id: record for record in self.records}
        found = []
        for trial_id in ids:
            path = trial_folder(self.folder, trial_id) / "diagnostics.parquet"
            if trial_id in known and path.is_file():
                record = known[trial_id]
                found.append(_table(pd.read_parquet, path).assign(id=record.id, arm=record.arm, seed=record.seed))
        columns = ["id", "arm", "seed", *DIAGNOSTIC_COLUMNS]
        return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _table(reader: Callable[[Path], pd.DataFrame], path: Path) -> pd.DataFrame:
    try:
        return reader(path)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise RecordError(
            f"{path} cannot be read as a table ({str(error).splitlines()[0]}). Remove the folder {path.parent} and run "
            "the study again: only that trial will run."
        ) from error


def _tables(paths: Sequence[Path]) -> pd.DataFrame:
    """CSV files with a header each, as one frame in their order: thousands in the time of some."""
    bodies: dict[bytes, list[bytes]] = {}
    for path in paths:
        header, _, body = path.read_bytes().partition(b"\n")
        bodies.setdefault(header, []).append(body)
    try:
        if len(bodies) == 1:
            ((header, parts),) = bodies.items()
            return pd.read_csv(io.BytesIO(b"\n".join([header, b"".join(parts)])))
    except ValueError:
        pass  # one is no table, and is told by name
    frames = [_table(pd.read_csv, path) for path in paths]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _row(record: Record) -> dict[str, Any]:
    # A factor may be called like a column, `epochs_run` say: the column keeps its own meaning.
    return {
        **record.levels,
        "id": record.id,
        "arm": record.arm,
        "seed": record.seed,
        "status": record.status,
        "reason": record.reason,
        "parameters": record.network.get("parameters"),
        "multiply_adds": record.network.get("multiply_adds"),
        "epochs_run": record.epochs_run,
        "best_epoch": record.best_epoch,
        "seconds": record.seconds,
        **record.metrics,
    }


def load(run: Path) -> Run:
    """Read a results folder, whole or partial, ours or foreign. Raises RecordError if it is none."""
    if not run.is_dir():
        raise RecordError(f"no results folder at {run}. `resflow status` lists the runs below results/.")
    trials, plan, study = run / "trials", run / "plan.csv", run / "study.yaml"
    if not trials.is_dir() and not plan.is_file():
        raise RecordError(f"{run} is no results folder: it holds neither plan.csv nor trials/.")
    records, broken = [], {}
    for folder in sorted(trials.iterdir()) if trials.is_dir() else []:
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            records.append(read(folder))
        except RecordError as error:
            broken[folder.name] = str(error)
    return Run(
        folder=run,
        records=tuple(records),
        broken=broken,
        plan=_read_plan(plan) if plan.is_file() else pd.DataFrame(),
        study=_read_study(study) if study.is_file() else {},
    )


def _read_plan(path: Path) -> pd.DataFrame:
    try:
        # Labels are text: '1e-4' is no 0.0001, and an arm may be called 'none' or 'NA'.
        plan = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise RecordError(f"{path} cannot be read as a table ({error}). {_PLAN_AGAIN}") from error
    missing = [name for name in PLAN_KEYS if name not in plan.columns]
    if missing:
        raise RecordError(f"{path} lacks the columns {', '.join(missing)}. {_PLAN_AGAIN}")
    for name in PLAN_NUMBERS:
        if name in plan.columns:
            plan[name] = pd.to_numeric(plan[name], errors="coerce")
    if plan["seed"].isna().any():
        raise RecordError(f"{path} has a seed that is no number. {_PLAN_AGAIN}")
    return plan.astype({"seed": int})


def _read_study(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML, YAMLError

    try:
        study = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecordError(f"{path} is no readable study: {error}") from error
    if not isinstance(study, dict):
        raise RecordError(f"{path} is no study: expected a mapping with name, question, factors and arms.")
    return study
