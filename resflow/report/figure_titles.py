"""Titles of figures that say what was found, where that takes few words; else what is drawn."""

from __future__ import annotations

from resflow.analysis import degradation
from resflow.analysis import design as designs
from resflow.analysis.analyse import Analysis
from resflow.report.answer import findings, joined, prose, told_groups

MOST_WORDS = 16


def accuracy_axes(analysis: Analysis) -> str:
    """Return what is drawn over what."""
    label = f"{analysis.design.metric.label} by {analysis.design.scale or 'arm'}"
    return f"{label[:1].upper()}{label[1:]}"


def accuracy(analysis: Analysis) -> str:
    """Return what the first comparison found, without its numbers."""
    drawn = accuracy_axes(analysis)
    if analysis.effects.empty or designs.unfinished(analysis.trials):
        return drawn
    group = told_groups(analysis)[0]
    rows = analysis.effects[analysis.effects["contrast_group"] == group]
    found = [one for sentence in findings(rows, group, prose(analysis)) for one in sentence]
    if not found or not all(one.detail for one in found):
        return drawn  # a list of levels with their numbers is no title
    title = joined(found, "bare")
    return title if len(title.split()) <= MOST_WORDS else drawn


def effects(analysis: Analysis) -> str:
    """Return how many differences are decided."""
    table = analysis.effects.drop_duplicates(["arm", "reference", "less"])
    decided = int((table["verdict"] != "undecided").sum())
    label = analysis.design.metric.label
    if len(table) == 1:
        return f"the difference in {label} is {'decided' if decided else 'undecided'}"
    share = "none" if not decided else "all" if decided == len(table) else decided
    return f"{share} of {len(table)} differences in {label} {'is' if decided < 2 else 'are'} decided"


def training(analysis: Analysis) -> str:
    """Return which nets train worse the deeper they are; empty where none shows it, or all do something else."""
    words: dict[str, set[str]] = {}
    for step in degradation.steps(analysis.trials, analysis.design):
        words.setdefault(step.series, set()).add(step.word)
    worse = [series for series, said in words.items() if degradation.WORSE in said and degradation.BETTER not in said]
    if not worse:
        return ""
    return f"deeper nets train worse: {', '.join(name or 'all' for name in worse)}"
