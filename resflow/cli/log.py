"""Copies for trackers: `resflow log`."""

from __future__ import annotations

from typing import Annotated

import typer

from resflow.cli import complete
from resflow.cli.options import choice
from resflow.trackers.known import TRACKERS

app = typer.Typer()


@app.command(epilog="Example: resflow log depth-demo-synthetic --to tensorboard")
def log(
    run: Annotated[str, typer.Argument(help="a run's name or folder", autocompletion=complete.runs)],
    to: Annotated[list[str], choice("--to", of=tuple(TRACKERS), what="tracker", note="; repeatable")],
) -> None:
    """Give trackers a copy of a run that is over; what they have of it already is not written twice."""
    from resflow.cli.console import say
    from resflow.cli.progress_view import TerminalReporter
    from resflow.report.formatting import many
    from resflow.workflow.tracking import log_run
    from resflow.workspace import run_folder

    folder = run_folder(run)
    count = log_run(folder, to, TerminalReporter())
    say(f"{folder}: {many(count, 'trial')}")
