"""A tuning phase beside its winners: validation accuracy against the number of candidates tried."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from resflow.tuning.phase import Phase, TriedCandidate

CONFIDENCE = 0.95
FEWEST = 3  # candidates of a curve


def expected(phase: Phase, *, independent: bool) -> pd.DataFrame:
    """Return the best validation score of k candidates by arm: arm, k, score, low, high; fractions.

    Where candidates are `independent` draws (random search without pruning) `score` is the expected maximum of k draws
    from the empirical distribution (Dodge et al. 2019, arXiv 1909.03004, equation 5), and low and high are those of
    the exact simultaneous bands of Lourie et al. 2023 (arXiv 2311.09480) around the distribution, by opda; scores lie
    in 0..1, and equal ones make the bands wider than they need be. Else `score` is the best of the first k, which has
    no band: later candidates depend on earlier ones, or some ended early.
    """
    rows = []
    for arm in phase.table["arm"]:
        scores = np.array([one.score for one in phase.tried.get(arm, ()) if np.isfinite(one.score)])
        if len(scores) < FEWEST:
            continue
        k = np.arange(1, len(scores) + 1)
        if independent:
            low, mean, high = _bands(scores, k)
        else:
            mean, low, high = np.maximum.accumulate(scores), np.full(len(k), np.nan), np.full(len(k), np.nan)
        rows.append(pd.DataFrame({"arm": arm, "k": k, "score": mean, "low": low, "high": high}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["arm", "k", "score", "low", "high"])


def _bands(scores: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from opda.nonparametric import EmpiricalDistribution

    generator = np.random.default_rng(0)  # the same records give the same bytes
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Duplicates detected"
        )  # equal accuracies make the bands wider than they need be
        bands = EmpiricalDistribution.confidence_bands(scores, CONFIDENCE, 0.0, 1.0, generator=generator, n_jobs=1)
    below, middle, above = (one.average_tuning_curve(k) for one in bands)
    return above, middle, below  # the upper band of the distribution function is the pessimistic one


def scatter(phase: Phase, names: list[str]) -> pd.DataFrame:
    """Return candidates whose score is known: arm, name, value, score, won; a row a hyperparameter that counted."""
    rows = []
    for arm in phase.table["arm"]:
        won = phase.winner(arm)
        for one in phase.tried.get(arm, ()):
            if np.isfinite(one.score):
                rows += [_row(one, name, one is won) for name in names if name in one.values]
    return pd.DataFrame(rows, columns=["arm", "name", "value", "score", "won"])


def _row(one: TriedCandidate, name: str, won: bool) -> tuple[str, str, object, float, bool]:
    return one.arm, name, one.values[name], one.score, won
