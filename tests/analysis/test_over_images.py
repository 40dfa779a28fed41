"""What effects rest on: seeds and images, pairs or other seeds, two seeds, answers that are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.fake_run import rewrite_predictions, trial_id, write_run

from resflow.analysis import crossed, image_statistics, seed_statistics
from resflow.analysis.analyse import Analysis, analyse
from resflow.analysis.labels import labels
from resflow.report import tables

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
ARTICLE = Path(__file__).parents[2] / "results" / "article-cpu-oxford_flowers10"


def good(levels: object) -> tuple[float, float]:
    return (0.6, 0.95) if "wide" in str(levels) else (0.5, 0.9)


def answers(analysis: Analysis) -> tuple[np.ndarray, np.ndarray]:
    """The right answers of the wide and of the linear head, (seeds, images)."""
    assert analysis.predictions is not None
    of_arm = analysis.predictions.of_arm
    first, second = (
        np.stack([analysis.predictions.right(of_arm[arm][seed]) for seed in sorted(of_arm[arm])])
        for arm in ("wide", "linear")
    )
    return first, second


def test_an_effect_is_over_seeds_and_images_with_each_alone_beside_it(tmp_path: Path) -> None:
    found = analyse(write_run(tmp_path, HEADS, good, seeds=(1, 2, 3, 4), epochs=3))
    row = found.effects.iloc[0]
    first, second = answers(found)
    table = first.astype(float) - second
    both = seed_statistics.mean_interval(table.mean(axis=1), image_variance=crossed.image_variance(table))
    alone = image_statistics.over_images(first, second)
    assert row["over"] == "seeds and images"
    assert (row["low"], row["high"]) == pytest.approx((both.low, both.high))
    assert (row["images_low"], row["images_high"]) == pytest.approx((alone.low, alone.high))
    assert row["low"] < row["seeds_low"] < row["seeds_high"] < row["high"]
    assert row["p"] > row["p_seeds"]
    header = tables.effects(found)[0].header
    assert {"Over seeds", "Over images"} <= set(header)


def test_without_predictions_it_is_over_seeds_and_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, HEADS, good, seeds=(1, 2, 3, 4), epochs=3)
    for path in run.glob("trials/*/predictions.parquet"):
        path.unlink()
    found = analyse(run)
    row = found.effects.iloc[0]
    assert row["over"] == "seeds"
    assert (row["low"], row["p"]) == (row["seeds_low"], row["p_seeds"])
    assert "over seeds alone" in {label.word for label in labels(found)}
    assert not {"Over seeds", "Over images"} & set(tables.effects(found)[0].header)


def test_a_metric_of_training_images_is_of_other_training_images(tmp_path: Path) -> None:
    found = analyse(write_run(tmp_path, HEADS, good, seeds=(1, 2, 3, 4), epochs=3, metric="train_top1"))
    text = next(label.text for label in labels(found) if label.word == "over seeds alone")
    assert text.endswith("training top-1 are over seeds: other training images could give other effects.")


def test_few_images_may_leave_undecided_what_seeds_agree_on(tmp_path: Path) -> None:
    """The article's +16.9 points: seeds alone give 13.8 to 20.0, but they rest on 52 images."""
    row = analyse(ARTICLE).effects.set_index("arm").loc["frozen-augmented-normalised-flatten-1e-5-20"]
    assert [100 * row[end] for end in ("seeds_low", "seeds_high")] == pytest.approx([13.8, 20.0], abs=0.05)
    assert 8.5 < 100 * row["low"] < 10
    assert 24 < 100 * row["high"] < 26


def test_arms_that_answer_alike_in_every_seed_are_equivalent(tmp_path: Path) -> None:
    run = write_run(tmp_path, HEADS, good, seeds=(1, 2, 3), epochs=3)
    for seed in (1, 2, 3):
        frame = pd.read_parquet(run / "trials" / trial_id("linear", seed) / "predictions.parquet")
        rewrite_predictions(run / "trials" / trial_id("wide", seed), frame)
    row = analyse(run).effects.iloc[0]
    assert (row["verdict"], row["note"]) == ("equivalent", "the same answer to every image")
    wrong = frame.index[frame["rank"] > 0][0]
    frame.loc[wrong, "predicted"] = (frame.loc[wrong, "label"] + 5) % 10
    rewrite_predictions(run / "trials" / trial_id("wide", 3), frame)
    assert analyse(run).effects.iloc[0]["verdict"] == "undecided"  # as accurate, by other answers


def test_other_seeds_give_an_unpaired_estimate_that_decides_nothing(tmp_path: Path) -> None:
    statuses = {("wide", seed): "failed" for seed in (1, 2, 3)} | {("linear", seed): "failed" for seed in (4, 5, 6)}
    found = analyse(write_run(tmp_path, HEADS, good, seeds=range(1, 7), epochs=3, statuses=statuses))
    row = found.effects.iloc[0]
    values = {arm: found.trials.loc[found.trials["arm"] == arm, "test_top1"].dropna() for arm in ("wide", "linear")}
    welch = seed_statistics.welch(values["wide"], values["linear"])
    assert (row["n"], row["verdict"]) == (0, "undecided")
    assert (row["welch"], row["welch_low"]) == pytest.approx((welch.mean, welch.low))
    assert "not paired, by other seeds" in tables.effects(found)[0].rows[0][-1]


def test_two_seeds_show_points_and_a_label(tmp_path: Path) -> None:
    found = analyse(write_run(tmp_path, HEADS, good, seeds=(1, 2), epochs=3))
    assert found.arms["low"].isna().all()
    assert set(found.arms["note"]) == {seed_statistics.TWO_VALUES}
    assert "two seeds" in {label.word for label in labels(found)}
    row = found.effects.iloc[0]
    assert np.isnan(row["low"]) == (row["verdict"] == "undecided")
    assert "two seeds" in row["note"]


def test_the_gain_of_pairing_is_shown(tmp_path: Path) -> None:
    found = analyse(write_run(tmp_path, HEADS, good, seeds=(1, 2, 3, 4), epochs=3))
    wide = found.trials.pivot_table(index="seed", columns="arm", values="test_top1")
    assert found.effects.iloc[0]["correlation"] == pytest.approx(wide.corr().loc["wide", "linear"])


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ({"a": (0.5, 0.7), "b": (0.5, 0.9)}, "larger"),
        ({"a": (0.5, 0.9), "b": (0.5, 0.7)}, "smaller"),
        ({"a": (0.9, 0.5), "b": (0.9, 0.7)}, "smaller loss"),
        ({"a": (0.9, 0.7), "b": (0.9, 0.5)}, "larger loss"),
        ({"a": (0.5, 0.7), "b": (0.7, 0.5)}, "reversed"),
    ],
)
def test_the_word_for_a_change_is_of_its_size(
    tmp_path: Path, at: dict[str, tuple[float, float]], expected: str
) -> None:
    """Accuracies of the linear and of the wide head with data a and with b."""
    factors = {**HEADS, "data": {"a": 1, "b": 2}}
    run = write_run(
        tmp_path,
        factors,
        lambda levels: (at[levels["data"]]["wide" in levels.values()], 0.95),
        seeds=(1, 2, 3, 4),
        epochs=3,
        contrasts=["head:data"],
    )
    row = analyse(run).effects.iloc[0]
    assert row["verdict"] in ("helps", "hurts")
    assert row["change"] == expected


def test_failures_have_a_rate_with_its_interval(tmp_path: Path) -> None:
    statuses = {("wide", 1): "failed", ("wide", 2): "diverged", ("wide", 3): "pruned", ("wide", 4): "not run"}
    found = analyse(write_run(tmp_path, HEADS, good, seeds=range(1, 9), epochs=3, statuses=statuses))
    arm = found.arms.set_index("arm").loc["wide"]
    assert arm["failure_rate"] == pytest.approx(2 / 6)
    assert (arm["failure_low"], arm["failure_high"]) == pytest.approx(image_statistics.clopper_pearson(2, 6))
    table = tables.arms(found)
    assert table.rows[1][table.header.index("Failed (%)")] == "33.3 (4.3 to 77.7)"


def test_equivalence_is_corrected_and_drawn_with_the_interval_that_decides(tmp_path: Path) -> None:
    factors = {"head": {f"h{number}": number for number in range(5)}}
    found = analyse(write_run(tmp_path, factors, lambda levels: (0.8, 0.99), seeds=range(1, 9), epochs=3, margin=0.03))
    table = found.effects
    assert (table["p_equivalence_holm"] >= table["p_equivalence"]).all()
    inside = (table["equivalence_low"] > -0.03) & (table["equivalence_high"] < 0.03)
    assert list(inside) == list(table["p_equivalence_holm"] < 0.05)
    assert list(inside) == list(table["verdict"] == "equivalent")


def test_a_hundred_arms_are_told_in_a_few_words(tmp_path: Path) -> None:
    from resflow.report.answer import answer
    from resflow.report.figure_list import list_figures

    factors = {"head": {f"h{number}": number for number in range(100)}}
    truth = lambda levels: (0.3 + 0.005 * int(levels["head"][1:]), 0.4)  # noqa: E731
    found = analyse(write_run(tmp_path, factors, truth, seeds=(1, 2, 3), epochs=3))
    assert max(len(sentence.split()) for sentence in answer(found)) < 80
    assert max(len(label.text.split()) for label in labels(found)) < 80
    drawn = {
        entry.name: entry.draw(width=7.4) for _, entry in list_figures(found) if entry.name in ("accuracy", "effects")
    }
    assert len(drawn) == 2
    assert all(figure.get_figheight() < 30 for figure in drawn.values())
