"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow import workspace
from resflow.cli import complete
from resflow.errors import RecordError, ResflowError, one_of
from resflow.trackers.known import TRACKERS


def choice(*flags: str, of: Sequence[str], what: str = "", note: str = "") -> Any:
    """Return an option that takes one of some words, or several; its help names them, and so does its error."""

    def check(value: str | list[str] | None) -> str | list[str] | None:
        for word in [value] if isinstance(value, str) else value or ():
            if word not in of:
                raise ResflowError(f"{flags[0]}: {one_of(word, of, what or flags[0].strip('-'))}")
        return value

    return typer.Option(*flags, help=f"{', '.join(of[:-1])} or {of[-1]}{note}", callback=check)


Study = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE", help="a built-in study (see resflow list) or a YAML file", autocompletion=complete.studies
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="a named set of overrides, such as demo (see resflow list)",
        autocompletion=complete.profiles,
    ),
]
SOURCE_HELP = "a source of photos, such as synthetic, folder:PATH or csv:FILE (see resflow data list)"
Source = Annotated[str | None, typer.Option("--data", "-d", help=SOURCE_HELP)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="a folder that already holds the source's official files, or a CSV file's photos"),
]
Seeds = Annotated[int | None, typer.Option("--seeds", "-n", min=1, help="how many seeds: 1, 2, …, N")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="override a setting, such as epochs=5; repeatable",
        autocompletion=complete.settings,
    ),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="the run's folder [default: results/STUDY-PROFILE-DATA]")]

Force = Annotated[bool, typer.Option("--force", help="replace files that are there already and not of resflow")]
Storage = Annotated[
    str | None,
    typer.Option("--storage", help="a folder or a URL (s3://…) for checkpoints of running trials [default: .resflow]"),
]
MaxFailures = Annotated[
    int | None, typer.Option("--max-failures", min=1, help="stop when so many trials have failed or diverged")
]
TimeBudget = Annotated[
    str | None,
    typer.Option("--time-budget", help="stop after 90 (seconds), 30m, 2h or 1d, and report what is there"),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="a Ray cluster that runs: auto, or HOST:PORT of its head [default: this machine]"),
]
Log = Annotated[
    list[str] | None,
    choice("--log", of=tuple(TRACKERS), what="tracker", note=": copies of trials as they go on; repeatable"),
]


def list_runs() -> list[Path]:
    """List every run below results/. Raises RecordError where there is none."""
    found = sorted(path.parent for path in workspace.RESULTS.glob(f"*/{workspace.STUDY}"))
    if not found:
        raise RecordError("no run below results/ yet: start one, such as `resflow study depth --profile demo`.")
    return found
