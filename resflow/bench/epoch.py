"""The speed of whole epochs, augmentation and both evaluations included: resflow beside PyTorch.

A step alone says little where networks are small: the host that feeds and starts them is then what counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from resflow.bench import device as devices
from resflow.bench.contest import Answers, Contender, Say, ask_in_turn, choose, list_rounds, median, ratio, split_failed
from resflow.bench.step import (
    STUDY,
    check_parameters,
    check_torch,
    describe_network,
    has_torch,
    list_versions,
)
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan

COUNTS = (1020, 1020)  # training and validation images, as many as the official split of Oxford 102 has
PADDING = 4  # pixels
WORKERS = 8  # of PyTorch's DataLoader, at most
AUGMENTED = {"augmentation.flip": True, "augmentation.crop_padding": PADDING}


def run(
    settings: Mapping[str, Any],
    seconds: float,
    rounds: int,
    torch_python: str | None,
    say: Say,
    device: str = "cpu",
    counts: tuple[int, int] = COUNTS,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Measure epochs of one network, each contender once with a host that feeds it and once with data on the device.

    `only` names the contenders beside resflow's images on the device; without it all take part.

    On a CPU that is the same memory, and still another way through the code. Raises ResflowError where resflow fails,
    or on a CPU any other.
    """
    check_torch(torch_python)
    settings = {**settings, **AUGMENTED, **devices.execution(device)}
    trial = make_plan(load_study(STUDY, settings=settings), prepare=False).trials[0]
    net = {**describe_network(trial), "device": device, "seconds": seconds, "counts": list(counts)}
    spec = {"job": "epoch", "study": str(STUDY), "device": device, "seconds": seconds, "counts": list(counts)}
    spec["threads"] = net["threads"]
    ours = [
        Contender(
            name,
            "resflow_jobs",
            {**spec, "settings": {**settings, "execution.inputs": inputs}},
            optional=device == "gpu" and inputs == "host",
        )
        for name, inputs in (("resflow_on_device", "device"), ("resflow_stepwise", "host"))
    ]
    opponents = _list_opponents(net, torch_python) if has_torch(torch_python) else []
    contenders = choose([*ours, *opponents], only, always=("resflow_on_device",))
    answers, failed = split_failed(ask_in_turn(contenders, rounds, say))
    check_parameters(answers, trial)
    return {
        "benchmark": "epoch",
        **compare(answers),
        **({"failed": failed} if failed else {}),
        "settings": {
            "network": trial.network.model_dump(),
            "image_size": trial.data.image_size,
            "batch_size": trial.recipe.batch_size,
            "counts": list(counts),
            "augmentation": trial.recipe.augmentation.model_dump(),
            "threads": net["threads"],
            "workers": _workers(net["threads"]),
            **devices.describe(device),
            "execution": answers["resflow_on_device"][0]["execution"],
            "rounds": rounds,
            "least_seconds": seconds,
        },
        "versions": list_versions(answers),
    }


def _workers(threads: int) -> int:
    return min(WORKERS, threads)


def _list_opponents(net: dict[str, Any], torch_python: str | None) -> list[Contender]:
    """Return PyTorch with a DataLoader and with data on the device; on a GPU compiled, in the latter both ways."""
    kinds: dict[str, dict[str, Any]] = {
        "torch_loader": {"workers": _workers(net["threads"])},
        "torch_on_device": {"workers": 0},
    }
    on_gpu = net["device"] == "gpu"
    if on_gpu:
        kinds["torch_on_device_cuda_graphs"] = {"workers": 0, "compile": "reduce-overhead"}
    compiled = {"compile": "default"} if on_gpu else {}
    limit = devices.LIMIT if on_gpu else None
    common = {**net, "channels_last": True, "padding": PADDING, **compiled}
    return [
        Contender(name, "torch_epoch", {**common, **more}, torch_python, optional=on_gpu, limit=limit)
        for name, more in kinds.items()
    ]


def compare(answers: Answers) -> dict[str, Any]:
    """Return medians over the rounds: images/s of epochs, their ratios, and what part of the time a device waits."""
    speeds = {name: median(rounds, "images_per_s") for name, rounds in answers.items()}
    ours = speeds["resflow_on_device"]
    on_device = [speed for name, speed in speeds.items() if name.startswith("torch_on_device")]
    fed = {name: rounds for name, rounds in answers.items() if "input_wait" in rounds[0]}
    return {
        "images_per_s": {name: round(speed, 1) for name, speed in speeds.items()},
        "ratio_vs_torch_loader": ratio(ours, speeds.get("torch_loader")),
        "ratio_vs_torch_on_device": ratio(ours, max(on_device, default=None)),
        "ratio_vs_resflow_stepwise": ratio(ours, speeds.get("resflow_stepwise")),
        "input_wait": {name: round(median(rounds, "input_wait"), 3) for name, rounds in fed.items()},
        "compile_s": {name: round(median(answers[name], "compile_s"), 2) for name in speeds},
        "rounds": list_rounds(answers, "images_per_s"),
    }
