"""Tables for the terminal: studies, plans, networks, runs, data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from resflow.cli.terminal import hanging, one_line, printable, unguarded

if TYPE_CHECKING:
    from resflow.data.info import Description
    from resflow.report import tables
    from resflow.study.trial import Trial


class SafeConsole(Console):
    """A console whose colours and cursor are rich's own: text steers nothing. It writes past `terminal.guard`."""

    @property
    def file(self) -> IO[str]:
        return cast("IO[str]", unguarded(Console.file.fget(self)))  # type: ignore[attr-defined]

    @file.setter
    def file(self, stream: IO[str]) -> None:
        Console.file.fset(self, stream)  # type: ignore[attr-defined]

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of whatever is printed here, its text printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


console = SafeConsole()
errors = SafeConsole(stderr=True)


def say(text: str) -> None:
    """Print a message as it is: no markup, no breaks but its own, whose lines are indented."""
    console.print(hanging(text), markup=False, highlight=False, soft_wrap=True)


def say_error(text: str, style: str = "red") -> None:
    """Print a message to the stream of errors, as `say` does."""
    errors.print(hanging(text), style=style, markup=False, highlight=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> Table:
    """Make a table whose `right` columns are set to the right; cells are text in one line, never markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(Text(one_line(column)), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row))
    return made


def render_table(made: tables.Table) -> Group:
    """Lay out a table of a report, with its title and note."""
    right = [name for place, name in enumerate(made.header) if place and name not in made.text]
    parts: list[Any] = [Text(f"\n{one_line(made.title)}", style="bold")]
    if made.rows:
        parts.append(table(made.header, made.rows, right))
    return Group(*parts, Text(one_line(made.note), style="dim"))


def plan_table(trials: Sequence[Trial], seconds: Mapping[str, float]) -> Table:
    """Make a row a trial. A narrow terminal gets no columns of factors: the arm's name says their levels in order."""
    from resflow.report.formatting import count, duration

    factors = list(trials[0].levels) if console.width >= 110 else []
    columns = ["trial", "arm", "seed", *factors, "parameters", "multiply-adds", "epochs", "time"]
    rows = [
        [
            t.id,
            t.arm,
            t.seed,
            *(t.levels[factor] for factor in factors),
            f"{t.parameters:,}",
            count(t.multiply_adds),
            t.recipe.epochs,
            duration(seconds[t.id]),
        ]
        for t in trials
    ]
    return table(columns, rows, right=("seed", "parameters", "multiply-adds", "epochs", "time"))


def models_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Networks of `architectures.catalogue`; those of one depth that are equal in size share a row."""
    shown: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        shown.setdefault(tuple(row[key] for key in ("family", "depth", "parameters", "multiply_adds")), []).append(row)
    columns = ("family", "depth", "shortcut", "variant", "parameters", "multiply-adds", "at")
    cells = [
        [
            family,
            depth,
            *(", ".join(dict.fromkeys(row[key] for row in same)) for key in ("shortcut", "variant")),
            f"{parameters:,}",
            f"{multiply_adds / 1e9:.3f} G",
            f"{same[0]['image_size']} px, {same[0]['classes']} classes",
        ]
        for (family, depth, parameters, multiply_adds), same in shown.items()
    ]
    return table(columns, cells, right=("depth", "parameters", "multiply-adds"))


def status_text(counts: Mapping[str, int]) -> Text:
    """`5 completed, 1 failed` with colours."""
    colours = {"completed": "green", "failed": "red", "diverged": "red", "pruned": "yellow"}
    text = Text()
    for status, number in counts.items():
        if number:
            text.append(", " if text else "")
            text.append(f"{number} {status}", style=colours.get(status, ""))
    return text or Text("nothing yet")


@dataclass(frozen=True)
class RunStatus:
    """How many trials a run has or its search has candidates, counts by state, a row for each, what is damaged."""

    trials: int
    counts: Text
    table: Table
    messages: tuple[str, ...]


def run_status(folder: Path) -> RunStatus:
    """Count the trials of a run, or its candidates, by state, and make a row for each."""
    from resflow.records.run import load_run

    run = load_run(folder)
    known = {record.id: record for record in run.records}
    listed = (run.plan if len(run.plan) else run.frame()).to_dict("records")
    listed += [{"id": name} for name in run.broken if not len(run.plan)]
    part = "validation" if any(record.candidate for record in run.records) else "test"
    rows = []
    for row in listed:
        record = known.get(row["id"])
        state = record.status if record else ("unreadable" if row["id"] in run.broken else "not run")
        top1 = record.metrics.get(f"{part}_top1") if record else None
        shown = "" if top1 is None else f"{top1:.1%}"
        why = record.reason if record else run.broken.get(row["id"], "")
        rows.append([row["id"], row.get("arm", ""), row.get("seed", ""), state, shown, why])
    counts = Counter(str(row[3]) for row in rows)
    columns = ("trial", "arm", "seed", "state", f"{part} top-1", "reason")
    planned = {row[0] for row in rows}
    strangers = [message for name, message in run.broken.items() if name not in planned]
    return RunStatus(len(rows), status_text(counts), table(columns, rows, right=("seed",)), (*run.faults, *strangers))


def data_page(facts: Description) -> Group:
    """Lay out a prepared source: classes and splits, identity, copies, the cache."""
    counts: list[list[Any]] = [[name, *numbers, sum(numbers)] for name, numbers in facts.counts.items()]
    counts.append(["all", *facts.totals, sum(facts.totals)])
    sides = ", ".join(f"{which} {width}×{height}" for which, (width, height) in facts.originals.items())
    lines: list[list[Any]] = [
        ["source", facts.source],
        ["split", f"{facts.split}, hash {facts.split_hash}"],
        ["identity", facts.identity],
        ["fingerprint", f"{facts.fingerprint} (at {facts.image_size}×{facts.image_size})"],
        ["originals", sides or "none: drawn at this size"],
        ["in no part", facts.unused],
        ["copies", f"{len(facts.copies)} groups of identical images"],
        ["", _named("across parts of the split", facts.across_parts)],
        ["", _named("across classes", facts.across_classes)],
        ["not images", ", ".join(facts.ignored) or "none"],
        ["passed over", _some(facts.litter)],
        ["cache", f"{facts.folder} ({facts.bytes_on_disk / 1e6:.1f} MB)"],
    ]
    columns = ("class", "train", "validation", "test", "all")
    return Group(table(columns, counts, right=columns[1:]), Text(), table(("", ""), lines))


def _some(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(map(_printable, names[:most]))}{more}" or "nothing"


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]


def _named(where: str, groups: Sequence[Sequence[str]]) -> str:
    listed = "; ".join(" = ".join(group) for group in groups[:10])
    return f"{len(groups)} {where}{': ' + listed if listed else ''}{' …' if len(groups) > 10 else ''}"
