"""Tables for the terminal: studies, plans, networks, runs, data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.containers import Lines
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from resflow.cli.terminal import fill, hanging, one_line, printable, unguarded

if TYPE_CHECKING:
    from resflow.data.info import Description
    from resflow.report import tables
    from resflow.study.trial import Trial
    from resflow.workflow.status import TrialState


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


class Cell(Text):
    """Text in a table: a word that is longer than its column breaks after hyphens, and within a part if it must."""

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """Return its lines, each of at most `width` cells."""
        breaks: list[int] = []
        for word in re.finditer(r"\S+", self.plain):
            if cell_len(word[0]) > width:
                breaks += _breaks(word[0], word.start(), width)
        return Text("\n").join(self.divide(breaks)).wrap(console, width, **options)


def _breaks(word: str, start: int, width: int) -> Iterator[int]:
    """Yield where the lines of a word begin that is broken after hyphens, but after none of a number such as 1e-5."""
    begin = end = 0
    for part in re.split(r"(?<=\w-)(?<!\de-)(?=\w)", word):
        if end > begin and cell_len(word[begin : end + len(part)]) > width:
            yield start + end
            begin = end
        end += len(part)


console = SafeConsole()
errors = SafeConsole(stderr=True)


def can_redraw() -> bool:
    """Tell whether what was printed can be drawn anew: no pipe, file or terminal that takes no control codes."""
    return bool(console.file.isatty()) and console.is_terminal and not console.is_dumb_terminal


def say(text: str, title: str = "") -> None:
    """Print a message as it is, after its title: no markup, no word broken; further lines are indented."""
    _print(console, text, title)


def say_error(text: str, style: str = "red") -> None:
    """Print a message to the stream of errors, as `say` does."""
    _print(errors, text, style=style)


def print_page(text: str) -> None:
    """Print a page to the stream of errors, its lines as they stand; those that are too long break at spaces."""
    errors.print(Text(_filled(errors, printable(text))), soft_wrap=True)


def say_command(introduction: str, command: str) -> None:
    """Print a command that the reader may copy: in the line of its introduction, or whole in the next one."""
    fits = cell_len(f"{introduction}: {command}") <= console.width
    say_whole(f"{introduction}: {command}" if fits else f"{introduction}:\n{command}")


def say_whole(text: str) -> None:
    """Print a message whose lines a terminal breaks, and which can be copied whole from it."""
    console.print(hanging(text), markup=False, highlight=False, soft_wrap=True)


def _print(to: Console, text: str, title: str = "", style: str = "") -> None:
    message = hanging(f"{one_line(title)}: {text}" if title else text)
    shown = Text(_filled(to, message), style=style)
    if title:
        shown.stylize("bold", 0, len(one_line(title)))
    to.print(shown, soft_wrap=True)


def _filled(to: Console, text: str) -> str:
    """Break a message for a terminal; a pipe gets whole lines."""
    if not to.is_terminal:
        return text
    width = shutil.get_terminal_size().columns if to.is_dumb_terminal else to.width  # rich takes 80 for a dumb one
    return fill(text, width)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = (), whole: Sequence[str] = ()
) -> Table:
    """Make a table whose `right` columns are set to the right; cells are text in one line, never markup.

    A narrow terminal breaks no cell of a column that is `whole`.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(
            Text(one_line(column)),
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column in whole,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Cell(one_line(cell)) for cell in row))
    return made


def render_table(made: tables.Table) -> Group:
    """Lay out a table of a report, with its title and note."""
    right = [name for place, name in enumerate(made.header) if place and name not in made.text]
    parts: list[Any] = [Text(f"\n{one_line(made.title)}", style="bold")]
    if made.rows:
        parts.append(table(made.header, made.rows, right))
    return Group(*parts, Text(one_line(made.note), style="dim"))


def plan_table(trials: Sequence[Trial], seconds: Mapping[str, float]) -> Table:
    """Make a row a trial. A narrow terminal gets no columns of factors: the arm's name says their levels in order.

    The narrowest gets none of sizes either, so that it breaks no id.
    """
    from resflow.report.formatting import count, duration, one_unit
    from resflow.study.variation import name_seed

    factors = list(trials[0].levels) if console.width >= 110 else []
    sizes = ["parameters", "multiply-adds"] if console.width >= 76 else []
    columns = ["trial", "arm", "seed", *factors, *sizes, "epochs", "time"]
    work = one_unit([count(t.multiply_adds) for t in trials])
    times = one_unit([duration(seconds[t.id]) for t in trials])
    rows = [
        [
            t.id,
            t.arm,
            name_seed(t.seed, t.varies),
            *(t.levels[factor] for factor in factors),
            *([f"{t.parameters:,}", multiply_adds] if sizes else []),
            t.recipe.epochs,
            time,
        ]
        for t, multiply_adds, time in zip(trials, work, times, strict=True)
    ]
    return table(columns, rows, right=("seed", "parameters", "multiply-adds", "epochs", "time"), whole=("trial",))


def models_table(rows: Sequence[Mapping[str, Any]]) -> Group:
    """Networks of `architectures.catalogue`; those of one depth that are equal in size share a row."""
    shown: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        shown.setdefault(tuple(row[key] for key in ("family", "depth", "parameters", "multiply_adds")), []).append(row)
    columns = ("family", "depth", "shortcut", "variant", "parameters", "multiply-adds")
    cells = [
        [
            family,
            depth,
            *(", ".join(dict.fromkeys(row[key] for row in same)) for key in ("shortcut", "variant")),
            f"{parameters:,}",
            f"{multiply_adds / 1e9:.3f} G",
        ]
        for (family, depth, parameters, multiply_adds), same in shown.items()
    ]
    sizes = dict.fromkeys(f"{row['family']} at {row['image_size']} pixels, {row['classes']} classes" for row in rows)
    note = Text(f"{'; '.join(sizes)}.", style="dim")
    return Group(table(columns, cells, right=("depth", "parameters", "multiply-adds")), note)


def status_text(counts: Mapping[str, int]) -> Text:
    """`5 completed, 1 failed` with colours."""
    colours = {"completed": "green", "failed": "red", "diverged": "red", "pruned": "yellow"}
    text = Text()
    for status, number in counts.items():
        if number:
            text.append(", " if text else "")
            text.append(f"{number} {status}", style=colours.get(status, ""))
    return text or Text("nothing yet")


def trials_table(trials: Sequence[TrialState], of_metric: str) -> Table:
    """Make a row a trial of a run, with its state and what came of it."""
    from resflow.records.metrics import metric
    from resflow.study.variation import name_seed

    shown = metric(of_metric)
    rows = [
        [
            trial.id,
            trial.arm,
            name_seed(trial.seed, trial.varies),
            trial.state,
            "" if trial.value is None else f"{shown.scale * trial.value:.1f}{shown.unit}",
            trial.reason,
        ]
        for trial in trials
    ]
    reasons = [] if any(trial.reason for trial in trials) else [5]
    columns = [
        name
        for place, name in enumerate(("trial", "arm", "seed", "state", shown.label, "reason"))
        if place not in reasons
    ]
    return table(columns, [row[: len(columns)] for row in rows], right=("seed",), whole=("trial", "state"))


def data_page(facts: Description) -> Group:
    """Lay out a prepared source: classes and splits, identity, copies, the cache."""
    from resflow.study.split_notes import some, tell_split

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
        *([["groups", facts.groups]] if facts.groups else []),
        *map(list, tell_split(facts.notes)),
        ["not images", ", ".join(facts.ignored) or "none"],
        ["passed over", some([_printable(name) for name in facts.litter], 20) or "nothing"],
        ["cache", f"{facts.folder} ({facts.bytes_on_disk / 1e6:.1f} MB)"],
    ]
    columns = ("class", "train", "validation", "test", "all")
    return Group(table(columns, counts, right=columns[1:]), Text(), table(("", ""), lines))


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]


def _named(where: str, groups: Sequence[Sequence[str]]) -> str:
    listed = "; ".join(" = ".join(group) for group in groups[:10])
    return f"{len(groups)} {where}{': ' + listed if listed else ''}{' …' if len(groups) > 10 else ''}"
