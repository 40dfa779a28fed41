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
from resflow.figures.labels import fit_at_ends, name_ends, points_per_unit, small, swarm, wrap
from resflow.figures.palette import SEED_ALPHA, Style, arm_styles, scale_levels, series, series_styles
from resflow.figures.style import (
    GRID,
    MUTED,
    WIDE,
    current_page,
    em,
    finish,
    hover,
    legend,
    middle,
    new_figure,
    row_height,
    short,
    theme,
)
from resflow.figures.ticks import limit, number_axis
from resflow.records.run import MANY

SEED = 3.5  # points across a seed's mark
GROUP = 0.5  # of the room of a level that its arms stand in, so that those of two levels are apart


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


def pages(arms: pd.DataFrame, design: Design) -> list[pd.DataFrame]:
    """Return the arms of each figure of `accuracy`: all in one, unless a row an arm is higher than the page."""
    room = current_page().height / em() - 1.1
    most = int(room / (1.25 * row_height(len(arms)))) if np.isfinite(room) and design.scale is None else len(arms)
    return [arms.iloc[start : start + most] for start in range(0, len(arms), max(most, 1))]


def _along_scale(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float) -> Figure:
    scale, lines, levels = design.metric.scale, series(design), scale_levels(design)
    marks, looks = series_styles(design), arm_styles(design)
    figure = new_figure(width, (min(0.62 * width / em(), 4.4) + 0.4))
    height = figure.get_figheight() - 0.8 * em()
    axes = figure.subplots()
    limit(axes.set_ylim, _values(trials, arms, design, chance), design.metric.unit)
    dodge = min(0.22, GROUP / len(lines))
    beside = 7 * em() if dodge * 72 * width / len(levels) > 10 * em() else 0.0  # seeds stand left of their mean
    ends = []
    for index, (name, members) in enumerate(lines.items()):
        shift = dodge * (index - (len(lines) - 1) / 2)
        x = np.array([levels.index(design.arms[arm][design.scale or ""]) + shift for arm in members])
        axes.plot(x, scale * arms.loc[members, "mean"], color=marks[name].color, ls=marks[name].dashes, lw=1.6)
        ends.append((float(x[-1]), scale * float(arms["mean"][members[-1]]), short(name), marks[name]))
        for place, arm in zip(x, members, strict=True):
            if len(trials) > MANY:
                aside = offset_copy(axes.transData, figure, x=-beside, units="points")
                span = middle(scale * trials.loc[trials["arm"] == arm, design.metric.column])
                axes.plot([place] * 2, span, color=looks[arm].color, alpha=0.5, lw=3, transform=aside)
            else:
                found = list(_seeds(trials, arm, design))
                steps = swarm([value for value, _ in found], points_per_unit(height, axes.get_ylim()), SEED * em())
                for (value, text), step in zip(found, steps, strict=True):
                    aside = offset_copy(axes.transData, figure, x=-beside - step * SEED * em(), units="points")
                    _seed(axes, (place, value), text, looks[arm], aside)
            _interval(axes, np.array([place]), arms.loc[[arm]], scale, looks[arm], upright=True)
    for place in range(0, len(levels), 2):
        axes.axvspan(place - 0.5, place + 0.5, color=GRID, alpha=0.25, lw=0, zorder=0)
    axes.set_xticks(range(len(levels)), levels)
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_xlabel(short(str(design.scale)))
    axes.set_ylabel(design.metric.axis_label)
    number_axis(axes, "y")
    axes.grid(visible=False, axis="x")
    handles = _chance_line(axes, trials, design, chance, axes.axhline)
    finish(axes)
    names = [short(name) for name in lines if name]
    if names and fit_at_ends(names, width, height, 0.32):
        name_ends(axes, [end for end in ends if np.isfinite(end[1])], height)
    else:
        handles = handles_of(marks) + handles
    if handles:
        legend(figure, handles)
    return figure


def _dots(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, width: float) -> Figure:
    scale, looks = design.metric.scale, arm_styles(design)
    row = 1.25 * row_height(len(arms))
    names = [design.display_name(arm) + (" *" if arm == design.baseline else "") for arm in arms.index]
    labels = ["\n".join(wrap(name, 0.34 * width, small())) for name in names]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    figure = new_figure(width, 1.1 + max(row, 0.15 * lines) * len(arms))
    axes = figure.subplots()
    limit(axes.set_xlim, _values(trials, arms, design, chance), design.metric.unit)
    per_unit = points_per_unit(0.6 * width, axes.get_xlim())
    step_of_row = SEED / (72 * row)
    for place, arm in enumerate(arms.index):
        if len(trials) > MANY:
            span = middle(scale * trials.loc[trials["arm"] == arm, design.metric.column])
            axes.plot(span, [place + 0.25] * 2, color=looks[arm].color, alpha=0.5, lw=3)
        else:
            found = list(_seeds(trials, arm, design))
            steps = swarm([value for value, _ in found], per_unit, SEED * em())
            for (value, text), step in zip(found, steps, strict=True):
                _seed(axes, (value, place + 0.25 + step * step_of_row), text, looks[arm], axes.transData)
        _interval(axes, np.array([place]), arms.loc[[arm]], scale, looks[arm], upright=False)
    axes.set_yticks(range(len(arms)), labels, fontsize=small())
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(design.metric.axis_label)
    number_axis(axes, "x")
    axes.grid(visible=False, axis="y")
    handles = _chance_line(axes, trials, design, chance, axes.axvline)
    if design.baseline in arms.index:
        handles.append(Line2D([], [], linestyle="none", label="* baseline"))
    finish(axes)
    if handles:
        legend(figure, handles)
    return figure


def _seed(axes: Axes, at: tuple[float, float], text: str, style: Style, transform: Any) -> None:
    (dot,) = axes.plot(
        *([value] for value in at),
        style.marker,
        color=style.color,
        alpha=SEED_ALPHA,
        ms=SEED * em(),
        mew=0,
        transform=transform,
    )
    hover(dot, text)


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
    axes.plot(x, y, style.marker, color=style.color, ms=6 * em(), zorder=4)


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
