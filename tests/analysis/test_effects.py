"""From records to arms, contrasts and labels: what is compared, what is counted, what must be said."""

import json

import numpy as np
import pandas as pd
import pytest
from support.fake_run import DEPTH_FACTORS, degrading, rewrite, rewrite_predictions, trial_id, write_run

from resflow.analysis import budget, chance, holm
from resflow.analysis.analyse import analyse
from resflow.analysis.labels import labels
from resflow.errors import RecordError
from resflow.records.run import load_run

HEADS = {"head": {"linear": "linear", "wide": "wide"}}


def words(analysis):
    return {label.word for label in labels(analysis)}


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return analyse(write_run(tmp_path_factory.mktemp("depth"), epochs=3))


def test_every_declared_contrast_is_made_once(depth):
    table = depth.effects
    assert len(table[table["contrast_group"] == "baseline"]) == 7
    assert list(table.loc[table["contrast_group"] == "shortcut", "arm"]) == [f"residual-{d}" for d in (18, 34, 50, 101)]
    assert set(table.loc[table["contrast_group"] == "depth", "reference"]) == {"plain-18", "residual-18"}
    assert not table.duplicated(["contrast_group", "arm", "reference"]).any()


def test_a_contrast_in_two_tables_has_one_verdict(depth):
    pairs = depth.effects.groupby(["arm", "reference", "less"])
    assert (pairs["verdict"].nunique() == 1).all()
    assert (pairs["p_holm"].nunique() == 1).all()
    assert (pairs.size() > 1).any()


def test_holm_runs_once_over_all_that_the_study_declares(depth):
    once = depth.effects.drop_duplicates(["arm", "reference", "less"])
    assert len(once) == 7 + 3 + 3 + 3 < len(depth.effects)
    assert list(once["p_holm"]) == pytest.approx(list(holm.adjust(once["p"])))


def test_an_interaction_is_the_difference_of_two_differences(depth):
    wide = depth.trials.pivot_table(index="seed", columns="arm", values="test_top1")
    rows = depth.effects[depth.effects["contrast_group"] == "shortcut:depth"]
    assert list(rows["context"]) == [f"depth {d} against 18" for d in (34, 50, 101)]
    for row, d in zip(rows.to_dict("records"), (34, 50, 101), strict=True):
        deep, shallow = (wide[f"residual-{x}"] - wide[f"plain-{x}"] for x in (d, 18))
        assert row["difference"] == pytest.approx((deep - shallow).mean())
        assert row["less"] == "residual-18 − plain-18"
    assert rows.iloc[-1]["verdict"] == "helps"  # the shortcut does more, the deeper the net


def test_a_study_declares_its_comparisons_and_only_they_are_made_and_corrected_for(tmp_path):
    few = analyse(write_run(tmp_path, epochs=3, contrasts=["shortcut"])).effects
    assert list(few["contrast_group"].unique()) == ["shortcut"]
    assert list(few["p_holm"]) == pytest.approx(list(holm.adjust(few["p"])))


def test_what_no_trial_says_is_counted_and_what_it_could_change_is_told(tmp_path):
    statuses = {("residual-34", 2): "diverged", ("plain-101", 1): "not run"}
    found = analyse(write_run(tmp_path, statuses=statuses, seeds=(1, 2, 3, 4, 5), epochs=3, contrasts=["shortcut"]))
    table = found.effects.set_index("arm")
    assert list(table["missing"]) == [0, 1, 0, 1]
    assert (table["missing_verdicts"] != "").equals(table["missing"] > 0)
    row = table.loc["residual-34"]
    assert row["missing_low"] < row["difference"] < row["missing_high"]
    values = found.trials.pivot_table(index="seed", columns="arm", values="test_top1")
    lowest = min(values.min().min(), found.chance.of_metric)
    filled = values["residual-34"].fillna(lowest) - values["plain-34"]
    assert row["missing_low"] == pytest.approx(filled.mean())
    assert "undecided" in row["missing_verdicts"]  # one network at chance is enough to doubt it


def test_a_mixed_model_uses_the_seeds_that_pairs_leave_out(tmp_path):
    whole = analyse(write_run(tmp_path / "whole", seeds=(1, 2, 3, 4, 5), epochs=3)).effects
    assert whole["mixed"].isna().all()
    assert (whole["mixed_note"] == "").all()
    statuses = {("residual-34", 2): "failed"}
    part = analyse(write_run(tmp_path / "part", statuses=statuses, seeds=(1, 2, 3, 4, 5), epochs=3)).effects
    assert part["mixed"].notna().all()
    assert (part["mixed_low"] < part["mixed"]).all()
    assert list(part["mixed"]) == pytest.approx(list(part["difference"]), abs=0.01)


def test_effects_are_the_mean_of_the_paired_differences(depth):
    wide = depth.trials.pivot_table(index="seed", columns="arm", values="test_top1")
    for row in depth.effects[depth.effects["less"] == ""].to_dict("records"):
        assert row["difference"] == pytest.approx((wide[row["arm"]] - wide[row["reference"]]).mean())


def test_a_plain_net_that_degrades_hurts_and_its_twin_helps(depth):
    table = depth.effects.set_index(["contrast_group", "context", "arm"])["verdict"]
    assert table["depth", "shortcut plain", "plain-101"] == "hurts"
    assert table["shortcut", "depth 101", "residual-101"] == "helps"
    assert table["shortcut", "depth 18", "residual-18"] == "undecided"


def test_arms_at_chance_are_labelled_and_no_other_is(depth):
    word = depth.arms.set_index("arm")["chance"]
    assert word["plain-101"] == chance.AT
    assert (word.drop("plain-101") == chance.ABOVE).all()
    assert chance.AT in words(depth)


def test_no_winner_among_arms_at_chance(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: (0.1, 0.1), seeds=(1, 2, 3, 4, 5))
    for seed, value in zip((1, 2, 3, 4, 5), (0.112, 0.110, 0.114, 0.112, 0.110), strict=True):
        rewrite(run, "linear", seed, metrics={"test_top1": value - 0.02})
        rewrite(run, "wide", seed, metrics={"test_top1": value + 1e-4 * seed})
    row = analyse(run).effects.iloc[0]
    assert row["p_holm"] < 0.05
    assert row["low"] > 0
    assert (row["verdict"], row["note"]) == ("undecided", "neither arm is above chance")


def skewed_labels(run):
    """Make most test images of one class, answered as before; returns the share of that class."""
    for path in run.glob("trials/*/predictions.parquet"):
        frame = pd.read_parquet(path)
        frame["label"] = np.where(np.arange(len(frame)) < 200, 3, frame["label"] % 3)
        frame["predicted"] = np.where(frame["rank"] == 0, frame["label"], frame["label"] + 1)
        rewrite_predictions(path.parent, frame)
    return max(frame["label"].value_counts()) / len(frame)


def test_skill_is_judged_on_the_mean_over_classes_whatever_class_is_the_largest(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), seeds=(1, 2, 3))
    largest = skewed_labels(run)
    found = analyse(run)
    assert (found.chance.judged_by, found.chance.level) == ("test_mean_class_accuracy", 1 / 4)
    assert found.chance.of_metric == pytest.approx(largest)  # what is drawn beside top-1
    assert found.chance.images < 500  # of which so many are of one class


def test_a_net_that_answers_one_class_alone_shows_no_skill(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        folder = run / "trials" / trial_id("wide", seed)
        frame = pd.read_parquet(folder / "predictions.parquet")
        rewrite_predictions(folder, frame.assign(predicted=0, rank=np.where(frame["label"] == 0, 0, 4)))
    assert analyse(run).arms.set_index("arm").loc["wide", "chance"] == chance.AT


def test_without_the_mean_over_classes_skill_is_judged_against_the_largest_class(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), seeds=(1, 2))
    largest = skewed_labels(run)
    for path in run.glob("trials/*/record.json"):
        values = json.loads(path.read_text())
        values.pop("digests", None)
        del values["metrics"]["test_mean_class_accuracy"]
        path.write_text(json.dumps({**values, "schema_version": 1}))
    found = analyse(run)
    assert (found.chance.judged_by, found.chance.level) == ("test_top1", pytest.approx(largest))


def test_one_seed_has_no_interval_but_is_judged_against_chance_by_its_images(tmp_path):
    found = analyse(write_run(tmp_path, seeds=(1,), epochs=3))
    assert found.arms["low"].isna().all()
    assert (found.effects["verdict"] == "undecided").all()
    assert found.arms.set_index("arm")["chance"]["plain-101"] == chance.AT
    assert found.arms.set_index("arm")["chance"]["plain-18"] == chance.ABOVE
    assert "one seed" in words(found)


def test_nothing_that_did_not_complete_is_dropped_in_silence(tmp_path):
    statuses = {
        ("plain-18", 1): "failed",
        ("plain-34", 2): "diverged",
        ("plain-50", 3): "pruned",
        ("residual-18", 1): "not run",
    }
    run = write_run(tmp_path, statuses=statuses, epochs=3)
    (run / "trials" / trial_id("residual-34", 1) / "record.json").write_text("{")
    found = analyse(run)
    assert len(found.trials) == 24
    counts = found.trials["status"].value_counts().to_dict()
    assert counts == {
        "completed": 19, "failed": 1, "diverged": 1, "pruned": 1, "not run": 1, "unreadable": 1,
    }  # fmt: skip
    said = words(found)
    for word in ("failed", "diverged", "pruned", "not run", "unreadable"):
        assert f"1 of 24 trials {word}" in said
    row = found.effects.set_index(["contrast_group", "arm"]).loc[("baseline", "plain-34")]
    assert (row["n"], row["missing"]) == (1, 2)  # seed 1 lacks the baseline, seed 2 the arm
    assert found.arms.set_index("arm").loc["plain-34", "n"] == 2


def test_a_missing_contrast_still_counts_in_holm(tmp_path):
    absent = {(arm, seed): "not run" for arm in ("plain-101", "residual-101") for seed in (1, 2, 3)}
    whole, partial = analyse(write_run(tmp_path / "a")), analyse(write_run(tmp_path / "b", statuses=absent))
    both = whole.effects.merge(partial.effects, on=["contrast_group", "arm", "reference"])
    tested = both[both["p_y"].notna()]
    assert (tested["p_holm_y"] >= tested["p_holm_x"] - 1e-12).all()


@pytest.mark.parametrize("shortcut", ["plain", "residual"])
def test_budget_limited_looks_at_every_arm(tmp_path, shortcut):
    def truth(levels):
        return degrading(levels)[0], 0.45 if levels["shortcut"] == shortcut else 0.97

    found = analyse(write_run(tmp_path, truth=truth, epochs=24))
    text = next(label.text for label in labels(found) if label.word == "budget-limited")
    assert text.split(":")[1].count(shortcut) == 4
    assert text.startswith("Below 50 % training top-1 at the end")


def test_a_curve_that_still_rises_is_told(tmp_path):
    found = analyse(write_run(tmp_path, HEADS, lambda levels: (0.5, 0.99)))
    histories = found.histories.assign(train_top1=np.minimum(0.3, 0.05 * found.histories["epoch"]))
    assert budget.limited(found.arms, histories) == ([], [])  # flat since epoch 6 of 12
    rising = histories.assign(train_top1=0.05 * histories["epoch"])
    assert budget.limited(found.arms, rising) == ([], ["linear", "wide"])


def test_twins_of_one_size_are_paired_and_others_called_unpaired(depth, tmp_path):
    assert set(depth.effects["unpaired"]) == {""}
    assert "unpaired" not in words(depth)
    run = analyse(write_run(tmp_path, epochs=3, projections=3_000))
    twins = [row for row in run.effects.to_dict("records") if row["unpaired"]]
    assert {(row["contrast_group"], row["arm"], row["reference"]) for row in twins} == {
        ("baseline", "residual-18", "plain-18"),
        *(("shortcut", f"residual-{d}", f"plain-{d}") for d in (18, 34, 50, 101)),
    }
    assert twins[0]["unpaired"] == "+3,000 parameters (+1.5 %)"
    text = next(label.text for label in labels(run) if label.word == "unpaired")
    assert text.startswith("residual-18 − plain-18: +3,000 parameters (+1.5 %); residual-34 − plain-34: +3,000")


def test_demo_and_synthetic_are_labelled(tmp_path):
    settings = {"network": {}, "recipe": {}, "data": {"source": "synthetic"}}
    found = analyse(write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), profile="demo", settings=settings))
    assert {"demonstration, not a result", "synthetic data"} <= words(found)


def test_a_loss_is_better_when_lower(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: ({"linear": 0.5, "wide": 0.7}[levels["head"]], 0.9),
                    seeds=(1, 2, 3, 4), metric="test_loss")  # fmt: skip
    row = analyse(run).effects.iloc[0]
    assert row["difference"] < 0
    assert row["verdict"] == "helps"


def test_equivalence_needs_a_declared_margin(tmp_path):
    def same(levels):
        return 0.8, 0.99

    seeds = range(1, 9)
    with_margin = analyse(write_run(tmp_path / "a", HEADS, same, seeds=seeds, margin=0.05))
    without = analyse(write_run(tmp_path / "b", HEADS, same, seeds=seeds))
    assert with_margin.effects["verdict"].tolist() == ["equivalent"]
    assert without.effects["verdict"].tolist() == ["undecided"]


def test_a_foreign_folder_has_arms_but_no_baseline(tmp_path):
    found = analyse(write_run(tmp_path, foreign=True, epochs=3))
    assert list(found.design.factors) == ["shortcut", "depth"]
    assert len(found.arms) == 8
    assert "baseline" not in set(found.effects["contrast_group"])
    assert {"no study", "no plan"} <= words(found)


def test_records_that_the_plan_does_not_list_are_left_out_and_named(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9))
    plan = pd.read_csv(run / "plan.csv")
    plan[plan["seed"] != 3].to_csv(run / "plan.csv", index=False)
    found = analyse(run)
    assert found.completed == 4
    assert any(trial_id("wide", 3) in message for message in found.left_out)


def test_records_of_several_splits_are_not_called_paired(tmp_path):
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9))
    rewrite(run, "wide", 2, data={"split_hash": "another"})
    assert "different splits" in words(analyse(run))


def test_labels_that_look_like_numbers_or_nothing_stay_text(tmp_path):
    rates = {"rate": {"1e-4": 1e-4, "0.10": 0.1, "NA": None, "none": None}}
    statuses = {(label, seed): "not run" for label in rates["rate"] for seed in (1, 2, 3)}
    found = analyse(write_run(tmp_path, rates, lambda levels: (0.5, 0.9), statuses=statuses))
    assert list(found.design.arms) == ["1e-4", "0.10", "NA", "none"]
    assert found.design.factors["rate"] == ("1e-4", "0.10", "NA", "none")


def test_a_factor_may_be_called_like_a_column(tmp_path):
    factors = {"epochs": {"short": 5, "long": 20}, "seconds": {"1": 1, "2": 2}}
    found = analyse(write_run(tmp_path, factors, lambda levels: (0.5, 0.9), epochs=3))
    assert found.design.factors == {"epochs": ("short", "long"), "seconds": ("1", "2")}
    assert found.trials["seconds"].gt(2).all()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("plan.csv", "arm,seed\na,1\n", "lacks the columns id"),
        ("plan.csv", "", "cannot be read"),
        ("plan.csv", "id,arm,seed\nx,a,one\n", "seed that is no number"),
        ("study.yaml", "a: [", "no readable study"),
        ("study.yaml", "- a list", "expected a mapping"),
        ("study.yaml", "baseline: nobody", "is no arm of this run"),
    ],
)
def test_a_damaged_folder_is_one_clear_message(tmp_path, file, content, message):
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), seeds=(1,), epochs=2)
    (run / file).write_text(content)
    with pytest.raises(RecordError, match=message):
        analyse(run)


def test_a_record_keeps_the_order_of_its_factors(tmp_path):
    run = write_run(tmp_path, seeds=(1,), epochs=2)
    assert all(list(record.levels) == list(DEPTH_FACTORS) for record in load_run(run).records)
