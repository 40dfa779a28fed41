"""The commands of `resflow bench` that were made for GPUs; a CPU runs them too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resflow.cli.bench_options import (
    BatchSize,
    Depth,
    Device,
    ImageSize,
    Json,
    Only,
    Precision,
    Rounds,
    Save,
    Seconds,
    Threads,
    TorchPython,
    Width,
    command_line,
    count_cores,
    list_only,
    on_device,
    require,
    say,
    show,
)

Images = Annotated[int, typer.Option("--images", min=32, help="training images, and as many to validate on")]


def epoch(
    depth: Depth = 18,
    width: Width = 1.0,
    image_size: ImageSize = 64,
    batch_size: BatchSize = 32,
    images: Images = 1020,
    threads: Threads = None,
    precision: Precision = None,
    rounds: Rounds = 3,
    seconds: Seconds = 3.0,
    torch_python: TorchPython = None,
    only: Only = None,
    device: Device = "cpu",
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Whole epochs, augmentation and both evaluations included, beside PyTorch: images a second, waits for input."""
    from resflow.bench.device import default_precision
    from resflow.bench.epoch import run

    require(device)
    settings = {
        "network.depth": depth,
        "network.width": width,
        "data.image_size": image_size,
        "recipe.batch_size": batch_size,
        "execution.threads": count_cores(threads),
        "execution.precision": precision or default_precision(device),
    }
    result = run(settings, seconds, rounds, torch_python, say, device, (images, images), only or ())
    options: dict[str, Any] = {"--depth": depth, "--width": f"{width:g}", "--image-size": image_size}
    options |= {"--batch-size": batch_size, "--images": images, "--threads": settings["execution.threads"]}
    options |= {"--precision": precision} if precision not in (None, default_precision(device)) else {}
    options |= {"--rounds": rounds, "--seconds": f"{seconds:g}", **on_device(device)}
    options |= {"--torch-python": "PYTHON"} if torch_python else {}  # no path of this machine
    show(result, command_line("epoch", options, list_only(only)), as_json, out)


def packing(
    trials: Annotated[
        list[int] | None,
        typer.Option("--trials", min=1, help="so many at a time; repeatable [default: 1, 2, 4, 8; no more than cores]"),
    ] = None,
    image_size: ImageSize = 64,
    images: Images = 1020,
    precision: Precision = None,
    seconds: Seconds = 3.0,
    device: Device = "cpu",
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Trials an hour by how many share a GPU, or the cores of a CPU, at a time."""
    from resflow.bench.device import default_precision
    from resflow.bench.packing import AT_A_TIME, run

    require(device)
    most = count_cores() if device == "cpu" else max(AT_A_TIME)
    at_a_time = sorted(set(trials or [count for count in AT_A_TIME if count <= most]))
    settings = {"data.image_size": image_size, "execution.precision": precision or default_precision(device)}
    result = run(settings, at_a_time, seconds, say, device, (images, images))
    words = [word for count in at_a_time for word in ("--trials", str(count))]
    options: dict[str, Any] = {"--image-size": image_size, "--images": images, "--seconds": f"{seconds:g}"}
    options |= {"--precision": precision} if precision not in (None, default_precision(device)) else {}
    show(result, command_line("packing", options | on_device(device), words), as_json, out)


def repeat(
    image_size: ImageSize = 64,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="of each trial")] = 3,
    precision: Annotated[str, typer.Option("--precision", help="float32 or mixed_bfloat16")] = "float32",
    alone: Annotated[bool, typer.Option("--alone", help="leave out the run with trials side by side")] = False,
    device: Device = "cpu",
    as_json: Json = False,
    out: Save = None,
) -> None:
    """A small study thrice, the last time with its trials side by side: whether every record is the same to the bit."""
    from resflow.bench.repeat import run

    require(device)
    settings = {"data.image_size": image_size, "recipe.epochs": epochs, "execution.precision": precision}
    result = run(settings, say, device, not alone)
    options = {"--image-size": image_size, "--epochs": epochs, "--precision": precision, **on_device(device)}
    show(result, command_line("repeat", options, ["--alone"] if alone else []), as_json, out)
    if result["differences"]:
        raise typer.Exit(1)


def gpu(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="an empty folder, or one of this command")],
    device: Device = "gpu",
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, help="after which no step goes on [default: 5; 30 on a CPU]")
    ] = None,
    step: Annotated[
        list[str] | None, typer.Option("--step", help="this one alone, such as packing; repeatable")
    ] = None,
    torch_python: TorchPython = None,
) -> None:
    """All that only a GPU can answer, the most telling first, each kept as soon as it has ended; with a CPU smaller."""
    from resflow.bench.gpu import MINUTES, choose_steps, list_steps, run

    require(device)
    steps = choose_steps(list_steps(device, torch_python), step or ())
    if run(steps, device, out, 60 * (minutes or MINUTES[device]), say):
        raise typer.Exit(1)
