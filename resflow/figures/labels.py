"""Text in figures: how wide it is, how it wraps, and names that stand where lines end."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from resflow import fonts
from resflow.figures.palette import Style
from resflow.figures.style import INK, current_page

POINTS = 72.0  # an inch
LEADING = 1.25  # lines of text apart, in their size


def small() -> float:
    """Return the size of small text in points."""
    return 0.83 * current_page().size


def text_width(text: str, size: float, font: str = "") -> float:
    """Return how wide text of a size in points is, in inches, in the page's font or another one."""
    return _width(text, font or current_page().font) * size / 100


@lru_cache(maxsize=4096)
def _width(text: str, family: str) -> float:
    """Width in inches at 100 points, at which the hinting of a screen takes no part."""
    font = get_font([findfont(FontProperties(family=name)) for name in dict.fromkeys((family, fonts.BASE))])
    font.set_size(100, POINTS)
    with warnings.catch_warnings():  # a letter that no font has is as wide as the box for it
        warnings.simplefilter("ignore")
        font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / POINTS


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break text into lines no wider than so many inches: at spaces, in a word at hyphens, or where there are none."""
    lines = [""]
    for word in fonts.drawable(text).split():
        parts = re.findall(r"[^-]*-+|[^-]+", word) if text_width(word, size) > width else [word]
        for place, part in enumerate(parts):
            pieces = [*part] if text_width(part, size) > width else [part]
            for at, piece in enumerate(pieces):
                gap = " " if lines[-1] and not place and not at else ""
                if lines[-1] and text_width(lines[-1] + gap + piece, size) > width:
                    lines.append("")
                    gap = ""
                lines[-1] += gap + piece
    return lines


def spread(places: Sequence[float], apart: float, low: float, high: float) -> NDArray[np.float64] | None:
    """Return places moved as little as it takes to be so far apart within limits, in their order; None if too many."""
    if apart * (len(places) - 1) > high - low:
        return None
    order = np.argsort(places, kind="stable")
    # With each place's room taken off, those that are too near run backwards: their mean is the least movement.
    room = apart * np.arange(len(places))
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(places, dtype=float)[order] - room:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    even = np.repeat([value for value, _ in blocks], [count for _, count in blocks])
    moved = np.empty(len(places))
    moved[order] = np.clip(even, low, high - (room[-1] if len(room) else 0.0)) + room
    return moved


def fit_at_ends(names: Sequence[str], width: float, height: float, share: float = 0.22) -> bool:
    """Tell whether names fit into a share of a panel of this size in inches, each in a line of its own."""
    size = small()
    widest = max((text_width(name, size) for name in names), default=0.0)
    return widest <= share * width and len(names) * LEADING * size / POINTS <= height


def name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, Style]], height: float) -> None:
    """Write the name of each line right of its end (x, y), with a stroke to it; `height` is the panel's in inches.

    The axis has its limits already.
    """
    size, (low, high) = small(), axes.get_ylim()
    apart = LEADING * size / POINTS / height * (high - low)
    own = [y for _, y, _, _ in ends]
    places = spread(own, apart, low, high)
    for (x, y, name, style), place in zip(ends, own if places is None else places, strict=True):
        axes.annotate(
            name,
            (x, y),
            (1.0, place),
            xycoords="data",
            textcoords=axes.get_yaxis_transform(),
            va="center",
            ha="left",
            fontsize=size,
            color=INK,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": style.color, "lw": 1, "shrinkA": 1, "shrinkB": 1},
        )


def swarm(values: Sequence[float], per_unit: float, size: float) -> list[int]:
    """Return how many steps aside each mark of a size in points stands, so that none lies on another."""
    steps = [0] * len(values)
    taken: list[tuple[float, int]] = []
    for index in sorted(range(len(values)), key=lambda index: values[index]):
        place = values[index] * per_unit
        near = {step for other, step in taken if abs(other - place) < size}
        steps[index] = next(step for step in range(len(values) + 1) if step not in near)
        taken.append((place, steps[index]))
    return steps


def points_per_unit(inches: float, limits: tuple[float, float]) -> float:
    """Return how many points a unit of an axis takes, of that length in inches."""
    return POINTS * inches / abs(limits[1] - limits[0])
