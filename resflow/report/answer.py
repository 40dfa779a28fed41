"""The answer's sentences, each bound to verdicts by rule: what a study found, in as few words as it takes."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from resflow.analysis.analyse import Analysis, join
from resflow.analysis.design import Design
from resflow.report.formatting import interval, known, level, number
from resflow.study.contrast_families import BASELINE, TIMES

VERBS = {  # verdict -> of one, of several
    "helps": ("helps", "help"),
    "hurts": ("hurts", "hurt"),
    "equivalent": ("is equivalent", "are equivalent"),
    "undecided": ("is undecided", "are undecided"),
}
CHANGES = {  # of an interaction, whose difference is one of differences
    "helps": "larger",
    "hurts": "smaller",
    "equivalent": "equal",
    "undecided": "undecided",
}
LONG = 6  # contrasts of a group that are told one by one; of more, each level's are told together


def answer(analysis: Analysis) -> list[str]:
    """The answer, a sentence or a few for each contrast group that the study declares, the first one first."""
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
    groups = list(dict.fromkeys(table["contrast_group"]))
    if BASELINE in groups and (len(groups) == 1 or analysis.design.contrasts):
        begin.append(_against_baseline(analysis))
    for group in groups:
        mine = table[table["contrast_group"] == group]
        if TIMES in group and group not in analysis.design.varied:
            begin.append(_changing(mine, group, analysis.design))
        elif group != BASELINE:
            begin += _within(mine, group, analysis.design)
    return begin


def _against_baseline(analysis: Analysis) -> str:
    design, arms, table = analysis.design, analysis.arms, analysis.effects
    mean = level(design.metric, float(arms.loc[arms["arm"] == design.baseline, "mean"].iloc[0]))
    unit = f" {design.metric.unit}" if design.metric.unit else ""
    said = _named(table[table["contrast_group"] == BASELINE], design, lambda row: design.display_name(row["arm"]))
    return f"Against {design.display_name(design.baseline or '')} ({design.metric.label} {mean}{unit}), {said}."


def _within(mine: pd.DataFrame, group: str, design: Design) -> list[str]:
    """A sentence a level where a factor has fewer other levels than contexts, else a sentence a context.

    Of more than LONG contrasts one sentence for all, a clause a level.
    """
    level_of = {arm: labels[group] for arm, labels in design.arms.items()}
    mine = mine.assign(_level=mine["arm"].map(level_of), _reference=mine["reference"].map(level_of))
    if len(mine) > LONG:
        return [
            f"Against {group} {reference}: {_clauses(rows, group, design)}."
            for reference, rows in mine.groupby("_reference", sort=False)
        ]
    if mine["_level"].nunique() <= mine["context"].nunique():
        return [
            f"Changing {group} from {second} to {first} {_placed(rows, design)}."
            for (first, second), rows in mine.groupby(["_level", "_reference"], sort=False)
        ]
    return [
        f"With {context}, against {group} {reference}, "
        f"{_named(rows, design, lambda row: f'{group} ' + str(row['_level']))}."
        if context
        else f"Against {group} {reference}, {_named(rows, design, lambda row: f'{group} ' + str(row['_level']))}."
        for (context, reference), rows in mine.groupby(["context", "_reference"], sort=False)
    ]


def _clauses(rows: pd.DataFrame, group: str, design: Design) -> str:
    """2048 helps at every depth (+1.6 to +2.1 points); 512 hurts at depth 20 (−0.9 points), is undecided at …"""
    said = []
    for name, mine in rows.groupby("_level", sort=False):
        parts = []
        for word, verbs in VERBS.items():
            these = mine[(mine["verdict"] == word) & (mine["n"] > 0)]
            if these.empty:
                continue
            others = design.others(group)
            everywhere = f"at every {others[0]}" if len(others) == 1 else f"at all {len(mine)}"
            where = everywhere if len(these) == len(mine) else f"at {join(list(these['context']))}"
            parts.append(f"{verbs[0]} {where} ({_range(these, design)})")
        said.append(f"{name} {', '.join(parts)}" if parts else "")
    return "; ".join([*filter(None, said), *_gaps(rows)])


def _range(rows: pd.DataFrame, design: Design) -> str:
    metric = design.metric
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    sizes = metric.scale * rows["difference"]
    if len(rows) == 1 or number(sizes.min(), signed=True) == number(sizes.max(), signed=True):
        return f"{number(float(sizes.mean()), signed=True)}{unit}"
    return f"{interval(float(sizes.min()), float(sizes.max()), signed=True)}{unit}"


def _changing(mine: pd.DataFrame, group: str, design: Design) -> str:
    """How differences change along another factor: their order is the study's."""
    factor, by = group.split(TIMES)
    said = []
    for (arm, reference), rows in mine.assign(
        _level=mine["arm"].map(lambda arm: design.arms[arm][factor]),
        _reference=mine["reference"].map(lambda arm: design.arms[arm][factor]),
    ).groupby(["_level", "_reference"], sort=False):
        parts = []
        for word, change in CHANGES.items():
            these = rows[(rows["verdict"] == word) & (rows["n"] > 0)]
            if len(these) == len(rows) > 1 and len(mine) > LONG:
                parts.append(f"{change} at every other {by} ({_range(these, design)})")
            elif len(these):
                parts.append(f"{change} at {join(_told(these, design, by, len(mine) <= LONG))}")
        if parts:
            start = str(rows["context"].iloc[0]).rsplit(" less ", 1)[-1]
            said.append(f"the difference {arm} − {reference} is, against that at {by} {start}, {'; '.join(parts)}")
    text = "; ".join([*said, *_gaps(mine)])
    return f"{text[:1].upper()}{text[1:]}."


def _told(rows: pd.DataFrame, design: Design, by: str, with_interval: bool) -> list[str]:
    """depth 34 (+5.1 points, +2.0 to +8.2)"""
    metric, found = design.metric, []
    for _, row in rows.iterrows():
        place = f"{by} {design.arms[row['arm']][by]}"
        rest = [part for part in str(row["context"]).split(", ") if " less " not in part]
        limits = interval(metric.scale * row["low"], metric.scale * row["high"], signed=True)
        size = number(metric.scale * row["difference"], signed=True)
        unit = f" {metric.difference_unit}" if metric.difference_unit else ""
        text = f"{size}{unit}, {limits}" if with_interval and known(row["low"]) else f"{size}{unit}"
        found.append(f"{', '.join([place, *rest])} ({text})")
    return found


def _placed(rows: pd.DataFrame, design: Design) -> str:
    """helps at depth 34 (…) and at depth 50 (…); is undecided at depth 18 (…)"""
    items = _items(rows, design, lambda row: "at " + str(row["context"]) if row["context"] else "")
    said = [f"{VERBS[word][0]} {text}" for word, text, _ in items]
    return "; ".join([*said, *_gaps(rows)])


def _named(rows: pd.DataFrame, design: Design, name: Callable[[pd.Series], str]) -> str:
    """depth 34 (…) and depth 50 (…) hurt; depth 18 (…) is undecided"""
    items = _items(rows, design, name)
    said = [f"{text} {VERBS[word][0 if many == 1 else 1]}" for word, text, many in items]
    return "; ".join([*said, *_gaps(rows)])


def _gaps(rows: pd.DataFrame) -> list[str]:
    """What to say of contrasts without a seed that completed in all their arms."""
    count = int((rows["n"] == 0).sum())
    return [f"{count} of {len(rows)} {'has' if count == 1 else 'have'} no pair of seeds"] if count else []


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
                said.append(f"{name(row)} ({_size(row, design, first)})".strip())
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
