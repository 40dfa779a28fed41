"""`resflow bench`: a command a question of speed or reliability."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow import provenance
from resflow.cli.help_page import Group

app = typer.Typer(
    cls=Group, help="Measure resflow on this machine, beside stock Keras and PyTorch.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="print JSON on standard output, and nothing else")]


def _check_folder(out: Path | None) -> Path | None:
    """Refuse a folder of other files before anything is measured."""
    if out is not None:
        from resflow.bench.saving import check_folder

        check_folder(out)
    return out


Save = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="keep the result there, such as results/bench", callback=_check_folder
    ),
]
Rounds = Annotated[int, typer.Option("--rounds", "-r", min=1, help="how often each contender runs, in turn")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="least seconds that a contender is measured for")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads [default: every core]")]
ImageSize = Annotated[int, typer.Option("--image-size", min=16, max=512, help="pixels of a side")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="images a step")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="override a setting, such as epochs=5; repeatable"),
]


@app.command(epilog="Example: resflow bench step --depth 50 --json")
def step(
    depth: Annotated[int, typer.Option("--depth", help="18, 34, 50, 101 or 152")] = 18,
    width: Annotated[float, typer.Option("--width", help="multiplier of every channel count")] = 1.0,
    image_size: ImageSize = 64,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    precision: Annotated[str, typer.Option("--precision", help="float32 or mixed_bfloat16")] = "float32",
    rounds: Rounds = 3,
    seconds: Seconds = 3.0,
    every: Annotated[bool, typer.Option("--all", help="Keras compiled by XLA, and without oneDNN, as well")] = False,
    torch_python: Annotated[
        str | None, typer.Option("--torch-python", metavar="PYTHON", help="an interpreter that has PyTorch")
    ] = None,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Training steps: images a second, and the part of the machine's matrix product that they reach."""
    from resflow.bench.step import run

    _require()
    settings = {
        "network.depth": depth,
        "network.width": width,
        "data.image_size": image_size,
        "recipe.batch_size": batch_size,
        "execution.threads": threads or _cores(),
        "execution.precision": precision,
    }
    result = run(settings, seconds, rounds, every, torch_python, _say)
    options: dict[str, Any] = {"--depth": depth, "--width": f"{width:g}"} if width != 1 else {"--depth": depth}
    options |= {"--image-size": image_size, "--batch-size": batch_size, "--threads": settings["execution.threads"]}
    options |= {"--precision": precision} if precision != "float32" else {}
    options |= {"--rounds": rounds, "--seconds": f"{seconds:g}"}
    options |= {"--torch-python": "PYTHON"} if torch_python else {}  # no path of this machine
    _show(result, _command("step", options, ["--all"] if every else []), as_json, out)


@app.command("input", epilog="Example: resflow bench input --image-size 224")
def input_(
    image_size: ImageSize = 64,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    rounds: Rounds = 3,
    seconds: Seconds = 3.0,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Augmented batches: images a second from the decoded cache, beside Keras' ImageDataGenerator."""
    from resflow.bench.input import run

    _require()
    cores = threads or _cores()
    result = run(image_size, batch_size, cores, seconds, rounds, _say)
    options = {"--image-size": image_size, "--batch-size": batch_size, "--threads": cores, "--rounds": rounds}
    _show(result, _command("input", {**options, "--seconds": f"{seconds:g}"}), as_json, out)


@app.command(epilog="Example: resflow bench convolution --threads 1")
def convolution(
    threads: Threads = None, rounds: Rounds = 3, seconds: Seconds = 0.2, as_json: Json = False, out: Save = None
) -> None:
    """Each way of computing each kind of convolution: what the table of lowerings rests on."""
    from resflow.bench.convolution import run

    _require()
    cores = threads or _cores()
    result = run(cores, seconds, rounds, _say)
    command = _command("convolution", {"--threads": cores, "--rounds": rounds, "--seconds": f"{seconds:g}"})
    _show(result, command, as_json, out)


@app.command(epilog="Example: resflow bench worker --trials 50")
def worker(
    trials: Annotated[int, typer.Option("--trials", min=1, help="small trials in turn")] = 50,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """One process that runs many trials: its memory after each, and what a graph that is used again saves."""
    from resflow.bench.worker import run

    _require()
    _show(run(trials, _say), _command("worker", {"--trials": trials}), as_json, out)


@app.command(epilog="Example: resflow bench study --set seeds=1 --set epochs=2")
def study(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="a study [default: a small one]")] = None,
    set_: Set = None,
    rounds: Rounds = 3,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """A small depth study, beside a plain script that loops over arms and seeds; resflow's own overhead."""
    from resflow.bench.study import STUDY, run
    from resflow.study.yaml_source import parse_settings as parsed

    _require()
    settings = parsed(set_)
    result = run(file or STUDY, settings, rounds, _say)
    words = [file.name] if file else []
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    _show(result, _command("study", {"--rounds": rounds}, words), as_json, out)


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

    _require()
    settings = parsed(set_)
    result = run(settings, rounds, trials, epochs, _say)
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    _show(result, _command("frozen", {"--trials": trials, "--epochs": epochs, "--rounds": rounds}, words), as_json, out)


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

    _require()
    options = {"--trials": trials, "--epochs": epochs, "--idle": idle, "--rounds": rounds}
    _show(run(trials, epochs, idle, rounds, _say), _command("scale", options), as_json, out)


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

    _require()
    options = {"--interruptions": interruptions, "--seed": seed}
    _show(run(interruptions, seed, KINDS, _say), _command("chaos", options), as_json, out)


@app.command(epilog="Example: resflow bench coverage --draws 2000")
def coverage(
    draws: Annotated[int, typer.Option("--draws", min=100, help="samples of each kind and size")] = 20_000,
    as_json: Json = False,
    out: Save = None,
) -> None:
    """Simulate how often intervals cover and tests are wrong: on normal seeds, and where seeds are not."""
    from resflow.bench.coverage import run

    _show(run(draws, _say), _command("coverage", {"--draws": draws}), as_json, out)


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
    _show(run(flips, others, seed, _say), _command("damage", options), as_json, out)


def _require() -> None:
    provenance.require_training()


def _cores() -> int:
    return provenance.count_processors()


def _say(text: str) -> None:
    from resflow.cli.console import say_error

    say_error(text, style="")


def _command(name: str, options: dict[str, Any], words: list[str] | None = None) -> str:
    pairs = [str(part) for pair in options.items() for part in pair]
    return shlex.join(["resflow", "bench", name, *(words or []), *pairs])


def _show(result: dict[str, Any], command: str, as_json: bool, out: Path | None) -> None:
    from resflow.bench import page, saving
    from resflow.cli.console import console, table

    result = saving.complete(result, command)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        console.print(page.title(result), markup=False, highlight=False)
        console.print(table(page.COLUMNS, page.rows(result)))
    if out is not None:
        _say(f"Kept: {saving.write(out, result)}")
