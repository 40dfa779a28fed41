"""Degradation and the paper's claims: planted ones are found, absent ones are not, and words follow numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.fake_run import DEPTH_FACTORS, degrading, write_run

from resflow.analysis import degradation
from resflow.analysis.analyse import analyse
from resflow.report import paper_claims, tables

SEEDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory):
    return analyse(write_run(tmp_path_factory.mktemp("planted"), seeds=SEEDS, epochs=12, margin=0.08))


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory):
    """The paper upside down: plain nets gain by depth, residual ones degrade."""
    other = {"plain": "residual", "residual": "plain"}
    truth = lambda levels: degrading({**levels, "shortcut": other[levels["shortcut"]]})  # noqa: E731
    return analyse(write_run(tmp_path_factory.mktemp("turned"), truth=truth, seeds=SEEDS, epochs=12))


def test_each_step_in_depth_is_the_paired_difference_in_training_error(planted) -> None:
    steps = degradation.steps(planted.trials, planted.design)
    assert [(s.series, s.depth, s.shallower) for s in steps[:3]] == [
        ("plain", "34", "18"),
        ("plain", "50", "34"),
        ("plain", "101", "50"),
    ]
    wide = planted.trials.pivot_table(index="seed", columns="arm", values="train_top1")
    assert steps[0].difference.mean == pytest.approx(-(wide["plain-34"] - wide["plain-18"]).mean())
    assert all(step.word == "worse" for step in steps if step.series == "plain")
    assert not any(step.word == "worse" for step in steps if step.series == "residual" and step.depth == "34")


def test_the_table_names_the_depth_from_which_a_plain_net_is_worse(planted) -> None:
    table = tables.degradation(planted)
    column = table.header.index("Deeper trains")
    said = {(row[0], row[1]): row[column] for row in table.rows}
    assert said["plain", "34 − 18"] == "worse"
    assert len(said) == 6


def test_a_study_without_depth_has_neither(tmp_path: Path) -> None:
    found = analyse(write_run(tmp_path, {"head": {"a": 1, "b": 2}}, lambda levels: (0.8, 0.9), epochs=3))
    assert tables.degradation(found) is None
    assert paper_claims.table(found) is None


def test_epochs_to_an_error_are_the_first_that_have_it(planted) -> None:
    found = degradation.epochs_to(planted.histories, 0.5).set_index("id")["epochs"]
    for trial, history in planted.histories.groupby("id"):
        there = history.loc[1 - history["train_top1"] <= 0.5, "epoch"]
        assert (np.isnan(found[trial]) and there.empty) or found[trial] == there.min()
    table = tables.convergence(planted)
    row = next(row for row in table.rows if row[0] == "plain-101")
    assert row[1].startswith("–")  # a net at chance never comes there


def verdicts(analysis) -> dict[str, str]:
    return {row[0]: row[-1] for row in paper_claims.table(analysis).rows}


def test_what_is_planted_as_the_paper_has_it_is_reproduced(planted) -> None:
    found = verdicts(planted)
    assert found["Deeper plain nets train worse"] == "reproduced"
    assert found["Deeper residual nets are more accurate"] == "reproduced"
    assert found["Shallow plain and residual nets are equally accurate"] == "reproduced"
    assert found["Gradients keep healthy norms in deep plain nets, at the first step"] == "reproduced"
    assert found["Gradients keep healthy norms in deep plain nets, at the end"] == "reproduced"
    assert all(found[f"Residual nets respond less, at {depth} layers"] == "reproduced" for depth in (18, 34, 50))
    # The plain net of 101 layers shows no skill on its own training images: what its layers do is left out.
    assert found["Residual nets respond less, at 101 layers"] == "undecided"
    assert found["Residual nets respond less, the deeper they are"] == "reproduced"


def test_the_opposite_is_not_reproduced(turned) -> None:
    found = verdicts(turned)
    assert found["Deeper residual nets train better"] == "not reproduced"
    assert found["Deeper residual nets are more accurate"] == "not reproduced"
    assert found["Shallow plain and residual nets are equally accurate"] != "reproduced"  # no margin was declared


@pytest.mark.parametrize("slope", [1, -1])
def test_gradients_keep_their_direction(slope: int) -> None:
    """Nine layers a decade apart: the thirds lie six decades from each other, and which way is told."""
    rows = [("gradient_norm", "a", place, 0, 10.0 ** (slope * place)) for place in range(9)]
    table = pd.DataFrame(rows, columns=["kind", "layer", "place", "epoch", "value"])
    assert paper_claims._decades(table) == pytest.approx(-6 * slope)


@pytest.mark.parametrize(
    ("values", "margin", "p", "expected"),
    [
        ([0.1, 0.11, 0.12], None, 0.01, "reproduced"),
        ([-0.1, -0.11, -0.12], None, 0.01, "not reproduced"),
        ([0.1, 0.11, 0.12], None, 0.06, "undecided"),
        ([0.001, -0.001, 0.0005], 0.02, 0.01, "reproduced"),
        ([0.001, -0.001, 0.0005], 0.02, 0.06, "undecided"),
        ([0.1, 0.11, 0.12], 0.02, 0.01, "not reproduced"),
        ([0.1, 0.11, 0.12], 0.0, 0.06, "undecided"),
        ([], None, float("nan"), "undecided"),
    ],
)
def test_the_word_for_a_claim(values, margin, p, expected) -> None:
    claim = paper_claims.Claim("", "", "", np.array(values), "points", margin=margin)
    assert paper_claims.verdict(claim, claim.values, p) == expected


def test_a_run_that_is_not_finished_reproduces_nothing_and_degrades_nowhere(tmp_path: Path) -> None:
    statuses = {("residual-101", 5): "not run"}
    found = analyse(write_run(tmp_path, DEPTH_FACTORS, seeds=SEEDS, statuses=statuses, epochs=3))
    assert set(verdicts(found).values()) == {"undecided"}
    assert {step.word for step in degradation.steps(found.trials, found.design)} == {"undecided"}
    assert "1 of 40 trials have not run yet" in {step.note for step in degradation.steps(found.trials, found.design)}


def test_trials_that_failed_keep_a_step_and_a_claim_undecided_where_they_could_change_it(tmp_path: Path) -> None:
    statuses = {("plain-101", seed): "diverged" for seed in (1, 2)}
    found = analyse(write_run(tmp_path, DEPTH_FACTORS, seeds=SEEDS, statuses=statuses, epochs=3))
    step = next(one for one in degradation.steps(found.trials, found.design) if one.depth == "101")
    assert (step.word, step.note) == ("undecided", "2 of 5 pairs did not complete and could change it")
    assert verdicts(found)["Deeper plain nets train worse"] == "undecided"
    assert verdicts(found)["Deeper residual nets are more accurate"] == "reproduced"


def test_claims_need_twins_of_the_same_depths(tmp_path: Path) -> None:
    statuses = {("residual-18", seed): "failed" for seed in SEEDS}
    found = analyse(write_run(tmp_path, DEPTH_FACTORS, seeds=SEEDS, statuses=statuses, epochs=3))
    rows = {row[0]: row for row in paper_claims.table(found).rows}
    assert rows["Shallow plain and residual nets are equally accurate"][-1] == "undecided"
    assert rows["Deeper plain nets train worse"][-1] == "reproduced"
