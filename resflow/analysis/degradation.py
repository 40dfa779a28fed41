"""Degradation: a deeper net with a higher TRAINING error than a shallower one (He et al. 2015, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from resflow.analysis import seed_statistics
from resflow.analysis.design import Design, by_seed

DEPTH = "depth"


@dataclass(frozen=True)
class Step:
    """One net against the next shallower one of its series: the paired difference in training error, a fraction."""

    series: str
    depth: str
    shallower: str
    difference: seed_statistics.Mean
    p_holm: float

    @property
    def worse(self) -> bool:
        """True where the deeper net trains worse, by the verdict rule's own test."""
        return self.p_holm < seed_statistics.ALPHA and self.difference.low > 0

    @property
    def better(self) -> bool:
        """True where it trains better, by the same test."""
        return self.p_holm < seed_statistics.ALPHA and self.difference.high < 0


def depth_series(design: Design) -> dict[str, list[str]]:
    """Return levels of all factors but depth -> arms from shallow to deep; empty where depth is fixed."""
    if DEPTH not in design.varied:
        return {}
    series: dict[str, list[str]] = {}
    for arm in design.arms:
        series.setdefault(design.label(arm, design.others(DEPTH)), []).append(arm)
    rising = {name: sorted(arms, key=lambda arm: float(design.arms[arm][DEPTH])) for name, arms in series.items()}
    return {name: arms for name, arms in rising.items() if len(arms) > 1}


def paired(wide: pd.DataFrame, arm: str, reference: str) -> np.ndarray:
    """Return arm minus reference over the seeds that completed in both; `wide` is `by_seed` of some column."""
    return (wide.loc[arm] - wide.loc[reference]).dropna().to_numpy(dtype=float)


def steps(trials: pd.DataFrame, design: Design) -> list[Step]:
    """Compare every net with the next shallower one, Holm over all of them."""
    if "train_top1" not in trials:
        return []
    pairs = [
        (series, deep, shallow) for series, arms in depth_series(design).items() for shallow, deep in pairwise(arms)
    ]
    wide = by_seed(trials, design, "train_top1")
    errors = [-paired(wide, deep, shallow) for _, deep, shallow in pairs]
    if not pairs:
        return []
    adjusted = seed_statistics.holm([seed_statistics.t_test(one) for one in errors])
    return [
        Step(
            series, design.arms[deep][DEPTH], design.arms[shallow][DEPTH], seed_statistics.mean_interval(one), float(p)
        )
        for (series, deep, shallow), one, p in zip(pairs, errors, adjusted, strict=True)
    ]


def epochs_to(histories: pd.DataFrame, error: float) -> pd.DataFrame:
    """Return the first epoch whose clean training error is no more than `error` (0..1): a row a completed trial.

    Columns id, arm, seed, epochs; NaN where the trial never came there.
    """
    done = histories[histories["status"] == "completed"]
    reached = done[1 - done["train_top1"].astype(float) <= error + 1e-9]
    first = reached.groupby("id")["epoch"].min()
    trials = done.drop_duplicates("id")[["id", "arm", "seed"]]
    return trials.assign(epochs=trials["id"].map(first).astype(float)).reset_index(drop=True)
