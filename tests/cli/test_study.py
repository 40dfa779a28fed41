"""`resflow study` and `retry` as a user runs them again and again: what stays, what goes, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import direct, tiny
from support.direct import said
from typer.testing import CliRunner

from resflow.cli import main
from resflow.errors import RecordError, ResflowError
from resflow.records.record import Outcome, Record, read_record
from resflow.records.run import finished_records, load_run
from resflow.report import write
from resflow.runner import execute
from resflow.runner.stopping import exclusive_run
from resflow.study.trial import Trial
from resflow.training import train
from resflow.workspace import ARCHIVE, DRIVER

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
STUDY = """
name: mine
question: Does the rate matter?
baseline: slow
factors: {learning_rate: {slow: 0.01, fast: 0.05}}
network: {family: cifar, depth: 8, shortcut: zero_pad, width: 0.125}
data: {source: "folder:photos", image_size: 16}
recipe: {epochs: 1, batch_size: 8}
seeds: 1
execution: {device: cpu}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study of ten photos of each of three classes; trials run in this process, without Ray."""
    tiny.photos(tmp_path / "photos")
    (tmp_path / "mine.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execute, "execute", direct.execute)
    monkeypatch.setattr(write, "write_report", lambda run: run / "report.html")  # figures take seconds
    return tmp_path


def dry_run(*options: str) -> str:
    """What a dry run of the study says, as one line."""
    return " ".join(said("study", "./mine.yaml", *options, "--dry-run").split())


def the_run() -> Path:
    (run,) = Path("results").iterdir()
    return run


def finished() -> dict[str, Record]:
    return finished_records(the_run())


def failing(monkeypatch: pytest.MonkeyPatch, status: str, *arms: str) -> None:
    """Let the trials of some arms end with a status."""
    real = train.train_trial

    def run(trial: Trial, *args: Any, **more: Any) -> Outcome:
        outcome = real(trial, *args, **more)
        if trial.arm not in arms:
            return outcome
        failed = outcome.record.model_copy(update={"status": status, "reason": "by the test", "metrics": {}})
        return replace(outcome, record=failed)

    monkeypatch.setattr(train, "train_trial", run)


def test_an_edited_study_keeps_what_is_unchanged_and_names_what_it_dropped(here: Path) -> None:
    said("study", "./mine.yaml")
    before = finished()
    (here / "mine.yaml").write_text(STUDY.replace("fast: 0.05", "faster: 0.1"))
    shown = said("study", "./mine.yaml")
    assert "2 trials, 1 of them done before" in shown
    dropped = next(record.id for record in before.values() if record.arm == "fast")
    assert "1 record of trials that this study does not have (any more) left out of the report" in shown
    assert f"--prune sets them aside: {dropped}" in shown
    after = finished()
    assert {record.arm for record in after.values()} == {"slow", "fast", "faster"}
    slow = next(record for record in before.values() if record.arm == "slow")
    assert after[slow.id] == slow  # not run again: its times are the same

    pruned = said("study", "./mine.yaml", "--prune")
    assert "1 record set aside in .resflow/" in pruned
    assert finished().keys() == after.keys() - {dropped}
    (aside,) = Path(".resflow").glob("*/set_aside/*/*")
    assert (aside.name, read_record(aside)) == (dropped, before[dropped])
    assert "left out" not in said("study", "./mine.yaml")


def test_fresh_runs_all_of_it_again_and_loses_nothing() -> None:
    said("study", "./mine.yaml")
    before = finished()
    checkpoints = Path(".resflow") / the_run().name / "checkpoints"
    checkpoints.mkdir(parents=True)
    stale = checkpoints / f"{next(iter(before))}.safetensors"
    stale.write_bytes(b"of an interrupted process")
    shown = said("study", "./mine.yaml", "--fresh")
    assert "2 records set aside" in shown
    assert "0 of them done before" in shown
    assert not stale.exists()
    after = finished()
    assert after.keys() == before.keys()
    assert all(after[key].metrics == before[key].metrics for key in before)
    assert {path.name for path in Path(".resflow").glob("*/set_aside/*/*")} == before.keys()


def test_a_packed_run_goes_on_as_any_other() -> None:
    said("study", "./mine.yaml")
    assert f"{the_run()}: 2 trials packed;" in said("upgrade", the_run().name)
    first = finished()
    assert "4 trials, 2 of them done before" in said("study", "./mine.yaml", "--seeds", "2")
    assert {key: finished()[key] for key in first} == first
    said("upgrade", the_run().name)
    before = finished()
    assert [path.name for path in (the_run() / "trials").iterdir()] == [ARCHIVE]

    assert "4 trials, 4 to run" in dry_run("--seeds", "2", "--out", "elsewhere")
    assert "4 trials, 0 to run" in dry_run("--seeds", "2", "--out", "elsewhere", "--reuse", the_run().name)
    assert "4 trials, 0 to run" in dry_run("--seeds", "2")
    assert "4 trials, 4 to run" in dry_run("--seeds", "2", "--fresh")

    shown = said("study", "./mine.yaml", "--seeds", "2", "--out", "elsewhere", "--reuse", the_run().name)
    assert "4 records taken over" in shown
    assert {key: record.metrics for key, record in finished_records(Path("elsewhere")).items()} == {
        key: record.metrics for key, record in before.items()
    }
    assert "2 records set aside" in said("study", "./mine.yaml", "--prune")
    assert finished() == first
    assert "2 records set aside" in said("study", "./mine.yaml", "--fresh")
    after = finished()
    assert {key: record.metrics for key, record in after.items()} == {
        key: record.metrics for key, record in first.items()
    }
    assert not (the_run() / "trials" / ARCHIVE).exists()
    assert {path.name for path in Path(".resflow").glob("*/set_aside/*/*")} == before.keys()


def test_trials_that_failed_and_were_packed_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch, "failed", "fast")
        said("study", "./mine.yaml", code=1)
    said("upgrade", the_run().name)
    shown = said("retry", the_run().name)
    assert "1 record set aside" in shown
    assert "2 completed" in shown
    (the_run() / "trials" / ARCHIVE).write_bytes(b"no archive")
    result = CliRunner().invoke(main.app, ["study", "./mine.yaml"])
    assert isinstance(result.exception, RecordError)
    assert "Restore it" in str(result.exception)


def test_fresh_on_a_new_run_is_a_study() -> None:
    assert "2 completed" in said("study", "./mine.yaml", "--fresh")


def test_retry_runs_what_failed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch, "failed", "fast")
        shown = said("study", "./mine.yaml", code=1)
    assert "fast seed 1 failed: by the test" in shown
    assert f"Run them again with: resflow retry {the_run()}" in shown
    before = finished()
    again = said("retry", the_run().name)
    assert "1 record set aside" in again
    assert "2 trials, 1 of them done before" in again
    assert "2 completed" in again
    after = finished()
    assert after.keys() == before.keys()
    assert [record for record in after.values() if record.arm == "slow"] == [
        record for record in before.values() if record.arm == "slow"
    ]
    command = load_run(the_run()).study["command"]
    assert command == "resflow study ./mine.yaml"  # as it was first typed
    assert "2 of them done before" in said("retry", str(the_run()))


@pytest.mark.parametrize(
    ("status", "arms", "code"),
    [
        ("failed", ("fast",), 1),
        ("failed", ("fast", "slow"), 2),
        ("diverged", ("fast",), 0),
        ("diverged", ("fast", "slow"), 2),
    ],
)
def test_the_exit_code_tells_whether_all_some_or_none_completed(
    status: str, arms: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, status, *arms)
    assert "Report: " in said("study", "./mine.yaml", code=code)
    assert "2 of them done before" in said("study", "./mine.yaml", code=code)  # nothing is left to do: it still tells


def test_retry_takes_diverged_trials_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch, "diverged", "fast")
        said("study", "./mine.yaml")
    assert "1 diverged" in said("retry", the_run().name)
    assert "2 completed" in said("retry", the_run().name, "--diverged")


def test_a_run_that_another_process_runs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said("study", "./mine.yaml")
    with exclusive_run(the_run()):
        note = json.loads((the_run() / DRIVER).read_text())
        for words in (("study", "./mine.yaml"), ("retry", the_run().name)):
            with pytest.raises(RecordError, match=f"is being run by process {note['pid']} on {note['host']}"):
                direct.raised(*words)


def test_why_a_run_stopped_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(place: Any, trials: list[Trial], folders: Any, show: Any, stop: Any) -> list[Record]:
        done = direct.execute(place, trials[:1], folders, show)
        stop.failures = 3
        assert stop.due()
        return done

    monkeypatch.setattr(execute, "execute", stopped)
    shown = said("study", "./mine.yaml", "--max-failures", "3", code=1)
    assert "Stopped: 3 trials failed or diverged, which --max-failures allows. 1 trial without a record yet" in shown
    assert "Report: " in shown


def test_stopping_now_lets_go_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: Any) -> list[Record]:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "execute", killed)
    said("study", "./mine.yaml", code=130)
    with exclusive_run(the_run()):  # nobody holds it
        pass


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("study", "./mine.yaml", "--time-budget", "soon"), "'soon' is no time budget"),
        (("study", "./mine.yaml", "--dry-run", "--time-budget", "3 weeks"), "'3 weeks' is no time budget"),
        (
            ("study", "./mine.yaml", "--storage", "nonsense://x", "--fresh"),
            "checkpoints cannot be kept at nonsense://x",
        ),
        (("retry", "nothing"), "no results folder at nothing"),
    ],
)
def test_wrong_input_is_told(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ResflowError, match=told):
        direct.raised(*words)
