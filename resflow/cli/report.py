"""Results: `resflow status`, `report`, `compare`, `show` and `open`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resflow import workspace
from resflow.cli.options import Force
from resflow.cli.terminal import one_line
from resflow.errors import RecordError

if TYPE_CHECKING:
    from resflow.report.presets import Preset

app = typer.Typer()


@app.command(epilog="Example: resflow status depth-demo-synthetic")
def status(
    run: Annotated[str | None, typer.Argument(help="a run's name or folder [default: all]")] = None,
) -> None:
    """Show what has run and what has not."""
    from rich.text import Text

    from resflow.cli import console
    from resflow.workspace import RESULTS, run_folder

    if run is None:
        found = [place for folder in _runs() for place in (folder, *_candidates(folder))]
        rows = [[place.relative_to(RESULTS), *_counts(place)] for place in found]
        console.console.print(console.table(("run", "trials", "state"), rows, right=("trials",)))
        return
    folder = run_folder(run)
    state = console.run_status(folder)
    console.console.print(state.table)
    console.console.print(state.counts)
    for message in state.messages:
        console.say(message)
    for place in _candidates(folder):
        words = f"; `resflow status {run}/{place.name}` lists them"
        console.console.print(Text.assemble("Candidates: ", console.run_status(place).counts, words))


def _counts(run: Path) -> tuple[object, object]:
    """Return how many trials a run has and their states; of one that cannot be read why not."""
    from rich.text import Text

    from resflow.cli import console

    try:
        state = console.run_status(run)
    except RecordError as error:
        return "", Text(one_line(error), style="red")
    notes = f"; {len(state.messages)} messages: `resflow status {run.name}`" if state.messages else ""
    return state.trials, Text.assemble(state.counts, notes)


def _candidates(run: Path) -> list[Path]:
    """Return the folder of a run's candidates; none before the first of them has ended."""
    try:
        return [run / workspace.TUNING] if (run / workspace.TUNING / workspace.TRIALS).is_dir() else []
    except OSError:
        return []  # nobody may look into the run: its own row says so


def _runs() -> list[Path]:
    """List every run below results/. Raises RecordError where there is none."""
    from resflow.workspace import RESULTS

    found = sorted(path.parent for path in RESULTS.glob(f"*/{workspace.STUDY}"))
    if not found:
        raise RecordError("no run below results/ yet: start one, such as `resflow study depth --profile demo`.")
    return found


@app.command(epilog="Example: resflow report depth-demo-synthetic --format latex --format pdf")
def report(
    runs: Annotated[list[str] | None, typer.Argument(help="runs by name or folder [default: all]")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="instead: tables as md, latex, csv, json or parquet, figures as svg, png or pdf; repeatable",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="where --format writes [default: RUN/exports]")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="what --format is for: neurips, icml, nature or slide; width, font and size"),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option("--width", min=2, max=20, help="inches of --format's column [default: the preset's, else 3.4]"),
    ] = None,
    force: Force = False,
) -> None:
    """Turn records into reports; several runs get an index page."""
    from resflow.cli.console import say_error
    from resflow.report.presets import choose_preset
    from resflow.report.write import write_index
    from resflow.workspace import run_folder

    if preset and not formats:
        raise RecordError(
            "--preset is of what --format writes, and there is no --format: add one, such as --format pdf."
        )
    printed = choose_preset(preset, width)
    folders = [run_folder(run) for run in runs] if runs else _runs()
    reported = []
    for folder in folders:
        try:
            _report(folder, formats, out / folder.name if out and len(folders) > 1 else out, printed, force)
        except RecordError as error:
            if len(folders) == 1:
                raise
            say_error(f"Error: {error}")
        else:
            reported.append(folder)
    if len(reported) > 1 and not formats:
        print(one_line(f"Index: {write_index(reported, force=force)}"))
    if len(reported) < len(folders):
        raise typer.Exit(2)


def _report(folder: Path, formats: list[str] | None, out: Path | None, preset: Preset, force: bool) -> None:
    """Write the report of one run, or its exports, and say where, and what of the run is damaged."""
    from resflow.analysis.analyse import analyse
    from resflow.cli.console import say_error
    from resflow.report import exports
    from resflow.report.write import write_analysis

    analysis = analyse(folder)
    for message in (*analysis.faults, *analysis.run.broken.values()):
        say_error(f"Damaged: {message}", style="yellow")
    if formats:
        for path in exports.write_exports(analysis, formats, out, force, preset):
            print(one_line(path))
    else:
        print(one_line(f"Report: {write_analysis(analysis, force)}"))


@app.command(epilog="Example: resflow compare depth-cpu-oxford_flowers102 depth-paper-oxford_flowers102")
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="another one's")],
) -> None:
    """Show what differs between two runs: studies, arms, effects."""
    from resflow.analysis.analyse import analyse
    from resflow.cli import console
    from resflow.report.compare import compare as compared
    from resflow.workspace import run_folder

    analyses = [analyse(run_folder(run)) for run in (first, second)]
    for table in compared(*analyses):
        console.console.print(console.render_table(table))


@app.command(epilog="Example: resflow show depth-demo-synthetic/1a2b3c4d5e6f")
def show(
    trial: Annotated[str, typer.Argument(metavar="[RUN/]TRIAL", help="a trial's id, or how it begins")],
) -> None:
    """Show one trial: settings, outcome, its last epochs, where its log and network lie."""
    from resflow.cli import console, show_trial
    from resflow.workspace import run_folder

    run, _, begin = trial.rpartition("/")
    folders = [run_folder(run)] if run else _runs()
    for part in show_trial.trial(folders, begin, named=bool(run)):
        console.console.print(part)


@app.command("open", epilog="Example: resflow open depth-demo-synthetic")
def open_(
    run: Annotated[str | None, typer.Argument(help="a run's name or folder [default: the latest]")] = None,
) -> None:
    """Open a run's report in the browser; without one, say where it is."""
    import webbrowser

    from resflow.report.write import write_report
    from resflow.workspace import run_folder

    folder = run_folder(run) if run else max(_runs(), key=lambda path: path.stat().st_mtime)
    page = folder / workspace.REPORT
    if not page.is_file():
        page = write_report(folder)
    print(one_line(f"Report: {page}"))
    if not webbrowser.open(page.resolve().as_uri()):
        print("No browser was found here: open that file in yours.")
