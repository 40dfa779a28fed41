"""Progress of a run in a notebook: one cell output that is drawn anew, no more than once a second."""

from __future__ import annotations

import html
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import HTML, display

from resflow.report.formatting import duration
from resflow.report.tables import Table
from resflow.study.variation import name_seed

if TYPE_CHECKING:
    from resflow.runner.progress import Progress

PAUSE_S = 1.0  # between two drawings


class NotebookReporter:
    """A Reporter for Jupyter."""

    def __init__(self) -> None:
        """Keep Ray and tqdm from asking for widgets: progress is drawn without any."""
        warnings.filterwarnings("ignore", "IProgress not found")
        logging.getLogger("ray.widgets.util").setLevel(logging.ERROR)

    def note(self, text: str, title: str = "") -> None:
        head = f"<strong>{html.escape(title)}</strong>: " if title else ""
        display(HTML(f"<p>{head}{html.escape(text)}</p>"))

    def show(self, tables: Iterable[Table]) -> None:
        for table in tables:
            display(HTML(f"<h4>{html.escape(table.title)}</h4>"))
            display(pd.DataFrame(table.rows, columns=list(table.header)).style.hide(axis="index"))

    @contextmanager
    def watch(self, total: int) -> Iterator[Callable[[Progress], Any]]:
        handle = display(HTML("<p>Starting Ray …</p>"), display_id=True)
        last = 0.0

        def draw(progress: Progress) -> None:
            nonlocal last
            for text in progress.take_notes():
                self.note(text)
            now = time.monotonic()
            if now - last >= PAUSE_S or len(progress.done) == total:
                last = now
                handle.update(HTML(progress_page(progress, total)))

        yield draw


def progress_page(progress: Progress, total: int) -> str:
    """Return a bar, the counts by status, and a row for each trial that runs, as HTML."""
    done, running = dict(progress.done), progress.running
    counts: Counter[str] = Counter(record.status for record in done.values())
    counts |= Counter(running=len(running), waiting=total - len(done) - len(running))
    left = progress.seconds_left()
    text = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    rows = [
        {
            "arm": trial.arm,
            "seed": name_seed(trial.seed, trial.varies),
            "epoch": f"{trial.epoch}/{trial.epochs}",
            "training top-1": _last(trial.train_top1),
            "validation top-1": _last(trial.validation_top1),
        }
        for trial in progress.running_trials()
    ]
    table = pd.DataFrame(rows).to_html(index=False, border=0) if rows else ""
    time_left = f", {duration(left)} left" if left is not None else ""
    return f'<progress value="{len(done)}" max="{total}"></progress> {html.escape(text)}{time_left}{table}'


def _last(curve: Sequence[float]) -> str:
    return f"{curve[-1]:.1%}" if curve else "–"
