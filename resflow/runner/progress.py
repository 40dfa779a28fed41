"""The progress of a run: kept by its driver for a screen, and in a file for whoever looks from another process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resflow import atomic, provenance, reading, workspace
from resflow.errors import RecordError
from resflow.records.record import HISTORY_COLUMNS, Record
from resflow.study import costs
from resflow.study.trial import Trial

PAUSE_S = 1.0  # least between two writes of the file
BEAT_S = 10.0  # most between them, although nothing has changed: a sign of life
SILENT_S = 60.0  # after which a driver is taken for dead


ALL = ""  # arms together
Row = dict[str, float]


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs: the epochs that it has ended since its worker began, and top-1 after each of those."""

    id: str
    arm: str
    seed: int
    candidate: int | None  # its number, in a search
    epoch: int  # the last one that has ended, 0 before the first
    epochs: int  # that it trains for, unless it stops early
    train_top1: tuple[float, ...] = ()
    validation_top1: tuple[float, ...] = ()
    varies: str = ""  # the stream that alone varies, of a trial beside the study's own seeds


@dataclass
class Progress:
    """The state of a run: its trials by id as far as they are known, and how many there will be in `total`.

    `running` maps a trial's id to the rows of its epochs, `done` to its record. `planned` are all trials of the run in
    order, and `before` are the records that were there already: none of them is counted in `total`.
    """

    trials: Mapping[str, Trial]
    total: int
    planned: Sequence[Trial] = ()
    before: Mapping[str, Record] = field(default_factory=dict)
    metric: str = "test_top1"  # that arms are compared by
    is_sequential: bool = False  # seeds are added until all is decided
    is_search: bool = False  # its trials are candidates
    done: dict[str, Record] = field(default_factory=dict)
    running: dict[str, list[Row]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    most_at_a_time: int = 1  # trials that run together
    heard: dict[str, float] = field(default_factory=dict)  # when, by id of a running trial
    work: dict[str, float] = field(default_factory=dict)  # multiply-adds by id, of the known ones
    notes: list[str] = field(default_factory=list)  # that nobody has been told yet

    def begin(self, trial_id: str) -> None:
        """Take note of a trial's start, or of its new start in another worker."""
        self.running[trial_id] = []
        self.heard[trial_id] = time.monotonic()
        self.most_at_a_time = max(self.most_at_a_time, len(self.running))

    def end_epoch(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Take note of an epoch's row of the history."""
        self.running.setdefault(trial_id, []).append({name: row[name] for name in HISTORY_COLUMNS if name in row})
        self.heard[trial_id] = time.monotonic()

    def withdraw(self, trial_id: str) -> None:
        """Take note that a trial's worker has left it, and that another is to begin it again."""
        self.running.pop(trial_id, None)
        self.heard.pop(trial_id, None)

    def end(self, trial_id: str, record: Record) -> None:
        """Take note of a trial's record."""
        self.withdraw(trial_id)
        self.done[trial_id] = record

    def take_notes(self) -> list[str]:
        """Return what has happened to the run since the last look: whoever takes it tells it."""
        notes, self.notes = self.notes, []
        return notes

    def running_trials(self) -> tuple[RunningTrial, ...]:
        """Return the trials that run, the first started first."""
        return tuple(_running_trial(self.trials[key], rows) for key, rows in list(self.running.items()))

    def epoch(self, trial_id: str) -> int:
        """Return the last epoch that a trial has ended; 0 where it does not run, or is in its first."""
        return _epoch(self.running.get(trial_id, ()))

    def seconds(self) -> float:
        """Return how long the run has gone on."""
        return time.monotonic() - self.started

    def seconds_left(self) -> float | None:
        """Estimate the time to the end of the last trial; None before anything has been measured.

        A trial takes as long, for its multiply-adds, as those of its arm that have completed; else as all that have;
        else as the epochs of those that run.
        """
        trials = {trial.id: trial for trial in (*self.planned, *self.trials.values())}
        running, done = dict(self.running), dict(self.done)  # a screen asks from a thread of its own
        if len(self.work) < len(trials):
            self.work = costs.estimate_work(list(trials.values()))
        pace = self._paces(trials, {**self.before, **done}, running)
        if not pace:
            return None
        expected = {
            key: self.work[key] * pace.get(trial.arm, pace[ALL]) for key, trial in trials.items() if key in self.trials
        }
        left = [
            self._left(trials[key], running[key], seconds) if key in running else seconds
            for key, seconds in expected.items()
            if key not in done
        ]
        to_come = (self.total - len(expected)) * sum(expected.values()) / max(1, len(expected))  # of a search
        return max((sum(left) + to_come) / self.most_at_a_time, *left, 0.0)

    def _paces(
        self, trials: Mapping[str, Trial], records: Mapping[str, Record], running: Mapping[str, Sequence[Row]]
    ) -> dict[str, float]:
        """Return seconds a multiply-add by arm, and those of ALL; empty where nothing is known."""
        spent: dict[str, list[tuple[float, float]]] = {}
        for key, record in records.items():
            if record.status == "completed" and record.spent_seconds > 0 and key in trials:
                spent.setdefault(record.arm, []).append((record.spent_seconds, self.work[key]))
        if not spent:
            epochs = {key: sum(row.get("seconds", 0.0) for row in rows) for key, rows in running.items()}
            spent[ALL] = [
                (seconds, self.work[key] * len(running[key]) / trials[key].epochs)
                for key, seconds in epochs.items()
                if seconds > 0
            ]
        spent[ALL] = [pair for pairs in spent.values() for pair in pairs]
        return {
            arm: sum(seconds for seconds, _ in pairs) / sum(work for _, work in pairs)
            for arm, pairs in spent.items()
            if pairs
        }

    def _left(self, trial: Trial, rows: Sequence[Row], expected: float) -> float:
        """Return the seconds that a running trial has left: by its own epochs where there are some."""
        own = [row["seconds"] for row in rows[1:] or rows if "seconds" in row]  # the first one compiles
        an_epoch = sum(own) / len(own) if own else expected / trial.epochs
        since = time.monotonic() - self.heard.get(trial.id, time.monotonic())
        return max(0.0, an_epoch * (trial.epochs - _epoch(rows)) - min(since, an_epoch))


def _epoch(rows: Sequence[Row]) -> int:
    return int(rows[-1]["epoch"]) if rows else 0


def _running_trial(trial: Trial, rows: Sequence[Row]) -> RunningTrial:
    train, validation = (
        tuple(round(row[name], 4) for row in rows if name in row) for name in ("train_top1", "validation_top1")
    )
    number = trial.candidate.number if trial.candidate else None
    return RunningTrial(
        trial.id, trial.arm, trial.seed, number, _epoch(rows), trial.epochs, train, validation, trial.varies
    )


class ProgressFile:
    """The progress of a run in its ignored folder, for other processes. A disk that refuses costs it, not the run."""

    def __init__(self, state: Path, progress: Progress) -> None:
        self.path, self.progress = state / workspace.PROGRESS, progress
        self.written, self.changed = -BEAT_S, True

    @contextmanager
    def kept(self) -> Iterator[ProgressFile]:
        """Keep the file for as long as the run goes on."""
        try:
            with suppress(OSError):
                atomic.sweep(self.path.parent, self.path.name)
            self.write(changed=True)  # Ray takes seconds to start
            yield self
        finally:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def write(self, changed: bool = False) -> None:
        """Write what has changed, or a sign of life, unless that was just done."""
        self.changed = self.changed or changed
        pause = time.monotonic() - self.written
        if pause < (PAUSE_S if self.changed else BEAT_S):
            return
        self.written, self.changed = time.monotonic(), False
        progress = self.progress
        state = {
            "host": provenance.environment()["host"],
            "pid": os.getpid(),
            "written": time.time(),
            "seconds": round(progress.seconds(), 1),
            "seconds_left": progress.seconds_left(),
            "is_search": progress.is_search,
            "total": progress.total,
            "done": len(progress.done),
            "running": [asdict(trial) for trial in progress.running_trials()],
        }
        with suppress(OSError):
            atomic.write(self.path, json.dumps(state))


@dataclass(frozen=True)
class KeptProgress:
    """What a ProgressFile says of a run that goes on."""

    seconds: float
    seconds_left: float | None
    is_search: bool
    total: int  # trials or candidates that there were to run
    done: int  # of them
    running: tuple[RunningTrial, ...]


def read_progress(state: Path) -> KeptProgress | None:
    """Return the progress of the run whose ignored folder this is; None where none goes on.

    Raises RecordError where the file is none of resflow's.
    """
    path = state / workspace.PROGRESS
    try:
        kept = json.loads(reading.read(path))
        age = time.time() - kept["written"]
        here = kept["host"] == provenance.environment()["host"]
        if age > SILENT_S or (here and not is_alive(int(kept["pid"]))):
            return None
        running = tuple(
            RunningTrial(
                **{**row, "train_top1": tuple(row["train_top1"]), "validation_top1": tuple(row["validation_top1"])}
            )
            for row in kept["running"]
        )
        return KeptProgress(
            kept["seconds"] + age,
            None if kept["seconds_left"] is None else max(0.0, kept["seconds_left"] - age),
            bool(kept["is_search"]),
            int(kept["total"]),
            int(kept["done"]),
            running,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} cannot be read ({error}): remove it, the run itself writes it again.") from error


def is_alive(number: int) -> bool:
    """Tell whether a process of this machine is there, by its number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
