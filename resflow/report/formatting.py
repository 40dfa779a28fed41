"""Numbers as text: per cent and points, real minus signs, and no more digits than they carry."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from resflow.records.metrics import Metric

NONE = "–"


def known(value: object) -> bool:
    """Tell whether a value is there: not None, NA or NaN."""
    return value is not None and value is not pd.NA and not (isinstance(value, float) and math.isnan(value))


def many(count: int, thing: str) -> str:
    """Say how many things there are: 1 record, 2 records."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def number(value: float, signed: bool = False) -> str:
    """Format a number: one decimal, two below 1; a real minus sign; no signed zero."""
    if not known(value):
        return NONE
    text = f"{abs(value):.{2 if abs(value) < 0.995 else 1}f}"
    if float(text) == 0:
        return "0.0"
    return ("−" if value < 0 else "+" if signed else "") + text


def interval(low: float, high: float, signed: bool = False) -> str:
    """Format an interval as `number` does its ends."""
    return f"{number(low, signed)} to {number(high, signed)}" if known(low) else NONE


def signed_interval(low: float, high: float, scale: float) -> str:
    """Format an interval of differences in the metric's unit; empty where there is none."""
    return interval(scale * low, scale * high, signed=True) if known(low) else ""


def level(metric: Metric, value: float) -> str:
    """Format a value of a metric in its unit: one decimal of per cent, else three digits."""
    if not known(value):
        return NONE
    return f"{metric.scale * value:.1f}" if metric.unit == "%" else f"{metric.scale * value:.3g}"


def level_interval(metric: Metric, low: float, high: float) -> str:
    """Format an interval as `level` does its ends."""
    return f"{level(metric, low)} to {level(metric, high)}".replace("-", "−") if known(low) else NONE


def p_value(p: float) -> str:
    """Format p with two digits or three decimals; what is smaller is <0.001."""
    if not known(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


Units = tuple[tuple[float, float, str], ...]  # from which amount on, its size, its letter
COUNTS: Units = ((0, 1, ""), (1e3, 1e3, "k"), (1e6, 1e6, "M"), (1e9, 1e9, "G"))
TIMES: Units = ((0, 1, "s"), (120, 60, "min"), (7200, 3600, "h"))
FINEST = 0.05  # of a unit: what is less takes a smaller one


class Quantity(str):
    """An amount as it stands alone; it knows its size, so that a column of them can be in one unit."""

    amount: float
    units: Units

    def __new__(cls, text: str, amount: float, units: Units) -> Quantity:
        quantity = super().__new__(cls, text)
        quantity.amount, quantity.units = amount, units
        return quantity


def one_unit(cells: Sequence[str]) -> list[str]:
    """Write the quantities among some cells in one unit, with equal decimals; other cells stay as they are."""
    amounts = [cell.amount for cell in cells if isinstance(cell, Quantity) and cell.amount > 0]
    units = next((cell.units for cell in cells if isinstance(cell, Quantity)), ())
    if len(amounts) < 2:
        return list(cells)
    fitting = [u for u in units if u[0] <= max(amounts) and min(amounts) >= FINEST * u[1]] or [units[0]]
    _, size, letter = fitting[-1]
    decimals = 0 if size == 1 else 1 if 2 * min(amounts) >= size else 2
    return [
        f"{cell.amount / size:,.{decimals}f} {letter}".rstrip() if isinstance(cell, Quantity) else cell
        for cell in cells
    ]


def count(value: object) -> str:
    """Format a large count in thousands, millions or billions, three digits: 1234567 -> 1.23 M."""
    if not known(value):
        return NONE
    amount = float(str(value))
    for _, size, letter in COUNTS[:0:-1]:
        if amount >= size:
            text = f"{amount / size:.3g} {letter}" if amount < 999.5 * size else f"{amount / size:.0f} {letter}"
            return Quantity(text, amount, COUNTS)
    return Quantity(f"{amount:g}", amount, COUNTS)


def duration(seconds: float) -> str:
    """Format seconds: 42 s, 7.5 min, 3.5 h."""
    if not known(seconds):
        return NONE
    _, size, letter = next(unit for unit in reversed(TIMES) if seconds >= unit[0] or unit is TIMES[0])
    return Quantity(f"{seconds / size:.{0 if size == 1 else 1}f} {letter}", float(seconds), TIMES)
