"""The answer's sentences, each bound to verdicts by rule: the findings of a study in as few words as it takes."""

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
CHANGES = ("larger", "smaller", "larger loss", "smaller loss", "reversed", "equal", "undecided")  # of an interaction
MOST_TOLD = 40  # contrasts of a group that are told by level; of more, how many there are of each verdict
LONG = 6  # contrasts of a group that are told one by one; of more, each level's are told together


def answer(analysis: Analysis) -> list[str]:
    """Return the answer, a sentence or a few for each contrast group that the study declares, the first one first."""
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
        rows = table[table["contrast_group"] == group]
        if TIMES in group and group not in analysis.design.varied:
            begin.append(_changing(rows, group, analysis.design))
        elif group != BASELINE:
            begin += _within(rows, group, analysis.design)
    return begin


def _against_baseline(analysis: Analysis) -> str:
    design, arms, table = analysis.design, analysis.arms, analysis.effects
    mean = level(design.metric, float(arms.loc[arms["arm"] == design.baseline, "mean"].iloc[0]))
    unit = f" {design.metric.unit}" if design.metric.unit else ""
    verdicts = _named(table[table["contrast_group"] == BASELINE], design, lambda row: design.display_name(row["arm"]))
    return f"Against {design.display_name(design.baseline or '')} ({design.metric.label} {mean}{unit}), {verdicts}."


def _within(table: pd.DataFrame, factor: str, design: Design) -> list[str]:
    """A sentence a level where a factor has fewer other levels than contexts, else a sentence a context.

    Of more than LONG contrasts one sentence for all, a clause a level.
    """
    if len(table) > MOST_TOLD:
        return [f"Of {len(table)} differences in {factor}, {_counts(table['verdict'])}."]
    level_of = {arm: labels[factor] for arm, labels in design.arms.items()}
    table = table.assign(_level=table["arm"].map(level_of), _reference=table["reference"].map(level_of))
    if len(table) > LONG:
        return [
            f"Against {factor} {reference}: {_clauses(rows, factor, design)}."
            for reference, rows in table.groupby("_reference", sort=False)
        ]
    if table["_level"].nunique() <= table["context"].nunique():
        return [
            f"Changing {factor} from {second} to {first} {_placed(rows, design)}."
            for (first, second), rows in table.groupby(["_level", "_reference"], sort=False)
        ]
    return [
        f"With {context}, against {factor} {reference}, "
        f"{_named(rows, design, lambda row: f'{factor} ' + str(row['_level']))}."
        if context
        else f"Against {factor} {reference}, {_named(rows, design, lambda row: f'{factor} ' + str(row['_level']))}."
        for (context, reference), rows in table.groupby(["context", "_reference"], sort=False)
    ]


def _counts(words: pd.Series) -> str:
    return join(
        [
            f"{count} {VERBS.get(str(word), ('is ' + str(word), 'are ' + str(word)))[count != 1]}"
            for word, count in words.value_counts().items()
        ]
    )


def _clauses(rows: pd.DataFrame, factor: str, design: Design) -> str:
    """Return a clause a level.

    2048 helps at every depth (+1.6 to +2.1 points); 512 hurts at depth 20 (−0.9 points), is undecided at …
    """
    clauses = []
    for name, level_rows in rows.groupby("_level", sort=False):
        parts = []
        for word, verbs in VERBS.items():
            matching = level_rows[(level_rows["verdict"] == word) & (level_rows["n"] > 0)]
            if matching.empty:
                continue
            others = design.others(factor)
            everywhere = f"at every {others[0]}" if len(others) == 1 else f"at all {len(level_rows)}"
            where = everywhere if len(matching) == len(level_rows) else f"at {join(list(matching['context']))}"
            parts.append(f"{verbs[0]} {where} ({_range(matching, design)})")
        clauses.append(f"{name} {', '.join(parts)}" if parts else "")
    return "; ".join([*filter(None, clauses), *_gaps(rows)])


def _range(rows: pd.DataFrame, design: Design) -> str:
    metric = design.metric
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    sizes = metric.scale * rows["difference"]
    if len(rows) == 1 or number(sizes.min(), signed=True) == number(sizes.max(), signed=True):
        return f"{number(float(sizes.mean()), signed=True)}{unit}"
    return f"{interval(float(sizes.min()), float(sizes.max()), signed=True)}{unit}"


def _changing(table: pd.DataFrame, group: str, design: Design) -> str:
    """Say how differences change along another factor, in the order of the study."""
    factor, by = group.split(TIMES)
    if len(table) > MOST_TOLD:
        return f"Of {len(table)} changes of {factor} with {by}, {_counts(table['change'])}."
    clauses = []
    for (arm, reference), rows in table.assign(
        _level=table["arm"].map(lambda arm: design.arms[arm][factor]),
        _reference=table["reference"].map(lambda arm: design.arms[arm][factor]),
    ).groupby(["_level", "_reference"], sort=False):
        parts = []
        for change in CHANGES:
            matching = rows[(rows["change"] == change) & (rows["n"] > 0)]
            if len(matching) == len(rows) > 1 and len(table) > LONG:
                parts.append(f"{change} at every other {by} ({_range(matching, design)})")
            elif len(matching):
                parts.append(f"{change} at {join(_places(matching, design, by, len(table) <= LONG))}")
        if parts:
            start = str(rows["context"].iloc[0]).rsplit(" less ", 1)[-1]
            clauses.append(f"the difference {arm} − {reference} is, against that at {by} {start}, {'; '.join(parts)}")
    text = "; ".join([*clauses, *_gaps(table)])
    return f"{text[:1].upper()}{text[1:]}."


def _places(rows: pd.DataFrame, design: Design, by: str, with_interval: bool) -> list[str]:
    """Return places with their differences: depth 34 (+5.1 points, +2.0 to +8.2)."""
    metric, places = design.metric, []
    for _, row in rows.iterrows():
        place = f"{by} {design.arms[row['arm']][by]}"
        rest = [part for part in str(row["context"]).split(", ") if " less " not in part]
        limits = interval(metric.scale * row["low"], metric.scale * row["high"], signed=True)
        size = number(metric.scale * row["difference"], signed=True)
        unit = f" {metric.difference_unit}" if metric.difference_unit else ""
        text = f"{size}{unit}, {limits}" if with_interval and known(row["low"]) else f"{size}{unit}"
        places.append(f"{', '.join([place, *rest])} ({text})")
    return places


def _placed(rows: pd.DataFrame, design: Design) -> str:
    """Return verdicts with their places: helps at depth 34 (…) and at depth 50 (…); is undecided at depth 18 (…)."""
    items = _items(rows, design, lambda row: "at " + str(row["context"]) if row["context"] else "")
    clauses = [f"{VERBS[word][0]} {text}" for word, text, _ in items]
    return "; ".join([*clauses, *_gaps(rows)])


def _named(rows: pd.DataFrame, design: Design, name: Callable[[pd.Series], str]) -> str:
    """Return names with their verdicts: depth 34 (…) and depth 50 (…) hurt; depth 18 (…) is undecided."""
    items = _items(rows, design, name)
    clauses = [f"{text} {VERBS[word][0 if many == 1 else 1]}" for word, text, many in items]
    return "; ".join([*clauses, *_gaps(rows)])


def _gaps(rows: pd.DataFrame) -> list[str]:
    """Say how many contrasts have no seed that completed in all their arms."""
    count = int((rows["n"] == 0).sum())
    return [f"{count} of {len(rows)} {'has' if count == 1 else 'have'} no pair of seeds"] if count else []


def _items(rows: pd.DataFrame, design: Design, name: Callable[[pd.Series], str]) -> list[tuple[str, str, int]]:
    """(verdict, what has it, how many have), the decided first. The first item says units and interval."""
    items, first = [], True
    for word in VERBS:
        matching = rows[(rows["verdict"] == word) & (rows["n"] > 0)]
        if len(matching) and word == "undecided" and len(rows) > LONG:
            items.append((word, f"{len(matching)} of {len(rows)}", len(matching)))
        elif len(matching):
            names, more = [], len(matching) - LONG
            if more > 1:  # the largest are told
                matching = matching.loc[matching["difference"].abs().sort_values(ascending=False).index[:LONG]]
            for _, row in matching.iterrows():
                names.append(f"{name(row)} ({_size(row, design, first)})".strip())
                first = first and not known(row["low"])
            items.append((word, join([*names, *([f"{more} more"] if more > 1 else [])]), len(names)))
    return items


def _size(row: pd.Series, design: Design, first: bool) -> str:
    metric, scale = design.metric, design.metric.scale
    unit = f" {metric.difference_unit}" if metric.difference_unit and (first or not known(row["low"])) else ""
    size = f"{number(scale * row['difference'], signed=True)}{unit}"
    if known(row["low"]):
        limits = interval(scale * row["low"], scale * row["high"], signed=True)
        parts = [f"{size}, {'95 % interval ' if first else ''}{limits}", row["note"]]
    else:
        parts = [f"{size}, {row['note'].split(':')[0]}"]  # why there is no interval, in short
    return "; ".join(filter(None, [*parts, "unpaired" if row["unpaired"] else ""]))
