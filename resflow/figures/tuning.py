"""A tuning phase: what more candidates buy, and how scores go with each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from resflow.figures.style import WIDE, Style, finish, hover, legend, limit, logarithmic, panels, short, styles, theme

SCORE = "validation top-1 (%)"


def tuning_curves(table: pd.DataFrame, arm_names: Mapping[str, str], width: float = WIDE) -> Figure:
    """Draw the best validation score against candidates tried: a panel an arm with its band, scales shared.

    `table` is that of `analysis.tuning_curves.expected`, `arm_names` maps arms to their names for readers, in order.
    """
    arms = [arm for arm in arm_names if arm in set(table["arm"])]
    look = styles(arms)
    with theme():
        figure, grid = panels(len(arms), width, 1.9)
        for axes, arm in zip(grid, arms, strict=True):
            points = table[table["arm"] == arm]
            axes.fill_between(
                points["k"], 100 * points["low"], 100 * points["high"], color=look[arm].color, alpha=0.2, lw=0
            )
            (line,) = axes.plot(
                points["k"], 100 * points["score"], color=look[arm].color, marker=look[arm].marker, ms=3.5, lw=1.6
            )
            hover(line, f"{arm_names[arm]}: {100 * points['score'].iloc[-1]:.1f} % with {len(points)} candidates")
            axes.set_title(short(arm_names[arm], width), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            finish(axes)
            if _first(axes):
                axes.set_ylabel(SCORE)
        grid[-1].set_xlabel("candidates tried")
        limit(grid[0].set_ylim, 100 * table[["low", "high", "score"]].to_numpy(dtype=float).ravel(), "%")
    return figure


def sensitivity(
    table: pd.DataFrame, arm_names: Mapping[str, str], logs: Sequence[str] = (), width: float = WIDE
) -> Figure:
    """Draw candidates' validation scores against each hyperparameter: a panel each, a colour an arm, winners ringed.

    `table` is that of `analysis.tuning_curves.scatter`; `logs` names the hyperparameters that were sampled so.
    """
    names = list(dict.fromkeys(table["name"]))
    arms = [arm for arm in arm_names if arm in set(table["arm"])]
    look = styles(arms)
    columns = 1 if width < 5 else min(len(names), 2)
    with theme():
        rows = -(-len(names) // columns)
        figure = Figure(figsize=(width, 2.3 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for spare in grid[len(names) :]:
            spare.set_axis_off()
        for axes, name in zip(grid, names, strict=False):
            points = table[table["name"] == name]
            if all(isinstance(value, str) for value in points["value"]):
                labels = list(dict.fromkeys(points["value"]))
                points = points.assign(value=[labels.index(value) for value in points["value"]])
                axes.set_xticks(range(len(labels)), [short(label, width) for label in labels])
            elif name in logs:
                logarithmic(axes, "x")
            for arm in arms:
                _points(axes, points[points["arm"] == arm], look[arm], arm_names[arm])
            axes.set_xlabel(name)
            finish(axes)
            if _first(axes):
                axes.set_ylabel(SCORE)
        limit(grid[0].set_ylim, np.append(100 * table["score"].to_numpy(dtype=float), 0.0), "%")
        handles = [
            Line2D([], [], color=look[a].color, marker=look[a].marker, ls="", label=short(arm_names[a], width))
            for a in arms
        ]
        legend(figure, handles)
    return figure


def _points(axes: Axes, points: pd.DataFrame, style: Style, name: str) -> None:
    for _, row in points.iterrows():
        (point,) = axes.plot(
            row["value"], 100 * row["score"], color=style.color, marker=style.marker, ms=4, ls="", alpha=0.8
        )
        hover(point, f"{name}: {100 * row['score']:.1f} %{', chosen' if row['won'] else ''}")
        if row["won"]:
            axes.plot(row["value"], 100 * row["score"], marker="o", ms=10, mfc="none", mec=style.color, mew=1.4)


def _first(axes: Axes) -> bool:
    spec = axes.get_subplotspec()
    return spec is not None and bool(spec.is_first_col())
