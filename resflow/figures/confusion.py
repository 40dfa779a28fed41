"""Confusions: classes and what they are taken for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from resflow.figures.labels import small
from resflow.figures.style import INK, MUTED, WIDE, em, finish, new_figure, short, theme

MOST_CLASSES = 20  # of more, a matrix on a page is a carpet


def confusion(table: NDArray[np.float64], names: Sequence[str], width: float = WIDE) -> Figure:
    """Draw a confusion matrix: row the true class, column the answer, a cell the share of the row's images in per cent.

    `table` has shape (classes, classes), each row summing to 1 (or 0 without images).
    """
    side = len(table)
    with theme():
        figure = new_figure(width, min(width / em(), 0.36 * side + 1.6))
        axes = figure.subplots()
        for row in range(side):
            for column in range(side):
                share = float(table[row, column])
                if share > 0:
                    axes.add_patch(_cell(row, column, share, right=row == column))
                if share >= 0.005:
                    axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=0.9 * small())
        axes.set_xlim(-0.5, side - 0.5)
        axes.set_ylim(side - 0.5, -0.5)
        axes.set_xticks(range(side), [short(name, width, 16) for name in names], rotation=60, ha="right")
        axes.set_yticks(range(side), [short(name, width, 22) for name in names])
        axes.set_xlabel("answer")
        axes.set_ylabel("true class")
        axes.grid(visible=False)
        finish(axes)
    return figure


def _cell(row: int, column: int, share: float, *, right: bool) -> Rectangle:
    """Fill a cell by its share; those of right answers, on the diagonal, have a rim."""
    rim = {"edgecolor": INK, "lw": 0.8} if right else {"edgecolor": "none"}
    return Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=(*to_rgb(MUTED), 0.08 + 0.42 * share), **rim)
