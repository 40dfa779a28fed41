"""The progress of a run: the time left, by trials that are made here without a network, and the file for others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow import provenance
from resflow.errors import RecordError
from resflow.records.record import Record
from resflow.runner import progress as progressing
from resflow.runner import tune_adapters
from resflow.runner.progress import BEAT_S, PAUSE_S, SILENT_S, Progress, ProgressFile, read_progress
from resflow.study import costs
from resflow.study.trial import Trial
from resflow.workspace import PROGRESS


class Clock:
    """The time, as a test has it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progressing, "time", clock)
    return clock


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    """Two seeds of a small arm and two of one with thrice the multiply-adds, of four epochs each."""
    first = tiny.trial(tiny.prepare(), epochs=4)
    made = [replace(first, id=f"{arm}{seed}", arm=arm, seed=seed) for arm in ("small", "large") for seed in (1, 2)]
    for trial in made:
        vars(trial)["multiply_adds"] = first.multiply_adds * (3 if trial.arm == "large" else 1)
    return made


def record(trial: Trial, seconds: float = 10.0, status: str = "completed") -> Record:
    failed = tune_adapters.make_failed_record(trial, "for its time alone")
    return failed.model_copy(update={"status": status, "seconds": seconds})


def progress_of(trials: list[Trial], **more: Any) -> Progress:
    return Progress({trial.id: trial for trial in trials}, len(trials), planned=trials, **more)


def test_nothing_is_said_before_anything_was_measured(trials: list[Trial], clock: Clock) -> None:
    progress = progress_of(trials)
    assert progress.seconds_left() is None
    progress.begin("small1")
    assert progress.seconds_left() is None
    progress.end("small1", record(trials[0], status="failed"))
    assert progress.seconds_left() is None


def test_an_arm_takes_as_long_as_it_took_and_others_by_their_size(trials: list[Trial], clock: Clock) -> None:
    progress = progress_of(trials)
    work = costs.estimate_work(trials)
    larger = work["large1"] / work["small1"]
    assert larger > 1
    progress.end("small1", record(trials[0], 10))
    assert progress.seconds_left() == pytest.approx(10 + 2 * 10 * larger)
    progress.end("large1", record(trials[2], 90))  # large networks are slower than their size says
    assert progress.seconds_left() == pytest.approx(10 + 90)
    progress.most_at_a_time = 2
    assert progress.seconds_left() == pytest.approx(90)  # not less than the longest one
    progress.end("small2", record(trials[1]))
    progress.end("large2", record(trials[3]))
    assert progress.seconds_left() == 0


def test_what_was_there_before_counts(trials: list[Trial], clock: Clock) -> None:
    progress = progress_of(trials[1:], before={"small1": record(trials[0], 8)})
    progress.planned = trials
    work = costs.estimate_work(trials)
    assert progress.seconds_left() == pytest.approx(8 + 2 * 8 * work["large1"] / work["small1"])


def test_a_running_trial_goes_on_as_fast_as_its_epochs_after_the_first(trials: list[Trial], clock: Clock) -> None:
    progress = progress_of(trials[:1])
    progress.begin("small1")
    progress.end_epoch("small1", {"epoch": 1, "seconds": 30.0})
    assert progress.seconds_left() == pytest.approx(90)
    progress.end_epoch("small1", {"epoch": 2, "seconds": 4.0})  # the first one compiled
    assert progress.seconds_left() == pytest.approx(8)
    clock.now += 3
    assert progress.seconds_left() == pytest.approx(5)
    clock.now += 100  # an epoch that takes longer than it should has not taken those after it along
    assert progress.seconds_left() == pytest.approx(4)
    progress.begin("small1")  # another worker goes on with it
    assert progress.epoch("small1") == 0


@given(
    ends=st.permutations(range(4)), paces=st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 1e4)), slots=st.integers(1, 4)
)
def test_the_time_left_is_exact_where_arms_keep_their_pace(
    trials: list[Trial], ends: list[int], paces: tuple[float, float], slots: int
) -> None:
    seconds = dict(zip(("small", "large"), paces, strict=True))
    progress = progress_of(trials, most_at_a_time=slots)
    for count, place in enumerate(ends, start=1):
        progress.end(trials[place].id, record(trials[place], seconds[trials[place].arm]))
        left = [seconds[trials[other].arm] for other in ends[count:]]
        if {trials[other].arm for other in ends[:count]} == set(seconds) or not left:
            assert progress.seconds_left() == pytest.approx(max([sum(left) / slots, *left]) if left else 0)
        else:
            assert (progress.seconds_left() or 0) > 0


# --- the file


def test_another_process_reads_what_this_one_knows(trials: list[Trial], tmp_path: Path) -> None:
    progress = progress_of(trials)
    progress.begin("large1")
    for epoch in (1, 2):
        progress.end_epoch(
            "large1", {"epoch": epoch, "seconds": 2.0, "train_top1": 0.5, "validation_top1": 0.25, "x": 9}
        )
    with ProgressFile(tmp_path, progress).kept():
        code = "import sys; from pathlib import Path; from resflow.runner.progress import read_progress\n"
        code += "print(read_progress(Path(sys.argv[1])))"
        shown = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        kept = read_progress(tmp_path)
        assert kept is not None
        assert kept.running == progress.running_trials()
        assert str(kept.running) in shown.stdout
        assert kept.running[0].train_top1 == (0.5, 0.5)
        assert (kept.total, kept.done, kept.is_search) == (4, 0, False)
    assert read_progress(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_file_is_written_now_and_then(trials: list[Trial], tmp_path: Path, clock: Clock) -> None:
    file = ProgressFile(tmp_path, progress_of(trials))

    def written() -> float:
        return float(json.loads((tmp_path / PROGRESS).read_text())["written"] - 1e9)

    file.write()
    begin = clock.now
    assert written() == begin
    clock.now += PAUSE_S / 2
    file.write(changed=True)
    assert written() == begin  # too soon: the next look writes it
    clock.now += PAUSE_S
    file.write()
    assert written() == clock.now
    clock.now += BEAT_S / 2
    file.write()
    assert written() == begin + 1.5 * PAUSE_S  # nothing is new
    clock.now += BEAT_S / 2
    file.write()
    assert written() == clock.now


def test_a_driver_that_is_gone_runs_nothing(trials: list[Trial], tmp_path: Path, clock: Clock) -> None:
    ProgressFile(tmp_path, progress_of(trials)).write()
    path = tmp_path / PROGRESS
    kept = json.loads(path.read_text())
    assert (kept["pid"], kept["host"]) == (os.getpid(), provenance.environment()["host"])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(json.dumps({**kept, "pid": ended.pid}))
    assert read_progress(tmp_path) is None
    path.write_text(json.dumps({**kept, "pid": ended.pid, "host": "elsewhere"}))
    assert read_progress(tmp_path) is not None
    clock.now += SILENT_S + 1
    assert read_progress(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"written": "x"}', '{"written": 1e99, "host": "x"}', "\x00"])
def test_a_file_that_nobody_wrote_so_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / PROGRESS).write_text(text)
    with pytest.raises(RecordError, match=f"{PROGRESS} cannot be read"):
        read_progress(tmp_path)


def test_a_disk_that_refuses_costs_no_run(trials: list[Trial], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ProgressFile(tmp_path / "file", progress_of(trials)).kept() as file:
        file.write(changed=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
