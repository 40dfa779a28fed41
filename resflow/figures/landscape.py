"""The loss around trained networks, along one random direction and over two."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resflow.analysis.design import Design
from resflow.figures.curves import split
from resflow.figures.style import INK, WIDE, finish, hover, legend, logarithmic, panels, short, styles, theme

FAR = 100.0  # times the lowest loss: beyond that a linear axis shows the rim alone


def landscape_line(table: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Loss along a direction, a line an arm: `table` has arm, seed, x and loss; the mean over seeds is drawn."""
    outer, inner = split(design, panel_by_scale=False)
    arms = [arm for arm in design.arms if (table["arm"] == arm).any()]
    names = list(dict.fromkeys(outer[arm] for arm in arms))
    colours = styles(list(dict.fromkeys(inner[arm] for arm in design.arms)))
    with theme():
        figure, grid = panels(len(names), width, 2.3)
        for axes, name in zip(grid, names, strict=True):
            for arm in (arm for arm in arms if outer[arm] == name):
                mean = table[table["arm"] == arm].groupby("x")["loss"].mean()
                style = colours[inner[arm]]
                (drawn,) = axes.plot(mean.index, mean, color=style.color, linestyle=style.dashes, lw=1.6)
                hover(drawn, f"{design.called(arm)}: {mean.loc[0.0]:.3g} nats in the middle")
            axes.set_title(short(name), loc="left")
            if table["loss"].max() > FAR * table["loss"].min() > 0:
                logarithmic(axes)
            finish(axes)
        grid[0].set_ylabel("loss (nats)")
        grid[-1].set_xlabel("step along a filter-normalised direction")
        shown = {n: s for n, s in colours.items() if n and any(inner[arm] == n for arm in arms)}
        handles = [Line2D([], [], color=s.color, linestyle=s.dashes, lw=2, label=short(n)) for n, s in shown.items()]
        if handles:
            legend(figure, handles)
    return figure


def landscape_plane(table: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Contours of the log loss over two directions, a panel an arm: `table` has arm, x, y and loss of one seed."""
    arms = [arm for arm in design.arms if (table["arm"] == arm).any()]
    with theme():
        figure, grid = panels(len(arms), width, 2.4)
        lowest, highest = float(table["loss"].min()), float(table["loss"].max())
        levels = np.geomspace(max(lowest, 1e-6), max(highest, lowest * 1.01, 1e-5), 12)
        for axes, arm in zip(grid, arms, strict=True):
            wide = table[table["arm"] == arm].pivot_table(index="y", columns="x", values="loss")
            axes.contour(
                wide.columns, wide.index, wide.to_numpy(dtype=float), levels=levels, cmap="viridis", linewidths=1
            )
            axes.plot([0], [0], "+", color=INK, ms=8)
            axes.set_title(short(design.called(arm)), loc="left")
            axes.set_aspect("equal")
            finish(axes)
    return figure
