"""What the commands of `resflow bench` share: their options, and how a result is shown and kept."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow.cli.options import choice

Json = Annotated[bool, typer.Option("--json", help="print JSON on standard output, and nothing else")]


def check_folder_option(out: Path | None) -> Path | None:
    """Refuse a folder of other files before anything is measured."""
    if out is not None:
        from resflow.bench.saving import check_folder

        check_folder(out)
    return out


Save = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="keep the result there, such as results/bench", callback=check_folder_option
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
Device = Annotated[str, choice("--device", of=("cpu", "gpu"), note=" [default: cpu]")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="float32 or mixed_bfloat16 [default: float32; mixed_bfloat16 on a GPU]"),
]
TorchPython = Annotated[
    str | None, typer.Option("--torch-python", metavar="PYTHON", help="an interpreter that has PyTorch")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="CONTENDER", help="beside resflow, this contender; repeatable")
]
Depth = Annotated[int, typer.Option("--depth", help="18, 34, 50, 101 or 152")]
Width = Annotated[float, typer.Option("--width", help="multiplier of every channel count")]


def require(device: str = "cpu") -> None:
    """Raise ResflowError where nothing can be trained here, or not on this device."""
    from resflow import provenance
    from resflow.bench.device import check

    provenance.require_training()
    check(device)


def count_cores(threads: int | None = None) -> int:
    """Return the CPU threads that a command may use: those that it was told, else one for every core."""
    from resflow import provenance

    return threads or provenance.count_processors()


def say(text: str) -> None:
    from resflow.cli.console import say_error

    say_error(text, style="")


def list_only(only: list[str] | None) -> list[str]:
    return [word for name in only or () for word in ("--only", name)]


def on_device(device: str) -> dict[str, Any]:
    """Return the option of a command line that names the device; none on a CPU, the default."""
    return {"--device": device} if device != "cpu" else {}


def command_line(name: str, options: dict[str, Any], words: list[str] | None = None) -> str:
    pairs = [str(part) for pair in options.items() for part in pair]
    return shlex.join(["resflow", "bench", name, *(words or []), *pairs])


def show(result: dict[str, Any], command: str, as_json: bool, out: Path | None) -> None:
    from resflow.bench import page, saving
    from resflow.cli.console import console, table

    result = saving.complete(result, command)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        console.print(page.title(result), markup=False, highlight=False)
        console.print(table(page.COLUMNS, page.rows(result)))
    if out is not None:
        say(f"Kept: {saving.write(out, result)}")
