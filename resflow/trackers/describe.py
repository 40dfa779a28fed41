"""Trials, records and runs in a tracker's words: the same ones, whether a trial runs now or has run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from resflow import reading, workspace
from resflow.records.record import HISTORY_COLUMNS, Record
from resflow.records.run import Run
from resflow.study.trial import Trial
from resflow.trackers.tracker import Row, StudyEnd, TrialEnd, TrialStart, Value

REPORTED = (
    workspace.REPORT,
    workspace.README,
    workspace.TRIALS_TABLE,
    workspace.EFFECTS,
    workspace.STUDY,
    workspace.PLAN,
    f"{workspace.FIGURES}/*",
)


def describe_trial(trial: Trial, run: Path) -> TrialStart:
    """Describe a trial of a run before it has a record."""
    return _describe(trial, trial.settings(), run)


def describe_record(record: Record, run: Path) -> TrialStart:
    """Describe the trial that has left a record in a run."""
    return _describe(record, record.settings, run)


def _describe(trial: Trial | Record, settings: Mapping[str, Any], run: Path) -> TrialStart:
    """Factors stand by their labels, settings as section.name; a factor that is called like a setting wins."""
    return TrialStart(
        trial.id,
        run.resolve().name,
        trial.study,
        trial.arm,
        trial.seed,
        trial.split_seed,
        {**dict(_flat(settings)), **trial.levels},
    )


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Value]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value if isinstance(value, str | int | float) else json.dumps(value)


def describe_end(record: Record) -> TrialEnd:
    """Describe a trial's end. What each epoch has as well, the training images' top-1 say, stands there."""
    metrics = {name: value for name, value in record.metrics.items() if name not in HISTORY_COLUMNS}
    if record.best_epoch is not None:
        metrics["best_epoch"] = record.best_epoch
    return TrialEnd(record.status, record.reason, metrics)


def read_epochs(run: Run, records: Iterable[Record]) -> dict[str, list[Row]]:
    """Return the rows of some histories by trial, without what an epoch did not measure. Raises RecordError."""
    epochs: dict[str, list[Row]] = {record.id: [] for record in records}
    for row in run.histories(epochs)[["id", *HISTORY_COLUMNS]].to_dict("records"):
        epochs[row.pop("id")].append({str(name): float(value) for name, value in row.items() if value == value})
    return epochs


def describe_study(run: Run) -> StudyEnd:
    """Describe a run that has a report. Raises OSError where a file of it cannot be read."""
    folder = run.folder
    paths = {
        path.relative_to(folder).as_posix(): path.absolute()
        for pattern in REPORTED
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
    digest = hashlib.sha256()
    for name, path in paths.items():
        digest.update(f"{name}\0{hashlib.sha256(reading.read(path)).hexdigest()}\0".encode())
    name = folder.resolve().name
    return StudyEnd(
        name, str(run.study.get("name") or name), str(run.study.get("question") or ""), paths, digest.hexdigest()
    )
