"""Copies of a run for trackers, as it goes on and when it is over. No trial waits for a tracker, nor fails with it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resflow import workspace
from resflow.errors import RecordError, TrackerError
from resflow.records.run import Run, load_run
from resflow.runner.stopping import exclusive_run
from resflow.trackers.describe import describe_end, describe_record, describe_study, describe_trial, read_epochs
from resflow.trackers.known import TRACKERS, require_trackers
from resflow.trackers.process import TrackerProcess

if TYPE_CHECKING:
    from resflow.runner.progress import Progress
    from resflow.workflow.run_contract import Reporter


class Tracking:
    """The trackers of one run, each in a process of its own, and what they have been told."""

    def __init__(self, run: Path, names: Sequence[str], reporter: Reporter) -> None:
        """Start the trackers. Raises TrackerError where the run's ignored folder cannot be written."""
        self.run, self.reporter = run, reporter
        state = workspace.state_folder(run)
        try:
            self.trackers = [TrackerProcess(name, TRACKERS[name], state) for name in dict.fromkeys(names)]
        except OSError as error:
            raise TrackerError(f"no tracker can be started: {error}. Make {state} writable.") from error
        self.epochs: dict[str, int] = {}  # the last one that was passed on, of trials that have begun
        self.ended: set[str] = set()
        self.told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles whoever hears of its trials, for a copy that nobody here reads."""
        return {}

    def beside(self, show: Callable[[Progress], Any]) -> Callable[[Progress], Any]:
        """Return what shows the progress of trials, and passes it on."""

        def hear(progress: Progress) -> None:
            show(progress)
            self.hear(progress)

        return hear if self.trackers else show

    def hear(self, progress: Progress) -> None:
        """Pass on what is new in the progress of trials."""
        for trial_id, rows in progress.running.items():
            if trial_id not in self.epochs:
                self.epochs[trial_id] = 0
                self._send("begin", describe_trial(progress.trials[trial_id], self.run))
            if new := [row for row in rows if row["epoch"] > self.epochs[trial_id]]:
                self.epochs[trial_id] = int(new[-1]["epoch"])
                self._send("log_epochs", describe_trial(progress.trials[trial_id], self.run), new)
        if ended := tuple(record for trial_id, record in progress.done.items() if trial_id not in self.ended):
            with suppress(RecordError, OSError):  # `conclude` reads it again, when no trial has to wait
                self._end(Run(self.run, ended, {}, pd.DataFrame(), {}))
        self._tell_problems()

    def conclude(self) -> None:
        """Write what the trackers do not have yet of the run's trials, and its report. Raises RecordError."""
        run = load_run(self.run)
        for message in run.broken.values():
            self.reporter.note(f"not logged: {message}")
        planned = set(run.plan["id"]) if len(run.plan) else {record.id for record in run.records}
        left = tuple(record for record in run.records if record.id in planned - self.ended)
        self._end(replace(run, records=left))
        self._send("log_study", describe_study(run))

    def finish(self, wait: bool = True) -> None:
        """End what is open, wait for it, and tell what has become of it."""
        for tracker in self.trackers:
            tracker.finish(wait)
        self._tell_problems()
        for tracker in self.trackers:
            if wait and not tracker.problem:
                self.reporter.note(f"logged to {tracker.name}: {tracker.destination}")

    @property
    def problems(self) -> dict[str, str]:
        """Why trackers were given up, by name."""
        return {tracker.name: tracker.problem for tracker in self.trackers if tracker.problem}

    def _end(self, run: Run) -> None:
        """Pass on the trials of a run's records."""
        epochs = read_epochs(run, run.records)
        for record in run.records:
            self._send("end", describe_record(record, self.run), epochs[record.id], describe_end(record))
            self.ended.add(record.id)

    def _send(self, *message: object) -> None:
        for tracker in self.trackers:
            tracker.send(*message)

    def _tell_problems(self) -> None:
        for name, problem in self.problems.items():
            if name not in self.told:
                self.told.add(name)
                self.reporter.note(f"{name} gets no more of this run: {problem}. Its trials are not touched by that.")


@contextmanager
def track(run: Path, names: Sequence[str], reporter: Reporter) -> Iterator[Tracking]:
    """Keep trackers for as long as a run goes on, and wait for them at its end. Raises as Tracking does."""
    tracking = Tracking(run, names, reporter)
    try:
        yield tracking
        tracking.finish()
    except BaseException:
        tracking.finish(wait=False)
        raise


def log_run(folder: Path, names: Sequence[str], reporter: Reporter) -> int:
    """Give trackers what they do not have yet of a run that is over, and return how many trials it has.

    Raises MissingExtraError where a tracker is not installed, TrackerError where one has not got all, RecordError where
    the run cannot be read, or another process runs it.
    """
    require_trackers(names)
    count = len(load_run(folder).records)
    with exclusive_run(folder):
        if not (folder / workspace.REPORT).is_file():
            from resflow.report.write import write_report  # matplotlib takes a while

            write_report(folder)
        with track(folder, names, reporter) as tracking:
            tracking.conclude()
    if tracking.problems:
        logs = ", ".join(str(tracker.log) for tracker in tracking.trackers if tracker.problem)
        raise TrackerError(
            f"{', '.join(tracking.problems)} has not got all of {folder}. Mend the reason, then run the same command "
            f"again: what is there is not written twice. What the client said: {logs}"
        )
    return count


def command_to_make_up(run: Path, name: str) -> str:
    """Return the command that gives a tracker what it has not got of a run."""
    return shlex.join(["resflow", "log", str(run), "--to", name])
