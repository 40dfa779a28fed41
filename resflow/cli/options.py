"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Study = Annotated[str, typer.Argument(metavar="NAME|FILE", help="a built-in study (see resflow list) or a YAML file")]
Profile = Annotated[
    str | None, typer.Option("--profile", "-p", help="a named set of overrides, such as demo (see resflow list)")
]
SOURCE_HELP = "a source of photos, such as synthetic or folder:PATH (see resflow data list)"
Source = Annotated[str | None, typer.Option("--data", "-d", help=SOURCE_HELP)]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="a folder that already holds the source's official files")
]
Seeds = Annotated[int | None, typer.Option("--seeds", "-n", min=1, help="how many seeds: 1, 2, …, N")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="override a setting, such as epochs=5; repeatable"),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="the run's folder [default: results/STUDY-PROFILE-DATA]")]

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
