"""The command line. Commands are thin: each imports what it needs when it runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow import atomic, environment, interruption, scratch
from resflow.architectures import FAMILIES
from resflow.cli import bench, complete, inspect, log, networks, plan, report, status, streams, study
from resflow.cli.help_page import Group, Root
from resflow.cli.options import SOURCE_HELP, DataDir, Force, choice
from resflow.cli.terminal import guard, one_line
from resflow.errors import ResflowError
from resflow.workspace import CACHE_TAG

app = typer.Typer(
    name="resflow",
    cls=Root,
    help="Ablations of residual networks on flower photos, with intervals that can be trusted.",
    epilog="A first run: resflow study depth --profile demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # typer's rich help costs 0.2 s at every start, half of what --help may take
    context_settings={"help_option_names": ["-h", "--help"]},
)
WIDE = 120  # columns of a terminal that has room for a study's question beside the rest
USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
data_app = typer.Typer(cls=Group, help="Fetch photos, and look at what a source holds.", no_args_is_help=True)
app.add_typer(study.app)
app.add_typer(plan.app)
app.add_typer(status.app)
app.add_typer(report.app)
app.add_typer(log.app)
app.add_typer(data_app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(networks.app)
app.add_typer(inspect.app)


def main() -> None:
    """Run the command line; the user's errors end as one message and exit code 2."""
    with interruption.program():
        environment.settle_program()
        streams.make_robust()
        guard()
        try:
            with scratch.private_temporary_files():
                sys.exit(app(standalone_mode=False))
        except ResflowError as error:
            from resflow.cli.console import say_error

            say_error(f"Error: {error}")
            sys.exit(2)
        except typer.Abort:
            print("Aborted.", file=sys.stderr)
            sys.exit(1)
        except USAGE_ERROR as error:
            from resflow.cli.console import print_page

            page = io.StringIO()
            error.show(page)
            print_page(page.getvalue().rstrip())
            sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        from resflow import __version__

        print(f"resflow {__version__}")
        raise typer.Exit


@app.command("list", epilog="Example: resflow list")
def list_() -> None:
    """List the built-in studies."""
    from resflow.cli.console import console, say, table
    from resflow.study.load import builtin_studies, load_study

    rows: list[tuple[str, int, str, str, str]] = []
    for name in builtin_studies():
        loaded = load_study(name)
        profiles = ", ".join(loaded.origin.profiles)
        rows.append((name, len(loaded.arms), loaded.baseline.name, profiles, loaded.file.question))
    if console.width >= WIDE:
        console.print(table(("study", "arms", "baseline", "profiles", "question"), rows, right=("arms",)))
        return
    for name, arms, baseline, profiles, question in rows:
        say(question, title=name)
        say(f"  {arms} arms, baseline {baseline}, profiles {profiles}")


@app.command(epilog="Example: resflow models --family imagenet")
def models(
    family: Annotated[str | None, choice("--family", of=FAMILIES, note=" [default: both]")] = None,
    format_: Annotated[str, choice("--format", "-f", of=("table", "json"))] = "table",
) -> None:
    """List every network: trainable parameters, multiply-adds at its native size."""
    from resflow import architectures
    from resflow.cli.console import console, models_table

    rows = [row for row in architectures.catalogue() if family in (None, row["family"])]
    if format_ == "json":
        import json

        print(json.dumps(rows, indent=1))
    else:
        console.print(models_table(rows))


@app.command(epilog="Example: resflow init mine.yaml --from depth && resflow study ./mine.yaml --dry-run")
def init(
    path: Annotated[Path | None, typer.Argument(help="the file to write [default: KIND.yaml]")] = None,
    kind: Annotated[
        str, choice("--kind", "-k", of=("study", "ray-cluster", "rayjob"), what="kind of file", note=" (KubeRay)")
    ] = "study",
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="copy a built-in study", autocompletion=complete.builtin_studies),
    ] = None,
    force: Force = False,
) -> None:
    """Write a commented file to start from: a study, or what runs one on a cluster."""
    from resflow.workflow.starting_point import write_start

    path = path or Path(f"{from_ or kind}.yaml")
    write_start(kind, path, from_, force)
    if kind == "study":
        place = path if path.is_absolute() else f"./{path}"
        print(f"Wrote {path}, and its schema for editors. Look at its trials with: resflow plan {place}")
    else:
        print(f"Wrote {path}. Its first lines say how it is used.")


@app.command(epilog="Example: resflow schema > study.schema.json")
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    import json

    from resflow.study.schema import json_schema

    print(json.dumps(json_schema(), indent=1))


@app.command(epilog="Example: resflow doctor")
def doctor(
    start_ray: Annotated[bool, typer.Option("--ray/--no-ray", help="start Ray to ask what it sees")] = True,
) -> None:
    """Say what this machine offers: versions, GPUs, caches."""
    from resflow.workflow.doctor import examine

    for line in examine(start_ray):
        print(one_line(line))


@app.command(epilog="Example: resflow clean --what logs --yes")
def clean(
    what: Annotated[
        str, typer.Option("--what", help="images, downloads, compiled, features, weights, logs, kept; all but kept")
    ] = "all",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove cached images, downloads and logs; never results.

    Kept networks go with `--what kept` alone: only training makes them again.
    """
    from resflow.report.formatting import count
    from resflow.workflow.doctor import removable_places, unmarked_places

    places = removable_places(what)
    for path in unmarked_places():
        print(f"{path} stays: it has no mark of resflow ({CACHE_TAG}), which did not make that folder.")
    for place in places:
        print(one_line(f"{place.path}  {count(place.size)}B  {place.what}"))
    if not places:
        print("Nothing to remove.")
    elif yes or typer.confirm("Remove these?"):
        for place in places:
            place.remove()


@data_app.command("list", epilog="Example: resflow data list")
def list_sources() -> None:
    """List the sources of photos and their splits."""
    from resflow.cli.console import console, table
    from resflow.data.sources.open import SOURCES

    rows = [[entry.name, ", ".join(entry.splits), entry.help] for entry in SOURCES]
    console.print(table(("source", "splits", "photos"), rows))
    official = ", ".join(entry.name for entry in SOURCES if entry.takes_data_dir and ":" not in entry.name)
    print(f"--data-dir names a folder that already holds the files of {official}, or the photos of csv:FILE.")


@data_app.command(epilog="Example: resflow data fetch oxford_flowers102 --image-size 64")
def fetch(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    data_dir: DataDir = None,
    image_size: Annotated[int, typer.Option("--image-size", min=16, max=512, help="pixels of a side")] = 64,
) -> None:
    """Download a source where needed, check it, and decode it into the cache."""
    from resflow.data.sources.open import open_source

    print(f"Ready: {open_source(source, data_dir).prepare(image_size)}")


@data_app.command(epilog="Example: resflow data info oxford_flowers10 --split article --contact-sheet sheet.png")
def info(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option("--split", help="one of the source's splits, or auto: its first")] = "auto",
    split_seed: Annotated[int, typer.Option("--split-seed", min=0, help="draws a stratified split")] = 0,
    image_size: Annotated[int, typer.Option("--image-size", min=16, max=512, help="pixels of a side")] = 64,
    contact_sheet: Annotated[
        Path | None, typer.Option("--contact-sheet", help="write some images of each class here")
    ] = None,
    force: Force = False,
) -> None:
    """Show counts a class and a split, the split's hash, image sizes and copies."""
    from resflow.cli.console import console, data_page
    from resflow.data import info as facts
    from resflow.data.dataset import load_dataset, resolve_split
    from resflow.data.sources.open import open_source

    if contact_sheet is not None:
        atomic.refuse_to_replace([contact_sheet], force)
    opened = open_source(source, data_dir)
    resolve_split(split, opened.splits, source)  # an unknown one is told before anything is decoded
    folder = opened.prepare(image_size)
    console.print(data_page(facts.describe(folder, split, split_seed, opened.litter())))
    if contact_sheet is not None:
        facts.contact_sheet(load_dataset(folder, split, split_seed), contact_sheet)
        print(f"Contact sheet: {contact_sheet}")
