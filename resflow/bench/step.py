"""The speed of a training step: resflow beside stock Keras, PyTorch and the machine's matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resflow.bench import process
from resflow.bench.contest import Answers, Contender, Say, ask_in_turn, list_rounds, median, ratio
from resflow.errors import ResflowError, one_of
from resflow.study.costs import TRAINING
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.workflow.plan import make_plan

STUDY = Path(__file__).with_name("step.yaml")
PRECISIONS = ("float32", "mixed_bfloat16")

# What TensorFlow does by itself on CPUs without AVX-512 VNNI, AVX-VNNI or AMX: many laptops and older servers.
WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def run(
    settings: Mapping[str, Any],
    seconds: float,
    rounds: int,
    every: bool,
    torch_python: str | None,
    say: Say,
) -> dict[str, Any]:
    """Measure training steps of one network. `settings` override those of step.yaml, threads and precision included.

    `every` adds Keras compiled by XLA, Keras fed by a tf.data pipeline without autotuning, and Keras as it is where
    TensorFlow leaves oneDNN off. Without PyTorch its figures are None.
    Raises ResflowError where a contender fails, or a network has another number of parameters than the table says.
    """
    trial = make_plan(load_study(STUDY, settings=settings), prepare=False).trials[0]
    if trial.execution.precision not in PRECISIONS:
        raise ResflowError(one_of(trial.execution.precision, PRECISIONS, "precision of a benchmark"))
    if torch_python is not None and not process.can_import("torch", torch_python):
        raise ResflowError(f"--torch-python {torch_python}: that Python has no PyTorch. Name one that imports torch.")
    opponents = list_opponents(trial, seconds, every, torch_python)
    threads = trial.execution.threads
    spec = {"job": "step", "study": str(STUDY), "settings": settings, "threads": threads, "seconds": seconds}
    answers = ask_in_turn([*opponents, Contender("resflow", "resflow_jobs", spec)], rounds, say)
    for name, its_rounds in answers.items():
        counts = {answer.get("parameters", trial.parameters) for answer in its_rounds}
        if counts != {trial.parameters}:
            raise ResflowError(f"benchmark: {name} trained {counts} parameters, expected {trial.parameters}.")
    return {
        "benchmark": "step",
        **compare(answers, trial.multiply_adds),
        "settings": {
            "network": trial.network.model_dump(),
            "image_size": trial.data.image_size,
            "batch_size": trial.recipe.batch_size,
            "parameters": trial.parameters,
            "multiply_adds": trial.multiply_adds,
            "threads": threads,
            "execution": answers["resflow"][0]["execution"],
            "rounds": rounds,
            "least_seconds": seconds,
        },
        "versions": _versions(answers),
    }


def list_opponents(trial: Trial, seconds: float, every: bool, torch_python: str | None) -> list[Contender]:
    """Return the contenders beside resflow, each to train the trial's network for so many seconds at least."""
    net = {
        "arch": asdict(trial.architecture),
        "size": trial.data.image_size,
        "classes": trial.classes,
        "batch_size": trial.recipe.batch_size,
        "threads": trial.execution.threads,
        "precision": trial.execution.precision,
        "seconds": seconds,
    }
    opponents = [Contender("gemm", "gemm", net), Contender("keras", "keras_step", net)]
    if every:
        opponents.append(Contender("keras_dataset", "keras_step", {**net, "dataset": True}))
        opponents.append(Contender("keras_without_onednn", "keras_step", net, variables=WITHOUT_ONEDNN))
        opponents.append(Contender("keras_jit", "keras_step", {**net, "jit": True}))
    if torch_python is not None or process.can_import("torch"):
        opponents.append(Contender("torch", "torch_step", net, torch_python))
        opponents.append(Contender("torch_channels_last", "torch_step", {**net, "channels_last": True}, torch_python))
    return opponents


def compare(answers: Answers, multiply_adds: int) -> dict[str, Any]:
    """Return medians over the rounds and their ratios. PyTorch's figure is that of its faster memory layout."""
    speeds = {name: median(rounds, "images_per_s") for name, rounds in answers.items() if name != "gemm"}
    torch = max((speed for name, speed in speeds.items() if name.startswith("torch")), default=None)
    peak = median(answers["gemm"], "gflops")
    flops = speeds["resflow"] * 2 * multiply_adds * TRAINING["full"]
    return {
        "images_per_s": {name: round(speed, 2) for name, speed in speeds.items()} | ({} if torch else {"torch": None}),
        "ratio_vs_keras": ratio(speeds["resflow"], speeds["keras"]),
        "ratio_vs_torch": ratio(speeds["resflow"], torch),
        "ratio_vs_keras_dataset": ratio(speeds["resflow"], speeds.get("keras_dataset")),
        "ratio_vs_keras_without_onednn": ratio(speeds["resflow"], speeds.get("keras_without_onednn")),
        "fraction_of_gemm_peak": round(flops / (peak * 1e9), 3),
        "gemm_gflops": round(peak, 1),
        "compile_s": {name: round(median(answers[name], "compile_s"), 2) for name in speeds},
        "rounds": list_rounds(answers, "images_per_s")
        | {"gemm_gflops": [round(answer["gflops"], 1) for answer in answers["gemm"]]},
    }


def _versions(answers: Answers) -> dict[str, str]:
    """Return the opponents' versions as their processes saw them: PyTorch may be another interpreter's."""
    firsts = [rounds[0] for rounds in answers.values()]
    return {name: first[name] for name in ("tensorflow", "keras", "torch") for first in firsts if name in first}
