"""Results: `resflow report`, `compare`, `show`, `open` and `upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resflow import workspace
from resflow.cli import complete
from resflow.cli.options import Force, list_runs
from resflow.cli.terminal import one_line
from resflow.errors import RecordError

if TYPE_CHECKING:
    from resflow.report.presets import Preset

app = typer.Typer()


@app.command(epilog="Example: resflow report depth-demo-synthetic --format latex --format pdf")
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="runs by name or folder [default: all]", autocompletion=complete.runs)
    ] = None,
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
    folders = [run_folder(run) for run in runs] if runs else list_runs()
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
    first: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder", autocompletion=complete.runs)],
    second: Annotated[str, typer.Argument(metavar="RUN", help="another one's", autocompletion=complete.runs)],
) -> None:
    """Show what differs between two runs: studies, arms, effects."""
    from resflow.analysis.analyse import analyse
    from resflow.cli import console
    from resflow.report.compare import compare as compared
    from resflow.workspace import run_folder

    analyses = [analyse(run_folder(run)) for run in (first, second)]
    for table in compared(*analyses):
        console.console.print(console.render_table(table))


@app.command(epilog="Example: resflow show depth-demo-synthetic/residual-18 --seed 1")
def show(
    trial: Annotated[
        str,
        typer.Argument(
            metavar="[RUN/]TRIAL|ARM",
            help="a trial's id, or how it begins; or an arm, or ARM/SEED",
            autocompletion=complete.trials,
        ),
    ],
    seed: Annotated[int | None, typer.Option("--seed", help="of an arm, the trial with this seed")] = None,
) -> None:
    """Show one trial: settings, outcome, its last epochs, where its log and network lie; or an arm with its trials."""
    from resflow.cli import console, show_trial

    run, name = _split(trial)
    folders = [run] if run else list_runs()
    for part in show_trial.show(folders, name, seed, named=run is not None):
        if isinstance(part, str):
            console.say(part)
        else:
            console.console.print(part)


def _split(address: str) -> tuple[Path | None, str]:
    """Return the run that an address begins with, and what it names there; no run where it begins with none.

    Names of arms may have slashes in them, and paths of runs have: the longest part that is a folder is the run.
    """
    parts = address.split("/")
    for count in range(len(parts) - 1, 0, -1):
        folder = workspace.run_folder("/".join(parts[:count]) or "/")
        if folder.is_dir():
            return folder, "/".join(parts[count:])
    if len(parts) > 1 and not parts[-1].isdecimal():  # ARM/SEED of whichever run
        return Path(*parts[:-1]), parts[-1]
    return None, address


@app.command("open", epilog="Example: resflow open depth-demo-synthetic")
def open_(
    run: Annotated[
        str | None, typer.Argument(help="a run's name or folder [default: the latest]", autocompletion=complete.runs)
    ] = None,
) -> None:
    """Open a run's report in the browser; without one, say where it is."""
    import webbrowser

    from resflow.report.write import write_report
    from resflow.workspace import run_folder

    folder = run_folder(run) if run else max(list_runs(), key=lambda path: path.stat().st_mtime)
    page = folder / workspace.REPORT
    if not page.is_file():
        page = write_report(folder)
    print(one_line(f"Report: {page}"))
    if not webbrowser.open(page.resolve().as_uri()):
        print("No browser was found here: open that file in yours.")


@app.command(epilog="Example: resflow upgrade depth-cpu-oxford_flowers102")
def upgrade(
    runs: Annotated[list[str], typer.Argument(help="runs by name or folder", autocompletion=complete.runs)],
) -> None:
    """Pack the trials of runs that have ended into one file each, small enough to commit."""
    from resflow.cli.console import say_error
    from resflow.report.formatting import count, many
    from resflow.workflow.upgrade import upgrade_run
    from resflow.workspace import run_folder

    for run in runs:
        done = upgrade_run(run_folder(run))
        sizes = [f"{size.files:,} files, {count(size.bytes)}B" for size in (done.before, done.after)]
        print(one_line(f"{done.run}: {many(done.packed, 'trial')} packed; {sizes[0]} before, {sizes[1]} now"))
        for message in done.left:
            say_error(f"Left as it is: {message}", style="yellow")
