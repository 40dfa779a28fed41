"""The verdict rule at work on a study: tests of each contrast, one correction over all of them, words by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from resflow.analysis import holm, power, seed_statistics
from resflow.analysis.chance import ABOVE, UNKNOWN
from resflow.analysis.contrasts import Contrast
from resflow.analysis.design import Design
from resflow.analysis.predictions import Predictions

SEEDS, BOTH = "seeds", "seeds and images"  # what an interval is over


class Verdicts:
    """The rule for one study. `arms` is `effects.arm_table` by arm: whether each stands above chance, and its mean.

    Where `answers` tell what each trial said to each test image, intervals and tests are over seeds and images.
    """

    def __init__(
        self, declared: Sequence[Contrast], arms: pd.DataFrame, design: Design, answers: Predictions | None = None
    ) -> None:
        self.declared, self.design = declared, design
        self.above = dict(zip(arms.index, arms["chance"].isin((ABOVE, UNKNOWN)), strict=True))
        self.means = dict(zip(arms.index, arms["mean"], strict=True))
        column = design.metric.column
        self.alike = {
            pair.key
            for pair in declared
            if answers is not None and pair.less is None and answers.identical(pair.arm, pair.reference)
        }
        self.image_variance = {
            pair.key: answers.image_variance(pair.terms, column) if answers else np.nan for pair in declared
        }

    def over(self, pair: Contrast) -> str:
        """Say what a contrast's interval and test are over."""
        return SEEDS if np.isnan(self.image_variance[pair.key]) else BOTH

    def interval(self, pair: Contrast, differences: ArrayLike, confidence: float) -> seed_statistics.Mean:
        """Return the mean of a contrast's differences, one a seed, with its interval."""
        sequential = self.design.sequential
        return seed_statistics.mean_interval(differences, confidence, **self._limits(pair), sequential=sequential)

    def equivalence_zone(self, pair: Contrast, differences: ArrayLike, level: float) -> seed_statistics.Mean:
        """Return the interval that lies within the margin exactly where the test of equivalence is below `level`."""
        return self.interval(pair, differences, 1 - level if self.design.sequential else 1 - 2 * level)

    def test(self, pair: Contrast, differences: ArrayLike) -> seed_statistics.Paired:
        """Test a contrast's paired differences of shape (n,), one a seed."""
        return seed_statistics.paired(
            differences,
            self.design.margin,
            **self._limits(pair),
            higher_is_better=self.design.metric.higher_is_better,
            sequential=self.design.sequential,
        )

    def seeds_needed(self, pair: Contrast, difference: seed_statistics.Mean) -> float:
        """Return how many seeds would find the difference as it was seen, at the level of Holm's first step.

        By the upper confidence limit of its spread. NaN without a spread; infinite beyond power.MOST_SEEDS.
        """
        if not difference.sd > seed_statistics.SAME:
            return np.nan
        seen = power.Variation(difference.sd, float(np.nan_to_num(self.image_variance[pair.key])))
        level = holm.first_level(len({one.key for one in self.declared}))
        return power.seeds_to_find(difference.mean, seen.upper(difference.n), level)

    def _limits(self, pair: Contrast) -> dict[str, float]:
        metric = self.design.metric
        gains = sum(coefficient for coefficient in pair.terms.values() if coefficient > 0)
        return {
            "image_variance": float(np.nan_to_num(self.image_variance[pair.key])),
            "largest": gains * (metric.high - metric.low),
        }

    def holm(self, p: Sequence[float]) -> list[float]:
        """Adjust over all declared contrasts; one that several groups ask for counts once."""
        return self._over_declared(holm.adjust, p)

    def holm_levels(self, p: Sequence[float]) -> list[float]:
        """Return the level at which Holm's correction judges each declared contrast."""
        return self._over_declared(holm.levels, p)

    def _over_declared(self, correct: Callable[[ArrayLike], ArrayLike], p: Sequence[float]) -> list[float]:
        once = dict(zip((pair.key for pair in self.declared), p, strict=True))
        corrected = dict(zip(once, np.asarray(correct(list(once.values()))), strict=True))
        return [float(corrected[pair.key]) for pair in self.declared]

    def verdicts(self, results: Sequence[seed_statistics.Paired]) -> list[seed_statistics.Verdict]:
        """Return the verdict on each declared contrast, by its tests and by which of its arms stand above chance."""
        adjusted = self.holm([one.p for one in results]), self.holm([one.p_equivalence for one in results])
        return [
            seed_statistics.verdict(
                result.difference,
                p,
                p_equivalence,
                higher_is_better=self.design.metric.higher_is_better,
                better_above_chance=all(self.above[arm] for arm in self._better(pair, result.difference)),
                both_above_chance=all(self.above[arm] for arm in pair.terms),
                identical=pair.key in self.alike,
            )
            for pair, result, p, p_equivalence in zip(self.declared, results, *adjusted, strict=True)
        ]

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
        if pair.key in self.alike:
            return "the same answer to every image"
        if difference.n > 1 and difference.note:
            return "the same difference in every seed: no interval"
        if word == "undecided" and not any(self.above[arm] for arm in pair.terms):
            return "neither arm is above chance" if pair.less is None else "no arm is above chance"
        if word == "undecided":
            weak = [arm for arm in self._better(pair, difference) if not self.above[arm]]
            if weak:
                return f"{self.design.display_name(weak[0])} is not above chance"
        return difference.note or ("two seeds" if difference.n == 2 and word != "undecided" else "")
