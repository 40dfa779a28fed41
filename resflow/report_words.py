"""Numbers as text, and the answer's sentences, each bound to a verdict by rule."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from resflow.analysis import Analysis, join
from resflow.effects import BASELINE
from resflow.metrics import Metric
from resflow.results import Design

NONE = "–"
VERBS = {  # verdict -> of one, of several
    "helps": ("helps", "help"),
    "hurts": ("hurts", "hurt"),
    "equivalent": ("is equivalent", "are equivalent"),
    "undecided": ("is undecided", "are undecided"),
}
LONG = 6  # contrasts in one sentence; in longer ones the undecided are only counted


def known(value: object) -> bool:
    return value is not None and value is not pd.NA and not (isinstance(value, float) and math.isnan(value))


def number(value: float, signed: bool = False) -> str:
    """One decimal, two below 1; a real minus sign; no signed zero."""
    if not known(value):
        return NONE
    text = f"{abs(value):.{2 if abs(value) < 0.995 else 1}f}"
    if float(text) == 0:
        return "0.0"
    return ("−" if value < 0 else "+" if signed else "") + text


def interval(low: float, high: float, signed: bool = False) -> str:
    return f"{number(low, signed)} to {number(high, signed)}" if known(low) else NONE


def level(metric: Metric, value: float) -> str:
    if not known(value):
        return NONE
    return f"{metric.scale * value:.1f}" if metric.unit == "%" else f"{metric.scale * value:.3g}"


def level_interval(metric: Metric, low: float, high: float) -> str:
    return f"{level(metric, low)} to {level(metric, high)}".replace("-", "−") if known(low) else NONE


def p_value(p: float) -> str:
    if not known(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(value: object) -> str:
    """A large count in thousands, millions or billions, three digits: 1234567 -> 1.23 M."""
    if not known(value):
        return NONE
    amount = float(str(value))
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.3g} {letter}" if amount < 999.5 * size else f"{amount / size:.0f} {letter}"
    return f"{amount:g}"


def duration(seconds: float) -> str:
    if not known(seconds):
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def answer(analysis: Analysis) -> list[str]:
    """The answer, a sentence for each comparison that the study makes."""
    trials, total = analysis.completed, len(analysis.trials)
    if not trials:
        return [f"No answer yet: none of {total} trials has completed."]
    begin = [] if trials == total else [f"So far, with {trials} of {total} trials completed:"]
    table = analysis.effects
    if table.empty:
        return [
            *begin,
            "There is one arm and nothing to compare it with."
            if len(analysis.arms) == 1
            else "No baseline is declared and no factor varies: the arms below are not compared.",
        ]
    within = [family for family in dict.fromkeys(table["family"]) if family != BASELINE]
    if not within:
        return [*begin, _against_baseline(analysis)]
    return begin + [text for family in within for text in _within(table, family, analysis.design)]


def _against_baseline(analysis: Analysis) -> str:
    design, arms = analysis.design, analysis.arms
    mean = level(design.metric, float(arms.loc[arms["arm"] == design.baseline, "mean"].iloc[0]))
    unit = f" {design.metric.unit}" if design.metric.unit else ""
    said = _named(analysis.effects, design, lambda row: str(row["arm"]))
    return f"Against {design.baseline} ({design.metric.label} {mean}{unit}), {said}."


def _within(table: pd.DataFrame, family: str, design: Design) -> list[str]:
    """A sentence a level where a factor has fewer other levels than contexts, else a sentence a context."""
    mine = table[table["family"] == family]
    level_of = {arm: labels[family] for arm, labels in design.arms.items()}
    mine = mine.assign(_level=mine["arm"].map(level_of), _reference=mine["reference"].map(level_of))
    if mine["_level"].nunique() <= mine["context"].nunique():
        return [
            f"Changing {family} from {second} to {first} {_placed(rows, design)}."
            for (first, second), rows in mine.groupby(["_level", "_reference"], sort=False)
        ]
    return [
        f"With {context}, against {family} {reference}, "
        f"{_named(rows, design, lambda row: f'{family} ' + str(row['_level']))}."
        for (context, reference), rows in mine.groupby(["context", "_reference"], sort=False)
    ]


def _placed(rows: pd.DataFrame, design: Design) -> str:
    """helps at depth 34 (…) and at depth 50 (…); is undecided at depth 18 (…)"""
    items = _items(rows, design, lambda row: "at " + str(row["context"]))
    said = [f"{VERBS[word][0]} {text}" for word, text, _ in items]
    return "; ".join([*said, *_unpaired(rows)])


def _named(rows: pd.DataFrame, design: Design, name: Callable[[pd.Series], str]) -> str:
    """depth 34 (…) and depth 50 (…) hurt; depth 18 (…) is undecided"""
    items = _items(rows, design, name)
    said = [f"{text} {VERBS[word][0 if many == 1 else 1]}" for word, text, many in items]
    return "; ".join([*said, *_unpaired(rows)])


def _unpaired(rows: pd.DataFrame) -> list[str]:
    """What to say of contrasts without a seed that completed in both arms."""
    count = int((rows["n"] == 0).sum())
    if not count:
        return []
    return [f"{count} of {len(rows)} {'has' if count == 1 else 'have'} no pair of seeds"]


def _items(rows: pd.DataFrame, design: Design, name: Callable[[pd.Series], str]) -> list[tuple[str, str, int]]:
    """(verdict, what has it, how many have), the decided first. The first item says units and interval."""
    found, first = [], True
    for word in VERBS:
        these = rows[(rows["verdict"] == word) & (rows["n"] > 0)]
        if len(these) and word == "undecided" and len(rows) > LONG:
            found.append((word, f"{len(these)} of {len(rows)}", len(these)))
        elif len(these):
            said = []
            for _, row in these.iterrows():
                said.append(f"{name(row)} ({_size(row, design, first)})")
                first = first and not known(row["low"])
            found.append((word, join(said), len(these)))
    return found


def _size(row: pd.Series, design: Design, first: bool) -> str:
    metric, scale = design.metric, design.metric.scale
    unit = f" {metric.difference_unit}" if metric.difference_unit and (first or not known(row["low"])) else ""
    size = f"{number(scale * row['difference'], signed=True)}{unit}"
    if known(row["low"]):
        limits = interval(scale * row["low"], scale * row["high"], signed=True)
        said = [f"{size}, {'95 % interval ' if first else ''}{limits}", row["note"]]
    else:
        said = [f"{size}, {row['note'].split(':')[0]}"]  # why there is no interval, in short
    return "; ".join(filter(None, [*said, "unpaired" if row["unpaired"] else ""]))
