"""The answer's sentences, each bound to verdicts by rule: the findings of a study in as few words as it takes.

They give differences; the intervals that decided stand in the tables and in the figure of effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from resflow.analysis import design as designs
from resflow.analysis.analyse import Analysis
from resflow.analysis.labels import join
from resflow.report.formatting import known, number
from resflow.report.prose import Prose, be, sentence
from resflow.study.contrast_families import BASELINE, TIMES

VERDICTS = {"helps": "better than", "hurts": "worse than", "equivalent": "as good as"}
CHANGES = {  # of an interaction: what becomes of the difference that it begins with
    "larger": "grows",
    "smaller": "shrinks",
    "larger loss": "grows",
    "smaller loss": "shrinks",
    "reversed": "turns round",
    "equal": "stays as it is",
    "undecided": "",
}
MOST_TOLD = 40  # contrasts of a group that are told one by one; of more, how many there are of each verdict
MOST_NAMED = 6  # levels or places that are named with their differences; of more, how many there are


Style = Literal["whole", "short", "bare"]


@dataclass(frozen=True)
class Finding:
    """What some contrasts of one verdict say: `where` they hold, `what` they say, and how large they are.

    `detail` has their differences one by one, `span` the smallest and the largest; `brief` is `what` in fewer words.
    """

    where: str
    what: str
    detail: str
    span: str
    brief: str = ""

    def text(self, where: bool = True, style: Style = "whole") -> str:
        """Return it as a clause, with its place or without: whole, in `short` with the span alone, or without sizes."""
        begin = f"{self.where}, " if where and self.where else ""
        if style == "bare":
            return f"{begin}{self.what}"
        if style == "short" and self.brief:
            return f"{begin}{self.brief}"
        if style == "short" or self.detail == self.span or not self.detail:
            return f"{begin}{self.what} ({self.span})" if self.span else f"{begin}{self.what}"
        return f"{begin}{self.what}: {self.detail}"


def joined(found: Sequence[Finding], style: Style = "whole") -> str:
    """Join findings; one that says of another place what the one before says tells just that."""
    clauses = []
    for before, one in zip((None, *found), found, strict=False):
        if before is not None and before.what == one.what and one.where:
            clauses.append(f"{one.where}, too" + ("" if style == "bare" else f" ({one.span})"))
        else:
            clauses.append(one.text(where=before is None or before.where != one.where, style=style))
    return "; ".join(clauses)


def answer(analysis: Analysis) -> list[str]:
    """Return the answer, a sentence or a few for each contrast group that the study declares, the first one first."""
    trials, total, table = analysis.completed, len(analysis.trials), analysis.effects
    if not trials:
        return [f"No answer yet: none of {total} trials has completed."]
    begin = []
    if waiting := designs.unfinished(analysis.trials):
        rest = f"{waiting} more {'has' if waiting == 1 else 'have'} run"
        begin = [f"So far {trials} of {total} trials have completed; nothing is decided before {rest}."]
    if table.empty:
        alone = len(analysis.arms) == 1
        return [
            *begin,
            "There is one arm and nothing to compare it with."
            if alone
            else "No baseline is declared and no factor varies: the arms below are not compared.",
        ]
    for group in told_groups(analysis):
        begin += describe(table[table["contrast_group"] == group], group, prose(analysis))
    return begin


def told_groups(analysis: Analysis) -> list[str]:
    """Return the contrast groups that sentences tell of; of several factors not the baseline's unless declared."""
    groups = list(dict.fromkeys(analysis.effects["contrast_group"]))
    told = [group for group in groups if group != BASELINE] if not analysis.design.contrasts else groups
    return told or groups


def prose(analysis: Analysis) -> Prose:
    """Return the words of an analysis."""
    return Prose(analysis.design, analysis.run.study.get("titles"))


def describe(rows: pd.DataFrame, group: str, words: Prose) -> list[str]:
    """Return the sentences on some contrasts of one group."""
    if len(rows) > MOST_TOLD:
        counted = rows["change"].where(rows["less"] != "", rows["verdict"]).value_counts()
        told = join([f"{count} {'is' if count == 1 else 'are'} {word}" for word, count in counted.items()])
        return [f"Of {len(rows)} comparisons of {group.replace(TIMES, ' by ')}, {told}."]
    sentences = [sentence(joined(found)) for found in findings(rows, group, words)]
    if gaps := int((rows["n"] == 0).sum()):
        sentences.append(f"{gaps} of {len(rows)} comparisons {'has' if gaps == 1 else 'have'} no pair of seeds.")
    return sentences


def findings(rows: pd.DataFrame, group: str, words: Prose) -> list[list[Finding]]:
    """Return what contrasts of one group say, sentence by sentence: the decided first."""
    rows = rows[rows["n"] > 0]
    if rows.empty:
        return []
    if group == BASELINE:
        return [_listed(rows, "", words.arm(words.design.baseline or ""), lambda row: words.arm(row["arm"]), words)]
    if TIMES in group and group not in words.design.varied:
        return [one for pair in _pairs(rows, group.split(TIMES)[0], words) for one in _changing(pair, group, words)]
    others = words.design.others(group)
    level_of = {arm: labels[group] for arm, labels in words.design.arms.items()}
    contexts = rows.groupby("context", sort=False)
    if not words.more(group) and len(contexts) > 1:
        return [_across(pair, group, words) for pair in _pairs(rows, group, words)]
    sentences = []
    for _, same in contexts:
        reference = str(same["reference"].iloc[0])
        where, against = words.context(reference, others), words.level(group, level_of[reference])
        one_word = same["verdict"].nunique() == 1
        if words.more(group) and one_word:
            sentences.append([_along(same, group, where, against, words)])
        else:
            name = lambda row: words.level(group, level_of[row["arm"]])  # noqa: E731
            sentences.append(_listed(same, where, against, name, words))
    return sentences


def _pairs(rows: pd.DataFrame, factor: str, words: Prose) -> Iterable[pd.DataFrame]:
    """Yield the contrasts of each pair of levels."""
    levels = [rows[side].map(lambda arm: words.design.arms[arm][factor]) for side in ("arm", "reference")]
    return (pair for _, pair in rows.groupby(levels, sort=False))


def _along(rows: pd.DataFrame, factor: str, where: str, against: str, words: Prose) -> Finding:
    """Say what higher numbers of a factor do: deeper nets are worse than 18 layers: −9.2 points at 34, …"""
    word, more = rows["verdict"].iloc[0], words.more(factor)
    what = f"{more} {be(more)} {VERDICTS[word]} {against}" if word in VERDICTS else ""
    nothing = f"no difference of {more} from {against} could be shown"
    places = [words.design.arms[arm][factor] for arm in rows["arm"]]
    return Finding(where, what or nothing, _detail(rows, places, words), _span(rows, words))


def _across(rows: pd.DataFrame, factor: str, words: Prose) -> list[Finding]:
    """Say what one level does in all contexts: residual nets are better than plain nets at every depth (…)."""
    design = words.design
    label, reference = (design.arms[rows[side].iloc[0]][factor] for side in ("arm", "reference"))
    level, against = words.level(factor, label), words.level(factor, reference)
    found: list[Finding] = []
    for word in (*VERDICTS, "undecided"):
        these = rows[rows["verdict"] == word]
        if these.empty:
            continue
        every = len(these) == sum(labels[factor] == label for labels in design.arms.values())
        at = _everywhere(factor, words) if every else _places(these, factor, words)
        subject = "it" if found else level
        if word in VERDICTS:
            what = f"{subject} {be(subject)} {VERDICTS[word]} {against} {at}".rstrip()
        elif every:
            anywhere = at.replace("every", "any")
            what = f"no difference between {level} and {against} could be shown {anywhere}".rstrip()
        else:
            what = f"{subject} {be(subject)} undecided {at}".rstrip()
        span = _span(these, words, factor if every else "")
        found.append(Finding("", what, span, span))
    return found


def _listed(
    rows: pd.DataFrame, where: str, against: str, name: Callable[[pd.Series], str], words: Prose
) -> list[Finding]:
    """Name what is better than a reference, what is worse, and what is undecided."""
    found: list[Finding] = []
    for word in (*VERDICTS, "undecided"):
        these = rows[rows["verdict"] == word]
        if these.empty:
            continue
        largest = these["difference"].abs().sort_values(ascending=False, kind="stable").index[:MOST_NAMED]
        shown = these if len(these) <= MOST_NAMED + 1 else these.loc[sorted(largest)]
        named = [
            f"{name(row)} ({_size(row['difference'], words, unit=not found and place == 0)})"
            for place, (_, row) in enumerate(shown.iterrows())
        ]
        more = len(these) - len(shown)
        listed = join([*named, *([f"{more} more"] if more else [])])
        said = f"{VERDICTS[word]} {'it' if found else against}" if word in VERDICTS else "undecided"
        verb = be(name(these.iloc[0])) if len(these) == 1 else "are"
        count = f"all {len(rows)} others" if len(these) == len(rows) else f"{len(these)} of {len(rows)} others"
        brief = f"{count} are {said} ({_span(these, words)})" if len(these) > 1 else ""
        found.append(Finding(where, f"{listed} {verb} {said}", "", "", brief))
    return found


def _changing(rows: pd.DataFrame, group: str, words: Prose) -> list[list[Finding]]:
    """Say how the difference of a pair of levels changes with another factor, in each of the other contexts."""
    design, (factor, by) = words.design, group.split(TIMES)
    level, against = (words.level(factor, design.arms[rows[side].iloc[0]][factor]) for side in ("arm", "reference"))
    rest = tuple(name for name in design.others(factor) if name != by)
    numbers = words.has_unit(by) or design.scale == by
    along = f"{'with' if numbers else 'at every other'} {words.factor(by)}"
    sentences = []
    for _, same in rows.groupby(rows["arm"].map(lambda arm: words.context(arm, rest)), sort=False):
        where = words.context(str(same["arm"].iloc[0]), rest)
        lag = same["change"].str.contains("loss").any()
        lead = f"the lag of {level} behind {against}" if lag else f"the lead of {level} over {against}"
        found: list[Finding] = []
        for change, verb in CHANGES.items():
            these = same[same["change"] == change]
            if these.empty:
                continue
            every = len(these) == len(same) > 1
            at = along if every else join([words.where(by, design.arms[arm][by]) for arm in these["arm"]])
            if verb:
                what = f"{'it' if found else lead} {verb} {at}"
            elif found:
                what = f"no change could be shown {at}"
            else:
                what = f"no change of the difference between {level} and {against} could be shown {at}"
            span = _span(these, words)
            found.append(Finding(where, what, span, span))
        sentences.append(found)
    return sentences


def _everywhere(factor: str, words: Prose) -> str:
    others = words.design.others(factor)
    return f"at every {words.factor(others[0])}" if len(others) == 1 else "everywhere" if others else ""


def _places(rows: pd.DataFrame, factor: str, words: Prose) -> str:
    others = words.design.others(factor)
    return join([words.context(arm, others) for arm in rows["arm"]])


def _detail(rows: pd.DataFrame, places: list[str], words: Prose) -> str:
    """List differences with their places: −9.2 points at 34, −10.3 at 50."""
    if len(rows) > MOST_NAMED:
        return _span(rows, words)
    sizes = [_size(row["difference"], words, unit=place == 0) for place, (_, row) in enumerate(rows.iterrows())]
    return ", ".join(f"{size} at {place}" for size, place in zip(sizes, places, strict=True))


def _span(rows: pd.DataFrame, words: Prose, factor: str = "") -> str:
    """Return the smallest and the largest difference, with their places where one other factor has numbers."""
    ordered = rows.loc[rows["difference"].sort_values(kind="stable").index]
    low, high = ordered.iloc[0], ordered.iloc[-1]
    if len(rows) == 1 or _size(low["difference"], words) == _size(high["difference"], words):
        return _size(low["difference"], words, unit=True)
    ends = [_size(one["difference"], words) for one in (low, high)]
    others = words.design.others(factor) if factor else ()
    if len(others) == 1 and words.has_unit(others[0]):
        at = [words.design.arms[one["arm"]][others[0]] for one in (low, high)]
        unit = words.design.metric.difference_unit
        return f"{ends[0]} {unit} at {at[0]} to {ends[1]} at {at[1]}".replace("  ", " ")
    return f"{ends[0]} to {_size(high['difference'], words, unit=True)}"


def _size(difference: float, words: Prose, unit: bool = False) -> str:
    metric = words.design.metric
    text = number(metric.scale * difference, signed=True) if known(difference) else "–"
    return f"{text} {metric.difference_unit}" if unit and metric.difference_unit else text
