"""Every contrast's difference with its interval: the mark says the verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from resflow.analysis.design import Design
from resflow.figures.style import MUTED, VERDICTS, WIDE, finish, hover, legend, limit, row_height, short, theme
from resflow.study.contrast_families import BASELINE, TIMES


def effect_forest(effects: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Draw contrasts' differences with 95 % intervals, a panel a contrast group; the mark says the verdict.

    Where the study declares a margin, a wide line is the interval that decides about equivalence.
    """
    groups = list(dict.fromkeys(effects["contrast_group"]))
    rows = [int((effects["contrast_group"] == group).sum()) for group in groups]
    scale = design.metric.scale
    with theme():
        figure = Figure(
            figsize=(width, row_height(sum(rows)) * sum(rows) + 0.55 * len(rows) + 0.7), layout="constrained"
        )
        grid = figure.subplots(len(rows), sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in rows]).ravel()
        for axes, group in zip(grid, groups, strict=True):
            members = effects[effects["contrast_group"] == group].reset_index(drop=True)
            axes.axvline(0, color=MUTED, lw=1, zorder=1)
            if design.margin is not None:
                axes.axvspan(-scale * design.margin, scale * design.margin, color=MUTED, alpha=0.15, lw=0)
            for place, (_, row) in enumerate(members.iterrows()):
                _forest_row(axes, place, row, scale, _hover_text(row, group, design))
            axes.set_yticks(
                range(len(members)), [_contrast_name(row, group, design, width) for _, row in members.iterrows()]
            )
            axes.set_ylim(len(members) - 0.4, -0.6)
            axes.set_title(short(_group_title(group, design), width), loc="left")
            axes.grid(visible=False, axis="y")
            finish(axes)
        unit = design.metric.difference_unit
        what = f"difference in {design.metric.label}" if width >= 5 else "difference"
        grid[-1].set_xlabel(what + (f" ({unit})" if unit else ""))
        grid[-1].xaxis.set_major_locator(MaxNLocator(6))
        drawn = ["difference", "low", "high", "equivalence_low", "equivalence_high"]
        values = scale * effects[drawn].to_numpy(dtype=float).ravel()
        zone = [-scale * (design.margin or 0.0), scale * (design.margin or 0.0)]
        limit(grid[-1].set_xlim, np.append(values, zone), "")
        used = [word for word in VERDICTS if (effects["verdict"] == word).any()]
        legend(
            figure,
            [Line2D([], [], color=VERDICTS[w][0], marker=VERDICTS[w][1], linestyle="none", label=w) for w in used],
        )
    return figure


def _forest_row(axes: Axes, place: int, row: pd.Series, scale: float, text: str) -> None:
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
    if np.isfinite(row["equivalence_low"]):
        zone = [scale * row["equivalence_low"], scale * row["equivalence_high"]]
        axes.plot(zone, [place, place], color=color, lw=5, alpha=0.35, solid_capstyle="butt")
    if np.isfinite(row["low"]):
        axes.plot([scale * row["low"], scale * row["high"]], [place, place], color=color, lw=2)
    (mark,) = axes.plot(scale * row["difference"], place, marker, color=color, ms=6)
    hover(mark, text)


def _contrast_name(row: pd.Series, group: str, design: Design, width: float, longest: int = 0) -> str:
    if group == BASELINE:
        return short(design.display_name(row["arm"]), width, longest)
    factor = group if group in design.varied else group.split(TIMES)[0]
    level, reference = (design.arms[row[side]][factor] for side in ("arm", "reference"))
    context = design.label(row["arm"], design.others(group))
    if row["less"]:  # "depth 34 less 18" without the factor's name
        context = ", ".join(part.split(" ", 1)[1] for part in str(row["context"]).split(", "))
    return short(f"{level} − {reference}" + (f", {context}" if context else ""), width, longest)


def _group_title(group: str, design: Design) -> str:
    if group == BASELINE:
        return f"against {design.display_name(design.baseline or '')}"
    if group in design.varied:
        return f"{group}, the rest equal"
    return "{} by {}".format(*group.split(TIMES))


def _hover_text(row: pd.Series, group: str, design: Design) -> str:
    """Tell the whole name, the difference and the verdict: a label may have no room for them."""
    name = (
        design.display_name(row["arm"]) if group == BASELINE else _contrast_name(row, group, design, WIDE, longest=200)
    )
    limits = "" if not np.isfinite(row["low"]) else f" ({design.metric.scale * row['low']:+.1f} to "
    limits += f"{design.metric.scale * row['high']:+.1f})" if limits else ""
    return f"{name}: {design.metric.scale * row['difference']:+.1f}{limits}, {row['verdict']}"
