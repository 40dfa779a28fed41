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
from resflow.study.variation import name_seed

if TYPE_CHECKING:
    from resflow.runner.progress import RunningTrial
    from resflow.workflow.status import ArmMean, RunState

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-~=*#"
MARGIN = 3  # lines of a screen for the message that it stops, and the cursor's


def sparkline(values: Sequence[float], width: int, top: float, blocks: str = BLOCKS) -> str:
    """Draw values from 0 to `top` as one line of at most `width` characters; of more values each is a mean of some."""
    count = min(width, len(values))
    bins = [values[len(values) * at // count : len(values) * (at + 1) // count] for at in range(count)]
    heights = [sum(part) / len(part) / (top or 1.0) for part in bins]
    return "".join(
        blocks[min(len(blocks) - 1, int(max(0.0, height) * len(blocks)))] if math.isfinite(height) else " "
        for height in heights
    )


def draw(state: RunState, console: Console, options: ConsoleOptions) -> Group:
    """Lay out a run: whole, or on a terminal as many of its trials and arms as the screen has lines for."""
    running, arms = len(state.running), len(state.arms)
    page = _page(state, running, arms, options)
    while console.is_terminal and (running > 1 or arms > 1):
        over = len(console.render_lines(page, options.update(height=None), pad=False)) + MARGIN - console.height
        if over <= 0:
            break
        if running > arms:  # the longer table gives way
            running = max(1, arms, running - over)
        else:
            arms = max(1, min(arms - 1, max(running, arms - over)))
        page = _page(state, running, arms, options)
    return page


def _page(state: RunState, running: int, arms: int, options: ConsoleOptions) -> Group:
    """Lay out a run with so many of its running trials and arms."""
    bar = Table.grid()  # a bar alone would not end its line
    bar.add_row(ProgressBar(max(1, state.total), state.ended, width=min(60, options.max_width)))
    parts: list[RenderableType] = [bar, summary(state)]
    if state.running:
        trials = _running_table(state.running[:running], _top(state), options)
        parts += [Text(), trials, *_more(len(state.running) - running, "running")]
    if state.arms:
        parts += [Text(), means_table(state.arms[:arms], state.metric), *_more(len(state.arms) - arms, "arms")]
    return Group(*parts)


def _top(state: RunState) -> float:
    """Return the value at the top of all curves: one scale, also for a trial that has just begun."""
    values = [value for trial in state.running for value in (*trial.train_top1, *trial.validation_top1)]
    values += [arm.mean for arm in state.arms] if metric(state.metric).unit == "%" else []
    return max(filter(math.isfinite, values), default=0.0)


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


def _running_table(trials: Sequence[RunningTrial], top: float, options: ConsoleOptions) -> Table:
    width = 20 if options.max_width >= 100 else 10 if options.max_width >= 80 else 5
    blocks = ASCII_BLOCKS if options.ascii_only else BLOCKS

    def curve(values: Sequence[float]) -> str:
        return f"{sparkline(values, width, top, blocks)} {values[-1]:.1%}" if values else ""

    rows = [
        [
            trial.arm,
            name_seed(trial.seed, trial.varies) if trial.candidate is None else f"candidate {trial.candidate}",
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
