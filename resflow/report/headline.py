"""The answer in five seconds: a verdict word on the study's claim, one plain sentence, and what it holds for.

The claim and the comparisons that decide it are the study's own. *Yes* where each has an expected verdict, *No* where
each thing that the claim needs fails, *It depends* where some hold and others fail, *Undecided* where it takes more to
know; a study without a claim says *Result*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resflow.analysis import design as designs
from resflow.analysis.analyse import Analysis
from resflow.report.answer import Style, answer, findings, joined, prose, told_groups
from resflow.report.formatting import many
from resflow.report.prose import sentence

YES, NO, DEPENDS, UNDECIDED, RESULT = "Yes", "No", "It depends", "Undecided", "Result"
MOST_WORDS = 30
STYLES: tuple[Style, ...] = ("whole", "short")
SOURCES = {
    "oxford_flowers102": "Oxford 102 Flowers",
    "cifar10": "CIFAR-10",
    "oxford_flowers10": "ten classes of Oxford 102 Flowers",
    "synthetic": "drawn flowers",
}


@dataclass(frozen=True)
class Headline:
    """`word` on the `claim` (empty of a study without one), one `sentence`, and the `scope` in one line."""

    word: str
    claim: str
    sentence: str
    scope: str

    @property
    def lines(self) -> tuple[str, str, str]:
        """The three lines that come first wherever the result is told."""
        return f"{self.claim}? {self.word}." if self.claim else f"{self.word}:", self.sentence, self.scope


def headline(analysis: Analysis) -> Headline:
    """Return the headline of a run, finished or not."""
    claim = analysis.run.study.get("claim") or {}
    listed = claim.get("needs")
    needs = [
        (str(need.get("comparison")), _rows(analysis, need), _expected(need))
        for need in (listed if isinstance(listed, list) else ())
        if isinstance(need, Mapping)
    ]
    needs = [need for need in needs if len(need[1])]
    text = str(claim.get("text") or "")
    word = _word([_outcome(rows, expected) for _, rows, expected in needs]) if needs else RESULT
    deciding = [(group, part) for group, rows, expected in needs for part in _parts(rows, expected)]
    return Headline(word, text if needs else "", _sentence(analysis, deciding), scope(analysis))


def _parts(rows: pd.DataFrame, expected: set[str]) -> list[pd.DataFrame]:
    """Return the contrasts that a need rests on, apart where they disagree: first those that decide against it."""
    against = ~rows["verdict"].isin([*expected, "undecided"])
    return [part for part in (rows[against], rows[~against]) if len(part)]


def _rows(analysis: Analysis, need: Mapping[str, Any]) -> pd.DataFrame:
    """Return the contrasts that a claim needs."""
    table, at = analysis.effects, need.get("at")
    if table.empty:
        return table
    rows, arms = table[table["contrast_group"] == need.get("comparison")], analysis.design.arms
    for factor, level in at.items() if isinstance(at, Mapping) else ():
        rows = rows[[arms[arm].get(str(factor)) == str(level) for arm in rows["arm"]]]
    return rows


def _expected(need: Mapping[str, Any]) -> set[str]:
    verdict = need.get("verdict")
    return set(map(str, verdict)) if isinstance(verdict, list) else {str(verdict)}


def _outcome(rows: pd.DataFrame, expected: set[str]) -> str:
    """Return what becomes of one need: YES, NO, DEPENDS where its comparisons disagree, else UNDECIDED."""
    as_expected = rows["verdict"].isin(list(expected))
    otherwise = ~as_expected & (rows["verdict"] != "undecided")
    if otherwise.any():
        return DEPENDS if as_expected.any() else NO
    return YES if as_expected.all() else UNDECIDED


def _word(outcomes: list[str]) -> str:
    """Return the word on a claim that needs all of what it needs."""
    kinds = set(outcomes)
    if DEPENDS in kinds or {YES, NO} <= kinds:
        return DEPENDS
    return kinds.pop() if len(kinds) == 1 else UNDECIDED


def _sentence(analysis: Analysis, needs: list[tuple[str, pd.DataFrame]]) -> str:
    """Return the findings that decide in at most MOST_WORDS words: with all differences, their span, or fewer."""
    if not analysis.completed or designs.unfinished(analysis.trials) or analysis.effects.empty:
        return answer(analysis)[0]
    if not needs:
        group = told_groups(analysis)[0]
        needs = [(group, analysis.effects[analysis.effects["contrast_group"] == group])]
    words = prose(analysis)
    found = [one for group, rows in needs for sentence_ in findings(rows, group, words) for one in sentence_]
    for count in range(len(found), 0, -1):
        for style in STYLES:
            text = sentence(joined(found[:count], style))
            if len(text.split()) <= MOST_WORDS:
                return text
    return _cut(answer(analysis)[0])


def _cut(text: str) -> str:
    words = text.split()
    return text if len(words) <= MOST_WORDS else f"{' '.join(words[: MOST_WORDS - 1]).rstrip(',;:(')} …"


def scope(analysis: Analysis) -> str:
    """Return what a result holds for, in one line: data, split and its size, pixels, width, epochs, seeds, device."""
    records, study = analysis.records, analysis.run.study
    data = [record.data for record in records]
    parts = [SOURCES.get(source, source) for source in _several(one.get("source") for one in data)]
    parts += [f"{split} split" for split in _several(one.get("split") for one in data)]
    parts += [f"{int(count):,} training images" for count in _several(one.get("train") for one in data)]
    parts += [_pixels(data)] if data else []
    network = [record.settings.get("network", {}) for record in records]
    if "width" not in analysis.design.factors:
        parts += [
            f"width {width}" for width in _several(one.get("width") for one in network) if width not in ("1", "1.0")
        ]
    recipe = [record.settings.get("recipe", {}) for record in records]
    if "epochs" not in analysis.design.factors:
        parts += [
            f"{epochs} epoch{'' if epochs == '1' else 's'}" for epochs in _several(one.get("epochs") for one in recipe)
        ]
    seeds = analysis.trials["seed"].nunique()
    parts += [many(seeds, "seed") + analysis.design.seeds_of] if len(analysis.trials) else []
    parts += [device.upper() for device in _several(record.execution.get("device") for record in records)]
    profile = study.get("profile")
    return ", ".join([part for part in parts if part] + ([f"profile {profile}"] if profile and not records else []))


def _several(values: Iterable[Any]) -> list[str]:
    """Return the one value that all share, or nothing."""
    distinct = list(dict.fromkeys(str(value) for value in values if value is not None and value != ""))
    return distinct if len(distinct) == 1 else []


def _pixels(data: list[dict[str, Any]]) -> str:
    sizes = _several(one.get("image_size") for one in data)
    originals = _several((one.get("originals") or {}).get("median") for one in data)
    if not sizes:
        return ""
    enlarged = f", enlarged from {originals[0]}" if originals and float(originals[0]) < float(sizes[0]) else ""
    return f"{sizes[0]} pixels{enlarged}"
