"""A mixed model over seeds, where trials are missing: it uses the seeds that paired differences must leave out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from resflow.analysis.contrasts import Contrast
from resflow.analysis.design import Design
from resflow.analysis.seed_statistics import CONFIDENCE, SAME

Row = dict[str, object]
NOT_CONVERGED = "the mixed model did not converge"
TOO_FEW = "too few trials for a mixed model"
LOOKS = "no mixed model of a sequential design"


def _none(note: str = "") -> Row:
    return {"mixed": np.nan, "mixed_low": np.nan, "mixed_high": np.nan, "mixed_note": note}


def estimates(trials: pd.DataFrame, design: Design, declared: Sequence[Contrast]) -> list[Row]:
    """Each contrast by a linear mixed model, metric ~ arm + (1 | seed), by REML; empty where no seed is missing.

    The interval is t with N - arms - (seeds - 1) degrees of freedom, those of the two-way layout, and assumes one
    residual variance for all arms. Refused, with the reason, where the fit did not converge.
    """
    if design.sequential:
        return [_none(LOOKS)] * len(declared)
    done = trials.dropna(subset=[design.metric.column])
    arms, seeds = [arm for arm in design.arms if arm in set(done["arm"])], done["seed"].nunique()
    if len(done) == len(arms) * seeds:
        return [_none()] * len(declared)
    freedom = len(done) - len(arms) - (seeds - 1)
    if freedom < 1 or seeds < 2:
        return [_none(TOO_FEW)] * len(declared)
    fitted = _fit(done, design.metric.column, arms)
    if fitted is None:
        return [_none(NOT_CONVERGED)] * len(declared)
    return [_estimate(pair, arms, *fitted, freedom) for pair in declared]


def _fit(done: pd.DataFrame, column: str, arms: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Means of the arms and their covariance, None where the optimiser failed or the variance is none."""
    from statsmodels.regression.mixed_linear_model import MixedLM  # a second or two, and seldom needed

    values = done[column].to_numpy(dtype=float)
    within = values - done.groupby("arm")[column].transform("mean").to_numpy(dtype=float)
    if np.ptp(within) <= SAME:
        return None
    scale = float(within.std())  # the optimiser's tolerances are made for numbers of about 1
    design = (done["arm"].to_numpy()[:, None] == np.array(arms)).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of is asked below
        try:
            # Powell's method needs no gradient: seeds that share nothing put the variance at 0, where the others stop.
            fit = MixedLM(values / scale, design, groups=done["seed"].to_numpy()).fit(reml=True, method=["powell"])
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return None
        covariance = np.asarray(fit.cov_params(), dtype=float)[: len(arms), : len(arms)]
    if not fit.converged or not np.isfinite(covariance).all():
        return None
    return np.asarray(fit.fe_params, dtype=float) * scale, covariance * scale**2


def _estimate(pair: Contrast, arms: list[str], means: np.ndarray, covariance: np.ndarray, freedom: int) -> Row:
    if not pair.terms.keys() <= set(arms):
        return _none("an arm has no completed trial")
    weights = np.array([pair.terms.get(arm, 0) for arm in arms], dtype=float)
    middle, variance = float(weights @ means), float(weights @ covariance @ weights)
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * np.sqrt(max(variance, 0.0))
    return {"mixed": middle, "mixed_low": middle - half, "mixed_high": middle + half, "mixed_note": ""}
