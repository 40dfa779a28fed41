"""Trackers beside a run: live and afterwards they are told the same, and no trial is touched by what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from support import fake_run, fake_tracker

from resflow import atomic, workspace
from resflow.errors import MissingExtraError, RecordError, TrackerError
from resflow.records.record import Outcome, write_record
from resflow.records.run import finished_records, load_run
from resflow.report import write
from resflow.runner import execute
from resflow.runner.progress import Progress
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.trackers import process
from resflow.trackers.known import TRACKERS, Known
from resflow.workflow import forecast
from resflow.workflow.plan import Plan, make_plan
from resflow.workflow.run import run_plan
from resflow.workflow.run_contract import RunOptions, RunResult, Silent
from resflow.workflow.tracking import log_run, track
from resflow.workflow.upgrade import upgrade_run

STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "Does depth help?",
    "baseline": "18",
    "factors": {"depth": [18, 34]},
    "execution": {"device": "cpu"},
    "recipe": {"epochs": 12},
    "seeds": 2,
}


class Listening(Silent):
    """A Reporter that keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str, title: str = "") -> None:
        self.notes.append(text)


def outcome_of(trial: Trial, status: str = "completed") -> Outcome:
    """What a trial leaves; one that fails has trained four epochs."""
    made = fake_run.completed(trial, (0.5 + trial.seed / 100, 0.9))
    if status == "completed":
        return made
    changes = {"status": status, "reason": "no memory", "metrics": {}, "best_epoch": None, "epochs_run": 4}
    return Outcome(made.record.model_copy(update=changes), made.history[:4])


class Runner:
    """In place of Ray: trials two by two, epoch by epoch, from `first` on; after `most` epochs the run is stopped."""

    def __init__(self) -> None:
        self.most: int | None = None
        self.first: dict[str, int] = {}  # epochs that lie in a checkpoint, by trial
        self.failing: set[str] = set()

    def __call__(
        self, place: Any, trials: list[Trial], folders: Any, show: Callable[[Progress], Any], stop: Any
    ) -> None:
        waiting = [trial for trial in trials if trial.id not in finished_records(place.run)]
        progress = Progress({trial.id: trial for trial in waiting}, len(waiting))
        said = 0
        for pair in (waiting[at : at + 2] for at in range(0, len(waiting), 2)):
            outcomes = {t.id: outcome_of(t, "failed" if t.id in self.failing else "completed") for t in pair}
            for trial in pair:
                progress.begin(trial.id)
                show(progress)
            for epoch in range(12):
                for trial_id, outcome in outcomes.items():
                    rows = outcome.history.to_dict("records")
                    if self.first.get(trial_id, 0) <= epoch < len(rows):
                        progress.end_epoch(trial_id, rows[epoch])
                        show(progress)
                        said += 1
                        if said == self.most:
                            self.first = {key: max(0, epoch - 2) for key in outcomes}
                            stop.reason = "the time is spent"
                            return
            for trial_id, outcome in outcomes.items():
                write_record(place.run, outcome)
                progress.end(trial_id, outcome.record)
                show(progress)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    runner = Runner()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecast, "count_slots", lambda *_: 2)
    monkeypatch.setattr("resflow.workflow.looks.count_slots", lambda *_: 2)
    monkeypatch.setattr(execute, "execute", runner)
    monkeypatch.setitem(TRACKERS, "fake", fake_tracker.known("Recording"))

    def write_little(run: Path, force: bool = False) -> Path:
        for name in (workspace.REPORT, workspace.README, workspace.TRIALS_TABLE):
            atomic.write(run / name, f"of {len(load_run(run).records)} trials")
        return run / workspace.REPORT

    monkeypatch.setattr(write, "write_report", write_little)  # figures take seconds
    return runner


def plan(out: str = "run", **changes: Any) -> Plan:
    return make_plan(load_study({**STUDY, **changes}), out=Path(out), prepare=False)


def run(made: Plan, *names: str, reporter: Any = None) -> RunResult:
    return run_plan(made, RunOptions(log=names), reporter)


def written(made: Plan) -> dict[str, list[list[Any]]]:
    """What of each trial the fake tracker of a run has been told, but for openings of its run."""
    calls = {trial.id: fake_tracker.calls_of(made.state, trial.id) for trial in made.trials}
    return {key: [call for call in told if call[0] != "begin"] for key, told in calls.items()}


def begun(made: Plan) -> dict[str, Any]:
    """How the tracker of a run was told of each trial when it first began, but for the run's name."""
    first = {trial.id: fake_tracker.calls_of(made.state, trial.id)[0] for trial in made.trials}
    return {key: {**facts, "run": ""} for key, (_, facts) in first.items()}


def test_live_and_afterwards_a_tracker_is_told_the_same(runner: Runner) -> None:
    live, over = plan("live"), plan("over")
    runner.failing = {live.trials[1].id}
    reporter = Listening()
    run(live, "fake", reporter=reporter)
    run(over)
    assert not fake_tracker.calls(over.state)
    log_run(over.run, ["fake"], Silent())
    assert written(live) == written(over)
    assert begun(live) == begun(over)
    ends = {key: told[-1] for key, told in written(live).items()}
    assert [end["status"] for _, end in ends.values()] == ["completed", "failed", "completed", "completed"]
    assert [len(told) for told in written(live).values()] == [13, 5, 13, 13]  # an epoch each, and the end
    last = live.trials[-1]
    facts, record = begun(live)[last.id], finished_records(live.run)[last.id]
    assert facts["parameters"]["depth"] == "34"
    assert facts["parameters"]["recipe.epochs"] == 12
    assert (facts["arm"], facts["seed"]) == ("34", 2)
    assert ends[last.id][1]["metrics"]["test_top1"] == record.metrics["test_top1"]
    assert reporter.notes[-1] == f"logged to fake: {live.state.absolute() / 'Recording.jsonl'}"


def test_what_is_logged_twice_is_written_once(runner: Runner) -> None:
    made = plan()
    run(made, "fake")
    calls = fake_tracker.calls(made.state)
    log_run(made.run, ["fake"], Silent())
    run(made, "fake")  # nothing is left to run
    upgrade_run(made.run)
    log_run(made.run, ["fake"], Silent())
    assert fake_tracker.calls(made.state) == calls
    assert calls[-1][:2] == ["log_study", "run"]


def test_a_packed_run_is_told_as_one_that_is_not(runner: Runner) -> None:
    loose, packed = plan("loose"), plan("packed")
    run(loose, "fake")
    run(packed)
    upgrade_run(packed.run)
    log_run(packed.run, ["fake"], Silent())
    assert written(packed) == written(loose)


@pytest.mark.parametrize(("most", "first"), [(9, ()), (9, ("fake",)), (30, ("fake",))])
def test_a_run_that_was_cut_off_logs_each_epoch_once(runner: Runner, most: int, first: tuple[str, ...]) -> None:
    made, whole = plan("cut"), plan("whole")
    runner.most = most
    assert not run(made, *first).complete
    runner.most = None
    assert run(made, "fake").complete
    runner.first = {}
    run(whole, "fake")
    interrupted = {"status": "interrupted", "reason": "", "metrics": {}}
    told = {key: [call for call in calls if call[1] != interrupted] for key, calls in written(made).items()}
    assert told == written(whole)


def test_seeds_that_are_added_one_by_one_are_all_logged(runner: Runner) -> None:
    made = plan(seeds={"at_least": 3, "at_most": 4, "until": "decided"})
    result = run(made, "fake")
    assert {key for key, told in written(made).items() if told} == {trial.id for trial in result.plan.trials}
    assert len([call for call in fake_tracker.calls(made.state) if call[0] == "log_study"]) == 1


@pytest.mark.parametrize("kind", ["Unreachable", "Raising", "Dying"])
def test_a_tracker_that_fails_changes_nothing_else(runner: Runner, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, beside = plan("alone"), plan("beside")
    run(alone)
    monkeypatch.setitem(TRACKERS, "bad", fake_tracker.known(kind))
    reporter = Listening()
    result = run(beside, "bad", "fake", reporter=reporter)
    assert finished_records(beside.run) == finished_records(alone.run)
    assert (result.complete, result.unlogged) == (True, ("bad",))
    assert len([note for note in reporter.notes if note.startswith("bad gets no more of this run: ")]) == 1
    assert all(told[-1][0] == "end" for told in written(beside).values())  # the other one has it all
    with pytest.raises(TrackerError, match="bad has not got all of beside"):
        log_run(beside.run, ["bad"], Silent())
    assert (beside.state / "logs" / "bad.log").is_file()


def test_a_tracker_that_hangs_is_waited_for_no_longer_than_is_said(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, beside = plan("alone"), plan("beside")
    run(alone)
    monkeypatch.setitem(TRACKERS, "bad", fake_tracker.known("Hanging"))
    monkeypatch.setattr(process, "LIMIT_S", 1.0)
    reporter = Listening()
    result = run(beside, "bad", reporter=reporter)
    assert finished_records(beside.run) == finished_records(alone.run)
    assert (result.complete, result.unlogged) == (True, ("bad",))
    assert "bad gets no more of this run: no answer within 1 s. Its trials are not touched by that." in reporter.notes


def test_a_run_that_ends_in_an_error_leaves_its_trials_as_interrupted(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()

    def refuse(record: Any, outcome: Any) -> None:
        raise RecordError("the disk is full")

    monkeypatch.setattr(sys.modules[__name__], "write_record", refuse)
    with pytest.raises(RecordError, match="the disk is full"):
        run(made, "fake")
    first, second = (made.trials[0].id, made.trials[1].id)
    deadline = time.monotonic() + 30
    while len(fake_tracker.calls(made.state)) < 2 * 14 and time.monotonic() < deadline:  # nobody waits for it
        time.sleep(0.05)
    assert [len(told) for told in written(made).values()] == [13, 13, 0, 0]
    assert {written(made)[key][-1][1]["status"] for key in (first, second)} == {"interrupted"}


def test_what_cannot_be_read_is_told(runner: Runner) -> None:
    made, reporter = plan(), Listening()
    run(made)
    lost = made.trials[0].id
    (workspace.trial_folder(made.run, lost) / "record.json").write_text("{")
    log_run(made.run, ["fake"], reporter)
    assert [note for note in reporter.notes if note.startswith("not logged: ") and lost in note]
    assert [key for key, told in written(made).items() if not told] == [lost]


def test_tune_can_pickle_whoever_hears_of_its_trials(runner: Runner) -> None:
    with track(Path("run"), ["fake"], Silent()) as tracking:
        cloudpickle.dumps(tracking.beside(print))


def test_a_tracker_that_is_not_there_is_told_before_anything_starts(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS, "mlflow", Known("no_such_package", "nowhere", "None"))
    made = plan()
    with pytest.raises(MissingExtraError, match=r"pip install 'resflow\[mlflow\]'"):
        run(made, "mlflow")
    with pytest.raises(TrackerError, match=r"unknown tracker 'mlfow'.*Did you mean 'mlflow'"):
        run(made, "mlfow")
    assert not made.run.exists()
