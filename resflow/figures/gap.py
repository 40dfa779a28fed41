"""How much better an arm is on its training images than on the test images: what memorising is worth."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from resflow.analysis.design import Design
from resflow.figures.accuracy import handles_of, series
from resflow.figures.style import WIDE, finish, legend, styles, theme


def gap(trials: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Training top-1 against test top-1, a mark a trial; the diagonal is no gap at all."""
    shown = series(design)
    marks = styles(list(shown))
    done = trials[trials["status"] == "completed"]
    with theme():
        figure = Figure(figsize=(width, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, members in shown.items():
            mine, style = done[done["arm"].isin(members)], marks[name]
            axes.plot(100 * mine["test_top1"], 100 * mine["train_top1"], style.marker, color=style.color, ms=5, mew=0)
        axes.axline((0, 0), slope=1, lw=1, linestyle=(0, (2, 2)), color="0.5")
        axes.set_xlabel("test top-1 (%)")
        axes.set_ylabel("training top-1 (%)")
        finish(axes)
        legend(figure, handles_of(marks, line=False))
    return figure
