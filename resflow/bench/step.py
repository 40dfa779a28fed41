"""The speed of a training step: resflow beside stock Keras, PyTorch and the machine's matrix product."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resflow.bench import device as devices
from resflow.bench import process
from resflow.bench.contest import Answers, Contender, Say, ask_in_turn, choose, list_rounds, median, ratio, split_failed
from resflow.errors import ResflowError, one_of
from resflow.study.costs import TRAINING
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.workflow.plan import make_plan

STUDY = Path(__file__).with_name("step.yaml")
PRECISIONS = ("float32", "mixed_bfloat16")

# What TensorFlow does by itself on CPUs without AVX-512 VNNI, AVX-VNNI or AMX: many laptops and older servers.
WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}

# XLA's compilations on disk are known by what is computed, and not by the flags that they were made with.
WITHOUT_CACHE = {"TF_XLA_FLAGS": "--tf_xla_persistent_cache_directory="}

TORCH_COMPILED = {"torch_compile": "default", "torch_cuda_graphs": "reduce-overhead"}  # modes of torch.compile


def run(
    settings: Mapping[str, Any],
    seconds: float,
    rounds: int,
    every: bool,
    torch_python: str | None,
    say: Say,
    device: str = "cpu",
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Measure training steps of one network. `settings` override those of step.yaml, threads and precision included.

    `only` names the contenders beside resflow and the matrix product; without it all take part.

    `every` adds Keras fed by a tf.data pipeline without autotuning; on a CPU, where stock Keras does without, Keras
    compiled by XLA, and Keras as it is where TensorFlow leaves oneDNN off. Without PyTorch its figures are None. On a
    GPU the contest goes on without an opponent that fails.
    Raises ResflowError where a contender fails, or a network has another number of parameters than the table says.
    """
    settings = {**settings, **devices.execution(device)}
    trial = make_plan(load_study(STUDY, settings=settings), prepare=False).trials[0]
    if trial.execution.precision not in PRECISIONS:
        raise ResflowError(one_of(trial.execution.precision, PRECISIONS, "precision of a benchmark"))
    check_torch(torch_python)
    net = {**describe_network(trial), "device": device, "seconds": seconds}
    spec = {"job": "step", "study": str(STUDY), "device": device, "threads": net["threads"], "seconds": seconds}
    ours = [Contender("resflow", "resflow_jobs", {**spec, "settings": settings})]
    if device == "gpu":
        by_host = {**settings, **devices.execution(device, "host")}
        ours.append(Contender("resflow_stepwise", "resflow_jobs", {**spec, "settings": by_host}, optional=True))
        free = {**spec, "settings": settings, "unrepeatable": True}
        ours.append(Contender("resflow_unrepeatable", "resflow_jobs", free, None, WITHOUT_CACHE, optional=True))
    opponents = list_opponents(net, every, torch_python)
    contenders = choose([*opponents, *ours], only, always=("gemm", "resflow"))
    answers, failed = split_failed(ask_in_turn(contenders, rounds, say))
    check_parameters(answers, trial)
    return {
        "benchmark": "step",
        **compare(answers, trial.multiply_adds),
        **({"failed": failed} if failed else {}),
        "settings": {
            "network": trial.network.model_dump(),
            "image_size": trial.data.image_size,
            "batch_size": trial.recipe.batch_size,
            "parameters": trial.parameters,
            "multiply_adds": trial.multiply_adds,
            "threads": net["threads"],
            **devices.describe(device),
            "execution": answers["resflow"][0]["execution"],
            "rounds": rounds,
            "least_seconds": seconds,
        },
        "versions": list_versions(answers),
    }


def check_torch(torch_python: str | None) -> None:
    """Raise ResflowError where an interpreter that is named has no PyTorch."""
    if torch_python is not None and not process.can_import("torch", torch_python):
        raise ResflowError(f"--torch-python {torch_python}: that Python has no PyTorch. Name one that imports torch.")


def check_parameters(answers: Answers, trial: Trial) -> None:
    """Raise ResflowError where a contender has trained another network than the trial's."""
    for name, its_rounds in answers.items():
        counts = {answer.get("parameters", trial.parameters) for answer in its_rounds}
        if counts != {trial.parameters}:
            raise ResflowError(f"benchmark: {name} trained {counts} parameters, expected {trial.parameters}.")


def describe_network(trial: Trial) -> dict[str, Any]:
    """Return what an opponent has to know of a trial's network and batches."""
    return {
        "arch": asdict(trial.architecture),
        "size": trial.data.image_size,
        "classes": trial.classes,
        "batch_size": trial.recipe.batch_size,
        "threads": trial.execution.threads,
        "precision": trial.execution.precision,
    }


def list_opponents(net: dict[str, Any], every: bool, torch_python: str | None) -> list[Contender]:
    """Return the contenders beside resflow, each to train the network that `net` describes, on the device it names."""
    if net["device"] == "gpu":
        return _opponents_on_gpu(net, every, torch_python)
    opponents = [Contender("gemm", "gemm", net), Contender("keras", "keras_step", net)]
    if every:
        opponents.append(Contender("keras_dataset", "keras_step", {**net, "dataset": True}))
        opponents.append(Contender("keras_without_onednn", "keras_step", net, variables=WITHOUT_ONEDNN))
        opponents.append(Contender("keras_jit", "keras_step", {**net, "jit": True}))
    if has_torch(torch_python):
        opponents.append(Contender("torch", "torch_step", net, torch_python))
        opponents.append(Contender("torch_channels_last", "torch_step", {**net, "channels_last": True}, torch_python))
    return opponents


def has_torch(torch_python: str | None) -> bool:
    return torch_python is not None or process.can_import("torch")


def _opponents_on_gpu(net: dict[str, Any], every: bool, torch_python: str | None) -> list[Contender]:
    """Return opponents as their users tune them on a GPU, where stock Keras compiles by XLA."""

    def opponent(name: str, module: str, python: str | None = None, **more: Any) -> Contender:
        return Contender(name, module, {**net, **more}, python, optional=True, limit=devices.LIMIT)

    opponents = [opponent("keras", "keras_step"), opponent("keras_without_jit", "keras_step", jit=False)]
    if every:
        opponents.append(opponent("keras_dataset", "keras_step", dataset=True))
    if has_torch(torch_python):
        opponents.append(opponent("torch_channels_last", "torch_step", torch_python, channels_last=True))
        for name, mode in TORCH_COMPILED.items():
            opponents.append(opponent(name, "torch_step", torch_python, channels_last=True, compile=mode))
    return [Contender("gemm", "gemm", net), *opponents]


def compare(answers: Answers, multiply_adds: int) -> dict[str, Any]:
    """Return medians over the rounds and their ratios. PyTorch's figure is that of its fastest contender."""
    speeds = {name: median(rounds, "images_per_s") for name, rounds in answers.items() if name != "gemm"}
    torch = max((speed for name, speed in speeds.items() if name.startswith("torch")), default=None)
    peak = median(answers["gemm"], "gflops")
    flops = speeds["resflow"] * 2 * multiply_adds * TRAINING["full"]
    return {
        "images_per_s": {name: round(speed, 2) for name, speed in speeds.items()} | ({} if torch else {"torch": None}),
        "ratio_vs_keras": ratio(speeds["resflow"], speeds.get("keras")),
        "ratio_vs_torch": ratio(speeds["resflow"], torch),
        "ratio_vs_keras_dataset": ratio(speeds["resflow"], speeds.get("keras_dataset")),
        "ratio_vs_keras_without_onednn": ratio(speeds["resflow"], speeds.get("keras_without_onednn")),
        "fraction_of_gemm_peak": round(flops / (peak * 1e9), 3),
        "gemm_gflops": round(peak, 1),
        **_of_peak(answers["gemm"], flops),
        "compile_s": {name: round(median(answers[name], "compile_s"), 2) for name in speeds},
        "rounds": list_rounds(answers, "images_per_s")
        | {"gemm_gflops": [round(answer["gflops"], 1) for answer in answers["gemm"]]},
    }


def _of_peak(gemm: Sequence[Mapping[str, Any]], flops: float) -> dict[str, float]:
    """Return the part of a GPU's dense bfloat16 peak, as a matrix product reaches it, that a speed of resflow is."""
    if "bf16_gflops" not in gemm[0]:
        return {}
    peak = median(gemm, "bf16_gflops")
    return {"fraction_of_peak": round(flops / (peak * 1e9), 3), "peak_gflops": round(peak, 1)}


def list_versions(answers: Answers) -> dict[str, str]:
    """Return the opponents' versions as their processes saw them: PyTorch may be another interpreter's."""
    firsts = [rounds[0] for rounds in answers.values()]
    return {name: first[name] for name in ("tensorflow", "keras", "torch") for first in firsts if name in first}
