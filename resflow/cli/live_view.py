"""A run that goes on, as a terminal shows it: counts, time left, a curve for each trial that runs, means by arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resflow.cli.console import status_text, table
from resflow.records.metrics import metric
from resflow.report.formatting import duration, level, level_interval

if TYPE_CHECKING:
    from resflow.runner.progress import RunningTrial
    from resflow.workflow.status import ArmMean, RunState

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-~=*#"
OTHER_LINES = 9  # of a screen: bar, counts, heads, gaps, the shell's own


def sparkline(values: Sequence[float], width: int, top: float, blocks: str = BLOCKS) -> str:
    """Draw values from 0 to `top` as one line of at most `width` characters; of more values each is a mean of some."""
    count = min(width, len(values))
    bins = [values[len(values) * at // count : len(values) * (at + 1) // count] for at in range(count)]
    heights = [sum(part) / len(part) / top if top > 0 else 0.0 for part in bins]
    return "".join(
        blocks[min(len(blocks) - 1, int(max(0.0, height) * len(blocks)))] if math.isfinite(height) else " "
        for height in heights
    )


def draw(state: RunState, console: Console, options: ConsoleOptions) -> Group:
    """Lay out a run for a screen of this size."""
    bar = Table.grid()  # a bar alone would not end its line
    bar.add_row(ProgressBar(max(1, state.total), state.ended, width=min(60, options.max_width)))
    parts: list[RenderableType] = [bar, summary(state)]
    room = max(4, console.height - OTHER_LINES)
    if state.running:
        shown = state.running[: room if not state.arms else max(2, room - min(len(state.arms), room // 2))]
        room -= len(shown)
        parts += [
            Text(),
            _running_table(shown, state.arms, options),
            *_more(len(state.running) - len(shown), "running"),
        ]
    if state.arms:
        shown_arms = state.arms[: max(2, room)]
        parts += [Text(), means_table(shown_arms, state.metric), *_more(len(state.arms) - len(shown_arms), "arms")]
    return Group(*parts)


def outcome(state: RunState) -> Group:
    """Lay out what a run has left that nobody runs."""
    means: list[RenderableType] = [means_table(state.arms, state.metric), Text()] if state.arms else []
    return Group(*means, summary(state))


def summary(state: RunState) -> Text:
    """Say in one line how many trials there are of each state, and of a run that goes on how long it takes."""
    text = status_text(state.counts)
    if state.seconds is not None:
        text.append(f" · {duration(state.seconds)} so far · {time_left(state)}")
    return text


def time_left(state: RunState) -> str:
    """Say how long a run has to go."""
    return "time left unknown" if state.seconds_left is None else f"about {duration(state.seconds_left)} left"


def means_table(arms: Sequence[ArmMean], of_metric: str) -> Table:
    """Make a row an arm: its seeds so far, their mean and its interval, or why it has none."""
    shown = metric(of_metric)
    heading = f"{shown.label} ({shown.unit})" if shown.unit else shown.label
    rows = [
        [
            arm.arm,
            arm.seeds,
            level(shown, arm.mean),
            Text(arm.note, style="dim") if math.isnan(arm.low) else level_interval(shown, arm.low, arm.high),
        ]
        for arm in arms
    ]
    return table(("arm", "seeds", heading, "95 % interval"), rows, right=("seeds", heading))


def _running_table(trials: Sequence[RunningTrial], arms: Sequence[ArmMean], options: ConsoleOptions) -> Table:
    width = 20 if options.max_width >= 100 else 10 if options.max_width >= 80 else 5
    blocks = ASCII_BLOCKS if options.ascii_only else BLOCKS
    curves = [value for trial in trials for value in (*trial.train_top1, *trial.validation_top1)]
    top = max([*curves, *(arm.mean for arm in arms)], default=0.0)  # one scale for all curves, from the first epoch on

    def curve(values: Sequence[float]) -> str:
        return f"{sparkline(values, width, top, blocks)} {values[-1]:.1%}" if values else ""

    rows = [
        [
            trial.arm,
            trial.seed if trial.candidate is None else f"candidate {trial.candidate}",
            f"{trial.epoch}/{trial.epochs}",
            curve(trial.train_top1),
            curve(trial.validation_top1),
        ]
        for trial in trials
    ]
    part = " top-1" if options.max_width >= 80 else ""
    columns = ("running", "seed", "epoch", f"training{part}", f"validation{part}")
    return table(columns, rows, right=columns[1:])


def _more(number: int, what: str) -> list[Text]:
    return [Text(f"and {number} more {what}", style="dim")] if number > 0 else []
