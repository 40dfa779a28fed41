"""What every tracker is asked for, and what it is told. Fractions are 0..1, times are seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Value = str | int | float | bool
Row = Mapping[str, float]  # of a history: `epoch`, and the figures of that epoch by their column
INTERRUPTED = "interrupted"  # the end of a trial that was cut off, and that the same command goes on with


@dataclass(frozen=True)
class TrialStart:
    """A trial as it begins. `parameters` are its factors by name, and each setting by section and name."""

    id: str
    run: str  # name of the run's folder
    study: str
    arm: str
    seed: int
    split_seed: int
    parameters: Mapping[str, Value]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.arm} seed {self.seed}"

    @property
    def tags(self) -> dict[str, str]:
        """Where it belongs, by name."""
        return {name: str(getattr(self, name)) for name in ("run", "study", "arm", "seed", "split_seed")}


@dataclass(frozen=True)
class TrialEnd:
    """The end of a trial: its record's status, or INTERRUPTED. `metrics` are those that no epoch has."""

    status: str
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """True where nothing went wrong."""
        return self.status == "completed"


@dataclass(frozen=True)
class StudyEnd:
    """The report of a run: `files` by their names in its folder, and the `digest` of them all."""

    run: str
    study: str
    question: str
    files: Mapping[str, Path]
    digest: str


@dataclass(frozen=True)
class Seen:
    """What a tracker has of a trial: nothing, or its epochs up to one, and the status that it was ended with."""

    last_epoch: int = 0
    status: str = ""


class Tracker(Protocol):
    """A tracker's client. Any method may raise whatever the client raises: `process` knows what to do then.

    A trial is known by its id within its run, so that the same trial of another run stands beside it.
    """

    destination: str  # what it writes to, as its user names it

    def find(self, trial: TrialStart) -> Seen:
        """Return what the tracker has of a trial, and change nothing."""

    def begin(self, trial: TrialStart) -> None:
        """Open the run of a trial: a new one, or the one that is there."""

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        """Write epochs of an open run, in their order."""

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        """Write the end of an open run, and close it."""

    def log_study(self, study: StudyEnd) -> None:
        """Put a report into the study's own run, unless this very one is there."""

    def close(self) -> None:
        """Wait until all is written."""
