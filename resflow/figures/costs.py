"""The metric against what it costs: parameters, multiply-adds, seconds, and the arms that nothing beats."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from resflow.analysis.design import MANY, Design
from resflow.figures.accuracy import handles_of, series
from resflow.figures.style import MUTED, WIDE, Style, finish, hover, legend, short, styles, theme


def cost(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """The metric against trainable parameters, multiply-adds an image and wall time a trial: each seed, and the mean.

    A step joins the arms of the Pareto front: no other arm has a mean as good at no more cost.
    """
    table, shown = arms.set_index("arm"), series(design)
    marks = styles(list(shown))
    done = trials[trials["status"] == "completed"]
    with theme():
        side_by_side = width >= 5
        columns = _columns(table)
        figure = Figure(figsize=(width, 3.0 if side_by_side else 2.5 * len(columns)), layout="constrained")
        grid = figure.subplots(*((1, len(columns)) if side_by_side else (len(columns), 1)), sharey=True, squeeze=False)
        for axes, (column, (unit, label)) in zip(grid.ravel(), columns.items(), strict=True):
            _front(axes, table, column, unit, design)
            for name, members in shown.items():
                _series_of(axes, done[done["arm"].isin(members)], table.loc[members], column, unit, design, marks[name])
            axes.set_xlabel(label)
            axes.margins(0.1)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            finish(axes)
        for axes in grid[:, 0]:
            axes.set_ylabel(design.metric.axis_label)
        handles = handles_of(marks, line=design.scale is not None)
        handles.append(Line2D([], [], color=MUTED, linestyle=(0, (2, 2)), lw=1, label="Pareto front"))
        legend(figure, handles)
    return figure


def _columns(table: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """Column -> the factor to its unit, and the axis' label; those that differ between arms."""
    minutes = float(table["seconds"].max()) >= 180
    giga = float(table["multiply_adds"].astype(float).max()) >= 1e9
    every = {
        "parameters": (1e-6, "parameters (millions)"),
        "multiply_adds": (1e-9, "multiply-adds (G)") if giga else (1e-6, "multiply-adds (M)"),
        "seconds": (1 / 60, "minutes a trial") if minutes else (1.0, "seconds a trial"),
    }
    known = {name: label for name, label in every.items() if table[name].astype(float).nunique() > 1}
    return known or {"seconds": every["seconds"]}


def _series_of(
    axes: Axes,
    mine: pd.DataFrame,
    rows: pd.DataFrame,
    column: str,
    unit: float,
    design: Design,
    style: Style,
) -> None:
    scale = design.metric.scale
    if len(mine) and column == "seconds" and len(mine) <= MANY:
        x, y = mine[column].astype(float) * unit, scale * mine[design.metric.column]
        axes.plot(x, y, style.marker, color=style.color, alpha=0.4, ms=3, mew=0)
    x, y = rows[column].astype(float) * unit, scale * rows["mean"]
    axes.plot(x, y, color=style.color, linestyle=style.dashes, lw=1)
    for arm, place, value in zip(rows.index, x, y, strict=True):
        if np.isfinite(place) and np.isfinite(value):
            (dot,) = axes.plot([place], [value], style.marker, color=style.color, ms=6)
            hover(dot, f"{design.display_name(arm)}: {value:.1f} {design.metric.unit} at {place:.3g}")
            if design.scale:
                label = short(design.arms[arm][design.scale])
                axes.annotate(label, (place, value), (4, 4), textcoords="offset points", fontsize=7.5, color=MUTED)


def pareto(cost: pd.Series, gain: pd.Series, *, higher_is_better: bool = True) -> list[str]:
    """The arms that no other beats: none is as good at no more cost, and cheaper or better. By rising cost."""
    known = pd.DataFrame({"cost": cost.astype(float), "gain": gain.astype(float)}).dropna()
    known["gain"] *= 1 if higher_is_better else -1
    front, best = [], -np.inf
    for arm, row in known.sort_values(["cost", "gain"], ascending=[True, False], kind="stable").iterrows():
        if row["gain"] > best:
            front.append(str(arm))
            best = row["gain"]
    return front


def _front(axes: Axes, table: pd.DataFrame, column: str, unit: float, design: Design) -> None:
    arms = pareto(table[column], table["mean"], higher_is_better=design.metric.higher_is_better)
    x, y = table.loc[arms, column].astype(float) * unit, design.metric.scale * table.loc[arms, "mean"]
    axes.plot(x, y, drawstyle="steps-post", color=MUTED, linestyle=(0, (2, 2)), lw=1, zorder=1)
