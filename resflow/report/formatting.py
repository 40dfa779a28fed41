"""Numbers as text: per cent and points, real minus signs, and no more digits than they carry."""

from __future__ import annotations

import math

import pandas as pd

from resflow.records.metrics import Metric

NONE = "–"


def known(value: object) -> bool:
    """Tell whether a value is there: not None, NA or NaN."""
    return value is not None and value is not pd.NA and not (isinstance(value, float) and math.isnan(value))


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


def count(value: object) -> str:
    """Format a large count in thousands, millions or billions, three digits: 1234567 -> 1.23 M."""
    if not known(value):
        return NONE
    amount = float(str(value))
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.3g} {letter}" if amount < 999.5 * size else f"{amount / size:.0f} {letter}"
    return f"{amount:g}"


def duration(seconds: float) -> str:
    """Format seconds: 42 s, 7.5 min, 3.5 h."""
    if not known(seconds):
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
