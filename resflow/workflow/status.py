"""The state of a run: of one that goes on in this process or another, or of what one has left."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from resflow import workspace
from resflow.analysis.design import NOT_RUN, UNREADABLE
from resflow.analysis.seed_statistics import level_interval
from resflow.errors import RecordError
from resflow.records.metrics import metric as metric_named
from resflow.records.record import Record
from resflow.records.run import Run, load_run
from resflow.records.run_files import expected_rows
from resflow.runner.progress import KeptProgress, Progress, RunningTrial, read_progress
from resflow.tuning.phase import SCORE

RUNNING = "running"


@dataclass(frozen=True)
class ArmMean:
    """The mean of an arm's completed seeds so far with its 95 % interval; `note` says why there is none."""

    arm: str
    seeds: int
    mean: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class TrialState:
    """A planned or recorded trial: its state is its record's status, or NOT_RUN, RUNNING or UNREADABLE."""

    id: str
    arm: str
    seed: int | None
    state: str
    value: float | None = None  # of the metric
    reason: str = ""
    seconds: float | None = None  # of training, as its record says
    candidate: int | None = None  # its number, in a search
    varies: str = ""  # the stream that alone varies, of a trial beside the study's own seeds


@dataclass(frozen=True)
class RunState:
    """A run as it is now. Of one that nobody runs, `running` is empty and `seconds` is None."""

    metric: str
    counts: dict[str, int]  # trials by state, none that is 0
    arms: tuple[ArmMean, ...]  # of a search none: its candidates differ in more than their seeds
    running: tuple[RunningTrial, ...] = ()
    seconds: float | None = None  # since the command began to train
    seconds_left: float | None = None  # None before the first epoch has ended
    trials: tuple[TrialState, ...] = ()
    messages: tuple[str, ...] = ()  # what is damaged

    @property
    def is_live(self) -> bool:
        """True where a process runs it."""
        return self.seconds is not None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """The number of trials that have a record."""
        return self.total - self.counts.get(NOT_RUN, 0) - self.counts.get(RUNNING, 0)

    def as_json(self, run: str) -> dict[str, Any]:
        """Return what `resflow status --json` prints of a run; studies/README.md says what the keys mean."""
        values = {"run": run, "is_running": self.is_live, "total": self.total, **asdict(self)}
        return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN is null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def live_state(progress: Progress) -> RunState:
    """Return the state of a run that goes on in this process."""
    records = [*progress.before.values(), *list(progress.done.values())]
    apart = {trial.id for trial in progress.planned if trial.varies}
    running = progress.running_trials()
    arms = () if progress.is_search else tuple(dict.fromkeys(trial.arm for trial in progress.planned))
    return RunState(
        progress.metric,
        _counts(Counter(record.status for record in records), len(running), len(progress.before) + progress.total),
        arm_means(arms, _without(apart, records), progress.metric, progress.is_sequential),
        running,
        progress.seconds(),
        progress.seconds_left(),
    )


def read_state(folder: Path) -> RunState:
    """Return the state of a run, or of its search in `tuning`, from its files. Raises RecordError where it has none."""
    is_search = folder.name == workspace.TUNING
    live, messages = _read_live(folder, is_search)
    is_first = live is not None and is_search and not (folder / workspace.TRIALS).exists()  # no candidate has ended
    run = Run(folder, (), {}, pd.DataFrame(), {}) if is_first else load_run(folder)
    metric = SCORE if is_search else str(run.study.get("metric") or "test_top1")
    running = live.running if live else ()
    trials = _list_trials(run, {trial.id for trial in running}, metric)
    recorded = Counter(trial.state for trial in trials if trial.state not in (NOT_RUN, RUNNING))
    total = live.total - live.done + recorded.total() if live and is_search else len(trials)
    arms = () if is_search else tuple(dict.fromkeys(trial.arm for trial in trials))
    listed = {trial.id for trial in trials}
    own = [record for record in _without(run.varies, run.records) if record.id in listed]
    return RunState(
        metric,
        _counts(recorded, len(running), total),
        arm_means(arms, own, metric, isinstance(run.study.get("seeds"), Mapping)),
        running,
        live.seconds if live else None,
        live.seconds_left if live else None,
        trials,
        (*run.faults, *(message for name, message in run.broken.items() if name not in listed), *messages),
    )


def running_part(folder: Path) -> Path | None:
    """Return what of a run goes on right now: itself, or its search; None where nothing does. Raises RecordError."""
    live = read_progress(workspace.state_folder(folder))
    return None if live is None else folder / workspace.TUNING if live.is_search else folder


def trial_state(record: Record, metric: str) -> TrialState:
    """Return the state of a trial that has a record."""
    number = record.candidate.number if record.candidate else None
    value = record.metrics.get(metric)
    return TrialState(
        record.id,
        record.arm,
        record.seed,
        record.status,
        value,
        record.reason,
        record.spent_seconds,
        number,
        record.varies,
    )


def arm_means(
    arms: Iterable[str], records: Iterable[Record], metric: str, sequential: bool = False
) -> tuple[ArmMean, ...]:
    """Return the mean of each arm that has a completed seed."""
    values: dict[str, list[float]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.status == "completed" and metric in record.metrics:
            values.setdefault(record.arm, []).append(record.metrics[metric])
    bounds = metric_named(metric)
    found = {
        arm: level_interval(values[arm], bounds.low, bounds.high, sequential=sequential)
        for arm in arms
        if arm in values
    }
    return tuple(ArmMean(arm, mean.n, mean.mean, mean.low, mean.high, mean.note) for arm, mean in found.items())


def _without(apart: Collection[str], records: Iterable[Record]) -> list[Record]:
    """Return the records of a study's own seeds: those of no trial that is set apart."""
    return [record for record in records if record.id not in apart]


def _counts(recorded: Mapping[str, int], running: int, total: int) -> dict[str, int]:
    counts = {**recorded, RUNNING: running, NOT_RUN: max(0, total - sum(recorded.values()) - running)}
    return {state: number for state, number in counts.items() if number}


def _read_live(folder: Path, is_search: bool) -> tuple[KeptProgress | None, tuple[str, ...]]:
    """Return the progress of this part of a run where it goes on, and what is wrong with its file."""
    try:
        live = read_progress(workspace.state_folder(folder.parent if is_search else folder))
    except RecordError as error:
        return None, (str(error),)
    return (live if live and live.is_search == is_search else None), ()


def _list_trials(run: Run, running: Collection[str], metric: str) -> tuple[TrialState, ...]:
    """Return the planned trials of a run in order, or those that have left something where no plan is there."""
    known = {record.id: record for record in run.records}
    planned = expected_rows(run.plan, {*run.folders, *running})
    rows = (planned if len(planned) else run.frame()).to_dict("records")
    rows += [{"id": name} for name in run.broken if not len(run.plan)]
    return tuple(
        replace(trial_state(known[row["id"]], metric), varies=run.varies.get(row["id"], ""))
        if row["id"] in known and row["id"] not in running
        else TrialState(
            row["id"],
            str(row.get("arm", "")),
            int(row["seed"]) if "seed" in row else None,
            RUNNING if row["id"] in running else UNREADABLE if row["id"] in run.broken else NOT_RUN,
            reason=run.broken.get(row["id"], ""),
            varies=run.varies.get(row["id"], ""),
        )
        for row in rows
    )
