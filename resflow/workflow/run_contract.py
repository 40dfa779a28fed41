"""What a run is asked for, whom it tells as it goes on, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resflow.records.record import Record
from resflow.records.run import Run, load_run
from resflow.runner.stopping import Stop, parse_duration
from resflow.study.trial import Trial
from resflow.weights.saved import trials_without_network
from resflow.workflow.plan import Plan

if TYPE_CHECKING:
    from resflow.report.tables import Table
    from resflow.runner.progress import Progress


@dataclass(frozen=True)
class RunOptions:
    """The terms on which a study is run; none of them changes a result."""

    time_budget: float | str | None = None  # seconds, or 30m, 2h, 1d: no trial goes on after it
    max_failures: int | None = None  # trials that failed or diverged, after which no other starts
    storage: str | None = None  # a folder or URL for checkpoints of running trials; .resflow by default
    address: str | None = None  # of a Ray cluster, auto or HOST:PORT; this machine by default
    fresh: bool = False  # set the study's records aside and run all of it
    prune: bool = False  # set records aside that are no trial of the study any more
    reuse: tuple[str, ...] = ()  # runs whose records of the same trials are taken over
    log: tuple[str, ...] = ()  # trackers that get a copy: tensorboard, mlflow, wandb

    def make_stop(self) -> Stop:
        """Start the clock of the time budget. Raises StudyError where it is none."""
        budget = parse_duration(self.time_budget) if isinstance(self.time_budget, str) else self.time_budget
        return Stop(budget, self.max_failures)


class Reporter(Protocol):
    """Hears of a run as it goes on."""

    def note(self, text: str, title: str = "") -> None:
        """Hear a line; where it has a title, it begins with it."""

    def show(self, tables: Iterable[Table]) -> None:
        """Hear of tables: what a search has found."""

    def watch(self, total: int) -> AbstractContextManager[Callable[[Progress], Any]]:
        """Give a function that hears of the progress of so many trials, for as long as they run."""


class Silent:
    """A Reporter that tells nobody."""

    def note(self, text: str, title: str = "") -> None:
        pass

    def show(self, tables: Iterable[Table]) -> None:
        pass

    def watch(self, total: int) -> AbstractContextManager[Callable[[Progress], Any]]:
        return nullcontext(lambda progress: None)


@dataclass(frozen=True)
class RunResult:
    """A run as it is left: `stopped` says why it ended early, and is empty otherwise."""

    plan: Plan
    stopped: str = ""
    searching: tuple[str, ...] = ()  # arms whose search is not complete: no trial has run yet
    report: Path | None = None
    unlogged: tuple[str, ...] = ()  # trackers that have not got all of it

    @cached_property
    def run(self) -> Run:
        """The run's folder as it is read now."""
        return load_run(self.plan.run)

    @cached_property
    def records(self) -> list[Record]:
        """The records of the plan's trials, in its order."""
        known = {record.id: record for record in self.run.records}
        return [known[trial.id] for trial in self.plan.trials if trial.id in known]

    @property
    def failed(self) -> list[Record]:
        """The records of trials that failed or diverged."""
        return [record for record in self.records if record.status in ("failed", "diverged")]

    @property
    def missing(self) -> int:
        """The number of trials that have no record yet."""
        return len(self.plan.trials) - len(self.records)

    @cached_property
    def without_network(self) -> list[Trial]:
        """The trials whose network was to be kept and is not there."""
        return trials_without_network(self.plan.trials, {record.id: record for record in self.records}, self.plan.state)

    @property
    def complete(self) -> bool:
        """True where the same command would have nothing to do."""
        return not (self.searching or self.missing or self.without_network)
