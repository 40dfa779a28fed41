"""Axes: limits that the data set, and ticks whose numbers are all written alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator, NullLocator

PLAIN = (1e-4, 1e5)  # between these a number is written out, beyond them the whole axis is in powers of ten
LEAST_SPAN = 0.1  # of a value: an axis of costs that spans less would make much of a difference that is none
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Alike(Formatter):
    """Write the ticks of an axis with as many decimals as their step needs, or all as powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return alike([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        return alike(values)


def alike(values: Sequence[float]) -> list[str]:
    """Write numbers in one way: decimals, thousands with a comma, or all as a factor and a power of ten."""
    sizes = [abs(float(value)) for value in values if value]
    if any(not PLAIN[0] <= size < PLAIN[1] for size in sizes):
        return [_power(float(value)) for value in values]
    ratio = max(sizes) / min(sizes) if sizes else 1.0
    if ratio > 500:  # decades
        return [f"{value:,.12g}".replace("-", "−") for value in values]
    decimals = next((n for n in range(12) if all(math.isclose(v, round(v, n), rel_tol=1e-9) for v in values)), 12)
    return [f"{value + 0.0:,.{decimals}f}".replace("-", "−") for value in values]


def _power(value: float) -> str:
    if not value:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    factor = f"{value / 10**exponent:.3g}".replace("-", "−")
    tens = f"10{str(exponent).translate(_RAISED)}"
    return tens if factor == "1" else f"{factor}·{tens}"


def number_axis(axes: Axes, which: Literal["x", "y"], most: int = 6, *, whole: bool = False) -> None:
    """Give a linear axis up to so many steps, of `whole` numbers or of any, all written alike."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(Alike())


def limit(axis_limits: Callable[..., object], values: Any, unit: str, least: float = 0.0) -> None:
    """Set limits around finite values, `least` apart or more; a percentage's axis ends at 0 and 100."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    pad = max(0.06 * (high - low), (least - (high - low)) / 2) or 1.0
    low, high = low - pad, high + pad
    axis_limits(*((max(low, -1.5), min(high, 101.5)) if unit == "%" else (low, high)))


def logarithmic(axes: Axes, which: Literal["x", "y"], values: Any) -> None:
    """Make an axis logarithmic around some values, or linear below the least above 0 where one is 0 or less."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    sizes = np.abs(finite[finite != 0])
    low, high = (float(sizes.min()), float(sizes.max())) if len(sizes) else (1.0, 1.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    axis = axes.xaxis if which == "x" else axes.yaxis
    decades = [10.0**power for power in range(first, last + 1, -(-(last - first + 1) // 6))]
    if (finite <= 0).any():
        (axes.set_xscale if which == "x" else axes.set_yscale)("symlog", linthresh=10.0**first, linscale=0.4)
        negative = [-tick for tick in decades[::-1]] if (finite < 0).any() else []
        decades = [*negative, 0.0, *decades]
    else:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(decades))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(Alike())
