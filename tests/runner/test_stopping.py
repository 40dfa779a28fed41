"""The early end of a run by signals, budgets and failures, and its lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow import interruption
from resflow.errors import RecordError, StudyError
from resflow.runner import stopping
from resflow.runner.stopping import Stop
from resflow.workspace import DRIVER


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 d", 172800), ("5 MIN", 300), ("0.5", 0.5)],
)
def test_a_time_budget_has_a_unit(text: str, seconds: float) -> None:
    assert stopping.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3", "3 weeks", "1h30", "0", "inf", "1e3", "h"])
def test_what_is_no_time_budget_is_told(text: str) -> None:
    with pytest.raises(StudyError, match="is no time budget: expected seconds"):
        stopping.parse_duration(text)


@given(st.text())
def test_any_text_is_a_budget_or_an_error_of_the_user(text: str) -> None:
    with suppress(StudyError):
        assert stopping.parse_duration(text) > 0


def test_failures_and_time_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop(max_failures=2)
    for status in ("completed", "failed", "completed"):
        stop.count(status)
        assert not stop.due()
    stop.count("diverged")
    assert stop.due()
    assert stop.reason == "2 trials failed or diverged, which --max-failures allows"
    now = [50.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    stop = Stop(time_budget=10, started=50.0)
    now[0] = 59.9
    assert not stop.due()
    now[0] = 60.0
    assert stop.due()
    assert stop.reason == "the time budget of 10 s is spent"


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_the_first_signal_asks_and_the_second_ends(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(each) for each in interruption.SIGNALS]
    stop = Stop()
    with stop.on_signals():
        signal.raise_signal(number)
        assert stop.due()
        assert "Ctrl-C again stops now" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert stop.reason == f"interrupted by {signal.Signals(number).name}"
    assert [signal.getsignal(each) for each in interruption.SIGNALS] == before
    with Stop().on_signals():  # a notebook's next run is asked anew
        signal.raise_signal(number)


HOLD = """
import sys, time
from pathlib import Path
from resflow.runner import stopping
with stopping.exclusive_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_driver_is_refused_with_the_first_ones_host_and_pid(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        said = json.loads((run / DRIVER).read_text())
        with pytest.raises(RecordError, match=rf"is being run by process {first.pid} on {said['host']} since"):
            stopping.exclusive_run(run).__enter__()
    finally:
        first.kill()  # and a dead one's hold ends with it, its note left behind
        first.communicate()
    assert (run / DRIVER).is_file()
    with stopping.exclusive_run(run):
        assert json.loads((run / DRIVER).read_text())["pid"] == os.getpid()
    assert not (run / DRIVER).exists()
    with stopping.exclusive_run(run):
        pass


def test_a_lock_without_a_readable_note_is_a_lock(tmp_path: Path) -> None:
    with stopping.exclusive_run(tmp_path):
        (tmp_path / DRIVER).write_text("{")
        with pytest.raises(RecordError, match="is being run by another process"):
            stopping.exclusive_run(tmp_path).__enter__()


def test_a_run_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot write into"):
        stopping.exclusive_run(tmp_path / "file" / "run").__enter__()


def test_the_clock_of_the_wall_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop(time_budget=3600)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert not stop.due()
