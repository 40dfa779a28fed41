"""A run's progress in a terminal: drawn anew where that can be, elsewhere a line a finished trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from resflow import interruption
from resflow.cli.console import can_redraw, console, render_table, say
from resflow.cli.live_view import draw, time_left
from resflow.cli.terminal import one_line
from resflow.records.metrics import metric
from resflow.report.formatting import duration
from resflow.runner.stopping import STOPPING
from resflow.study.variation import name_seed
from resflow.workflow.status import RunState, TrialState, live_state, trial_state

if TYPE_CHECKING:
    from resflow.report import tables
    from resflow.runner.progress import Progress


class TerminalReporter:
    """Tells a terminal of a run: the Reporter of the command line."""

    def note(self, text: str, title: str = "") -> None:
        say(text, title)

    def show(self, found: Iterable[tables.Table]) -> None:
        for one in found:
            console.print(render_table(one))
        say("")

    @contextmanager
    def watch(self, total: int) -> Iterator[Callable[[Progress], None]]:
        if not can_redraw():
            yield News().hear
            return
        with redrawn(_Starting()) as show:

            def draw(progress: Progress) -> None:
                _tell_notes(progress)  # above the screen that is drawn anew
                show(lambda: live_state(progress))

            yield draw


def _tell_notes(progress: Progress) -> None:
    for text in progress.take_notes():
        say(text)


class News:
    """Prints a line for each trial that has ended since the last look."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.told = set(known)

    def hear(self, progress: Progress) -> None:
        """Tell of the trials that this process has run."""
        _tell_notes(progress)
        if len(progress.done) > len(self.told):
            new = [
                trial_state(record, progress.metric) for key, record in progress.done.items() if key not in self.told
            ]
            self.tell(live_state(progress), new)

    def tell(self, state: RunState, ended: Sequence[TrialState]) -> None:
        """Tell of trials that have ended, which `state` counts."""
        new = [trial for trial in ended if trial.id not in self.told]
        for place, trial in enumerate(new, start=state.ended - len(new) + 1):
            self.told.add(trial.id)
            took = "" if trial.seconds is None else f" · {duration(trial.seconds)}"
            left = f" · {time_left(state)}" if state.is_live else ""
            say(f"{place}/{state.total} {_outcome(trial, state.metric)}{took}{left}")


def _outcome(trial: TrialState, of_metric: str) -> str:
    shown = metric(of_metric)
    value = None if trial.value is None else f"{shown.label} {shown.scale * trial.value:.1f}{shown.unit}"
    seed = f"seed {name_seed(trial.seed, trial.varies)}"
    name = seed if trial.candidate is None else f"candidate {trial.candidate}"
    return one_line(f"{trial.arm} {name}: {value or f'{trial.state}: {trial.reason}'}")


@contextmanager
def redrawn(first: Text | _Starting) -> Iterator[Callable[[Callable[[], RunState]], None]]:
    """Give a function that takes what makes the state to be drawn, twice a second, until the block ends."""
    view = _View(first)
    with interruption.on_screen(), Live(view, console=console, refresh_per_second=2, transient=True):
        yield view.update


class _Starting:
    """The screen before the first news: a local Ray takes seconds to start."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def __rich__(self) -> Text:
        return Text(f"Starting Ray … {duration(time.monotonic() - self.started)}")


class _View:
    """The live view of a run. Rendered by rich's own thread; `update` only swaps a reference."""

    def __init__(self, first: Text | _Starting) -> None:
        self.first = first
        self.make: Callable[[], RunState] | None = None

    def update(self, make: Callable[[], RunState]) -> None:
        self.make = make

    def __rich_console__(self, of: Console, options: ConsoleOptions) -> RenderResult:
        yield self.first if self.make is None else draw(self.make(), of, options)
        if interruption.received():
            yield Text(STOPPING, style="yellow")
