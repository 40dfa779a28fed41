"""`resflow status`: what of a run has ended, what runs right now, and what has not run."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resflow import workspace
from resflow.cli import complete
from resflow.cli.options import list_runs
from resflow.cli.terminal import one_line
from resflow.errors import RecordError, ResflowError

if TYPE_CHECKING:
    from resflow.workflow.status import RunState

app = typer.Typer()
PAUSE_S, SHARE = 1.0, 10  # between two looks of `--watch`, and how often longer than a look takes


@app.command(epilog="Example: resflow status depth-demo-synthetic --watch")
def status(
    run: Annotated[
        str | None, typer.Argument(help="a run's name or folder [default: all]", autocompletion=complete.runs)
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="show a run that goes on, from any terminal, until it ends")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on standard output, and nothing else")] = False,
) -> None:
    """Show what has run, what runs right now, and what has not run."""
    if watch and as_json:
        raise ResflowError("--watch draws a screen and --json is for scripts: give one of them.")
    if as_json:
        _print_json([workspace.run_folder(run)] if run else list_runs(), is_named=run is not None)
    elif watch:
        _watch(workspace.run_folder(run) if run else _find_live())
    elif run is None:
        _show_all()
    else:
        _show(workspace.run_folder(run))


def _show_all() -> None:
    from resflow.cli.console import console, table

    places = [place for folder in list_runs() for place in _parts(folder)]
    rows = [[_name(place), *_counts(place)] for place in places]
    console.print(table(("run", "trials", "state"), rows, right=("trials",)))


def _show(folder: Path) -> None:
    from rich.text import Text

    from resflow.cli.console import console, say, trials_table
    from resflow.cli.live_view import draw, outcome
    from resflow.workflow.status import read_state

    state = read_state(folder)
    console.print(trials_table(state.trials, state.metric), "")
    console.print(draw(state, console, console.options) if state.is_live else outcome(state))
    for message in state.messages:
        say(message)
    for place in _parts(folder)[1:]:
        words = f"; `resflow status {_name(place)}` lists them"
        console.print(Text.assemble("Candidates: ", _summary(read_state(place)), words), soft_wrap=True)


def _summary(state: RunState) -> Any:
    from resflow.cli.live_view import summary

    return summary(state)


def _counts(place: Path) -> tuple[object, object]:
    """Return how many trials a run has and their states; of one that cannot be read why not."""
    from rich.text import Text

    from resflow.workflow.status import read_state

    try:
        state = read_state(place)
    except RecordError as error:
        return "", Text(one_line(error), style="red")
    notes = f"; {len(state.messages)} messages: `resflow status {place.name}`" if state.messages else ""
    return state.total, _summary(state).append(notes)


def _watch(folder: Path) -> None:
    """Show a run for as long as a process runs it; where nothing can be drawn anew, a line a trial that ends."""
    from rich.text import Text

    from resflow.cli.console import can_redraw, console, say
    from resflow.cli.live_view import outcome
    from resflow.cli.progress_view import News, redrawn
    from resflow.runner.stopping import is_driven
    from resflow.workflow.status import read_state, running_part

    if not is_driven(folder):
        _show(folder)
        say(f"No process runs {_name(folder)} right now.")
        return
    if can_redraw():
        with redrawn(Text(f"{_name(folder)} …")) as show:
            while is_driven(folder):
                seen = _look(running_part(folder) or folder)
                show(partial(replace, seen))
    else:
        news: dict[Path, News] = {}
        while is_driven(folder):
            part = running_part(folder) or folder
            state = _look(part)
            known = [trial.id for trial in state.trials if trial.state not in ("not run", "running")]
            news.setdefault(part, News(known)).tell(state, [trial for trial in state.trials if trial.id in known])
    console.print(outcome(read_state(folder)))
    if (folder / workspace.REPORT).is_file():
        say(f"Report: {folder / workspace.REPORT}")


def _look(place: Path) -> RunState:
    """Read a run's state and wait a while: a large one takes longer to read, and is read less often."""
    from resflow.workflow.status import read_state

    begin = time.monotonic()
    state = read_state(place)
    time.sleep(max(PAUSE_S, SHARE * (time.monotonic() - begin)))
    return state


def _find_live() -> Path:
    from resflow.runner.stopping import is_driven

    live = [folder for folder in list_runs() if is_driven(folder)]
    if len(live) != 1:
        found = f"{len(live)} do: {', '.join(map(_name, live))}" if live else "none does"
        raise RecordError(
            f"--watch without RUN shows the one run below results/ that goes on, and {found}. Name a run."
        )
    return live[0]


def _print_json(folders: list[Path], is_named: bool) -> None:
    """Print one run as a mapping, all as a list; of several, one that cannot be read says why in `error`."""
    import json

    from resflow.workflow.status import read_state

    states = []
    for place in (part for folder in folders for part in ([folder] if is_named else _parts(folder))):
        try:
            states.append(read_state(place).as_json(_name(place)))
        except RecordError as error:
            if is_named:
                raise
            states.append({"run": _name(place), "error": str(error)})
    print(json.dumps(states[0] if is_named else states, indent=1))


def _parts(run: Path) -> list[Path]:
    """Return a run's folder, and that of its candidates where one of them has ended."""
    candidates = run / workspace.TUNING
    try:
        return [run, candidates] if (candidates / workspace.TRIALS).is_dir() else [run]
    except OSError:
        return [run]  # nobody may look into the run: its own row says so


def _name(place: Path) -> str:
    """Return a run as a user names it: by its name below results/, else by its folder."""
    return str(place.relative_to(workspace.RESULTS)) if place.is_relative_to(workspace.RESULTS) else str(place)
