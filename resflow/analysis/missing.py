"""Bounds for trials that failed: each contrast again, with them at their worst and at their best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from resflow.analysis import seed_statistics
from resflow.analysis.chance import Chance
from resflow.analysis.contrasts import Contrast
from resflow.analysis.verdicts import Verdicts


def stands(word: str, values: np.ndarray, absent: int, span: float, decide: Callable[[np.ndarray], str]) -> bool:
    """Tell whether `decide` says `word` of differences, one a seed, whatever `absent` more between ±`span` had been."""
    if absent == 0 or not np.isfinite(span):
        return absent == 0
    return all(decide(np.append(values, np.full(absent, end))) == word for end in (-span, span))


class Gaps:
    """Trials whose value says nothing, and what they could change.

    `wide` is `design.by_seed` of the study's metric, `results` the tests of every declared contrast. A missing value
    may lie anywhere from the lowest value of the study, or chance where that is lower, to the highest: a diverged
    network is at chance, a crashed one might have won. So may that of a network that collapsed where another seed of
    its arm did not; an arm that collapses in every seed is as bad as it is.
    """

    def __init__(
        self,
        trials: pd.DataFrame,
        wide: pd.DataFrame,
        judge: Verdicts,
        chance: Chance,
        results: Sequence[seed_statistics.Paired],
    ) -> None:
        self.judge, self.results = judge, results
        planned = trials.assign(planned=True).pivot_table(index="arm", columns="seed", values="planned", aggfunc="any")
        self.planned = planned.reindex(index=wide.index, columns=wide.columns).notna()
        collapsed = trials[trials["collapsed"] != ""].assign(mark=True)
        marks = collapsed.pivot_table(index="arm", columns="seed", values="mark", aggfunc="any")
        marks = marks.reindex(index=wide.index, columns=wide.columns).notna()
        partly = (wide.notna() & ~marks).any(axis=1)
        self.wide = wide.mask(marks.mul(partly, axis=0))
        values = self.wide.to_numpy(dtype=float)
        finite = values[np.isfinite(values)]
        self.lowest = float(finite.min()) if len(finite) else np.nan
        self.highest = float(finite.max()) if len(finite) else np.nan
        if np.isfinite(chance.of_metric):
            self.lowest = min(self.lowest, chance.of_metric)
        self.missing = wide.isna()

    def row(self, place: int, pair: Contrast) -> dict[str, object]:
        """Return, of the contrast at `place`, how many seeds are missing, and the difference and verdicts with them."""
        planned = self.planned.loc[list(pair.terms)]
        seeds = planned.columns[planned.any()]
        absent = int(self.missing.loc[list(pair.terms), seeds].any().sum())
        doubtful = int((~np.isfinite(self.wide.loc[list(pair.terms), seeds])).any().sum())
        empty = {"missing": absent, "missing_low": np.nan, "missing_high": np.nan, "missing_verdicts": ""}
        if doubtful == 0 or doubtful == len(seeds):
            return empty | {"doubtful": doubtful}
        low = self._filled(pair, seeds, added=self.lowest, taken=self.highest)
        high = self._filled(pair, seeds, added=self.highest, taken=self.lowest)
        words = dict.fromkeys(self._verdict(place, pair, values) for values in (low, high))
        return {
            "missing": absent,
            "missing_low": float(low.mean()),
            "missing_high": float(high.mean()),
            "missing_verdicts": " or ".join(words),
            "doubtful": doubtful,
        }

    def _filled(self, pair: Contrast, seeds: pd.Index, added: float, taken: float) -> np.ndarray:
        """Differences over all planned seeds: `added` in place of what is missing on the plus side, else `taken`."""
        total = np.zeros(len(seeds))
        for arm, coefficient in pair.terms.items():
            values = self.wide.loc[arm][seeds].to_numpy(dtype=float)
            total += coefficient * np.where(np.isfinite(values), values, added if coefficient > 0 else taken)
        return total

    def _verdict(self, place: int, pair: Contrast, values: np.ndarray) -> str:
        result = self.judge.test(pair, values)
        all_ = [
            result if other.key == pair.key else one
            for other, one in zip(self.judge.declared, self.results, strict=True)
        ]
        return self.judge.verdicts(all_)[place]
