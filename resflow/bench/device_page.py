"""Rows and titles of what was measured on a GPU, or beside it on a CPU: see page.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Rows = list[list[str]]


def place(settings: Mapping[str, Any]) -> str:
    """Name where something was measured: a GPU, or a number of threads."""
    if "gpu" in settings:
        return str(settings["gpu"]["name"])
    return f"{settings['threads']} threads"


def network(settings: Mapping[str, Any]) -> str:
    """Name a network with its images, its batches, and where it was trained."""
    net, size = settings["network"], settings["image_size"]
    return (
        f"ResNet-{net['depth']}, width {net['width']:g}, {size}×{size}, batch {settings['batch_size']}, "
        f"{place(settings)}, {settings['execution']['precision']}"
    )


def _threads(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"threads": settings["execution"]["threads"], **settings}


TITLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "epoch": lambda settings: f"Epoch, with both evaluations: {network(settings)}",
    "packing": lambda settings: f"Packing: {network(_threads(settings))} a trial",
    "repeat": lambda settings: f"Repeat: {settings['trials']} trials again, {place(_threads(settings))}",
}


def times(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{ratio:.2f} ×"


def list_epoch(result: Mapping[str, Any], names: Mapping[str, str]) -> Rows:
    """Return images a second of whole epochs, their ratios, and what part of its time a device waits for input."""
    return [
        *[[names[name], f"{speed:,.0f} images/s"] for name, speed in result["images_per_s"].items()],
        ["resflow on the device against PyTorch with a DataLoader", times(result["ratio_vs_torch_loader"])],
        ["resflow on the device against PyTorch with data on it", times(result["ratio_vs_torch_on_device"])],
        ["resflow on the device against its own batches from the host", times(result["ratio_vs_resflow_stepwise"])],
        *[[f"waiting for input: {names[name]}", f"{part:.0%}"] for name, part in result["input_wait"].items()],
        *list_failed(result),
        *[[f"first epoch of {names[name]}", f"{s:.1f} s more"] for name, s in result["compile_s"].items()],
    ]


def list_packing(result: Mapping[str, Any]) -> Rows:
    """Return trials an hour by how many run at a time, and what that gains."""
    where = {"host": "batches from the host", "device": "images on the device"}
    rows = [
        [f"{trials} at a time, {where[inputs]}", f"{rate:,.0f} trials an hour"]
        for inputs, by_trials in result["trials_an_hour"].items()
        for trials, rate in by_trials.items()
    ]
    rows += [[f"the most against one alone, {where[name]}", times(result[f"gain_{name}"])] for name in where]
    return [*rows, *list_failed(result)]


def list_repeat(result: Mapping[str, Any]) -> Rows:
    """Return whether records are the same, and the seconds of each run."""
    kinds = {"again": "run again", "together": "side by side"}
    return [
        *[
            [f"records, {kinds[kind]}", "the same to the bit" if same else f"DIFFERENT: {result['differences'][kind]}"]
            for kind, same in result["same"].items()
        ],
        *[[f"resflow study, {kinds.get(kind, kind)}", f"{wall:.1f} s"] for kind, wall in result["wall_s"].items()],
    ]


def list_peak(result: Mapping[str, Any]) -> Rows:
    """Return the part of a GPU's peak that a step reaches; nothing of a CPU."""
    if "fraction_of_peak" not in result:
        return []
    return [
        ["part of the GPU's dense bfloat16 peak", f"{result['fraction_of_peak']:.1%}"],
        ["that peak, of a matrix product", f"{result['peak_gflops'] / 1000:,.0f} TFLOP/s"],
    ]


def list_failed(result: Mapping[str, Any]) -> Rows:
    return [[f"{name} failed", reason] for name, reason in result.get("failed", {}).items()]
