"""`--log` and `resflow log` as a user types them: what is told, and that a tracker decides nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support import direct, fake_run, fake_tracker, tiny
from support.direct import said
from typer.testing import CliRunner

from resflow import workspace
from resflow.cli import main, options
from resflow.errors import MissingExtraError, RecordError, ResflowError
from resflow.records.record import write_record
from resflow.records.run import finished_records
from resflow.report import write
from resflow.runner import execute
from resflow.runner.stopping import exclusive_run
from resflow.study.trial import Trial
from resflow.trackers.known import TRACKERS, Known

BAD = Known(fake_tracker.known("Unreachable").package, fake_tracker.__name__, "Unreachable")
STUDY = """
name: mine
question: Does the rate matter?
baseline: slow
factors: {learning_rate: {slow: 0.01, fast: 0.05}}
network: {family: cifar, depth: 8, shortcut: zero_pad, width: 0.125}
data: {source: "folder:photos", image_size: 16}
recipe: {epochs: 2, batch_size: 8}
seeds: 1
execution: {device: cpu}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which TensorBoard works, MLflow does not answer and W&B is not installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TRACKERS, "tensorboard", fake_tracker.known("Recording"))
    monkeypatch.setitem(TRACKERS, "mlflow", BAD)
    monkeypatch.setitem(TRACKERS, "wandb", Known("no_such_package", "nowhere", "None"))
    return tmp_path


@pytest.fixture
def finished(here: Path) -> Path:
    """A run that is over, with a report."""
    run = fake_run.write_run(here / "results" / "over", {"depth": {"18": 18}}, lambda levels: (0.5, 0.9), epochs=3)
    for name in (workspace.REPORT, workspace.README):
        (run / name).write_text("a report")
    return run


def test_a_run_that_is_over_is_logged_by_name(finished: Path) -> None:
    shown = said("log", "over", "--to", "tensorboard")
    state = workspace.state_folder(finished)
    assert f"logged to tensorboard: {state.absolute() / 'Recording.jsonl'}".replace(" ", "") in shown.replace(" ", "")
    assert "results/over: 3 trials" in shown
    calls = fake_tracker.calls(state)
    assert len([call for call in calls if call[0] == "end"]) == 3
    said("log", "over", "--to", "tensorboard", "--to", "tensorboard")
    assert fake_tracker.calls(state) == calls


@pytest.mark.parametrize("words", [("log", "over", "--to"), ("study", "depth", "--log")])
def test_what_cannot_be_logged_to_is_told_first(words: tuple[str, ...], finished: Path) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(MissingExtraError, match=r"needs the package no_such_package.*pip install 'resflow\[wandb\]'"):
        direct.raised(*words, "wandb")
    with pytest.raises(ResflowError, match=r"unknown tracker 'mlfow': expected one of.*Did you mean 'mlflow'"):
        direct.raised(*words, "tensorboard", words[-1], "mlfow")
    assert sorted(Path().rglob("*")) == before


def test_a_run_that_goes_on_is_not_logged_from_beside_it(finished: Path) -> None:
    with exclusive_run(finished), pytest.raises(RecordError, match="is being run by process"):
        direct.raised("log", "over", "--to", "tensorboard")
    assert not fake_tracker.calls(workspace.state_folder(finished))


def test_a_run_whose_report_is_gone_gets_one(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (finished / workspace.REPORT).unlink()
    monkeypatch.setattr(write, "write_report", lambda run: (run / workspace.REPORT).write_text("anew"))
    said("log", "over", "--to", "tensorboard")
    assert (finished / workspace.REPORT).read_text() == "anew"


def test_a_tracker_that_fails_is_told_and_decides_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.photos(here / "photos")
    (here / "mine.yaml").write_text(STUDY)

    def train(place: Any, trials: list[Trial], *given: Any) -> None:
        for trial in trials:
            write_record(place.run, fake_run.completed(trial, (0.5, 0.9)))

    monkeypatch.setattr(execute, "execute", train)

    def write_little(run: Path) -> Path:
        for name in (workspace.REPORT, workspace.README):
            (run / name).write_text("a report")
        return run / workspace.REPORT

    monkeypatch.setattr(write, "write_report", write_little)
    said("study", "./mine.yaml", "--out", "alone")
    shown = said("study", "./mine.yaml", "--out", "beside", "--log", "mlflow", "--log", "tensorboard")
    reason = "ConnectionRefusedError: nobody listens at 127.0.0.1:1"
    assert shown.count(f"mlflow gets no more of this run: {reason}.") == 1
    assert "mlflow has not got all of it; make up for that with: resflow log beside --to mlflow" in shown
    assert "and more of that" not in shown
    alone, beside = (finished_records(here / name) for name in ("alone", "beside"))
    assert alone == beside
    ends = [call for call in fake_tracker.calls(workspace.state_folder(here / "beside")) if call[0] == "end"]
    assert {call[1] for call in ends} == beside.keys()
    tried = CliRunner().invoke(main.app, ["log", "beside", "--to", "mlflow"])
    assert re.match(r"mlflow has not got all of beside\. Mend the reason", str(tried.exception))


def test_trackers_that_are_named_are_those_that_there_are() -> None:
    assert tuple(TRACKERS) == ("tensorboard", "mlflow", "wandb")
    assert options.Log.__metadata__[0].help.startswith("tensorboard, mlflow or wandb")  # type: ignore[attr-defined]
