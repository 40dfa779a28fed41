"""Degradation: a deeper net with a higher TRAINING error than a shallower one (He et al. 2015, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd

from resflow.analysis import holm, seed_statistics
from resflow.analysis.design import Design, by_seed, unfinished
from resflow.analysis.holm import ALPHA
from resflow.analysis.missing import stands

DEPTH = "depth"
WORSE, BETTER, UNDECIDED = "worse", "better", "undecided"


@dataclass(frozen=True)
class Step:
    """One net against the next shallower one of its series: the paired difference in training error, a fraction.

    `word` is `worse` or `better` where the deeper net trains so by the test of the verdict rule, else `undecided`.
    """

    series: str
    depth: str
    shallower: str
    difference: seed_statistics.Mean
    p_holm: float
    word: str
    note: str


def depth_series(design: Design) -> dict[str, list[str]]:
    """Return levels of all factors but depth -> arms from shallow to deep; empty where depth is fixed."""
    if DEPTH not in design.varied:
        return {}
    series: dict[str, list[str]] = {}
    for arm in design.arms:
        series.setdefault(design.label(arm, design.others(DEPTH)), []).append(arm)
    rising = {name: sorted(arms, key=lambda arm: float(design.arms[arm][DEPTH])) for name, arms in series.items()}
    return {name: arms for name, arms in rising.items() if len(arms) > 1}


def paired(wide: pd.DataFrame, arm: str, reference: str) -> tuple[np.ndarray, int]:
    """Return arm minus reference over the seeds that completed in both, and how many others were planned.

    `wide` is `by_seed` of some column.
    """
    differences = (wide.loc[arm] - wide.loc[reference]).to_numpy(dtype=float)
    there = np.isfinite(differences)
    return differences[there], int((~there).sum())


def span(wide: pd.DataFrame) -> float:
    """Return how far two values of a study can lie apart, as far as it shows."""
    values = wide.to_numpy(dtype=float)
    return float(np.nanmax(values) - np.nanmin(values)) if np.isfinite(values).any() else np.nan


def steps(trials: pd.DataFrame, design: Design) -> list[Step]:
    """Compare every net with the next shallower one, Holm over all of them.

    Undecided in a run that is not finished, and where trials that did not complete could change the word.
    """
    pairs = [
        (series, deep, shallow) for series, arms in depth_series(design).items() for shallow, deep in pairwise(arms)
    ]
    if "train_top1" not in trials or not pairs:
        return []
    wide, waiting = by_seed(trials, design, "train_top1"), unfinished(trials)
    errors = [(-values, absent) for values, absent in (paired(wide, deep, shallow) for _, deep, shallow in pairs)]
    sequential = design.sequential
    p = [seed_statistics.t_test(values, sequential=sequential) for values, _ in errors]

    def word(place: int, values: np.ndarray) -> str:
        mean = seed_statistics.mean_interval(values, sequential=sequential)
        replaced = [*p[:place], seed_statistics.t_test(values, sequential=sequential), *p[place + 1 :]]
        if not holm.adjust(replaced)[place] < ALPHA or mean.includes(0.0):
            return UNDECIDED
        return WORSE if mean.mean > 0 else BETTER

    rows, at = [], {arm: levels[DEPTH] for arm, levels in design.arms.items()}
    for place, ((series, deep, shallow), (values, absent), adjusted) in enumerate(
        zip(pairs, errors, holm.adjust(p), strict=True)
    ):
        mean = seed_statistics.mean_interval(values, largest=1.0, sequential=sequential)
        said = word(place, values)
        note = mean.note
        if said != UNDECIDED and waiting:
            said, note = UNDECIDED, f"{waiting} of {len(trials)} trials have not run yet"
        elif said != UNDECIDED and not stands(said, values, absent, span(wide), partial(word, place)):
            said, note = UNDECIDED, f"{absent} of {absent + len(values)} pairs did not complete and could change it"
        rows.append(Step(series, at[deep], at[shallow], mean, float(adjusted), said, note))
    return rows


def epochs_to(histories: pd.DataFrame, error: float) -> pd.DataFrame:
    """Return the first epoch whose clean training error is no more than `error` (0..1): a row a completed trial.

    Columns id, arm, seed, epochs; NaN where the trial never came there.
    """
    done = histories[histories["status"] == "completed"]
    reached = done[1 - done["train_top1"].astype(float) <= error + 1e-9]
    first = reached.groupby("id")["epoch"].min()
    trials = done.drop_duplicates("id")[["id", "arm", "seed"]]
    return trials.assign(epochs=trials["id"].map(first).astype(float)).reset_index(drop=True)
