"""The verdict rule at work on a study: tests of each contrast, one correction over all of them, words by rule."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from numpy.typing import ArrayLike

from resflow.analysis import seed_statistics
from resflow.analysis.contrasts import Contrast
from resflow.analysis.design import Design

ABOVE, AT, UNRESOLVED, UNKNOWN = "above chance", "at chance", "interval includes chance", "chance unknown"


class Verdicts:
    """The rule for one study. `arms` is `effects.arm_table` by arm: whether each stands above chance, and its mean."""

    def __init__(self, declared: Sequence[Contrast], arms: pd.DataFrame, design: Design) -> None:
        self.declared, self.design = declared, design
        self.above = dict(zip(arms.index, arms["chance"].isin((ABOVE, UNKNOWN)), strict=True))
        self.means = dict(zip(arms.index, arms["mean"], strict=True))

    def test(self, differences: ArrayLike) -> seed_statistics.Paired:
        """Test paired differences of shape (n,), one a seed."""
        higher = self.design.metric.higher_is_better
        return seed_statistics.paired(differences, self.design.margin, higher_is_better=higher)

    def holm(self, p: Sequence[float]) -> list[float]:
        """Adjust over all declared contrasts; one that several groups ask for counts once."""
        once = dict(zip((pair.key for pair in self.declared), p, strict=True))
        adjusted = dict(zip(once, seed_statistics.holm(list(once.values())), strict=True))
        return [float(adjusted[pair.key]) for pair in self.declared]

    def verdict(self, pair: Contrast, result: seed_statistics.Paired, p_holm: float) -> seed_statistics.Verdict:
        """Return the verdict on a contrast by its tests and by which of its arms stand above chance."""
        return seed_statistics.verdict(
            result.difference,
            p_holm,
            result.p_equivalence,
            higher_is_better=self.design.metric.higher_is_better,
            better_above_chance=all(self.above[arm] for arm in self._better(pair, result.difference)),
            both_above_chance=all(self.above[arm] for arm in pair.terms),
        )

    def _better(self, pair: Contrast, difference: seed_statistics.Mean) -> list[str]:
        """The better arm of each pair: no difference is named where a winner has no skill."""
        higher = self.design.metric.higher_is_better
        if pair.less is None:
            return [pair.arm if (difference.mean > 0) == higher else pair.reference]
        pairs = ((pair.arm, pair.reference), pair.less)
        return [one if (self.means[one] > self.means[other]) == higher else other for one, other in pairs]

    def why(self, pair: Contrast, difference: seed_statistics.Mean, word: str) -> str:
        """Say in a few words what kept the verdict from being clearer; empty where nothing but the numbers did."""
        if difference.n == 0:
            return "no seed completed in " + ("both arms" if pair.less is None else "all four arms")
        if difference.n > 1 and difference.note:
            return "the same difference in every seed: no interval"
        if word == "undecided" and not any(self.above[arm] for arm in pair.terms):
            return "neither arm is above chance" if pair.less is None else "no arm is above chance"
        if word == "undecided":
            weak = [arm for arm in self._better(pair, difference) if not self.above[arm]]
            if weak:
                return f"{weak[0]} is not above chance"
        return difference.note
