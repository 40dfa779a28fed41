"""Error over epochs, as He et al. 2015, Figure 4: degradation is about training error."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from resflow.analysis.design import Design
from resflow.figures.style import MOST_SHOWN, WIDE, Style, finish, hover, legend, limit, panels, short, styles, theme

ERRORS = {"train_top1": "training error (%)", "validation_top1": "validation error (%)"}


def curves(
    histories: pd.DataFrame, design: Design, column: str, *, panel_by_scale: bool, width: float = WIDE
) -> Figure:
    """Error over epochs in inference mode, as He et al. 2015, Figure 4: a thin line a seed, the mean bold.

    `histories` has id, arm, seed, status, epoch and `column` (a top-1). With `panel_by_scale` a panel a depth
    and a colour a shortcut, else a panel a shortcut and a colour a depth. The mean is drawn over the epochs
    that every completed seed reached. Of more than MOST_SHOWN trials the seeds are a shade: their middle nine tenths.
    """
    draw = _shade if histories["id"].nunique() > MOST_SHOWN else _curve
    of_arm = dict(iter(histories[["id", "arm", "seed", "epoch", "status", column]].groupby("arm", sort=False)))
    outer, inner = split(design, panel_by_scale)
    names = list(dict.fromkeys(outer[arm] for arm in design.arms))
    colours = styles(list(dict.fromkeys(inner[arm] for arm in design.arms)))
    with theme():
        figure, grid = panels(len(names), width, 2.35)
        for axes, name in zip(grid, names, strict=True):
            for arm in (arm for arm in design.arms if outer[arm] == name):
                if arm in of_arm:
                    draw(axes, of_arm[arm], column, colours[inner[arm]], design.called(arm))
            axes.set_title(short(name), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            finish(axes)
        errors = 100 * (1 - histories[column].to_numpy(dtype=float))
        limit(grid[0].set_ylim, np.append(errors, 0.0), "%")
        for axes in grid:
            spec = axes.get_subplotspec()
            if spec is not None and spec.is_first_col():
                axes.set_ylabel(ERRORS[column])
        grid[-1].set_xlabel("epoch")
        handles = [
            Line2D([], [], color=s.color, linestyle=s.dashes, lw=2, label=short(n)) for n, s in colours.items() if n
        ]
        if handles:
            legend(figure, handles)
    return figure


def split(design: Design, panel_by_scale: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Arm -> panel title, and arm -> label of its colour."""
    factor = design.main
    rest = design.others(factor) if factor else ()
    of_factor = {arm: design.label(arm, (factor,)) if factor else design.called(arm) for arm in design.arms}
    of_rest = {arm: design.label(arm, rest) for arm in design.arms}
    if not rest:
        return dict.fromkeys(design.arms, ""), of_factor
    if panel_by_scale:
        return {arm: f"{factor} {label}" for arm, label in of_factor.items()}, of_rest
    return of_rest, of_factor


def _curve(axes: Axes, mine: pd.DataFrame, column: str, style: Style, name: str) -> None:
    for _, run in mine.groupby("id", sort=True):
        error = 100 * (1 - run[column])
        (line,) = axes.plot(run["epoch"], error, color=style.color, lw=0.7, alpha=0.5)
        hover(line, f"{name}, seed {run['seed'].iloc[0]}: {error.iloc[-1]:.1f} % at the end")
    done = mine[mine["status"] == "completed"]
    if done.empty:
        return
    wide = done.pivot_table(index="epoch", columns="id", values=column).dropna()
    (line,) = axes.plot(wide.index, 100 * (1 - wide.mean(axis=1)), color=style.color, linestyle=style.dashes, lw=2)
    hover(line, f"{name}, mean of {wide.shape[1]}")


def _shade(axes: Axes, mine: pd.DataFrame, column: str, style: Style, name: str) -> None:
    done = mine[mine["status"] == "completed"]
    wide = 100 * (1 - done.pivot(index="epoch", columns="id", values=column).dropna())
    low, high = np.quantile(wide.to_numpy(dtype=float), (0.05, 0.95), axis=1) if len(wide) else ([], [])
    axes.fill_between(wide.index, low, high, color=style.color, alpha=0.25, lw=0)
    (line,) = axes.plot(wide.index, wide.mean(axis=1), color=style.color, linestyle=style.dashes, lw=2)
    hover(line, f"{name}, mean of {wide.shape[1]}")
