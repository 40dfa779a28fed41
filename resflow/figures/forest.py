"""Every contrast's difference with its interval, drawn and in numbers: the mark says the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, Transform

from resflow.analysis.design import Design
from resflow.figures.labels import LEADING, POINTS, small, text_width, wrap
from resflow.figures.palette import VERDICTS, Style, arm_styles
from resflow.figures.style import INK, MUTED, WIDE, current_page, em, finish, hover, is_wide, legend, new_figure, theme
from resflow.figures.ticks import limit, number_axis
from resflow.study.contrast_families import BASELINE, TIMES

DECIDED = ("helps", "hurts")
SWATCH = 8.0  # points for the mark of an arm beside a name


@dataclass(frozen=True)
class Row:
    """One contrast as it is written and drawn; `word` is its legend's, `height` in inches of a report."""

    values: pd.Series
    group: str
    lines: list[str]
    numbers: str
    word: str
    mark: tuple[str, str]
    height: float


def effect_forest(effects: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Draw contrasts' differences with 95 % intervals, a panel a contrast group; the mark says the verdict.

    Numbers stand right of the intervals, on a narrow page above them. Where the study declares a margin, a wide line
    is the interval that decides about equivalence.
    """
    scale = design.metric.scale
    with theme():
        rows = _rows(effects, design, width)
        groups = list(dict.fromkeys(row.group for row in rows))
        panels = [[row for row in rows if row.group == group] for group in groups]
        heights = [sum(row.height for row in panel) for panel in panels]
        titles = [
            "\n".join(wrap(_group_title(group, design), width - 0.3, 1.05 * current_page().size)) for group in groups
        ]
        figure = new_figure(width, _height(rows, titles))
        grid = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=heights).ravel()
        widest = max((text_width(row.numbers, small()) for row in rows), default=0.0)
        for axes, panel, title in zip(grid, panels, titles, strict=True):
            _panel(axes, panel, design, is_wide(width), widest)
            axes.set_title(title, loc="left")
        unit = design.metric.difference_unit
        what = f"difference in {design.metric.label}" if is_wide(width) else "difference"
        grid[-1].set_xlabel(what + (f" ({unit})" if unit else ""))
        number_axis(grid[-1], "x")
        drawn = ["difference", "low", "high", "equivalence_low", "equivalence_high"]
        values = scale * effects[drawn].to_numpy(dtype=float).ravel()
        zone = [-scale * (design.margin or 0.0), scale * (design.margin or 0.0)]
        limit(grid[-1].set_xlim, np.append(values, zone), "")
        legend(figure, _handles(rows))
    return figure


def pages(effects: pd.DataFrame, design: Design, width: float) -> list[pd.DataFrame]:
    """Return the contrasts of each figure of `effect_forest`, in order: as many as the page is high."""
    with theme():
        rows = _rows(effects, design, width)
        parts: list[list[Row]] = [[]]
        for row in rows:
            if parts[-1] and _height([*parts[-1], row]) * em() > current_page().height:
                parts.append([])
            parts[-1].append(row)
    return [pd.DataFrame([row.values for row in part]) for part in parts if part]


def _height(rows: Sequence[Row], titles: Sequence[str] | None = None) -> float:
    titles = titles if titles is not None else list(dict.fromkeys(row.group for row in rows))
    return sum(row.height for row in rows) + sum(0.45 + 0.16 * title.count("\n") for title in titles) + 0.8


def _rows(effects: pd.DataFrame, design: Design, width: float) -> list[Row]:
    """Return contrasts in the study's order: by group, then by what they share, then by level."""
    arms, size = list(design.arms), small()
    groups = [group for group in design.contrasts or () if (effects["contrast_group"] == group).any()]
    groups += [group for group in dict.fromkeys(effects["contrast_group"]) if group not in groups]
    contexts, decimals = list(dict.fromkeys(effects["context"])), _decimals(effects, design)
    rows = []
    for _, values in effects.iterrows():
        group = values["contrast_group"]
        name, numbers = _contrast_name(values, group, design), _numbers(values, design, decimals)
        swatches = 0 if values["less"] else SWATCH * (1 if group == BASELINE else 2) / POINTS
        room = 0.3 * width if is_wide(width) else width - 0.5 * em() - text_width(numbers, size)
        lines = wrap(name, room - swatches * em(), size)
        step = LEADING * size / POINTS / em()
        high = max(0.27, step * len(lines) + 0.08) if is_wide(width) else step * len(lines) + 0.24
        rows.append(Row(values, group, lines, numbers, *_look(values), high))
    context_of = {arm: place for place, arm in enumerate(arms)}
    order = {
        id(row): (
            groups.index(row.group),
            contexts.index(row.values["context"]) if row.values["less"] else _context_place(row, design, arms),
            context_of.get(row.values["arm"], len(arms)),
        )
        for row in rows
    }
    return sorted(rows, key=lambda row: order[id(row)])


def _context_place(row: Row, design: Design, arms: Sequence[str]) -> int:
    """The place of the first arm with the levels that the two arms of a contrast share."""
    if row.group == BASELINE:
        return 0
    shared = design.others(row.group)
    return next(
        place for place, arm in enumerate(arms) if design.label(arm, shared) == design.label(row.values["arm"], shared)
    )


def _look(values: pd.Series) -> tuple[str, tuple[str, str]]:
    """Return a contrast's word and its colour and marker. Of an interaction more or less is no help and no harm."""
    verdict = str(values["verdict"])
    if values["less"] and verdict in DECIDED:
        return str(values["change"]), (INK, ">" if values["difference"] > 0 else "<")
    return verdict, VERDICTS[verdict]


def _handles(rows: Sequence[Row]) -> list[Line2D]:
    marks = {(row.word, row.mark) for row in rows if np.isfinite(row.values["difference"])}
    order = list(VERDICTS)
    ordered = sorted(marks, key=lambda mark: (order.index(mark[0]) if mark[0] in order else len(order), mark))
    return [
        Line2D([], [], color=color, marker=marker, linestyle="none", label=word) for word, (color, marker) in ordered
    ]


def _panel(axes: Axes, rows: Sequence[Row], design: Design, wide: bool, widest: float) -> None:
    scale, bottom, looks = design.metric.scale, 0.0, arm_styles(design)
    for row in rows:
        top, bottom = bottom, bottom + row.height
        place = (top + bottom) / 2 if wide else bottom - 0.13
        axes.vlines(0, top if wide else place - 0.06, bottom if wide else place + 0.06, color=MUTED, lw=1, zorder=1)
        _interval(axes, place, row, scale, _hover_text(row, design))
        marks = [looks[arm] for arm in _arms_of(row) if arm in looks]
        if wide:
            _beside(axes, place, row, marks, POINTS * widest + 4 * em())
        else:
            _above(axes, top + 0.04, row, marks)
    if design.margin is not None:
        axes.axvspan(-scale * design.margin, scale * design.margin, color=MUTED, alpha=0.15, lw=0)
    axes.set_ylim(bottom, 0.0)
    axes.set_yticks([])
    axes.grid(visible=wide, axis="x")
    finish(axes)


def _arms_of(row: Row) -> list[str]:
    """The arms whose looks stand beside a contrast's name: of an interaction they would be four."""
    sides = () if row.values["less"] else ("arm",) if row.group == BASELINE else ("arm", "reference")
    return [row.values[side] for side in sides]


def _beside(axes: Axes, y: float, row: Row, marks: Sequence[Style], end: float) -> None:
    """Write a name left of the panel and the numbers right of it, ending so many points from its edge."""
    for index, look in enumerate(marks):
        _swatch(axes, y, look, index - len(marks) - 0.2)
    text: dict[str, Any] = {"fontsize": small(), "linespacing": LEADING, "ha": "right", "va": "center"}
    axes.text(0, y, "\n".join(row.lines), transform=_moved(axes, -SWATCH * em() * (len(marks) + 0.9)), **text)
    axes.text(1, y, row.numbers, transform=_moved(axes, end), **text)


def _above(axes: Axes, y: float, row: Row, marks: Sequence[Style]) -> None:
    """Write a name and the numbers into one line over an interval."""
    for index, look in enumerate(marks):
        _swatch(axes, y + LEADING * small() / POINTS / em() / 2, look, index + 0.5)
    text: dict[str, Any] = {"fontsize": small(), "linespacing": LEADING, "va": "top"}
    begin = SWATCH * em() * (len(marks) + (0.2 if marks else 0.0))
    axes.text(0, y, "\n".join(row.lines), ha="left", transform=_moved(axes, begin), **text)
    axes.text(1, y, row.numbers, ha="right", transform=_moved(axes, 0), **text)


def _swatch(axes: Axes, y: float, look: Style, place: float) -> None:
    aside = _moved(axes, SWATCH * em() * place)
    axes.plot([0], [y], look.marker, color=look.color, ms=4.5 * em(), mew=0, clip_on=False, transform=aside)


def _moved(axes: Axes, points: float) -> Transform:
    """Return a transform of x along the panel and y in the data, moved to the right by so many points."""
    return axes.get_yaxis_transform() + ScaledTranslation(points / POINTS, 0, axes.figure.dpi_scale_trans)


def _interval(axes: Axes, place: float, row: Row, scale: float, text: str) -> None:
    (color, marker), values = row.mark, row.values
    if not np.isfinite(values["difference"]):
        return
    if np.isfinite(values["equivalence_low"]):
        zone = [scale * values["equivalence_low"], scale * values["equivalence_high"]]
        axes.plot(zone, [place, place], color=color, lw=5 * em(), alpha=0.35, solid_capstyle="butt")
    if np.isfinite(values["low"]):
        axes.plot([scale * values["low"], scale * values["high"]], [place, place], color=color, lw=2)
    (mark,) = axes.plot(scale * values["difference"], place, marker, color=color, ms=6 * em())
    hover(mark, text)


def _decimals(effects: pd.DataFrame, design: Design) -> int:
    """Return the decimals of all numbers of a figure: one, or as many as small differences need for two digits."""
    sizes = design.metric.scale * effects[["difference", "low", "high"]].abs().to_numpy(dtype=float)
    largest = float(np.nanmax(sizes, initial=0.0))
    return 1 if largest >= 1 or not largest else 1 - math.floor(math.log10(largest))


def _numbers(values: pd.Series, design: Design, decimals: int) -> str:
    """Write a difference with its interval."""
    scaled = [design.metric.scale * values[name] for name in ("difference", "low", "high")]
    if not np.isfinite(scaled[0]):
        return "no pair of seeds"
    difference, low, high = (_signed(value, decimals) for value in scaled)
    return difference + (f" ({low} to {high})" if np.isfinite(scaled[1]) else "")


def _signed(value: float, decimals: int) -> str:
    digits = f"{abs(value):.{decimals}f}"
    return digits if not float(digits) else ("−" if value < 0 else "+") + digits


def _contrast_name(values: pd.Series, group: str, design: Design) -> str:
    if group == BASELINE:
        return design.display_name(values["arm"])
    factor = group if group in design.varied else group.split(TIMES)[0]
    level, reference = (design.arms[values[side]][factor] for side in ("arm", "reference"))
    context = design.label(values["arm"], design.others(group))
    if values["less"]:  # "depth 34 against 18" without the factor's name
        context = ", ".join(part.split(" ", 1)[1] for part in str(values["context"]).split(", "))
    return f"{level} − {reference}" + (f", {context}" if context else "")


def _group_title(group: str, design: Design) -> str:
    if group == BASELINE:
        return f"against {design.display_name(design.baseline or '')}"
    if group in design.varied:
        return f"effects of {group}"
    return "{} by {}".format(*group.split(TIMES))


def _hover_text(row: Row, design: Design) -> str:
    """Tell the whole name, the difference and the verdict."""
    return f"{_contrast_name(row.values, row.group, design)}: {row.numbers}, {row.word}"
