"""Contests of steps and inputs: fair opponents, right arithmetic, whole files. Speeds themselves are not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from resflow import architectures
from resflow.architectures import Architecture
from resflow.bench import clock, contest, page, process, saving, step, worker
from resflow.bench.contenders import keras_step
from resflow.cli import main
from resflow.errors import ResflowError
from resflow.models.build import build_network, initialise

SMALL = {"network.width": 0.125, "data.image_size": 16, "recipe.batch_size": 4, "execution.threads": 1}
NETS = [
    Architecture("imagenet", 18, "projection", "v1.5", 0.125, "imagenet"),
    Architecture("imagenet", 50, "projection", "v1.5", 0.125, "low_resolution"),
    Architecture("imagenet", 34, "none", "v1.5", 0.125, "imagenet"),
    Architecture("cifar", 20, "zero_pad", "v1.5", 0.25, "low_resolution"),
]


# The opponents do the same work


@pytest.mark.usefixtures("tensorflow_on_one_thread")
@pytest.mark.parametrize("arch", NETS, ids=lambda a: f"{a.family}{a.depth}-{a.shortcut}")
def test_the_stock_network_computes_what_resflow_computes(arch: Architecture) -> None:
    """With the same initial values, in inference mode: in training mode deep nets make much of rounding."""
    keras.backend.clear_session()
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3), dtype=np.float32)
    logits = []
    for model in (keras_step.build_network(arch, 32, 5), build_network(arch, 32, 5)):
        initialise(model, seed=3)
        logits.append(np.asarray(model(images, training=False)))
        assert sum(v.numpy().size for v in model.trainable_variables) == architectures.parameters(arch, 5)
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-4 * logits[1].std())


@pytest.mark.skipif(not process.can_import("torch"), reason="PyTorch is not installed")
@pytest.mark.parametrize("arch", NETS, ids=lambda a: f"{a.family}{a.depth}-{a.shortcut}")
def test_the_torch_network_has_the_same_parameters(arch: Architecture) -> None:
    net = {"arch": asdict(arch), "size": 32, "classes": 5, "batch_size": 2, "threads": 1}
    answer = process.ask("torch_step", {**net, "precision": "float32", "seconds": 0.01})
    assert answer["parameters"] == architectures.parameters(arch, 5)


# Arithmetic


def test_timing_counts_whole_passes_and_leaves_the_first_steps_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], []

    def train_for(steps: int) -> None:
        calls.append(steps)
        now[0] += 0.5 * steps + (7.0 if len(calls) == 1 else 0.0)

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    measured = clock.time_training(train_for, batch_size=8, least_seconds=20, batches=16)
    assert calls == [1, 3, 16, 16, 16]
    assert measured == {"images_per_s": 16.0, "compile_s": 7.0, "steps": 48, "seconds": 24.0}


def answers() -> dict[str, list[dict[str, Any]]]:
    speeds = {"keras": (10, 20, 90), "torch": (40, 41, 42), "torch_channels_last": (50, 44, 45), "resflow": (60, 90, 9)}
    rounds = {name: [{"images_per_s": s, "compile_s": 1.0} for s in three] for name, three in speeds.items()}
    return {**rounds, "gemm": [{"gflops": peak} for peak in (100, 200, 60)]}


def test_ratios_are_of_medians_and_take_the_faster_torch() -> None:
    result = step.compare(answers(), multiply_adds=10**8)
    assert result["images_per_s"] == {"keras": 20, "torch": 41, "torch_channels_last": 45, "resflow": 60}
    assert result["ratio_vs_keras"] == 3.0
    assert result["ratio_vs_torch"] == round(60 / 45, 3)
    # 60 images a second, 1e8 multiply-adds of two operations each, three times for a training step; 100 GFLOP/s
    assert result["fraction_of_gemm_peak"] == 0.36


def test_without_torch_its_figures_are_none() -> None:
    without = {name: three for name, three in answers().items() if not name.startswith("torch")}
    result = step.compare(without, 10**8)
    assert result["images_per_s"]["torch"] is None
    assert result["ratio_vs_torch"] is None
    result |= {"benchmark": "step", "settings": {}}
    assert ["resflow against PyTorch", "PyTorch is not installed"] in page.rows(result)


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: list[str] = []
    monkeypatch.setattr(process, "ask", lambda module, *others: modules.append(module) or {"n": len(modules)})
    pair = [contest.Contender("a", "first", {}), contest.Contender("b", "second", {})]
    assert contest.ask_in_turn(pair, 2, lambda text: None) == {"a": [{"n": 1}, {"n": 3}], "b": [{"n": 2}, {"n": 4}]}
    assert modules == ["first", "second", "first", "second"]


# Processes and files


def test_a_contender_that_fails_says_why() -> None:
    with pytest.raises(ResflowError, match=r"keras_step failed: .*KeyError: 'threads'"):
        process.ask("keras_step", {})


def test_another_interpreter_without_torch_is_refused_before_anything_runs(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(ResflowError, match="has no PyTorch"):
        step.run(SMALL, 0.1, 1, False, str(fake), lambda text: pytest.fail(text))
    with pytest.raises(ResflowError, match="cannot start"):
        step.run(SMALL, 0.1, 1, False, str(tmp_path / "nowhere"), lambda text: pytest.fail(text))


def test_the_torch_contender_needs_neither_tensorflow_nor_keras() -> None:
    """All of resflow that torch_step imports is pure Python: it may run where only PyTorch is installed."""
    code = (
        "import sys, resflow.architectures, resflow.bench.process, resflow.bench.clock\n"
        "print([m for m in ('tensorflow', 'keras', 'numpy', 'pydantic', 'pandas', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def step_result() -> dict[str, Any]:
    settings = {
        "network": {"depth": 18, "width": 1.0},
        "image_size": 64,
        "batch_size": 32,
        "threads": 2,
        "execution": {"precision": "float32"},
        "rounds": 3,
    }
    figures = step.compare(answers(), 10**8)
    return saving.complete({"benchmark": "step", **figures, "settings": settings}, "resflow bench step")


def test_a_kept_result_can_be_read_and_its_page_shows_every_result(tmp_path: Path) -> None:
    first = saving.write(tmp_path, step_result())
    second = step_result()
    second["settings"]["network"]["depth"] = 50
    saving.write(tmp_path, second)
    assert json.loads(first.read_text()) == step_result() | {"provenance": json.loads(first.read_text())["provenance"]}
    shown = (tmp_path / "README.md").read_text()
    assert "ResNet-18" in shown
    assert "ResNet-50" in shown
    assert "| resflow against stock Keras | 3.00 × |" in shown
    assert not list(tmp_path.glob(".*"))


def test_an_introduction_written_by_hand_outlives_the_next_result(tmp_path: Path) -> None:
    saving.write(tmp_path, step_result())
    page = tmp_path / "README.md"
    assert page.read_text().startswith(saving.HEAD + saving.MARK)
    page.write_text("# Speed\nWords of ours.\n" + saving.MARK + "\n## A table that is out of date\n")
    saving.write(tmp_path, step_result())
    shown = page.read_text()
    assert shown.startswith("# Speed\nWords of ours.\n" + saving.MARK + "\n" + saving.NO_GPU + "\n## Step: ResNet-18")
    assert "out of date" not in shown


def test_a_folder_with_other_files_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ResflowError, match="holds benchmarks only"):
        saving.write(tmp_path, step_result())


# From end to end, tiny


def run_bench(*words: str) -> Any:
    result = CliRunner().invoke(main.app, ["bench", *words, "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


@pytest.mark.long
def test_step_end_to_end(tmp_path: Path) -> None:
    words = ("--width", "0.125", "--image-size", "16", "--batch-size", "4", "--threads", "1", "--seconds", "0.1")
    result = run_bench("step", *words, "--rounds", "1", "--out", str(tmp_path))
    assert {"keras", "torch", "resflow"} <= set(result["images_per_s"])
    assert {"ratio_vs_keras", "ratio_vs_torch", "fraction_of_gemm_peak"} <= set(result)
    assert result["settings"]["execution"]["threads"] == 1
    assert str(tmp_path) not in result["command"]
    assert (tmp_path / "step-resnet18-16px-batch4-width0.125-1threads.json").is_file()


@pytest.mark.long
def test_input_end_to_end() -> None:
    result = run_bench("input", "--image-size", "16", "--seconds", "0.1", "--rounds", "1")
    assert set(result["images_per_s"]) == {"keras", "resflow"}
    assert min(result["ratio_vs_keras"], result["ratio_vs_resnet18"], result["resnet18_images_per_s"]) > 0


@pytest.mark.long
def test_the_worker_benchmark_runs() -> None:
    """Its process is real, its trials are few: the first one builds a graph, the second uses it."""
    result = worker.run(2, lambda _: None)
    assert len(result["rss_mb"]) == len(result["seconds"]) == 2
    assert result["used_graph"] == [False, True]
    assert page.rows(result)
