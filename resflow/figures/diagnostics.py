"""Diagnostics of networks, layer by layer from the input on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resflow.analysis.design import Design
from resflow.figures.curves import Panels
from resflow.figures.palette import Style
from resflow.figures.style import WIDE, hover, theme
from resflow.figures.ticks import limit, logarithmic, number_axis

LABELS = {
    "response_sd": "standard deviation",
    "gradient_norm": "gradient norm",
    "dead_units": "dead units (%)",
    "shortcut_share": "shortcut's share (%)",
    "bn_scale": "mean |gamma|",
}
PER_CENT = ("dead_units", "shortcut_share")
FAR = 20.0  # times the typical value: beyond that a linear axis shows one layer and no other


def inside(diagnostics: pd.DataFrame, design: Design, kind: str, width: float = WIDE) -> Figure:
    """Draw one kind of figure by layer: a line an arm, the mean over seeds, a shade from lowest to highest seed.

    `diagnostics` has id, arm, seed and DIAGNOSTIC_COLUMNS, of one epoch a trial. A panel a shortcut and a colour a
    depth where both vary, as in He et al. 2015, Figure 7.
    """
    rows = diagnostics[diagnostics["kind"] == kind]
    arms = [arm for arm in design.arms if (rows["arm"] == arm).any()]
    values = _scale(kind) * rows["value"].to_numpy(dtype=float)

    def scale(axes: Axes) -> None:
        number_axis(axes, "x", 5, whole=True)
        if kind == "gradient_norm" or _spread(rows) > FAR:
            logarithmic(axes, "y", values)
        else:
            number_axis(axes, "y", 5)
            limit(axes.set_ylim, np.append(values, 0.0), "%" if kind in PER_CENT else "")

    with theme():
        x = "block" if kind == "shortcut_share" else "layer, from the input on"
        figure, _ = Panels(design, arms, (x, LABELS[kind]), (width, 2.2)).draw(
            lambda axes, arm, style: _line(axes, rows[rows["arm"] == arm], kind, style, design.display_name(arm)), scale
        )
    return figure


def _scale(kind: str) -> int:
    return 100 if kind in PER_CENT else 1


def _spread(rows: pd.DataFrame) -> float:
    """Return the largest value as a multiple of the typical layer's."""
    typical = float(rows["value"].median())
    return float(rows["value"].max()) / typical if typical > 0 else 1.0


def _line(axes: Axes, rows: pd.DataFrame, kind: str, style: Style, name: str) -> Line2D:
    wide = _scale(kind) * rows.pivot_table(index="place", columns="id", values="value")
    place = wide.index.to_numpy(dtype=float) + 1
    axes.fill_between(place, wide.min(axis=1), wide.max(axis=1), color=style.color, alpha=0.2, lw=0)
    marker = "o" if len(place) == 1 else ""  # a head that trains alone
    (line,) = axes.plot(
        place, wide.mean(axis=1), color=style.color, linestyle=style.dashes, lw=1.6, marker=marker, ms=4
    )
    hover(line, f"{name}: {np.nanmean(wide.to_numpy(dtype=float)):.3g} on average over layers")
    return line
