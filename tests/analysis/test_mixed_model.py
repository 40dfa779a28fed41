"""The mixed model: exact where it can be checked by hand, refused where it did not converge, and it covers."""

import numpy as np
import pandas as pd
import pytest

from resflow.analysis import mixed_model
from resflow.analysis.contrasts import Contrast
from resflow.analysis.design import Design
from resflow.records.metrics import metric

ARMS = ("a", "b", "c")
DESIGN = Design({"arm": ARMS}, {arm: {"arm": arm} for arm in ARMS}, "a", metric("test_top1"))
PAIRS = [Contrast("baseline", arm, "a", {}) for arm in "bc"]


def trials(draw: np.random.Generator, seeds: int, gone: set[tuple[str, int]], noise: float = 0.01) -> pd.DataFrame:
    """Arms a, b, c at 0.5, 0.53 and 0.5, a shift of each seed, noise; `gone` trials have no value."""
    shifts = draw.normal(0, 0.02, seeds)
    rows = [
        (arm, seed, np.nan if (arm, seed) in gone else level + shifts[seed] + draw.normal(0, noise))
        for arm, level in zip(ARMS, (0.5, 0.53, 0.5), strict=True)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "test_top1"])


def test_a_balanced_study_needs_none():
    rows = mixed_model.estimates(trials(np.random.default_rng(1), 5, set()), DESIGN, PAIRS)
    assert all(row["mixed_note"] == "" and np.isnan(row["mixed"]) for row in rows)


def test_units_change_nothing_but_the_unit():
    table = trials(np.random.default_rng(2), 5, {("b", 1)})
    percent = table.assign(test_top1=100 * table["test_top1"])
    one, other = (mixed_model.estimates(given, DESIGN, PAIRS)[0] for given in (table, percent))
    for name in ("mixed", "mixed_low", "mixed_high"):
        assert other[name] == pytest.approx(100 * one[name], rel=1e-3)


def test_it_is_refused_where_it_cannot_be_fitted(monkeypatch):
    same = trials(np.random.default_rng(3), 4, {("b", 1)}).assign(test_top1=lambda t: t["test_top1"].notna() * 0.5)
    same.loc[(same["arm"] == "b") & (same["seed"] == 1), "test_top1"] = np.nan
    assert mixed_model.estimates(same, DESIGN, PAIRS)[0]["mixed_note"] == mixed_model.NOT_CONVERGED
    few = trials(np.random.default_rng(3), 2, {("b", 1), ("c", 1)})
    assert mixed_model.estimates(few, DESIGN, PAIRS)[0]["mixed_note"] == mixed_model.TOO_FEW
    none = trials(np.random.default_rng(3), 4, {("b", seed) for seed in range(4)} | {("c", 1)})
    assert "no completed trial" in mixed_model.estimates(none, DESIGN, PAIRS)[0]["mixed_note"]
    from statsmodels.regression.mixed_linear_model import MixedLM

    fit = MixedLM.fit
    monkeypatch.setattr(MixedLM, "fit", lambda self, **given: fit(self, reml=True, method=["bfgs"], maxiter=1))
    table = trials(np.random.default_rng(4), 5, {("b", 1)})
    assert mixed_model.estimates(table, DESIGN, PAIRS)[0]["mixed_note"] == mixed_model.NOT_CONVERGED


@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 5, 8, 12])
def test_its_interval_covers(seeds):
    """2,000 studies that lack two trials: 95 % to four Monte Carlo errors, and half a point for the approximation."""
    draw, covered, fitted = np.random.default_rng(seeds), 0, 0
    for _ in range(2000):
        row = mixed_model.estimates(trials(draw, seeds, {("b", 0), ("c", 1)}), DESIGN, PAIRS)[0]
        if row["mixed_note"] == "":
            fitted += 1
            covered += row["mixed_low"] <= 0.03 <= row["mixed_high"]
    assert fitted > 1900
    assert abs(covered / fitted - 0.95) < 0.005 + 4 * np.sqrt(0.95 * 0.05 / fitted)
