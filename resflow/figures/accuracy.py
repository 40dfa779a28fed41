"""The metric of every arm: each seed a point, the mean with its interval, and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from resflow.analysis.chance import Chance
from resflow.analysis.design import Design
from resflow.figures.style import (
    INK,
    MUTED,
    VERDICTS,
    WIDE,
    Style,
    finish,
    hover,
    legend,
    limit,
    middle,
    row_height,
    short,
    styles,
    theme,
)
from resflow.records.run import MANY


def series(design: Design) -> dict[str, list[str]]:
    """Return series -> its arms in order: the levels beside the scale, or each arm alone."""
    if design.scale is None:
        return {design.display_name(arm): [arm] for arm in design.arms}
    groups: dict[str, list[str]] = {}
    for arm in sorted(design.arms, key=lambda arm: _position(design, arm)):
        groups.setdefault(design.label(arm, design.others(design.scale)), []).append(arm)
    names = dict.fromkeys(design.label(arm, design.others(design.scale)) for arm in design.arms)
    return {name: groups[name] for name in names}


def _position(design: Design, arm: str) -> int:
    labels = sorted(design.factors[design.scale or ""], key=float)
    return labels.index(design.arms[arm][design.scale or ""])


def handles_of(marks: dict[str, Style], line: bool = True) -> list[Line2D]:
    """Return the legend's handles of series with their styles, with a `line` or as marks alone."""
    return [
        Line2D([], [], color=s.color, marker=s.marker, linestyle=s.dashes if line else "none", label=short(label))
        for label, s in marks.items()
        if label
    ]


def accuracy(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float = WIDE) -> Figure:
    """Draw the metric of every arm: each seed a point, the mean with its 95 % interval, and chance."""
    with theme():
        draw = _dots if design.scale is None else _along_scale
        return draw(trials, arms.set_index("arm"), design, chance, width)


def _along_scale(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float) -> Figure:
    scale, lines = design.metric.scale, series(design)
    marks = styles(list(lines))
    figure = Figure(figsize=(width, min(0.62 * width, 4.4) + 0.4), layout="constrained")
    axes = figure.subplots()
    dodge = min(0.22, 0.6 / len(lines))
    beside = offset_copy(axes.transData, figure, x=-7, units="points")  # seeds stand left of their mean
    for index, (name, members) in enumerate(lines.items()):
        style, shift = marks[name], dodge * (index - (len(lines) - 1) / 2)
        x = np.array([_position(design, arm) + shift for arm in members])
        rows = arms.loc[members]
        for place, arm in zip(x, members, strict=True):
            y = scale * trials.loc[trials["arm"] == arm, design.metric.column].dropna()
            if len(trials) > MANY:
                axes.plot([place] * 2, middle(y), color=style.color, alpha=0.5, lw=3, transform=beside)
                continue
            look: dict[str, Any] = {"color": style.color, "alpha": 0.7, "ms": 3.5, "mew": 0, "transform": beside}
            for value, text in _seeds(trials, arm, design):
                (dot,) = axes.plot([place], [value], style.marker, **look)
                hover(dot, text)
        axes.plot(x, scale * rows["mean"], color=style.color, linestyle=style.dashes, lw=1.8)
        _interval(axes, x, rows, scale, style, upright=True)
    labels = sorted(design.factors[design.scale or ""], key=float)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(short(str(design.scale)))
    axes.set_ylabel(design.metric.axis_label)
    axes.grid(visible=False, axis="x")
    handles = handles_of(marks) + _chance_line(axes, trials, design, chance, axes.axhline)
    limit(axes.set_ylim, _values(trials, arms, design, chance), design.metric.unit)
    finish(axes)
    if handles:
        legend(figure, handles)
    return figure


def _dots(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float) -> Figure:
    scale = design.metric.scale
    figure = Figure(figsize=(width, 1.1 + 1.25 * row_height(len(arms)) * len(arms)), layout="constrained")
    axes = figure.subplots()
    for place, arm in enumerate(arms.index):
        style = Style(VERDICTS["helps"][0] if arm != design.baseline else INK, "o", "-")
        x = scale * trials.loc[trials["arm"] == arm, design.metric.column].dropna()
        if len(trials) > MANY:
            axes.plot(middle(x), [place + 0.22] * 2, color=style.color, alpha=0.5, lw=3)
        else:
            for value, text in _seeds(trials, arm, design):
                (dot,) = axes.plot([value], [place + 0.22], "o", color=style.color, alpha=0.55, ms=3.5, mew=0)
                hover(dot, text)
        _interval(axes, np.array([place]), arms.loc[[arm]], scale, style, upright=False)
    names = [short(design.display_name(arm), width) + (" *" if arm == design.baseline else "") for arm in arms.index]
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


def _seeds(trials: pd.DataFrame, arm: str, design: Design) -> Iterator[tuple[float, str]]:
    """Yield each completed trial's value as it is drawn, and its name."""
    rows = trials[trials["arm"] == arm].dropna(subset=[design.metric.column])
    for seed, raw in zip(rows["seed"], rows[design.metric.column], strict=True):
        value = design.metric.scale * float(raw)
        yield value, f"{design.display_name(arm)}, seed {seed}: {value:.4g} {design.metric.unit}".rstrip()


def _values(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance) -> np.ndarray:
    columns = [trials[design.metric.column], arms["low"], arms["high"]]
    values = np.concatenate([np.asarray(column, dtype=float) for column in columns])
    return design.metric.scale * (np.append(values, chance.of_metric) if _near(trials, design, chance) else values)


def _near(trials: pd.DataFrame, design: Design, chance: Chance) -> bool:
    """True where chance fits on the axis without pressing all arms together at its other end."""
    values = trials[design.metric.column].dropna()
    comparable = bool(np.isfinite(chance.of_metric)) and len(values) > 0
    return comparable and bool(values.min() - chance.of_metric <= 4 * (values.max() - values.min()))


def _interval(axes: Axes, at: np.ndarray, rows: pd.DataFrame, scale: float, style: Style, *, upright: bool) -> None:
    mean = scale * rows["mean"].to_numpy(dtype=float)
    below, above = (scale * rows[end].to_numpy(dtype=float) - mean for end in ("low", "high"))
    finite = np.isfinite(above)
    half = np.stack([-below, above])[:, finite]
    look: dict[str, Any] = {
        "fmt": "none",
        "ecolor": style.color,
        "elinewidth": 1.4,
        "capsize": 3,
        "zorder": 3,
    }
    if finite.any():
        if upright:
            axes.errorbar(at[finite], mean[finite], yerr=half, **look)
        else:
            axes.errorbar(mean[finite], at[finite], xerr=half, **look)
    x, y = (at, mean) if upright else (mean, at)
    axes.plot(x, y, style.marker, color=style.color, ms=6.5, mec=style.color, zorder=4)


def _chance_line(
    axes: Axes, trials: pd.DataFrame, design: Design, chance: Chance, draw: Callable[..., Line2D]
) -> list[Line2D]:
    if not np.isfinite(chance.of_metric):
        return []
    level = design.metric.scale * chance.of_metric
    look: dict[str, Any] = {"color": MUTED, "linestyle": (0, (1, 2)), "lw": 1.3}
    text = f"chance {level:.3g} {design.metric.unit}"
    if not _near(trials, design, chance):
        return [Line2D([], [], **look, label=f"{text}, off this axis")]
    draw(level, **look, zorder=1)
    return [Line2D([], [], **look, label=text)]
