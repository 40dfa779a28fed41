"""Error over epochs, as He et al. 2015, Figure 4: degradation is about training error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from resflow.analysis.design import Design
from resflow.figures.style import WIDE, Style, finish, hover, legend, limit, panels, short, styles, theme
from resflow.records.run import MANY

ERRORS = {"train_top1": "training error (%)", "validation_top1": "validation error (%)"}


def curves(
    histories: pd.DataFrame, design: Design, column: str, *, panel_by_scale: bool, width: float = WIDE
) -> Figure:
    """Draw error over epochs in inference mode, as He et al. 2015, Figure 4: a thin line a seed, the mean bold.

    `histories` has id, arm, seed, status, epoch and `column` (a top-1). With `panel_by_scale` a panel a depth
    and a colour a shortcut, else a panel a shortcut and a colour a depth. The mean is drawn over the epochs
    that every completed seed reached. Of more than MANY trials the seeds are a shade: their middle nine tenths.
    """
    draw = _shade if histories["id"].nunique() > MANY else _curve
    of_arm = dict(iter(histories[["id", "arm", "seed", "epoch", "status", column]].groupby("arm", sort=False)))
    with theme():
        figure, grid = by_panel(
            design,
            list(design.arms),
            lambda axes, arm, style: (
                draw(axes, of_arm[arm], column, style, design.display_name(arm)) if arm in of_arm else None
            ),
            ("epoch", ERRORS[column]),
            (width, 2.35),
            panel_by_scale=panel_by_scale,
        )
        for axes in grid:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        errors = 100 * (1 - histories[column].to_numpy(dtype=float))
        limit(grid[0].set_ylim, np.append(errors, 0.0), "%")
    return figure


def by_panel(
    design: Design,
    arms: Sequence[str],
    draw: Callable[[Axes, str, Style], object],
    labels: tuple[str, str],
    size: tuple[float, float],
    *,
    panel_by_scale: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Draw `arms` in panels of one scale: a panel a shortcut, a colour a depth, or with `panel_by_scale` the reverse.

    `draw` puts one arm into its axes, `labels` are those of x and y, `size` is the figure's width and a panel's height
    in inches. Colours are the design's, whichever arms are drawn; the legend has those that are.
    """
    outer, inner = _split(design, panel_by_scale)
    names = list(dict.fromkeys(outer[arm] for arm in arms))
    colours = styles(list(dict.fromkeys(inner[arm] for arm in design.arms)))
    figure, grid = panels(len(names), *size)
    for axes, name in zip(grid, names, strict=True):
        for arm in (arm for arm in arms if outer[arm] == name):
            draw(axes, arm, colours[inner[arm]])
        axes.set_title(short(name), loc="left")
        finish(axes)
        spec = axes.get_subplotspec()
        if spec is not None and spec.is_first_col():
            axes.set_ylabel(labels[1])
    grid[-1].set_xlabel(labels[0])
    present = {n: s for n, s in colours.items() if n and any(inner[arm] == n for arm in arms)}
    handles = [Line2D([], [], color=s.color, linestyle=s.dashes, lw=2, label=short(n)) for n, s in present.items()]
    if handles:
        legend(figure, handles)
    return figure, grid


def _split(design: Design, panel_by_scale: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Arm -> panel title, and arm -> label of its colour."""
    factor = design.main
    rest = design.others(factor) if factor else ()
    of_factor = {arm: design.label(arm, (factor,)) if factor else design.display_name(arm) for arm in design.arms}
    of_rest = {arm: design.label(arm, rest) for arm in design.arms}
    if not rest:
        return dict.fromkeys(design.arms, ""), of_factor
    if panel_by_scale:
        return {arm: f"{factor} {label}" for arm, label in of_factor.items()}, of_rest
    return of_rest, of_factor


def _curve(axes: Axes, rows: pd.DataFrame, column: str, style: Style, name: str) -> None:
    for _, run in rows.groupby("id", sort=True):
        error = 100 * (1 - run[column])
        (line,) = axes.plot(run["epoch"], error, color=style.color, lw=0.7, alpha=0.5)
        hover(line, f"{name}, seed {run['seed'].iloc[0]}: {error.iloc[-1]:.1f} % at the end")
    done = rows[rows["status"] == "completed"]
    if done.empty:
        return
    wide = done.pivot_table(index="epoch", columns="id", values=column).dropna()
    (line,) = axes.plot(wide.index, 100 * (1 - wide.mean(axis=1)), color=style.color, linestyle=style.dashes, lw=2)
    hover(line, f"{name}, mean of {wide.shape[1]}")


def _shade(axes: Axes, rows: pd.DataFrame, column: str, style: Style, name: str) -> None:
    done = rows[rows["status"] == "completed"]
    wide = 100 * (1 - done.pivot(index="epoch", columns="id", values=column).dropna())
    low, high = np.quantile(wide.to_numpy(dtype=float), (0.05, 0.95), axis=1) if len(wide) else ([], [])
    axes.fill_between(wide.index, low, high, color=style.color, alpha=0.25, lw=0)
    (line,) = axes.plot(wide.index, wide.mean(axis=1), color=style.color, linestyle=style.dashes, lw=2)
    hover(line, f"{name}, mean of {wide.shape[1]}")
