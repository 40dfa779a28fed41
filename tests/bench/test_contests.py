"""Benchmarks: fair opponents, right arithmetic, whole files. Speeds themselves are not tested."""

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
from support import tiny
from typer.testing import CliRunner

from resflow import architectures
from resflow.architectures import Architecture
from resflow.bench import agree, clock, contest, page, process, saving, study_contest
from resflow.bench.contenders import script
from resflow.bench.contenders.keras_step import network
from resflow.cli import main
from resflow.data.dataset import load_dataset
from resflow.errors import ResflowError
from resflow.models.build import build_network, initialise
from resflow.training import train

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
    made = []
    for model in (network(arch, 32, 5), build_network(arch, 32, 5)):
        initialise(model, seed=3)
        made.append(np.asarray(model(images, training=False)))
        assert sum(v.numpy().size for v in model.trainable_variables) == architectures.parameters(arch, 5)
    np.testing.assert_allclose(made[0], made[1], atol=1e-4 * made[1].std())


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_the_script_trains_as_resflow_does() -> None:
    """Every epoch's losses, so also rates, order, L2 and moving statistics; the accuracies as well."""
    folder = tiny.prepare()
    trial = tiny.trial(folder, weight_decay=0.05, warmup_epochs=1, learning_rate=0.02)
    ours = train.train_trial(trial, folder)
    theirs = script.run(trial, load_dataset(folder))
    for mine, other in zip(ours.history.to_dict("records"), theirs["history"], strict=True):
        assert other["batch_loss"] == pytest.approx(mine["batch_loss"], abs=1e-3)
        for key in ("train_loss", "validation_loss"):  # the script's moving variances are biased, as Keras' are
            assert other[key] == pytest.approx(mine[key], abs=1e-2)
    assert theirs["test_top1"] == pytest.approx(ours.record.metrics["test_top1"], abs=0.06)  # one of 18 images


@pytest.mark.skipif(not process.imports("torch"), reason="PyTorch is not installed")
@pytest.mark.parametrize("arch", NETS, ids=lambda a: f"{a.family}{a.depth}-{a.shortcut}")
def test_the_torch_network_has_the_same_parameters(arch: Architecture) -> None:
    net = {"arch": asdict(arch), "size": 32, "classes": 5, "batch_size": 2, "threads": 1}
    answer = process.ask("contenders.torch_step", {**net, "precision": "float32", "seconds": 0.01})
    assert answer["parameters"] == architectures.parameters(arch, 5)


# Arithmetic


def test_timing_counts_whole_passes_and_leaves_the_first_steps_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, passed = [0.0], []

    def train_for(steps: int) -> None:
        passed.append(steps)
        now[0] += 0.5 * steps + (7.0 if len(passed) == 1 else 0.0)

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    measured = clock.timed(train_for, batch_size=8, least_seconds=20, batches=16)
    assert passed == [1, 3, 16, 16, 16]
    assert measured == {"images_per_s": 16.0, "compile_s": 7.0, "steps": 48, "seconds": 24.0}


def answers() -> dict[str, list[dict[str, Any]]]:
    speeds = {"keras": (10, 20, 90), "torch": (40, 41, 42), "torch_channels_last": (50, 44, 45), "resflow": (60, 90, 9)}
    given = {name: [{"images_per_s": s, "compile_s": 1.0} for s in three] for name, three in speeds.items()}
    return {**given, "gemm": [{"gflops": peak} for peak in (100, 200, 60)]}


def test_ratios_are_of_medians_and_take_the_faster_torch() -> None:
    result = contest.judged(answers(), multiply_adds=10**8)
    assert result["images_per_s"] == {"keras": 20, "torch": 41, "torch_channels_last": 45, "resflow": 60}
    assert result["ratio_vs_keras"] == 3.0
    assert result["ratio_vs_torch"] == round(60 / 45, 3)
    # 60 images a second, 1e8 multiply-adds of two operations each, three times for a training step; 100 GFLOP/s
    assert result["fraction_of_gemm_peak"] == 0.36


def test_without_torch_its_figures_are_none() -> None:
    given = {name: three for name, three in answers().items() if not name.startswith("torch")}
    result = contest.judged(given, 10**8)
    assert result["images_per_s"]["torch"] is None
    assert result["ratio_vs_torch"] is None
    result |= {"benchmark": "step", "settings": {}}
    assert ["resflow against PyTorch", "PyTorch is not installed"] in page.rows(result)


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        process, "ask", lambda module, spec, python, variables: asked.append(module) or {"n": len(asked)}
    )
    pair = [contest.Contender("a", "first", {}), contest.Contender("b", "second", {})]
    assert contest.in_turn(pair, 2, lambda said: None) == {"a": [{"n": 1}, {"n": 3}], "b": [{"n": 2}, {"n": 4}]}
    assert asked == ["first", "second", "first", "second"]


def test_causes_add_up_to_the_wall_seconds() -> None:
    # two at a time over 30 s; each trial 20 s: 2 s outside its epochs, its first epoch 3 s above the others
    parts = study_contest.causes(50, 30, [20, 20, 20], [[8, 5, 5]] * 3, slots=2)
    assert parts == {"start_and_end": 20, "building_and_compiling": 7.5, "epochs": 22.5}


def test_agreement_compares_trial_by_trial_and_arm_by_arm() -> None:
    folder = tiny.prepare()
    trials = [tiny.trial(folder, seed) for seed in (1, 2)]
    ours, theirs = (
        {
            t.id: {"history": [{"batch_loss": loss}], "test_top1": top1}
            for t, loss, top1 in zip(trials, *sides, strict=True)
        }
        for sides in (((2.0, 1.5), (0.5, 0.7)), ((2.25, 1.0), (0.6, 0.65)))
    )
    result = study_contest.agreement(trials, ours, theirs)
    assert result["first_epoch_loss_difference"] == 0.5
    assert result["final_test_top1"] == {"tiny": {"resflow": 0.6, "script": 0.625, "spread": 0.2}}
    assert result["within_spread"] is True
    for trial in trials:
        theirs[trial.id]["test_top1"] += 0.3
    assert study_contest.agreement(trials, ours, theirs)["within_spread"] is False


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_the_second_step_of_the_script_is_that_of_resflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agree, "NUDGE", 1e-3)  # so small a network, in three steps, forgets the last bit
    trial = tiny.trial(folder := tiny.prepare(), weight_decay=0.05)
    found = agree.losses(trial, load_dataset(folder))
    apart = study_contest.steps_apart({"tiny": found})
    assert max(apart["first_steps_loss_difference"]) < 1e-4
    assert 0 < apart["first_epoch_loss_noise"] < 0.1
    other = {**found, "script": [loss + 0.25 for loss in found["script"]]}
    assert min(study_contest.steps_apart({"tiny": found, "odd": other})["first_steps_loss_difference"]) > 0.2


# Processes and files


def test_a_contender_that_fails_says_why() -> None:
    with pytest.raises(ResflowError, match=r"keras_step failed: .*KeyError: 'threads'"):
        process.ask("contenders.keras_step", {})


def test_another_interpreter_without_torch_is_refused_before_anything_runs(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(ResflowError, match="has no PyTorch"):
        contest.step(SMALL, 0.1, 1, False, str(fake), lambda said: pytest.fail(said))
    with pytest.raises(ResflowError, match="cannot start"):
        contest.step(SMALL, 0.1, 1, False, str(tmp_path / "nowhere"), lambda said: pytest.fail(said))


def test_the_torch_contender_needs_neither_tensorflow_nor_keras() -> None:
    """All of resflow that torch_step imports is pure Python: it may run where only PyTorch is installed."""
    code = (
        "import sys, resflow.architectures, resflow.bench.process, resflow.bench.clock\n"
        "print([m for m in ('tensorflow', 'keras', 'numpy', 'pydantic', 'pandas', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_study_that_the_script_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ask", lambda *asked: pytest.fail("a process was started"))
    settings = {"data.image_size": 16, "recipe.optimizer": "adam", "augmentation.flip": True}
    with pytest.raises(ResflowError, match="sets optimizer, augmentation"):
        study_contest.run(study_contest.STUDY, settings, 1, lambda said: None)


def step_result() -> dict[str, Any]:
    settings = {
        "network": {"depth": 18, "width": 1.0},
        "image_size": 64,
        "batch_size": 32,
        "threads": 2,
        "execution": {"precision": "float32"},
        "rounds": 3,
    }
    judged = contest.judged(answers(), 10**8)
    return saving.complete({"benchmark": "step", **judged, "settings": settings}, "resflow bench step")


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
    assert shown.startswith("# Speed\nWords of ours.\n" + saving.MARK + "\n## Step: ResNet-18")
    assert "out of date" not in shown


def test_a_folder_with_other_files_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ResflowError, match="holds benchmarks only"):
        saving.write(tmp_path, step_result())


# From end to end, tiny


def said(*words: str) -> Any:
    result = CliRunner().invoke(main.app, ["bench", *words, "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


@pytest.mark.long
def test_step_end_to_end(tmp_path: Path) -> None:
    words = ("--width", "0.125", "--image-size", "16", "--batch-size", "4", "--threads", "1", "--seconds", "0.1")
    result = said("step", *words, "--rounds", "1", "--out", str(tmp_path))
    assert {"keras", "torch", "resflow"} <= set(result["images_per_s"])
    assert {"ratio_vs_keras", "ratio_vs_torch", "fraction_of_gemm_peak"} <= set(result)
    assert result["settings"]["execution"]["threads"] == 1
    assert str(tmp_path) not in result["command"]
    assert (tmp_path / "step-resnet18-16px-batch4-width0.125-1threads.json").is_file()


@pytest.mark.long
def test_input_end_to_end() -> None:
    result = said("input", "--image-size", "16", "--seconds", "0.1", "--rounds", "1")
    assert set(result["images_per_s"]) == {"keras", "resflow"}
    assert min(result["ratio_vs_keras"], result["ratio_vs_resnet18"], result["resnet18_images_per_s"]) > 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_study_end_to_end() -> None:
    """resflow's study, its trial and the script: the same numbers by three ways."""
    # An epoch of two steps: over 25, rounding alone moves a plain net's mean loss by 1e-2 (agree.py measures it).
    small = {"width": 0.0625, "image_size": 16, "batch_size": 400, "epochs": 2, "seeds": 1, "factors.depth": [18]}
    result = said("study", *(w for k, v in small.items() for w in ("--set", f"{k}={v}")), "--rounds", "1")
    assert set(result["wall_s"]) == {"resflow", "script"}
    assert result["first_epoch_loss_difference"] < 1e-3
    for side, wall in result["wall_s"].items():
        assert sum(cause[side] for cause in result["causes_s"].values()) == pytest.approx(wall, abs=0.1)
    assert {"ratio_vs_script", "harness_overhead", "trials_at_a_time", "within_spread"} <= set(result)


@pytest.mark.long
def test_the_worker_benchmark_runs() -> None:
    """Its process is real, its trials are few: the first one builds a graph, the second uses it."""
    result = contest.worker(2, lambda _: None)
    assert len(result["rss_mb"]) == len(result["seconds"]) == 2
    assert result["used_graph"] == [False, True]
    assert page.rows(result)
