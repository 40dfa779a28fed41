"""`resflow bench`: a command a question of speed or reliability."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow.cli import bench_device
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
    Set,
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
from resflow.cli.help_page import Group

app = typer.Typer(
    cls=Group, help="Measure resflow on this machine, beside stock Keras and PyTorch.", no_args_is_help=True
)


@app.command(epilog="Example: resflow bench step --depth 50 --json")
def step(
    depth: Depth = 18,
    width: Width = 1.0,
    image_size: ImageSize = 64,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    precision: Precision = None,
    rounds: Rounds = 3,
    seconds: Seconds = 3.0,
    every: Annotated[bool, typer.Option("--all", help="stock Keras in its other ways as well")] = False,
    torch_python: TorchPython = None,
    only: Only = None,
    device: Device = "cpu",
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Training steps: images a second, and the part of the machine's matrix product that they reach."""
    from resflow.bench.device import default_precision
    from resflow.bench.step import run

    require(device)
    settings = {
        "network.depth": depth,
        "network.width": width,
        "data.image_size": image_size,
        "recipe.batch_size": batch_size,
        "execution.threads": count_cores(threads),
        "execution.precision": precision or default_precision(device),
    }
    result = run(settings, seconds, rounds, every, torch_python, say, device, only or ())
    options: dict[str, Any] = {"--depth": depth, "--width": f"{width:g}"} if width != 1 else {"--depth": depth}
    options |= {"--image-size": image_size, "--batch-size": batch_size, "--threads": settings["execution.threads"]}
    options |= {"--precision": precision} if precision not in (None, default_precision(device)) else {}
    options |= {"--rounds": rounds, "--seconds": f"{seconds:g}", **on_device(device)}
    options |= {"--torch-python": "PYTHON"} if torch_python else {}  # no path of this machine
    show(result, command_line("step", options, [*(["--all"] if every else []), *list_only(only)]), as_json, out)


@app.command("input", epilog="Example: resflow bench input --image-size 224")
def input_(
    image_size: ImageSize = 64,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    rounds: Rounds = 3,
    seconds: Seconds = 3.0,
    device: Device = "cpu",
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Augmented batches: images a second from the decoded cache, beside Keras' ImageDataGenerator."""
    from resflow.bench.input import run

    require(device)
    cores = count_cores(threads)
    result = run(image_size, batch_size, cores, seconds, rounds, say, device)
    options = {"--image-size": image_size, "--batch-size": batch_size, "--threads": cores, "--rounds": rounds}
    show(result, command_line("input", {**options, "--seconds": f"{seconds:g}", **on_device(device)}), as_json, out)


@app.command(epilog="Example: resflow bench convolution --threads 1")
def convolution(
    threads: Threads = None, rounds: Rounds = 3, seconds: Seconds = 0.2, as_json: Json = False, out: Save = None
) -> None:
    """Each way of computing each kind of convolution: what the table of lowerings rests on."""
    from resflow.bench.convolution import run

    require()
    cores = count_cores(threads)
    result = run(cores, seconds, rounds, say)
    command = command_line("convolution", {"--threads": cores, "--rounds": rounds, "--seconds": f"{seconds:g}"})
    show(result, command, as_json, out)


@app.command(epilog="Example: resflow bench worker --trials 50")
def worker(
    trials: Annotated[int, typer.Option("--trials", min=1, help="small trials in turn")] = 50,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """One process that runs many trials: its memory after each, and what a graph that is used again saves."""
    from resflow.bench.worker import run

    require()
    show(run(trials, say), command_line("worker", {"--trials": trials}), as_json, out)


@app.command(epilog="Example: resflow bench study --set seeds=1 --set epochs=2")
def study(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="a study [default: a small one]")] = None,
    set_: Set = None,
    rounds: Rounds = 3,
    device: Device = "cpu",
    as_json: Json = False,
    out: Save = None,
) -> None:
    """A small depth study, beside a plain script that loops over arms and seeds; resflow's own overhead."""
    from resflow.bench.study import STUDY, run
    from resflow.study.yaml_source import parse_settings as parsed

    require(device)
    settings = parsed(set_)
    result = run(file or STUDY, settings, rounds, say, device)
    words = [file.name] if file else []
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    show(result, command_line("study", {"--rounds": rounds, **on_device(device)}, words), as_json, out)


@app.command(epilog="Example: resflow bench frozen --rounds 1 --json")
def frozen(
    set_: Set = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="of the script's trials, how many are timed")] = 2,
    epochs: Annotated[int, typer.Option("--epochs", min=2, help="of their epochs; the first one compiles")] = 3,
    rounds: Rounds = 3,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Six heads on a frozen ResNet-50, beside a script that computes the whole network in every epoch."""
    from resflow.bench.frozen import run
    from resflow.study.yaml_source import parse_settings as parsed

    require()
    settings = parsed(set_)
    result = run(settings, rounds, trials, epochs, say)
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    show(
        result,
        command_line("frozen", {"--trials": trials, "--epochs": epochs, "--rounds": rounds}, words),
        as_json,
        out,
    )


@app.command(epilog="Example: resflow bench scale --trials 10000 --idle 2000")
def scale(
    trials: Annotated[int, typer.Option("--trials", min=40, help="to plan, and to report on")] = 10_000,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="of each record")] = 100,
    idle: Annotated[int, typer.Option("--idle", min=2, help="trials that do nothing, to be scheduled")] = 2000,
    rounds: Rounds = 3,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """The bookkeeping of thousands of trials: a plan, a report, and the scheduling of trials that do nothing."""
    from resflow.bench.scale import run

    require()
    options = {"--trials": trials, "--epochs": epochs, "--idle": idle, "--rounds": rounds}
    show(run(trials, epochs, idle, rounds, say), command_line("scale", options), as_json, out)


@app.command(epilog="Example: resflow bench chaos --interruptions 50 --out results/reliability")
def chaos(
    interruptions: Annotated[int, typer.Option("--interruptions", "-n", min=1, help="at random moments")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="draws the moments and what happens")] = 1,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """A small study that is disturbed again and again: what is lost, made twice or different afterwards."""
    from resflow.bench.chaos import run
    from resflow.bench.disturbances import KINDS

    require()
    options = {"--interruptions": interruptions, "--seed": seed}
    show(run(interruptions, seed, KINDS, say), command_line("chaos", options), as_json, out)


@app.command(epilog="Example: resflow bench coverage --draws 2000")
def coverage(
    draws: Annotated[int, typer.Option("--draws", min=100, help="samples of each kind and size")] = 20_000,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Simulate how often intervals cover and tests are wrong: on normal seeds, and where seeds are not."""
    from resflow.bench.coverage import run

    show(run(draws, say), command_line("coverage", {"--draws": draws}), as_json, out)


@app.command(epilog="Example: resflow bench damage --flips 1400 --out results/reliability")
def damage(
    flips: Annotated[
        int, typer.Option("--flips", min=1, help="files in which one bit is flipped, of each thing")
    ] = 1400,
    others: Annotated[int, typer.Option("--others", min=1, help="files that are damaged in each other way")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="draws the files and what happens to them")] = 1,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Damage records and decoded images, and count what is noticed before it is believed."""
    from resflow.bench.damage import run

    options = {"--flips": flips, "--others": others, "--seed": seed}
    show(run(flips, others, seed, say), command_line("damage", options), as_json, out)


for name, function, example in (
    ("epoch", bench_device.epoch, "epoch --device gpu --depth 18"),
    ("packing", bench_device.packing, "packing --device gpu"),
    ("repeat", bench_device.repeat, "repeat --device gpu"),
    ("gpu", bench_device.gpu, "gpu --device cpu --out /tmp/first"),
):
    app.command(name, epilog=f"Example: resflow bench {example}")(function)
