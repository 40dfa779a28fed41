"""Contests on a GPU, as far as a CPU can tell: who takes part, what is computed of it, and what survives a failure."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from resflow import provenance
from resflow.bench import clock, contest, device, epoch, gpu, packing, page, process, repeat, saving, step
from resflow.bench.contest import Contender
from resflow.cli import main
from resflow.errors import RecordError, ResflowError
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan

# Processes


def test_only_a_contender_on_a_gpu_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert process.environment()["CUDA_VISIBLE_DEVICES"] == ""
    assert process.environment(device="gpu")["CUDA_VISIBLE_DEVICES"] == "3"


def test_what_takes_too_long_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    place = tmp_path / "child"
    with pytest.raises(subprocess.TimeoutExpired):
        process.run_limited(["sh", "-c", f"sleep 60 & echo $! > {place}; wait"], dict(os.environ), limit=1)
    end, state = time.monotonic() + 10, Path(f"/proc/{place.read_text().strip()}/stat")
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.01)
    assert time.monotonic() < end


def test_a_contest_goes_on_without_an_optional_contender_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(module: str, *_: Any) -> dict[str, Any]:
        asked.append(module)
        if module == "bad":
            raise ResflowError("no compiler")
        return {"images_per_s": 1.0}

    monkeypatch.setattr(process, "ask", ask)
    contenders = [Contender("odd", "bad", {}, optional=True), Contender("ours", "good", {})]
    answers, failed = contest.split_failed(contest.ask_in_turn(contenders, 2, lambda text: None))
    assert (asked, failed, list(answers)) == (["bad", "good", "good"], {"odd": "no compiler"}, ["ours"])
    with pytest.raises(ResflowError, match="no compiler"):
        contest.ask_in_turn([Contender("odd", "bad", {})], 1, lambda text: None)


def test_a_gpu_that_is_not_there_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "count_gpus", lambda: 0)
    for words in (["step"], ["epoch"], ["input"], ["study"], ["packing"], ["repeat"], ["gpu", "--out", "never"]):
        result = CliRunner().invoke(main.app, ["bench", *words, "--device", "gpu"])
        assert isinstance(result.exception, ResflowError)
        assert "--device cpu" in str(result.exception)
    assert not Path("never").exists()


# Arithmetic


def test_passes_leave_the_first_two_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], [0]

    def run() -> None:
        calls[0] += 1
        now[0] += {1: 9.0, 2: 3.0}.get(calls[0], 2.0)

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    timed = clock.time_passes(run, images=10, least_seconds=5)
    assert timed == {"images_per_s": 5.0, "compile_s": 7.0, "passes": 3, "seconds": 6.0}


@given(st.floats(0.01, 100), st.lists(st.floats(0.01, 100), min_size=3, max_size=9))
def test_a_wait_for_input_is_a_part_of_the_time(alone: float, fed: list[float]) -> None:
    part = clock.input_wait(alone, fed)["input_wait"]
    assert 0 <= part < 1
    assert (
        clock.input_wait(alone, [1e9, 1e9, *fed])["input_wait"] == clock.input_wait(alone, [0, 0, *fed])["input_wait"]
    )


def test_the_part_of_the_peak_is_of_the_bfloat16_product() -> None:
    answers = {
        "resflow": [{"images_per_s": 1000.0, "compile_s": 0.0}],
        "gemm": [{"gflops": 1200.0, "bf16_gflops": 6000.0}],
    }
    result = step.compare(answers, multiply_adds=10**8)
    # 1,000 images a second of 1e8 multiply-adds, two operations each, three times for a training step: 600 GFLOP/s
    assert (result["fraction_of_gemm_peak"], result["fraction_of_peak"]) == (0.5, 0.1)
    assert result["ratio_vs_keras"] is None
    assert result["ratio_vs_torch"] is None
    assert ["part of the GPU's dense bfloat16 peak", "10.0%"] in page.rows(result | {"benchmark": "step"})


def epoch_answers(**speeds: float) -> dict[str, list[dict[str, Any]]]:
    return {name: [{"images_per_s": speed, "compile_s": 1.0}] for name, speed in speeds.items()}


def test_epochs_are_compared_with_the_fastest_of_each_kind() -> None:
    answers = epoch_answers(
        resflow_on_device=60, resflow_stepwise=20, torch_loader=10, torch_on_device=30, torch_on_device_cuda_graphs=40
    )
    answers["torch_loader"][0]["input_wait"] = 0.75
    result = epoch.compare(answers)
    assert (result["ratio_vs_torch_loader"], result["ratio_vs_torch_on_device"]) == (6.0, 1.5)
    assert result["ratio_vs_resflow_stepwise"] == 3.0
    assert result["input_wait"] == {"torch_loader": 0.75}
    alone = epoch.compare(epoch_answers(resflow_on_device=60))
    assert alone["ratio_vs_torch_loader"] is alone["ratio_vs_torch_on_device"] is None


def test_packing_gains_over_one_alone() -> None:
    gains = packing.compare({"host": {"1": 100.0, "8": 400.0}, "device": {"8": 500.0}})
    assert gains == {"gain_host": 4.0, "gain_device": None}


# Opponents


def test_opponents_on_a_gpu_may_fail_and_train_the_same_network_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "can_import", lambda *_: True)
    settings = {"execution.precision": "mixed_bfloat16", **device.execution("gpu")}
    trial = make_plan(load_study(step.STUDY, settings=settings), prepare=False).trials[0]
    assert (trial.execution.device, trial.execution.inputs, trial.execution.jit) == ("gpu", "device", True)
    net = {**step.describe_network(trial), "device": "gpu", "seconds": 1.0}
    opponents = step.list_opponents(net, every=True, torch_python=None)
    assert [c.name for c in opponents if not c.optional] == ["gemm"]
    assert all(c.limit for c in opponents if c.optional)
    assert all(net.items() <= c.spec.items() for c in opponents)
    assert {c.name for c in opponents} <= {"gemm", *page.NAMES}
    assert {c.spec["compile"] for c in opponents if "compile" in c.spec} == {"default", "reduce-overhead"}


@pytest.mark.skipif(not process.can_import("torch"), reason="PyTorch is not installed")
def test_torch_trains_epochs_of_the_same_network() -> None:
    trial = make_plan(load_study(step.STUDY, settings={"network.width": 0.125}), prepare=False).trials[0]
    net = {**step.describe_network(trial), "counts": [64, 32], "padding": 2, "workers": 1, "seconds": 0.01}
    for workers in (0, 1):
        answer = process.ask("torch_epoch", {**net, "workers": workers})
        assert answer["parameters"] == trial.parameters
        assert ("input_wait" in answer) == bool(workers)


def test_contenders_are_chosen_by_name_and_those_that_are_needed_stay() -> None:
    contenders = [Contender(name, "any", {}) for name in ("gemm", "keras", "torch", "resflow")]
    names = [c.name for c in contest.choose(contenders, ["torch"], always=("gemm", "resflow"))]
    assert names == ["gemm", "torch", "resflow"]
    assert contest.choose(contenders, [], always=()) == contenders
    with pytest.raises(ResflowError, match="torch"):
        contest.choose(contenders, ["torhc"], always=())


# Packing and repeating


def test_no_trial_waits_for_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(module: str, spec: dict[str, Any], limit: float) -> dict[str, Any]:
        meeting, end = Path(spec["meeting"]), time.monotonic() + 20
        if spec["number"] == 1:
            raise ResflowError("no memory")
        while not (meeting / "failed").exists():
            assert time.monotonic() < end, "it waits for ever"
            time.sleep(0.01)
        raise ResflowError("another of the trials failed")

    monkeypatch.setattr(process, "ask", ask)
    with pytest.raises(ResflowError):
        packing.run_together({}, 3)


def test_packing_keeps_what_found_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_together(spec: dict[str, Any], trials: int) -> list[dict[str, Any]]:
        if trials == 4:
            raise ResflowError("no memory")
        return [{"epochs_per_s": 2.0, "execution": {"threads": 1, "precision": "float32"}}] * trials

    monkeypatch.setattr(packing, "run_together", run_together)
    monkeypatch.setattr(provenance, "count_processors", lambda: 4)
    result = packing.run({}, [1, 2, 4], 1.0, lambda text: None)
    hourly = 3600 * 2 / packing.EPOCHS
    assert result["trials_an_hour"] == {inputs: {"1": hourly, "2": 2 * hourly} for inputs in packing.INPUTS}
    assert len(result["failed"]) == 2
    assert page.rows(result)
    with pytest.raises(ResflowError, match="4 cores"):
        packing.run({}, [8], 1.0, lambda text: None)


def outcome(bit: float = 1.0, part: str = "") -> dict[str, Any]:
    parts = ("history", "predictions", "diagnostics")
    frames = {name: pd.DataFrame({"value": [0.3, float("nan"), 0.7 * (bit if name == part else 1)]}) for name in parts}
    return {"a trial": {"metrics": {"test_top1": 0.1 * (bit if part == "metrics" else 1)}, **frames}}


@given(st.sampled_from(["metrics", "history", "predictions", "diagnostics"]), st.sampled_from([1 + 2**-52, 1 - 2**-52]))
def test_one_bit_of_one_figure_is_a_difference(part: str, bit: float) -> None:
    assert repeat.find_difference(outcome(), outcome()) == ""
    assert repeat.find_difference(outcome(), outcome(bit, part)) == f"{part} of trial a trial"
    assert repeat.find_difference(outcome(), {}) != ""


# All of it


def words(code: str) -> tuple[str, ...]:
    return ("timeit", "-n1", "-r1", code)


STEPS = [
    gpu.Step("fine", 30, words("print('a figure')")),
    gpu.Step("slow", 1, words("import time; time.sleep(60)")),
    gpu.Step("broken", 30, ("no_such_module",)),
    gpu.Step("told", 30, words("print('PROBLEM      no GPU')")),
    gpu.Step("missing", 30, (), "it is not here"),
    gpu.Step("last", 30, words("pass")),
]


def test_every_step_is_tried_told_and_kept(tmp_path: Path) -> None:
    said: list[str] = []
    assert gpu.run(STEPS, "cpu", tmp_path / "out", 100, said.append) is True
    outcomes = {line.split()[0]: line for line in said}
    assert [name for name, line in outcomes.items() if gpu.FAILED in line] == ["slow", "broken", "told"]
    assert [name for name, line in outcomes.items() if gpu.PASSED in line] == ["fine", "last"]
    assert "it is not here" in outcomes["missing"]
    assert (tmp_path / "out" / gpu.OUTCOMES).read_text().splitlines() == said
    with tarfile.open(tmp_path / "out" / gpu.ARCHIVE) as archive:
        kept = set(archive.getnames())
    assert kept == {gpu.OUTCOMES, *(f"{step.name}.log" for step in STEPS if not step.missing)}
    assert "a figure" in (tmp_path / "out" / "fine.log").read_text()


def test_steps_that_are_missing_are_no_failure_and_time_that_is_spent_is(tmp_path: Path) -> None:
    fine = [step for step in STEPS if step.name in ("fine", "missing")]
    assert gpu.run(fine, "cpu", tmp_path, 100, lambda text: None) is False
    assert gpu.run(fine, "cpu", tmp_path, 0, lambda text: None) is True


def test_steps_are_chosen_by_name() -> None:
    assert [step.name for step in gpu.choose_steps(STEPS, ["last", "fine"])] == ["fine", "last"]
    assert gpu.choose_steps(STEPS, []) == STEPS
    with pytest.raises(ResflowError, match="packing"):
        gpu.choose_steps(gpu.list_steps("cpu"), ["pakcing"])


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(RecordError, match="other files"):
        gpu.run(STEPS, "cpu", tmp_path, 100, lambda text: pytest.fail(text))


@pytest.mark.parametrize("where", device.DEVICES)
def test_every_step_is_a_command_that_parses(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "can_import", lambda *_: True)
    for each in gpu.list_steps(where):
        program, *rest = each.words
        if program != "resflow":
            assert program == "pytest"
            continue
        command: Any = typer.main.get_command(main.app)
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        rest = [str(tmp_path) if word == gpu.FIGURES else word for word in rest]
        command.make_context("resflow", rest).close()


# Files


def test_figures_of_a_gpu_have_names_of_their_own_and_their_absence_is_said(tmp_path: Path) -> None:
    settings = {
        "network": {"depth": 18, "width": 1.0},
        "image_size": 64,
        "batch_size": 32,
        "threads": 2,
        "execution": {"precision": "float32", "threads": 2},
        "rounds": 1,
    }
    figures = epoch.compare(epoch_answers(resflow_on_device=60))
    on_cpu = {"benchmark": "epoch", **figures, "settings": {**settings, "device": "cpu"}}
    on_gpu = {
        "benchmark": "epoch",
        **figures,
        "settings": {**settings, "device": "gpu", "gpu": {"name": "A Card", "driver": "1.2"}},
    }
    first = saving.write(tmp_path, saving.complete(on_cpu, "resflow bench epoch"))
    assert saving.NO_GPU in (tmp_path / "README.md").read_text()
    second = saving.write(tmp_path, saving.complete(on_gpu, "resflow bench epoch --device gpu"))
    shown = (tmp_path / "README.md").read_text()
    assert saving.NO_GPU not in shown
    assert "A Card" in shown
    assert first != second


# From end to end, tiny


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_gpus_are_measured_by_runs_on_a_cpu(tmp_path: Path) -> None:
    few = ["--image-size", "16", "--images", "32", "--seconds", "0.1", "--json", "--out", str(tmp_path)]
    for name, more in (
        ("epoch", ["--width", "0.125", "--rounds", "1", "--threads", "1"]),
        ("packing", ["--trials", "1"]),
    ):
        result = CliRunner().invoke(main.app, ["bench", name, *more, *few])
        assert result.exit_code == 0, (result.output, result.exception)
    packed = json.loads((tmp_path / "packing-16px.json").read_text())
    assert all(rate > 0 for by_trials in packed["trials_an_hour"].values() for rate in by_trials.values())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_trial_repeats_here(tmp_path: Path) -> None:
    result = CliRunner().invoke(main.app, ["bench", "repeat", "--image-size", "16", "--epochs", "1", "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["same"] == {"again": True, "together": True}
