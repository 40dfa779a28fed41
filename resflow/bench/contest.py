"""Contests: every contender in a process of its own, in turn, several rounds; medians and their ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resflow import provenance
from resflow.bench import process
from resflow.errors import ResflowError, one_of
from resflow.study.costs import TRAINING
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan

STEP_STUDY = Path(__file__).with_name("step.yaml")
PRECISIONS = ("float32", "mixed_bfloat16")
# Rotation and shear of Keras' generator are degrees, resflow's shear is the angle's tangent.
ARTICLE = {"rotation_range": 30, "shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True, "fill_mode": "nearest"}
ARTICLE_HERE = {"rotation": 30.0, "shear": math.tan(math.radians(0.2)), "zoom": 0.2, "flip": True}

# What TensorFlow does by itself on CPUs without AVX-512 VNNI, AVX-VNNI or AMX: many laptops and older servers.
WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}

Say = Callable[[str], object]
Answers = Mapping[str, Sequence[Mapping[str, Any]]]  # by contender, an answer a round


@dataclass(frozen=True)
class Contender:
    """A module of this package and what it is asked; `python` where it runs in another interpreter."""

    name: str
    module: str
    spec: dict[str, Any]
    python: str | None = None
    variables: Mapping[str, str] | None = None


def in_turn(contenders: Sequence[Contender], rounds: int, say: Say) -> dict[str, list[dict[str, Any]]]:
    """Ask every contender once a round, A B C A B C …; a machine's moods then meet all of them."""
    answers: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            say(f"round {number}/{rounds}: {contender.name}")
            answers[contender.name].append(
                process.ask(contender.module, contender.spec, contender.python, contender.variables)
            )
    return answers


def median(answers: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(statistics.median(answer[key] for answer in answers))


def ratio(mine: float, other: float | None) -> float | None:
    return None if other is None else round(mine / other, 3)


def step(
    settings: Mapping[str, Any],
    seconds: float,
    rounds: int,
    every: bool,
    torch_python: str | None,
    say: Say,
) -> dict[str, Any]:
    """Training steps of one network. `settings` are overrides of step.yaml, threads and precision among them.

    `every` adds Keras compiled by XLA, Keras fed by a tf.data pipeline without autotuning, and Keras as it is where
    TensorFlow leaves oneDNN off. Without PyTorch its figures are None.
    Raises ResflowError where a contender fails, or a network has another number of parameters than the table says.
    """
    study = str(STEP_STUDY)
    trial = make_plan(load_study(study, settings=settings), prepare=False).trials[0]
    if trial.execution.precision not in PRECISIONS:
        raise ResflowError(one_of(trial.execution.precision, PRECISIONS, "precision of a benchmark"))
    if torch_python is not None and not process.imports("torch", torch_python):
        raise ResflowError(f"--torch-python {torch_python}: that Python has no PyTorch. Name one that imports torch.")
    net = {
        "arch": asdict(trial.architecture),
        "size": trial.data.image_size,
        "classes": trial.classes,
        "batch_size": trial.recipe.batch_size,
        "threads": trial.execution.threads,
        "precision": trial.execution.precision,
        "seconds": seconds,
    }
    contenders = [Contender("gemm", "contenders.gemm", net), Contender("keras", "contenders.keras_step", net)]
    if every:
        contenders.append(Contender("keras_dataset", "contenders.keras_step", {**net, "dataset": True}))
        contenders.append(Contender("keras_without_onednn", "contenders.keras_step", net, variables=WITHOUT_ONEDNN))
        contenders.append(Contender("keras_jit", "contenders.keras_step", {**net, "jit": True}))
    if torch_python is not None or process.imports("torch"):
        last = {**net, "channels_last": True}
        contenders += [
            Contender("torch", "contenders.torch_step", net, torch_python),
            Contender("torch_channels_last", "contenders.torch_step", last, torch_python),
        ]
    asked = {"job": "step", "study": study, "settings": settings, "threads": net["threads"], "seconds": seconds}
    contenders.append(Contender("resflow", "contenders.resflow_jobs", asked))
    answers = in_turn(contenders, rounds, say)
    for name, given in answers.items():
        counted = {answer.get("parameters", trial.parameters) for answer in given}
        if counted != {trial.parameters}:
            raise ResflowError(f"benchmark: {name} trained {counted} parameters, expected {trial.parameters}.")
    return {
        "benchmark": "step",
        **judged(answers, trial.multiply_adds),
        "settings": {
            "network": trial.network.model_dump(),
            "image_size": net["size"],
            "batch_size": net["batch_size"],
            "parameters": trial.parameters,
            "multiply_adds": trial.multiply_adds,
            "threads": net["threads"],
            "execution": answers["resflow"][0]["execution"],
            "rounds": rounds,
            "least_seconds": seconds,
        },
        "versions": _versions(answers),
    }


def judged(answers: Answers, multiply_adds: int) -> dict[str, Any]:
    """Medians over the rounds and their ratios. PyTorch's figure is that of its faster memory layout."""
    speeds = {name: median(given, "images_per_s") for name, given in answers.items() if name != "gemm"}
    torch = max((speed for name, speed in speeds.items() if name.startswith("torch")), default=None)
    peak = median(answers["gemm"], "gflops")
    flops = speeds["resflow"] * 2 * multiply_adds * TRAINING["full"]
    compiling = {name: round(median(answers[name], "compile_s"), 2) for name in speeds}
    return {
        "images_per_s": {name: round(speed, 2) for name, speed in speeds.items()} | ({} if torch else {"torch": None}),
        "ratio_vs_keras": ratio(speeds["resflow"], speeds["keras"]),
        "ratio_vs_torch": ratio(speeds["resflow"], torch),
        "ratio_vs_keras_dataset": ratio(speeds["resflow"], speeds.get("keras_dataset")),
        "ratio_vs_keras_without_onednn": ratio(speeds["resflow"], speeds.get("keras_without_onednn")),
        "fraction_of_gemm_peak": round(flops / (peak * 1e9), 3),
        "gemm_gflops": round(peak, 1),
        "compile_s": compiling,
        "rounds": _rounds(answers, "images_per_s") | {"gemm_gflops": [round(a["gflops"], 1) for a in answers["gemm"]]},
    }


def _rounds(answers: Answers, key: str) -> dict[str, list[float]]:
    return {name: [round(a[key], 2) for a in given] for name, given in answers.items() if key in given[0]}


def _versions(answers: Answers) -> dict[str, str]:
    """Of the opponents, as their processes saw them: PyTorch may be another interpreter's."""
    firsts = [given[0] for given in answers.values()]
    return {name: first[name] for name in ("tensorflow", "keras", "torch") for first in firsts if name in first}


def feed(image_size: int, batch_size: int, threads: int, seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    """Augmented batches from the decoded cache, beside Keras' generator and what a ResNet-18 of this size consumes."""
    settings = {"data.image_size": image_size, "recipe.batch_size": batch_size, "execution.threads": threads}
    plan = make_plan(load_study(str(STEP_STUDY), settings=settings))
    trial = plan.trials[0]
    common = {
        "folder": str(plan.folders[trial.id]),
        "batch_size": batch_size,
        "threads": threads,
        "seconds": seconds,
    }
    net = {"job": "step", "study": str(STEP_STUDY), "settings": settings, "threads": threads, "seconds": seconds}
    answers = in_turn(
        [
            Contender("keras", "contenders.keras_input", {**common, "augmentation": ARTICLE}),
            Contender("resnet18", "contenders.resflow_jobs", net),
            Contender("resflow", "contenders.resflow_jobs", {**common, "job": "input", "augmentation": ARTICLE_HERE}),
        ],
        rounds,
        say,
    )
    speeds = {name: median(given, "images_per_s") for name, given in answers.items()}
    consumed = speeds.pop("resnet18")
    return {
        "benchmark": "input",
        "images_per_s": {name: round(speed, 1) for name, speed in speeds.items()},
        "ratio_vs_keras": ratio(speeds["resflow"], speeds["keras"]),
        "resnet18_images_per_s": round(consumed, 2),
        "ratio_vs_resnet18": ratio(speeds["resflow"], consumed),
        "rounds": _rounds(answers, "images_per_s"),
        "settings": {
            "image_size": image_size,
            "batch_size": batch_size,
            "threads": threads,
            "training_images": trial.counts[0],
            "augmentation": ARTICLE,
            "execution": answers["resnet18"][0]["execution"],
            "rounds": rounds,
            "least_seconds": seconds,
        },
        "versions": provenance.environment()["versions"],
    }


def convolutions(threads: int, seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    """Each lowering of each kind of convolution in resflow's networks, forward and backward, in GFLOP/s."""
    spec = {"threads": threads, "seconds": seconds}
    answers = in_turn([Contender("convolutions", "convolutions", spec)], rounds, say)["convolutions"]
    shapes = []
    for position, shape in enumerate(answers[0]["shapes"]):
        speeds = {
            lowering: round(statistics.median(a["shapes"][position]["gflops"][lowering] for a in answers), 1)
            for lowering in shape["gflops"]
        }
        shapes.append({**shape, "gflops": speeds})
    return {
        "benchmark": "convolution",
        "shapes": shapes,
        "settings": {"threads": threads, "batch_size": answers[0]["batch_size"], "rounds": rounds},
    }


def worker(trials: int, say: Say) -> dict[str, Any]:
    """The memory and the seconds of one process that runs so many small trials in turn, arm after arm."""
    study = str(STEP_STUDY.with_name("depth.yaml"))
    settings = {"seeds": 10, "epochs": 1, "warmup_epochs": 0, "width": 0.125, "image_size": 32}
    make_plan(load_study(study, settings=settings))  # decodes the images
    say(f"{trials} trials in one process")
    answer = process.ask(
        "contenders.resflow_jobs", {"job": "worker", "study": study, "settings": settings, "trials": trials}
    )
    return {"benchmark": "worker", **answer, "settings": {**settings, "trials": trials, "rounds": 1}}
