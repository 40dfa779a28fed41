"""Figures of a run: functions from frames to a matplotlib Figure. They read and save nothing.

A study with a numeric factor (depth) is drawn along it, a series for each combination of the other
factors; a study without one is drawn arm by arm. Every completed seed is a point or a thin line.
`width` is in inches; below five the panels stand in one column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import offset_copy

from resflow.families import BASELINE, TIMES
from resflow.figure_style import (
    INK,
    MOST_SHOWN,
    MUTED,
    VERDICTS,
    WIDE,
    Style,
    finish,
    legend,
    limit,
    middle,
    short,
    styles,
    theme,
)
from resflow.results import Chance, Design

ROW = 0.27  # inches for one line of a forest or dot plot


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
        Line2D([], [], color=s.color, marker=s.marker, linestyle=s.dashes if line else "none", label=short(label))
        for label, s in marks.items()
        if label
    ]


def accuracy(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float = WIDE) -> Figure:
    """The metric of every arm: each seed a point, the mean with its 95 % t interval, and chance."""
    with theme():
        draw = _dots if design.scale is None else _along_scale
        return draw(trials, arms.set_index("arm"), design, chance, width)


def _along_scale(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float) -> Figure:
    scale, shown = design.metric.scale, _series(design)
    marks = styles(list(shown))
    figure = Figure(figsize=(width, min(0.62 * width, 4.4) + 0.4), layout="constrained")
    axes = figure.subplots()
    dodge = min(0.22, 0.6 / len(shown))
    beside = offset_copy(axes.transData, figure, x=-7, units="points")  # seeds stand left of their mean
    for index, (name, members) in enumerate(shown.items()):
        style, shift = marks[name], dodge * (index - (len(shown) - 1) / 2)
        x = np.array([_position(design, arm) + shift for arm in members])
        rows = arms.loc[members]
        for place, arm in zip(x, members, strict=True):
            y = scale * trials.loc[trials["arm"] == arm, design.metric.column].dropna()
            if len(trials) > MOST_SHOWN:
                axes.plot([place] * 2, middle(y), color=style.color, alpha=0.5, lw=3, transform=beside)
                continue
            axes.plot(
                [place] * len(y),
                y,
                style.marker,
                color=style.color,
                alpha=0.7,
                ms=3.5,
                mew=0,
                transform=beside,
            )
        axes.plot(x, scale * rows["mean"], color=style.color, linestyle=style.dashes, lw=1.8)
        _interval(axes, x, rows, scale, style, upright=True)
    labels = sorted(design.factors[design.scale or ""], key=float)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(short(str(design.scale)))
    axes.set_ylabel(design.metric.axis_label)
    axes.grid(visible=False, axis="x")
    handles = _handles(marks) + _chance_line(axes, trials, design, chance, axes.axhline)
    limit(axes.set_ylim, _values(trials, arms, design, chance), design.metric.unit)
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
        if len(trials) > MOST_SHOWN:
            axes.plot(middle(x), [place + 0.22] * 2, color=style.color, alpha=0.5, lw=3)
        else:
            axes.plot(x, [place + 0.22] * len(x), "o", color=style.color, alpha=0.55, ms=3.5, mew=0)
        _interval(axes, np.array([place]), arms.loc[[arm]], scale, style, upright=False)
    names = [short(design.called(arm), width) + (" *" if arm == design.baseline else "") for arm in arms.index]
    axes.set_yticks(range(len(arms)), names)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(design.metric.axis_label)
    axes.grid(visible=False, axis="y")
    handles = _chance_line(axes, trials, design, chance, axes.axvline)
    if design.baseline in arms.index:
        handles.append(Line2D([], [], color=INK, marker="o", linestyle="none", label="* baseline"))
    limit(axes.set_xlim, _values(trials, arms, design, chance), design.metric.unit)
    finish(axes)
    if handles:
        legend(figure, handles)
    return figure


def _values(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance) -> np.ndarray:
    drawn = [trials[design.metric.column], arms["low"], arms["high"]]
    values = np.concatenate([np.asarray(column, dtype=float) for column in drawn])
    return design.metric.scale * (np.append(values, chance.level) if _near(trials, design, chance) else values)


def _near(trials: pd.DataFrame, design: Design, chance: Chance) -> bool:
    """Does chance fit on the axis without pressing all arms together at its other end?"""
    values = trials[design.metric.column].dropna()
    known = chance.judged_by == design.metric.column and bool(np.isfinite(chance.level)) and len(values) > 0
    return known and bool(values.min() - chance.level <= 4 * (values.max() - values.min()))


def _interval(axes: Axes, at: np.ndarray, rows: pd.DataFrame, scale: float, style: Style, *, upright: bool) -> None:
    mean = scale * rows["mean"].to_numpy(dtype=float)
    half = scale * (rows["high"] - rows["mean"]).to_numpy(dtype=float)
    known = np.isfinite(half)
    look: dict[str, Any] = {
        "fmt": "none",
        "ecolor": style.color,
        "elinewidth": 1.4,
        "capsize": 3,
        "zorder": 3,
    }
    if known.any():
        if upright:
            axes.errorbar(at[known], mean[known], yerr=half[known], **look)
        else:
            axes.errorbar(mean[known], at[known], xerr=half[known], **look)
    x, y = (at, mean) if upright else (mean, at)
    axes.plot(x, y, style.marker, color=style.color, ms=6.5, mec=style.color, zorder=4)


def _chance_line(
    axes: Axes, trials: pd.DataFrame, design: Design, chance: Chance, draw: Callable[..., Line2D]
) -> list[Line2D]:
    if chance.judged_by != design.metric.column or not np.isfinite(chance.level):
        return []
    level = design.metric.scale * chance.level
    look: dict[str, Any] = {"color": MUTED, "linestyle": (0, (1, 2)), "lw": 1.3}
    text = f"chance {level:.3g} {design.metric.unit}"
    if not _near(trials, design, chance):
        return [Line2D([], [], **look, label=f"{text}, off this axis")]
    draw(level, **look, zorder=1)
    return [Line2D([], [], **look, label=text)]


def cost(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """The metric against trainable parameters and against wall time a trial: each seed, and the mean."""
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
                if len(trials) <= MOST_SHOWN:
                    y = scale * mine[design.metric.column]
                    axes.plot(x, y, style.marker, color=style.color, alpha=0.4, ms=3.5, mew=0)
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
                    _name_points(axes, x, scale * rows["mean"], [design.arms[a][design.scale] for a in members])
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
            axes.annotate(short(label), (place, value), (4, 4), textcoords="offset points", fontsize=7.5, color=MUTED)


def effect_forest(effects: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Every contrast's difference with its 95 % t interval, a panel a family; the mark says the verdict."""
    families = list(dict.fromkeys(effects["family"]))
    rows = [int((effects["family"] == family).sum()) for family in families]
    scale = design.metric.scale
    with theme():
        figure = Figure(figsize=(width, ROW * sum(rows) + 0.55 * len(rows) + 0.7), layout="constrained")
        grid = figure.subplots(len(rows), sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in rows]).ravel()
        for axes, family in zip(grid, families, strict=True):
            mine = effects[effects["family"] == family].reset_index(drop=True)
            axes.axvline(0, color=MUTED, lw=1, zorder=1)
            if design.margin is not None:
                axes.axvspan(-scale * design.margin, scale * design.margin, color=MUTED, alpha=0.15, lw=0)
            for place, (_, row) in enumerate(mine.iterrows()):
                _forest_row(axes, place, row, scale)
            axes.set_yticks(
                range(len(mine)), [_contrast_name(row, family, design, width) for _, row in mine.iterrows()]
            )
            axes.set_ylim(len(mine) - 0.4, -0.6)
            axes.set_title(short(_family_title(family, design), width, 44), loc="left")
            axes.grid(visible=False, axis="y")
            finish(axes)
        unit = design.metric.difference_unit
        what = f"difference in {design.metric.label}" if width >= 5 else "difference"
        grid[-1].set_xlabel(what + (f" ({unit})" if unit else ""))
        grid[-1].xaxis.set_major_locator(MaxNLocator(6))
        values = effects[["difference", "low", "high"]].to_numpy(dtype=float).ravel() * scale
        zone = [-scale * (design.margin or 0.0), scale * (design.margin or 0.0)]
        limit(grid[-1].set_xlim, np.append(values, zone), "")
        used = [word for word in VERDICTS if (effects["verdict"] == word).any()]
        legend(
            figure,
            [Line2D([], [], color=VERDICTS[w][0], marker=VERDICTS[w][1], linestyle="none", label=w) for w in used],
        )
    return figure


def _forest_row(axes: Axes, place: int, row: pd.Series, scale: float) -> None:
    color, marker = VERDICTS[row["verdict"]]
    if not np.isfinite(row["difference"]):
        axes.annotate(
            "no pair of seeds",
            (0, place),
            (4, -3),
            textcoords="offset points",
            fontsize=7.5,
            color=MUTED,
        )
        return
    if np.isfinite(row["low"]):
        axes.plot([scale * row["low"], scale * row["high"]], [place, place], color=color, lw=2)
    axes.plot(scale * row["difference"], place, marker, color=color, ms=6)


def _contrast_name(row: pd.Series, family: str, design: Design, width: float) -> str:
    if family == BASELINE:
        return short(design.called(row["arm"]), width)
    factor = family if family in design.varied else family.split(TIMES)[0]
    level, reference = (design.arms[row[side]][factor] for side in ("arm", "reference"))
    context = str(row["context"]) if row["less"] else design.label(row["arm"], design.others(family))
    return short(f"{level} − {reference}" + (f", {context}" if context else ""), width)


def _family_title(family: str, design: Design) -> str:
    if family == BASELINE:
        return f"against {design.called(design.baseline or '')}"
    if family in design.varied:
        return f"{family}, the rest equal"
    return "{} by {}: larger (▲) or smaller (▼)".format(*family.split(TIMES))
