"""A tracker in a process of its own: what it does wrong is a reason, and nobody waits for it longer than is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support import fake_tracker

from resflow.trackers import process
from resflow.trackers.known import Known
from resflow.trackers.process import TrackerProcess
from resflow.trackers.tracker import TrialEnd, TrialStart

TRIAL = TrialStart("a1", "run", "study", "arm", 1, 0, {"depth": "18"})
HISTORY = [{"epoch": 1.0, "train_loss": 0.5}, {"epoch": 2.0, "train_loss": 0.25}]
END = TrialEnd("completed", metrics={"test_top1": 0.5})
DRIVER = """
import os, signal, sys, time
from pathlib import Path
from support import fake_tracker
from resflow.trackers.process import TrackerProcess
from resflow.trackers.tracker import TrialStart

state = Path(sys.argv[1])
TrackerProcess("fake", fake_tracker.known("Recording"), state).send(
    "begin", TrialStart("a1", "run", "study", "arm", 1, 0, {})
)
while not fake_tracker.calls(state):
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def log_trial(tracker: TrackerProcess) -> None:
    tracker.send("begin", TRIAL)
    tracker.send("log_epochs", TRIAL, HISTORY[:1])
    tracker.send("end", TRIAL, HISTORY, END)


def test_what_is_sent_is_written_in_order(tmp_path: Path) -> None:
    tracker = TrackerProcess("fake", fake_tracker.known("Printing"), tmp_path)
    log_trial(tracker)
    tracker.finish()
    assert (tracker.problem, tracker.destination) == ("", str(tmp_path / "Printing.jsonl"))
    methods = [method for method, _ in fake_tracker.calls_of(tmp_path, TRIAL.id, "Printing")]
    assert methods == ["begin", "log_epochs", "log_epochs", "end"]
    assert tracker.log.read_text() == "a client's own words\n"  # and nothing on the screen
    assert tracker.process.returncode == 0


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (Known("json", "support.nowhere", "Tracker"), "ModuleNotFoundError: No module named 'support.nowhere'"),
        (fake_tracker.known("Unreachable"), "ConnectionRefusedError: nobody listens at 127.0.0.1:1"),
        (fake_tracker.known("Raising"), "RuntimeError: no room"),
        (fake_tracker.known("Dying"), "its process has ended: "),
    ],
)
def test_a_tracker_that_fails_says_why(known: Known, reason: str, tmp_path: Path) -> None:
    tracker = TrackerProcess("fake", known, tmp_path)
    log_trial(tracker)
    tracker.finish()
    assert tracker.problem.startswith(reason)
    assert "\n" not in tracker.problem
    tracker.send("begin", TRIAL)  # it is given up
    tracker.finish()
    assert all(path.read_text().count("log_epochs") == 0 for path in tmp_path.glob("*.jsonl"))


def test_a_client_finds_the_variables_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "flowers")
    known = replace(fake_tracker.known("Variables"), variables={"WANDB_PROJECT": "another", "WANDB_SILENT": "true"})
    tracker = TrackerProcess("fake", known, tmp_path)
    tracker.finish()
    found = json.loads(tracker.destination)
    assert (found["WANDB_PROJECT"], found["WANDB_SILENT"]) == ("flowers", "true")


def test_a_tracker_that_hangs_is_given_up_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = TrackerProcess("fake", fake_tracker.known("Hanging"), tmp_path)
    while not tracker.destination and not tracker.problem:  # it has the usual time to start
        time.sleep(0.01)
    monkeypatch.setattr(process, "LIMIT_S", 0.2)
    log_trial(tracker)
    begun = time.monotonic()
    tracker.finish()
    assert time.monotonic() - begun < 10
    assert tracker.problem == "no answer within 0.2 s"
    assert tracker.process.returncode == -signal.SIGKILL


def test_a_tracker_whose_driver_is_gone_leaves_its_trials_as_interrupted(tmp_path: Path) -> None:
    places = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path)], env=places)
    assert driver.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while len(fake_tracker.calls(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [method for method, _ in fake_tracker.calls_of(tmp_path, TRIAL.id)] == ["begin", "end"]
    assert fake_tracker.calls(tmp_path)[-1][2]["status"] == "interrupted"
