"""The loss around trained networks, along one random direction and over two."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resflow.analysis.design import Design
from resflow.figures.curves import Panels
from resflow.figures.palette import Style
from resflow.figures.style import INK, WIDE, finish, hover, panels, short, theme
from resflow.figures.ticks import logarithmic, number_axis

FAR = 100.0  # times the lowest loss: beyond that a linear axis shows the rim alone


def landscape_line(table: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Draw the loss along a direction, a line an arm, the mean over seeds: `table` has arm, seed, x and loss."""
    arms = [arm for arm in design.arms if (table["arm"] == arm).any()]
    lowest, highest = _range(table)

    def scale(axes: Axes) -> None:
        number_axis(axes, "x", 5)
        if highest > FAR * lowest:
            logarithmic(axes, "y", [lowest, highest])
        else:
            number_axis(axes, "y", 5)

    with theme():
        labels = ("step along a filter-normalised direction", "loss (nats)")
        figure, _ = Panels(design, arms, labels, (width, 2.3)).draw(
            lambda axes, arm, style: _line(axes, table[table["arm"] == arm], style, design.display_name(arm)), scale
        )
    return figure


def _line(axes: Axes, rows: pd.DataFrame, style: Style, name: str) -> Line2D:
    mean = rows.groupby("x")["loss"].mean()
    (line,) = axes.plot(mean.index, mean, color=style.color, linestyle=style.dashes, lw=1.6)
    hover(line, f"{name}: {mean.loc[0.0]:.3g} nats in the middle")
    return line


def _range(table: pd.DataFrame) -> tuple[float, float]:
    """The lowest and the highest loss that is a number above 0: far out the loss of a deep net may be none."""
    losses = table["loss"].to_numpy(dtype=float)
    finite = losses[np.isfinite(losses) & (losses > 0)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (1.0, 1.0)


def landscape_plane(table: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Draw contours of the log loss over two directions, a panel an arm: `table` has arm, x, y and loss of one seed."""
    arms = [arm for arm in design.arms if (table["arm"] == arm).any()]
    with theme():
        figure, grid = panels(len(arms), width, 2.4)
        lowest, highest = _range(table)
        levels = np.geomspace(lowest, max(highest, 1.01 * lowest), 12)
        for axes, arm in zip(grid, arms, strict=True):
            wide = table[table["arm"] == arm].pivot_table(index="y", columns="x", values="loss")
            heights = np.ma.masked_invalid(wide.to_numpy(dtype=float))
            axes.contour(wide.columns, wide.index, heights, levels=levels, cmap="viridis", linewidths=1)
            axes.plot([0], [0], "+", color=INK, ms=8)
            axes.set_title(short(design.display_name(arm)), loc="left")
            axes.set_aspect("equal")
            finish(axes)
    return figure
