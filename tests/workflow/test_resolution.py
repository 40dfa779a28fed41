"""What the seeds of a plan can resolve, by the spread of a prior run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_run import write_run

from resflow.analysis import holm, power, sequential_power
from resflow.analysis.analyse import analyse
from resflow.analysis.effects import seed_differences
from resflow.analysis.resolution import compared, resolution
from resflow.errors import RecordError
from resflow.study.load import load_study
from resflow.workflow.plan import Plan, make_plan
from resflow.workflow.resolution import design_of, resolution_table, tell_resolution

STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "q",
    "baseline": "plain-18",
    "factors": {"shortcut": {"plain": "none", "residual": "zero_pad"}, "depth": [18, 34]},
    "execution": {"device": "cpu"},
    "recipe": {"epochs": 4},
}


def plan(**changes: Any) -> Plan:
    return make_plan(load_study({**STUDY, **changes}), prepare=False)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "before", seeds=(1, 2, 3, 4))


def test_the_design_of_a_plan_is_that_of_its_run() -> None:
    design = design_of(plan())
    assert list(design.arms) == ["plain-18", "plain-34", "residual-18", "residual-34"]
    assert len(compared(design)) == 6  # three with the baseline, one of them again within depth; one interaction


def test_each_comparison_goes_by_its_own_upper_limit(prior: Path) -> None:
    before, design = analyse(prior), design_of(plan(margin=0.02))
    rows = resolution(design, 5, before.trials, before.predictions)
    pairs = compared(design)
    values = seed_differences(before.trials, design, pairs).to_numpy(dtype=float)
    for pair, row, seen in zip(pairs, rows.to_dict("records"), values, strict=True):
        images = before.predictions.image_variance(pair.terms, "test_top1") if before.predictions else 0.0
        variation = power.Variation(float(seen.std(ddof=1)), images).upper(len(seen))
        assert row["prior_seeds"] == 4
        assert row["sd"] < row["sd_upper"] == pytest.approx(variation.sd)
        assert power.power(row["smallest"], 5, holm.first_level(len(pairs)), variation) == pytest.approx(0.8, abs=1e-6)
        assert row["margin_found"] >= 2
        assert row["margin_equivalent"] >= 2


def test_the_report_counts_the_seeds_that_a_difference_needs_after_holm(prior: Path) -> None:
    effects = analyse(prior).effects
    level = holm.first_level(len(effects.drop_duplicates(["arm", "reference", "less"])))
    for row in effects.to_dict("records"):
        alone = power.seeds_to_find(row["difference"], power.Variation(row["sd"]))
        corrected = power.seeds_to_find(row["difference"], power.Variation(row["sd"]).upper(row["n"]), level)
        assert alone < corrected <= row["seeds_needed"]  # which goes by the images as well


def test_more_seeds_find_less_and_more_comparisons_find_more(prior: Path) -> None:
    before, whole = analyse(prior), design_of(plan())
    few = resolution(whole, 3, before.trials, before.predictions)
    many = resolution(whole, 9, before.trials, before.predictions)
    one = resolution(design_of(plan(contrasts=["shortcut:depth"])), 3, before.trials, before.predictions)
    assert (many["smallest"] < few["smallest"]).all()
    assert len(one) == 1
    assert one["smallest"].iloc[0] < few["smallest"].iloc[-1]


def test_a_comparison_that_the_prior_run_lacks_has_no_figures(prior: Path) -> None:
    design = design_of(plan(factors={"shortcut": STUDY["factors"]["shortcut"], "depth": [18, 152]}))
    before = analyse(prior)
    rows = resolution(design, 3, before.trials, before.predictions).set_index("arm")
    assert rows.loc["plain-152", "prior_seeds"] == 0
    assert np.isnan(rows.loc["plain-152", ["sd", "sd_upper", "smallest"]].astype(float)).all()
    assert rows["smallest"].notna().any()


def test_the_table_names_the_prior_run_and_the_margins_seeds(prior: Path) -> None:
    table = resolution_table(plan(margin=0.02, seeds=4), prior)
    assert table.title == "What 4 seeds can resolve"
    assert len(table.rows) == 6
    assert "before, which ran on other data" in table.note
    assert "± 2.0" in table.note
    assert "Margin found with" in table.header
    assert "Margin found with" not in resolution_table(plan(), prior).header


def test_a_prior_run_whose_seeds_vary_something_else_is_told(prior: Path) -> None:
    table = resolution_table(plan(vary=["init"]), prior)
    assert "whose seeds vary initialisation and order" in table.note
    assert "whose seeds vary" not in resolution_table(plan(), prior).note


def test_without_a_prior_run_it_is_told_in_standard_deviations() -> None:
    text = tell_resolution(plan(seeds=5))
    assert text.startswith("5 seeds and 6 comparisons")
    assert f"{power.smallest_effect(5, 0.05 / 6):.1f} standard deviations" in text
    assert "One seed" in tell_resolution(plan(seeds=1))


def test_a_prior_run_without_these_arms_is_refused(tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", {"depth": {"50": 50, "101": 101}}, lambda levels: (0.5, 0.5))
    with pytest.raises(RecordError, match="none of the comparisons"):
        resolution_table(plan(), other)
    with pytest.raises(RecordError, match="test_mean_class_accuracy"):
        resolution_table(plan(metric="test_mean_class_accuracy"), strip(other))


def strip(run: Path) -> Path:
    """Return a run whose records are gone: it has no column of any metric but its own."""
    for record in run.glob("trials/*/record.json"):
        record.unlink()
    return run


def test_a_sequential_design_is_told_by_its_most_seeds(prior: Path) -> None:
    seeds = {"at_least": 3, "at_most": 12}
    text = tell_resolution(plan(seeds=seeds))
    assert text.startswith("At most 12 seeds and 6 comparisons")
    assert f"{sequential_power.smallest_effect(12, 0.05 / 6):.1f} standard deviations" in text
    assert resolution_table(plan(seeds=seeds), prior).title == "What at most 12 seeds can resolve"
