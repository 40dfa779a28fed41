"""`resflow status` of runs that go on: as a table, as JSON, watched from another process or in a pipe."""

from __future__ import annotations

import io
import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_run import trial_id, write_run
from typer.testing import CliRunner

from resflow import provenance, workspace
from resflow.analysis.analyse import analyse
from resflow.cli import console, live_view, main, status
from resflow.errors import ResflowError
from resflow.records.run import load_run
from resflow.runner.progress import RunningTrial
from resflow.runner.stopping import exclusive_run
from resflow.workflow.status import ArmMean, RunState, read_state

ARMS = ("plain-18", "plain-34", "plain-50", "plain-101", "residual-18", "residual-34", "residual-50", "residual-101")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of eight arms and three seeds: one trial runs, one has not run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status, "PAUSE_S", 0.0)
    states = {("plain-101", 2): "not run", ("plain-101", 3): "not run", ("plain-50", 1): "failed"}
    return write_run(Path("results") / "one", statuses=states, epochs=4)


@contextmanager
def driven(folder: Path, **more: Any) -> Iterator[None]:
    """Be the process that runs a run, whose file says what a ProgressFile would."""
    path = workspace.state_folder(folder) / workspace.PROGRESS
    path.parent.mkdir(parents=True, exist_ok=True)
    running = {
        "id": trial_id("plain-101", 2),
        "arm": "plain-101",
        "seed": 2,
        "candidate": None,
        "epoch": 3,
        "epochs": 4,
    }
    running |= {"train_top1": [0.1, 0.2, 0.3], "validation_top1": [0.1, 0.15, 0.2]}
    owner = {"host": provenance.environment()["host"], "pid": 1, "written": time.time()}
    state = {"seconds": 60.0, "seconds_left": 30.0, "is_search": False, "total": 2, "done": 0, "running": [running]}
    path.write_text(json.dumps({**owner, **state, **more}))
    with exclusive_run(folder):
        yield
    path.unlink(missing_ok=True)


def said(*words: str) -> str:
    result = CliRunner().invoke(main.app, ["status", *words])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_json_says_what_the_manual_says(run: Path) -> None:
    with driven(run):
        state = json.loads(said("one", "--json"))
    manual = (Path(main.__file__).parents[2] / "studies" / "README.md").read_text(encoding="utf-8")
    table = manual.partition("### What status --json prints")[2].partition("\n### ")[0]
    named = {name for row in re.findall(r"^\| .*", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert {"run", "counts", "seconds_left"} <= set(state) <= named
    for key in ("arms", "running", "trials"):
        assert set(state[key][0]) <= named
    assert (state["run"], state["is_running"], state["total"]) == ("one", True, 24)
    assert state["counts"] == {"completed": 21, "failed": 1, "running": 1, "not run": 1}
    assert 29 < state["seconds_left"] <= 30
    assert [trial["arm"] for trial in state["running"]] == ["plain-101"]
    assert {arm["arm"] for arm in state["arms"]} == set(ARMS)
    assert [trial["state"] for trial in state["trials"]].count("running") == 1
    still = json.loads(said("one", "--json"))
    assert (still["is_running"], still["running"], still["seconds_left"]) == (False, [], None)
    assert json.loads(said("--json")) == [still]


def test_means_are_those_of_the_report(run: Path) -> None:
    known = analyse(run).arms.set_index("arm")
    for arm in read_state(run).arms:
        row = known.loc[arm.arm]
        assert arm.seeds == row["n"]
        for name in ("mean", "low", "high"):
            assert getattr(arm, name) == pytest.approx(row[name], nan_ok=True)


def test_a_run_that_cannot_be_read_hides_no_other(run: Path) -> None:
    broken = write_run(Path("results") / "two", seeds=(1,), epochs=2)
    (broken / "plan.csv").write_text("nonsense")
    states = {state["run"]: state for state in json.loads(said("--json"))}
    assert "plan.csv" in states["two"]["error"]
    assert states["one"]["total"] == 24


def test_a_run_that_goes_on_is_shown_with_its_curve(run: Path) -> None:
    with driven(run):
        shown = said("one")
        assert re.search(r"plain-101 +2 +running", shown)
        assert "21 completed, 1 failed, 1 running, 1 not run · 60 s so far · about 30 s left" in shown
        assert re.search(r"plain-101 +2 +3/4 +\S+ 30.0% +\S+ 20.0%", shown)
        assert "1 running" in said()
    assert "running" not in said("one")


def test_a_file_of_progress_that_is_damaged_is_told(run: Path) -> None:
    with driven(run, written="yesterday"):
        assert f"{workspace.PROGRESS} cannot be read" in said("one")


def test_watching_where_nothing_is_drawn_anew_is_a_line_a_trial(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end_a_trial() -> None:
        write_run(run, statuses={("plain-101", 3): "not run", ("plain-50", 1): "failed"}, epochs=4)
        path = workspace.state_folder(run) / workspace.PROGRESS
        path.write_text(json.dumps(json.loads(path.read_text()) | {"running": [], "done": 1}))

    def end_the_run() -> None:
        for path in (workspace.state_folder(run) / workspace.PROGRESS, run / workspace.DRIVER):
            path.unlink()

    looks = iter((end_a_trial, end_the_run))
    monkeypatch.setattr(status.time, "sleep", lambda seconds: next(looks)())
    with driven(run):
        shown = said("one", "--watch")
    lines = shown.splitlines()
    assert lines[0].startswith("23/24 plain-101 seed 2: test top-1 ")
    assert lines[0].endswith(" left")
    assert "22 completed, 1 failed, 1 not run" in lines
    assert not CONTROL.search(shown)


def test_watching_what_nobody_runs_says_so(run: Path) -> None:
    assert "No process runs one right now" in said("one", "--watch")
    for words in (("--watch",), ("one", "--watch", "--json")):
        result = CliRunner().invoke(main.app, ["status", *words])
        assert isinstance(result.exception, ResflowError), words
    with driven(run), pytest.MonkeyPatch.context() as patch:
        patch.setattr(status.time, "sleep", lambda seconds: (run / workspace.DRIVER).unlink())
        assert "21 completed" in said("--watch")  # the one that goes on


# --- drawing

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=300)


@given(values=VALUES, width=st.integers(1, 30))
def test_a_curve_has_its_shape(values: list[float], width: int) -> None:
    drawn = live_view.sparkline(values, width, 1.0)
    assert len(drawn) == min(width, len(values))
    assert set(drawn) <= set(live_view.BLOCKS)
    rising = live_view.sparkline(sorted(values), width, 1.0)
    assert [*rising] == sorted(rising, key=live_view.BLOCKS.index)
    assert live_view.sparkline([*values, 1.0], 1000, 1.0)[-1] == live_view.BLOCKS[-1]
    same = [live_view.ASCII_BLOCKS[live_view.BLOCKS.index(block)] for block in drawn]
    assert "".join(same) == live_view.sparkline(values, width, 1.0, live_view.ASCII_BLOCKS)


def test_a_curve_of_what_is_no_number_has_a_gap() -> None:
    assert live_view.sparkline([0.0, math.nan, 0.0], 3, 0.0) == "▁ ▁"


STATES = st.builds(
    RunState,
    metric=st.sampled_from(["test_top1", "test_loss"]),
    counts=st.dictionaries(st.sampled_from(["completed", "failed", "running", "not run"]), st.integers(1, 99)),
    arms=st.lists(
        st.builds(
            ArmMean,
            arm=st.sampled_from(ARMS),
            seeds=st.integers(1, 20),
            mean=st.floats(0, 1),
            low=st.floats(0, 0.5) | st.just(math.nan),
            high=st.floats(0.5, 1),
            note=st.just("two seeds: no interval"),
        ),
        max_size=60,
    ).map(tuple),
    running=st.lists(
        st.builds(
            RunningTrial,
            id=st.just("0" * 12),
            arm=st.sampled_from(ARMS),
            seed=st.integers(1, 20),
            candidate=st.none() | st.integers(1, 50),
            epoch=st.integers(0, 300),
            epochs=st.just(300),
            train_top1=VALUES.map(tuple),
            validation_top1=VALUES.map(tuple),
        ),
        max_size=60,
    ).map(tuple),
    seconds=st.none() | st.floats(0, 1e6),
    seconds_left=st.none() | st.floats(0, 1e6),
)


@given(state=STATES, width=st.sampled_from([60, 80, 120]), height=st.integers(20, 50))
def test_a_screen_is_never_left(state: RunState, width: int, height: int) -> None:
    made = console.SafeConsole(file=io.StringIO(), width=width, height=height, force_terminal=True)
    lines = made.render_lines(live_view.draw(state, made, made.options))
    assert len(lines) < height
    shown = "\n".join("".join(segment.text for segment in line) for line in lines)
    for trial in state.running[:2]:
        assert f"{trial.epoch}/{trial.epochs}" in shown  # no cell of numbers is cut
    assert "…" not in shown


def test_the_state_of_a_run_is_its_records(run: Path) -> None:
    state, known = read_state(run), {record.id: record for record in load_run(run).records}
    assert {trial.id: trial.state for trial in state.trials if trial.id in known} == {
        key: record.status for key, record in known.items()
    }
    assert state.ended == len(known)
