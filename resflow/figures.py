"""Figures of a run: functions from frames to a matplotlib Figure. They read and save nothing.

A study with a numeric factor (depth) is drawn along it, a series for each combination of the other
factors; a study without one is drawn arm by arm. Every completed seed is a point or a thin line.
`width` is in inches; below five the panels stand in one column.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from resflow.effects import BASELINE
from resflow.figure_style import (
    INK,
    MUTED,
    VERDICTS,
    WIDE,
    Style,
    finish,
    legend,
    panels,
    short,
    styles,
    theme,
)
from resflow.results import Chance, Design

ROW = 0.27  # inches for one line of a forest or dot plot
ERRORS = {"train_top1": "training error (%)", "validation_top1": "validation error (%)"}


def _series(design: Design) -> dict[str, list[str]]:
    """Series -> its arms in order: the levels beside the scale, or each arm alone."""
    if design.scale is None:
        return {arm: [arm] for arm in design.arms}
    found: dict[str, list[str]] = {}
    for arm in sorted(design.arms, key=lambda arm: _position(design, arm)):
        found.setdefault(design.label(arm, design.others(design.scale)), []).append(arm)
    names = dict.fromkeys(design.label(arm, design.others(design.scale)) for arm in design.arms)
    return {name: found[name] for name in names}


def _position(design: Design, arm: str) -> int:
    labels = sorted(design.factors[design.scale or ""], key=float)
    return labels.index(design.arms[arm][design.scale or ""])


def _handles(marks: dict[str, Style], line: bool = True) -> list[Line2D]:
    return [
        Line2D(
            [], [], color=s.color, marker=s.marker, linestyle=s.dashes if line else "none", label=short(label)
        )
        for label, s in marks.items()
        if label
    ]


def _bounds(axis_limits: Callable[..., object], values: np.ndarray, unit: str) -> None:
    """Limits around finite values; a percentage's axis ends at 0 and 100, where an interval may run off it."""
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    pad = 0.06 * (high - low) or 1.0
    low, high = low - pad, high + pad
    axis_limits(*((max(low, 0.0), min(high, 101.0)) if unit == "%" else (low, high)))


def accuracy(
    trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float = WIDE
) -> Figure:
    """The metric of every arm: each seed a point, the mean with its 95 % t interval, and chance."""
    with theme():
        draw = _dots if design.scale is None else _along_scale
        return draw(trials, arms.set_index("arm"), design, chance, width)


def _along_scale(
    trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float
) -> Figure:
    scale, shown = design.metric.scale, _series(design)
    marks = styles(list(shown))
    figure = Figure(figsize=(width, min(0.62 * width, 4.4) + 0.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, members) in enumerate(shown.items()):
        style, shift = marks[name], 0.12 * (index - (len(shown) - 1) / 2)
        x = np.array([_position(design, arm) + shift for arm in members])
        rows = arms.loc[members]
        for place, arm in zip(x, members, strict=True):
            y = scale * trials.loc[trials["arm"] == arm, design.metric.column].dropna()
            axes.plot([place - 0.07] * len(y), y, style.marker, color=style.color, alpha=0.55, ms=3.5, mew=0)
        axes.plot(x, scale * rows["mean"], color=style.color, linestyle=style.dashes, lw=1.8)
        _interval(axes, x, rows, scale, style, upright=True)
    labels = sorted(design.factors[design.scale or ""], key=float)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(short(str(design.scale)))
    axes.set_ylabel(design.metric.axis_label)
    axes.grid(visible=False, axis="x")
    handles = _handles(marks) + _chance_line(axes, design, chance, axes.axhline)
    _bounds(axes.set_ylim, _values(trials, arms, design, chance), design.metric.unit)
    finish(axes)
    if handles:
        legend(figure, handles)
    return figure


def _dots(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float) -> Figure:
    scale = design.metric.scale
    figure = Figure(figsize=(width, 1.1 + 1.25 * ROW * len(arms)), layout="constrained")
    axes = figure.subplots()
    for place, arm in enumerate(arms.index):
        style = Style(VERDICTS["helps"][0] if arm != design.baseline else INK, "o", "-")
        x = scale * trials.loc[trials["arm"] == arm, design.metric.column].dropna()
        axes.plot(x, [place + 0.22] * len(x), "o", color=style.color, alpha=0.55, ms=3.5, mew=0)
        _interval(axes, np.array([place]), arms.loc[[arm]], scale, style, upright=False)
    names = [short(arm) + (" (baseline)" if arm == design.baseline else "") for arm in arms.index]
    axes.set_yticks(range(len(arms)), names)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(design.metric.axis_label)
    axes.grid(visible=False, axis="y")
    handles = _chance_line(axes, design, chance, axes.axvline)
    _bounds(axes.set_xlim, _values(trials, arms, design, chance), design.metric.unit)
    finish(axes)
    if handles:
        legend(figure, handles)
    return figure


def _values(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance) -> np.ndarray:
    drawn = [trials[design.metric.column], arms["low"], arms["high"]]
    level = chance.level if chance.judged_by == design.metric.column else np.nan
    return design.metric.scale * np.append(np.concatenate([np.asarray(c, dtype=float) for c in drawn]), level)


def _interval(
    axes: Axes, at: np.ndarray, rows: pd.DataFrame, scale: float, style: Style, *, upright: bool
) -> None:
    mean = scale * rows["mean"].to_numpy(dtype=float)
    half = scale * (rows["high"] - rows["mean"]).to_numpy(dtype=float)
    known = np.isfinite(half)
    look = {"fmt": "none", "ecolor": style.color, "elinewidth": 1.4, "capsize": 3, "zorder": 3}
    if known.any():
        if upright:
            axes.errorbar(at[known], mean[known], yerr=half[known], **look)
        else:
            axes.errorbar(mean[known], at[known], xerr=half[known], **look)
    x, y = (at, mean) if upright else (mean, at)
    axes.plot(x, y, style.marker, color=style.color, ms=6.5, mec=style.color, zorder=4)


def _chance_line(axes: Axes, design: Design, chance: Chance, draw: Callable[..., Line2D]) -> list[Line2D]:
    if chance.judged_by != design.metric.column or not np.isfinite(chance.level):
        return []
    level = design.metric.scale * chance.level
    line = draw(level, color=MUTED, linestyle=(0, (1, 2)), lw=1.3, zorder=1)
    line.set_label(f"chance {level:.3g} {design.metric.unit}")
    return [line]


def curves(
    histories: pd.DataFrame, design: Design, column: str, *, panel_by_scale: bool, width: float = WIDE
) -> Figure:
    """Error over epochs in inference mode, as He et al. 2015, Figure 4: a thin line a seed, the mean bold.

    `histories` has id, arm, seed, status, epoch and `column` (a top-1). With `panel_by_scale` a panel a depth
    and a colour a shortcut, else a panel a shortcut and a colour a depth. The mean is drawn over the epochs
    that every completed seed reached.
    """
    outer, inner = _split(design, panel_by_scale)
    names = list(dict.fromkeys(outer[arm] for arm in design.arms))
    colours = styles(list(dict.fromkeys(inner[arm] for arm in design.arms)))
    with theme():
        figure, grid = panels(len(names), width, 2.35)
        for axes, name in zip(grid, names, strict=True):
            for arm in (arm for arm in design.arms if outer[arm] == name):
                _curve(axes, histories[histories["arm"] == arm], column, colours[inner[arm]])
            axes.set_title(short(name), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            finish(axes)
        errors = 100 * (1 - histories[column].to_numpy(dtype=float))
        _bounds(grid[0].set_ylim, np.append(errors, 0.0), "%")
        for axes in grid:
            spec = axes.get_subplotspec()
            if spec is not None and spec.is_first_col():
                axes.set_ylabel(ERRORS[column])
        grid[-1].set_xlabel("epoch")
        handles = [
            Line2D([], [], color=s.color, linestyle=s.dashes, lw=2, label=short(n))
            for n, s in colours.items()
            if n
        ]
        if handles:
            legend(figure, handles)
    return figure


def _split(design: Design, panel_by_scale: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Arm -> panel title, and arm -> label of its colour."""
    factor = design.scale or (design.varied[0] if design.varied else None)
    rest = design.others(factor)
    of_factor = {arm: design.label(arm, (factor,)) if factor else arm for arm in design.arms}
    of_rest = {arm: design.label(arm, rest) for arm in design.arms}
    if not rest:
        return dict.fromkeys(design.arms, ""), of_factor
    if panel_by_scale:
        return {arm: f"{factor} {label}" for arm, label in of_factor.items()}, of_rest
    return of_rest, of_factor


def _curve(axes: Axes, mine: pd.DataFrame, column: str, style: Style) -> None:
    for _, run in mine.groupby("id", sort=True):
        error = 100 * (1 - run[column])
        axes.plot(run["epoch"], error, color=style.color, lw=0.7, alpha=0.5)
    done = mine[mine["status"] == "completed"]
    if done.empty:
        return
    wide = done.pivot_table(index="epoch", columns="id", values=column).dropna()
    axes.plot(wide.index, 100 * (1 - wide.mean(axis=1)), color=style.color, linestyle=style.dashes, lw=2)


def cost(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """The metric against trainable parameters and against wall time a trial: each seed, and the arm's mean."""
    table, shown = arms.set_index("arm"), _series(design)
    marks, scale = styles(list(shown)), design.metric.scale
    minutes = float(table["seconds"].max()) >= 180
    columns = {
        "parameters": (1e-6, "trainable parameters (millions)"),
        "seconds": (1 / 60, "minutes a trial") if minutes else (1.0, "seconds a trial"),
    }
    with theme():
        side_by_side = width >= 5
        figure = Figure(figsize=(width, 3.2 if side_by_side else 5.4), layout="constrained")
        grid = figure.subplots(*((1, 2) if side_by_side else (2, 1)), sharey=True)
        for axes, (column, (unit, label)) in zip(grid, columns.items(), strict=True):
            for name, members in shown.items():
                style = marks[name]
                mine = trials[trials["arm"].isin(members) & (trials["status"] == "completed")]
                x = mine[column].astype(float) * unit
                axes.plot(
                    x,
                    scale * mine[design.metric.column],
                    style.marker,
                    color=style.color,
                    alpha=0.4,
                    ms=3.5,
                    mew=0,
                )
                rows = table.loc[members]
                x = rows[column].astype(float) * unit
                axes.plot(
                    x,
                    scale * rows["mean"],
                    style.marker,
                    color=style.color,
                    ms=6.5,
                    linestyle=style.dashes,
                    lw=1,
                )
                if design.scale:
                    _name_points(
                        axes, x, scale * rows["mean"], [design.arms[a][design.scale] for a in members]
                    )
            axes.set_xlabel(label)
            axes.margins(0.1)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            finish(axes)
        for axes in grid[:1] if side_by_side else grid:
            axes.set_ylabel(design.metric.axis_label)
        handles = _handles(marks, line=design.scale is not None)
        if handles:
            legend(figure, handles)
    return figure


def _name_points(axes: Axes, x: pd.Series, y: pd.Series, labels: list[str]) -> None:
    for place, value, label in zip(x, y, labels, strict=True):
        if np.isfinite(place) and np.isfinite(value):
            axes.annotate(
                short(label), (place, value), (4, 4), textcoords="offset points", fontsize=7.5, color=MUTED
            )


def effect_forest(effects: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Every contrast's difference with its 95 % t interval, a panel a family; marker and colour say the verdict."""
    families = list(dict.fromkeys(effects["family"]))
    rows = [int((effects["family"] == family).sum()) for family in families]
    scale = design.metric.scale
    with theme():
        figure = Figure(figsize=(width, ROW * sum(rows) + 0.55 * len(rows) + 0.7), layout="constrained")
        grid = figure.subplots(
            len(rows), sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in rows]
        ).ravel()
        for axes, family in zip(grid, families, strict=True):
            mine = effects[effects["family"] == family].reset_index(drop=True)
            axes.axvline(0, color=MUTED, lw=1, zorder=1)
            if design.margin is not None:
                axes.axvspan(-scale * design.margin, scale * design.margin, color=MUTED, alpha=0.15, lw=0)
            for place, row in mine.iterrows():
                _forest_row(axes, place, row, scale)
            axes.set_yticks(
                range(len(mine)), [_contrast_name(row, family, design) for _, row in mine.iterrows()]
            )
            axes.set_ylim(len(mine) - 0.4, -0.6)
            title = f"against {design.baseline}" if family == BASELINE else f"{family}, the rest equal"
            axes.set_title(short(title), loc="left")
            axes.grid(visible=False, axis="y")
            finish(axes)
        unit = design.metric.difference_unit
        grid[-1].set_xlabel(f"difference in {design.metric.label}" + (f" ({unit})" if unit else ""))
        grid[-1].xaxis.set_major_locator(MaxNLocator(6))
        values = effects[["difference", "low", "high"]].to_numpy(dtype=float).ravel() * scale
        zone = [-scale * (design.margin or 0.0), scale * (design.margin or 0.0)]
        _bounds(grid[-1].set_xlim, np.append(values, zone), "")
        used = [word for word in VERDICTS if (effects["verdict"] == word).any()]
        legend(
            figure,
            [
                Line2D([], [], color=VERDICTS[w][0], marker=VERDICTS[w][1], linestyle="none", label=w)
                for w in used
            ],
        )
    return figure


def _forest_row(axes: Axes, place: object, row: pd.Series, scale: float) -> None:
    color, marker = VERDICTS[row["verdict"]]
    if not np.isfinite(row["difference"]):
        axes.annotate(
            "no pair of seeds",
            (0, float(str(place))),
            (4, -3),
            textcoords="offset points",
            fontsize=7.5,
            color=MUTED,
        )
        return
    if np.isfinite(row["low"]):
        axes.plot([scale * row["low"], scale * row["high"]], [place, place], color=color, lw=2)
    axes.plot(scale * row["difference"], place, marker, color=color, ms=6)


def _contrast_name(row: pd.Series, family: str, design: Design) -> str:
    if family == BASELINE:
        return short(row["arm"])
    level, reference = (design.arms[row[side]][family] for side in ("arm", "reference"))
    context = design.label(row["arm"], design.others(family))
    return short(f"{level} − {reference}" + (f", {context}" if context else ""))
