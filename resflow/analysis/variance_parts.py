"""The parts of a spread: standard deviations of what one stream does alone, and of all together, with intervals.

Trials that differ in one stream are draws of one distribution. Their variance s² over n seeds estimates that stream's
part without bias, and where they are normal (n - 1) s² / σ² is chi-squared with n - 1 degrees of freedom.

A part is what its stream does while the others are held: its own effect, and every interaction with what is held. An
interaction is in the part of each stream that has a share in it, so that the parts add up to the variance of all where
streams do not interact, and to more where they do (total effects, as Homma and Saltelli 1996 call them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from resflow.analysis.crossed import CONFIDENCE
from resflow.analysis.design import Design, by_seed
from resflow.analysis.effects import seed_differences
from resflow.analysis.resolution import compared
from resflow.analysis.seed_statistics import NO_SPREAD, NO_VALUE, ONE_VALUE, SAME, TWO_VALUES
from resflow.records.metrics import METRICS, metric
from resflow.study.level_columns import VARIES

ALL = "all"  # the seeds that vary all parts
COLUMNS = ("metric", "arm", "reference", "less", VARIES, "n", "sd", "low", "high", "note")


@dataclass(frozen=True)
class Deviation:
    """A standard deviation over seeds with its interval. `low` and `high` are NaN where `note` says why."""

    n: int
    sd: float
    low: float = np.nan
    high: float = np.nan
    note: str = ""


def deviation(values: ArrayLike, confidence: float = CONFIDENCE) -> Deviation:
    """Return the standard deviation of `values`, shape (n,), one a seed, with its chi-squared interval.

    The interval is exact of normal values, and covers too seldom of others (`resflow bench coverage`). Two values have
    none, for it would say nothing.
    """
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    n = len(x)
    if n < 2:
        return Deviation(n, np.nan, note=ONE_VALUE if n else NO_VALUE)
    sd, freedom = float(x.std(ddof=1)), n - 1
    if np.ptp(x) <= SAME or n == 2:
        return Deviation(n, sd, note=TWO_VALUES if n == 2 else NO_SPREAD)
    tail = (1 - confidence) / 2
    low, high = (sd * float(np.sqrt(freedom / special.chdtri(freedom, p))) for p in (tail, 1 - tail))
    return Deviation(n, sd, low, high)


def variance_parts(trials: pd.DataFrame, apart: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Return COLUMNS, a row for each metric, arm or declared contrast, and part of its spread; ALL has all of them.

    `trials` are of the study's own seeds, `apart` those that vary one stream alone. The first seed belongs to each
    part. ALL is of the seeds that parts have: those that were added by what others showed are no plain sample. Empty
    of a study without parts.
    """
    if not design.parts:
        return pd.DataFrame(columns=list(COLUMNS))
    first = trials[trials["seed"] == design.first_seed]
    whole = trials[trials["seed"].isin([design.first_seed, *apart["seed"]])]
    samples = {part: pd.concat([first, apart[apart[VARIES] == part]]) for part in design.parts}
    rows = []
    for column in (name for name in METRICS if name in trials):
        measured = replace(design, metric=metric(column))
        for part, sample in {**samples, ALL: whole}.items():
            rows += [
                {"metric": column, **what, VARIES: part, **vars(deviation(values))}
                for what, values in _values(sample, measured)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _values(sample: pd.DataFrame, design: Design) -> list[tuple[dict[str, str], ArrayLike]]:
    """Return the values over seeds of each arm, and the differences of each declared contrast."""
    wide, pairs = by_seed(sample, design, design.metric.column), compared(design)
    arms = [({"arm": arm, "reference": "", "less": ""}, wide.loc[arm].to_numpy(dtype=float)) for arm in design.arms]
    differences = seed_differences(sample, design, pairs).to_numpy(dtype=float) if pairs else ()
    named = [
        {"arm": pair.arm, "reference": pair.reference, "less": f"{pair.less[0]} − {pair.less[1]}" if pair.less else ""}
        for pair in pairs
    ]
    return [*arms, *zip(named, differences, strict=True)]
