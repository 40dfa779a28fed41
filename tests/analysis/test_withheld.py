"""A verdict that trials without a result could overturn is withheld, and says why."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.fake_run import write_run

from resflow.analysis.analyse import analyse

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
SEEDS = (1, 2, 3, 4, 5)


def good(levels: object) -> tuple[float, float]:
    """The test and the training top-1 of an arm: the wide head is far better."""
    return (0.8, 0.95) if "wide" in str(levels) else (0.5, 0.9)


def effect(folder: Path, **statuses: str) -> pd.Series:
    """The one effect of a run, some of whose wide trials ended otherwise: seed1='diverged'."""
    named = {("wide", int(seed.removeprefix("seed"))): status for seed, status in statuses.items()}
    run = write_run(folder, HEADS, good, seeds=SEEDS, epochs=2, statuses=named)
    return analyse(run).effects.iloc[0]


def test_where_all_trials_completed_the_verdict_stands(tmp_path: Path) -> None:
    assert effect(tmp_path)["verdict"] == "helps"


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_trials_that_could_overturn_it_withhold_it(tmp_path: Path, status: str) -> None:
    row = effect(tmp_path, seed1=status, seed2=status)
    assert set(row["missing_verdicts"].split(" or ")) > {"helps"}
    assert row["verdict"] == "undecided"
    assert row["note"] == f"2 {status} of 10 trials could change it"


def test_a_run_that_is_not_finished_decides_nothing(tmp_path: Path) -> None:
    row = effect(tmp_path, seed5="not run")
    assert row["verdict"] == "undecided"
    assert row["note"] == "1 of 10 trials have not run yet"
