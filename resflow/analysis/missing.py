"""Bounds for trials that did not complete: each contrast again, with them at their worst and at their best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from resflow.analysis.contrasts import Contrast
from resflow.analysis.design import Chance
from resflow.analysis.verdicts import Verdicts


class Gaps:
    """Trials without a value, and what they could change.

    `wide` is `design.by_seed` of the study's metric, `p` the raw p of every declared contrast. A missing value may lie
    anywhere from the lowest value of the study, or chance where that is lower, to the highest: a diverged network is at
    chance, a crashed one might have won.
    """

    def __init__(
        self, trials: pd.DataFrame, wide: pd.DataFrame, judge: Verdicts, chance: Chance, p: Sequence[float]
    ) -> None:
        self.wide, self.judge, self.p = wide, judge, p
        planned = trials.assign(planned=True).pivot_table(index="arm", columns="seed", values="planned", aggfunc="any")
        self.planned = planned.reindex(index=wide.index, columns=wide.columns).notna()
        values = wide.to_numpy(dtype=float)
        finite = values[np.isfinite(values)]
        self.lowest = float(finite.min()) if len(finite) else np.nan
        self.highest = float(finite.max()) if len(finite) else np.nan
        if chance.judged_by == judge.design.metric.column and np.isfinite(chance.level):
            self.lowest = min(self.lowest, chance.level)

    def row(self, place: int, pair: Contrast) -> dict[str, object]:
        """Return, of the contrast at `place`, how many seeds are missing, and the difference and verdicts with them."""
        planned = self.planned.loc[list(pair.terms)]
        seeds = planned.columns[planned.any()]
        absent = int((~np.isfinite(self.wide.loc[list(pair.terms), seeds])).any().sum())
        empty = {"missing": absent, "missing_low": np.nan, "missing_high": np.nan, "missing_verdicts": ""}
        if absent == 0 or absent == len(seeds):
            return empty
        low = self._filled(pair, seeds, added=self.lowest, taken=self.highest)
        high = self._filled(pair, seeds, added=self.highest, taken=self.lowest)
        words = dict.fromkeys(self._verdict(place, pair, values) for values in (low, high))
        return {
            "missing": absent,
            "missing_low": float(low.mean()),
            "missing_high": float(high.mean()),
            "missing_verdicts": " or ".join(words),
        }

    def _filled(self, pair: Contrast, seeds: pd.Index, added: float, taken: float) -> np.ndarray:
        """Differences over all planned seeds: `added` in place of what is missing on the plus side, else `taken`."""
        total = np.zeros(len(seeds))
        for arm, coefficient in pair.terms.items():
            values = self.wide.loc[arm][seeds].to_numpy(dtype=float)
            total += coefficient * np.where(np.isfinite(values), values, added if coefficient > 0 else taken)
        return total

    def _verdict(self, place: int, pair: Contrast, values: np.ndarray) -> str:
        result = self.judge.test(values)
        p = [result.p if other.key == pair.key else p for other, p in zip(self.judge.declared, self.p, strict=True)]
        return self.judge.verdict(pair, result, self.judge.holm(p)[place])
