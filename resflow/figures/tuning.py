"""A tuning phase: what more candidates buy, and how scores go with each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resflow.figures.labels import small
from resflow.figures.palette import Style
from resflow.figures.style import (
    MUTED,
    WIDE,
    columns,
    finish,
    hover,
    label_grid,
    legend,
    new_figure,
    panels,
    short,
    theme,
)
from resflow.figures.ticks import limit, logarithmic, number_axis

SCORE = "validation top-1 (%)"


def tuning_curves(
    table: pd.DataFrame, arm_names: Mapping[str, str], looks: Mapping[str, Style], width: float = WIDE
) -> Figure:
    """Draw the best validation score against candidates tried: a panel an arm with its band, scales shared.

    `table` is that of `analysis.tuning_curves.expected`, `arm_names` maps arms to their names for readers, in order,
    `looks` to their styles. The axis is that of the scores: bands of few candidates reach to 100 %, and are cut.
    """
    arms = [arm for arm in arm_names if arm in set(table["arm"])]
    with theme():
        figure, grid = panels(len(arms), width, 1.9)
        scores = 100 * table["score"].to_numpy(dtype=float)
        reach = float(np.nanmax(scores) - np.nanmin(scores)) if np.isfinite(scores).any() else 0.0
        limit(grid[0].set_ylim, [np.nanmin(scores) - reach / 3, np.nanmax(scores) + reach / 3], "%", 5)
        for axes, arm in zip(grid, arms, strict=True):
            points, color = table[table["arm"] == arm], looks[arm].color
            low, high = 100 * points["low"], 100 * points["high"]
            axes.fill_between(points["k"], low, high, color=color, alpha=0.2, lw=0)
            (line,) = axes.plot(
                points["k"], 100 * points["score"], color=color, marker=looks[arm].marker, ms=3.5, lw=1.6
            )
            hover(line, f"{arm_names[arm]}: {100 * points['score'].iloc[-1]:.1f} % with {len(points)} candidates")
            axes.set_title(short(arm_names[arm], width), loc="left")
            if (high > axes.get_ylim()[1]).any():
                text = f"band up to {high.max():.0f} %"
                axes.text(
                    0.99, 0.98, text, transform=axes.transAxes, ha="right", va="top", fontsize=small(), color=MUTED
                )
            number_axis(axes, "x", 5, whole=True)
            number_axis(axes, "y", 5)
            finish(axes)
        label_grid(figure, grid, "candidates tried", SCORE)
    return figure


def sensitivity(
    table: pd.DataFrame,
    arm_names: Mapping[str, str],
    looks: Mapping[str, Style],
    logs: Sequence[str] = (),
    width: float = WIDE,
) -> Figure:
    """Draw candidates' validation scores against each hyperparameter: a panel each, a colour an arm, winners ringed.

    `table` is that of `analysis.tuning_curves.scatter`; `logs` names the hyperparameters that were sampled so.
    """
    names = list(dict.fromkeys(table["name"]))
    arms = [arm for arm in arm_names if arm in set(table["arm"])]
    with theme():
        across = columns(len(names), width, 2.3)
        rows = -(-len(names) // across)
        figure = new_figure(width, 2.3 * rows + 0.5)
        grid = figure.subplots(rows, across, sharey=True, squeeze=False).ravel()
        for spare in grid[len(names) :]:
            spare.set_axis_off()
        for axes, name in zip(grid, names, strict=False):
            points = table[table["name"] == name]
            if all(isinstance(value, str) for value in points["value"]):
                labels = list(dict.fromkeys(points["value"]))
                points = points.assign(value=[labels.index(value) for value in points["value"]])
                axes.set_xticks(range(len(labels)), [short(label, width) for label in labels])
            elif name in logs:
                logarithmic(axes, "x", points["value"])
            else:
                number_axis(axes, "x", 5)
            for arm in arms:
                _points(axes, points[points["arm"] == arm], looks[arm], arm_names[arm])
            axes.set_xlabel(name)
            number_axis(axes, "y", 5)
            finish(axes)
            if _first(axes):
                axes.set_ylabel(SCORE)
        limit(grid[0].set_ylim, 100 * table["score"].to_numpy(dtype=float), "%")
        handles = [
            Line2D([], [], color=looks[a].color, marker=looks[a].marker, ls="", label=short(arm_names[a], width))
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
