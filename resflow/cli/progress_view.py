"""The live view of a run in a terminal; elsewhere a line a finished trial."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resflow.cli.console import console, render_table, say, status_text, table
from resflow.cli.terminal import hanging, one_line
from resflow.report.formatting import duration

if TYPE_CHECKING:
    from resflow.report import tables
    from resflow.runner.progress import Progress


class TerminalReporter:
    """Tells a terminal of a run: the Reporter of the command line."""

    def note(self, text: str, title: str = "") -> None:
        if title:
            console.print(Text.assemble((one_line(title), "bold"), ": ", hanging(text)), highlight=False)
        else:
            say(text)

    def show(self, found: Iterable[tables.Table]) -> None:
        for one in found:
            console.print(render_table(one))
        say("")

    @contextmanager
    def watch(self, total: int) -> Iterator[Callable[[Progress], None]]:
        if not console.is_terminal:
            reported: set[str] = set()
            yield lambda progress: _print_news(progress, reported)
            return
        view = _View(total)
        with Live(view, console=console, refresh_per_second=2, transient=True):
            yield view.update


def _print_news(progress: Progress, reported: set[str]) -> None:
    for trial_id, record in progress.done.items():
        if trial_id not in reported:
            reported.add(trial_id)
            took, left = duration(record.spent_seconds), _time_left(progress)
            console.print(
                f"{len(reported)}/{progress.total} {_outcome(record)} · {took} · {left}",
                highlight=False,
                markup=False,
            )


def _outcome(record: Any) -> str:
    part, name = ("validation", f"candidate {record.candidate.number}") if record.candidate else ("test", "")
    found = record.metrics.get(f"{part}_top1")
    said = f"{part} top-1 {found:.1%}" if found is not None else f"{record.status}: {record.reason}"
    return one_line(f"{record.arm} {name or f'seed {record.seed}'}: {said}")


class _View:
    """The live table of a run. Rendered by rich's own thread; `update` only swaps a reference."""

    def __init__(self, total: int) -> None:
        self.progress: Progress | None = None
        self.total, self.started = total, time.monotonic()

    def update(self, progress: Progress) -> None:
        self.progress = progress

    def __rich__(self) -> Group | Text:
        progress = self.progress
        if progress is None:
            return Text(f"Starting Ray … {duration(time.monotonic() - self.started)}")
        done, running = dict(progress.done), dict(progress.running)
        counts: Counter[str] = Counter(record.status for record in done.values())
        waiting = self.total - len(done) - len(running)
        head = Text.assemble(status_text({**counts, "running": len(running), "waiting": waiting}))
        head.append(f" · {duration(time.monotonic() - self.started)} so far · {_time_left(progress)}")
        trials = progress.trials
        rows = [
            [
                trials[key].arm,
                trials[key].seed,
                f"{int(row.get('epoch', 0))}/{trials[key].epochs}",
                _percent(row.get("train_top1")),
                _percent(row.get("validation_top1")),
            ]
            for key, row in running.items()
        ]
        columns = ("running", "seed", "epoch", "training top-1", "validation top-1")
        bar = Table.grid()  # a bar alone would not end its line
        bar.add_row(ProgressBar(self.total, len(done), width=min(60, console.width)))
        return Group(bar, head, table(columns, rows, right=columns[1:]))


def _time_left(progress: Progress) -> str:
    left = progress.seconds_left()
    return "time left unknown" if left is None else f"{duration(left)} left"


def _percent(value: float | None) -> str:
    return "starting" if value is None else f"{value:.1%}"
