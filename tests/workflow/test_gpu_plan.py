"""What a plan says of a GPU's memory, on a machine that has one or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.driver import MB, FakeDriver

from resflow import provenance
from resflow.runner.gpu_sharing import examine_gpu
from resflow.study.load import load_study
from resflow.study.memory import estimate_memory, gpu_share
from resflow.workflow import run
from resflow.workflow.gpu_plan import tell_gpu_memory
from resflow.workflow.plan import Plan, make_plan


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "count_gpus", lambda: 1)


def plan(**settings: Any) -> Plan:
    asked = {"data.source": "synthetic", "device": "gpu", **settings}
    return make_plan(load_study("depth", "cpu", asked), data="synthetic", prepare=False)


def test_without_a_gpu_the_estimate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDriver(failing="cuInit").install(monkeypatch)
    told = tell_gpu_memory(plan())
    largest = max(estimate_memory(trial).peak for trial in plan().trials)
    assert f"is estimated to take {largest / 1e9:.3g} GB (activations" in told
    assert "No GPU is seen here. Each gets a GPU of its own." in told
    assert tell_gpu_memory(plan(device="cpu")) == ""


@pytest.mark.parametrize(
    ("gpus", "share"),
    [
        (1, "Each gets a GPU of its own."),
        (0.25, "Each gets 0.25 of a GPU."),
        ("auto", "gpus: auto measures 1, 2, 4, 8 at a time, as far as they fit, and takes the fastest."),
    ],
)
def test_what_fits_and_what_each_gets(monkeypatch: pytest.MonkeyPatch, gpus: Any, share: str) -> None:
    FakeDriver(80 * 10**9, context=400 * MB).install(monkeypatch)
    made = plan(gpus=gpus)
    told = tell_gpu_memory(made)
    largest = max(estimate_memory(trial).peak for trial in made.trials)
    assert told.endswith(share)
    assert "A card has 80 GB, of which CUDA takes 0.419 GB for each process" in told
    assert f": {int(1 / gpu_share(largest, 400 * MB, 80 * 10**9))} have room at a time by that estimate" in told


def test_a_share_below_the_estimate_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDriver(8 * 10**9, context=400 * MB).install(monkeypatch)
    told = tell_gpu_memory(plan(gpus=0.06, batch_size=256))
    assert told.endswith("GB for TensorFlow, less than the estimate: set gpus to more, or batch_size to less.")


def test_a_run_that_has_measured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDriver(80 * 10**9).install(monkeypatch)
    made = plan(gpus="auto")
    choice = examine_gpu(made.trials)
    choice.peak_bytes, choice.trials_per_gpu, choice.throughput = 10 * 10**9, 4, {1: 1.0, 2: 1.5, 4: 2.0, 8: 1.0}
    choice.write(made.run)
    told = tell_gpu_memory(made)
    assert ": 6 have room at a time by the peak that was measured" in told
    assert told.endswith("gpus: auto has measured here that 4 at a time are fastest.")


def test_a_run_tells_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(run.Silent, "note", lambda self, text, title="": heard.append(text))
    monkeypatch.setattr(run, "check_plan", lambda *given: None)
    FakeDriver(8 * 10**9, context=400 * MB).install(monkeypatch)
    made = plan(gpus=0.06, batch_size=256)
    run.check_and_warn(made, run.RunOptions(), run.Silent())
    assert heard == [tell_gpu_memory(made)]
    run.check_and_warn(made, run.RunOptions(address="auto"), run.Silent())  # whose GPUs are not this machine's
    run.check_and_warn(plan(device="cpu"), run.RunOptions(), run.Silent())
    assert len(heard) == 1
