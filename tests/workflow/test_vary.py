"""A study that says what its seeds vary, from plan to report: its own seeds decide, and parts stand beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import fake_run, tiny

from resflow import workspace
from resflow.analysis.analyse import Analysis, analyse
from resflow.analysis.labels import labels
from resflow.cli.console import plan_table, trials_table
from resflow.data.dataset import load_dataset
from resflow.errors import StudyError, WeightsError
from resflow.inspection import inspect_run
from resflow.records import packing
from resflow.records.record import read_record, write_record
from resflow.records.run import finished_records, load_run
from resflow.report.headline import scope
from resflow.report.write import write_report
from resflow.runner.progress import Progress
from resflow.study.load import load_study
from resflow.workflow.plan import Plan, make_plan, write_plan
from resflow.workflow.status import live_state, read_state

STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "Does depth help?",
    "baseline": "18",
    "factors": {"depth": [18, 34]},
    "execution": {"device": "cpu"},
    "seeds": 3,
}
PARTS = {"parts": ["init", "order"]}
HEADS = {"head": {"linear": {}, "wide": {"hidden": [64]}}}


def plan(out: Path, **changes: Any) -> Plan:
    return make_plan(load_study({**STUDY, **changes}), out=out, prepare=False)


def ran(made: Plan) -> Path:
    """Write a plan and a record of each of its trials, without training; return the run's folder."""
    write_plan(made)
    for place, trial in enumerate(made.trials):
        write_record(made.run, fake_run.completed(trial, (0.5 + 0.01 * (place % 7), 0.9)))
    return made.run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(plan(tmp_path_factory.mktemp("vary") / "run", vary=PARTS))


@pytest.fixture(scope="module")
def seen(run: Path) -> Analysis:
    return analyse(run)


def words(analysis: Analysis) -> dict[str, str]:
    return {label.word: label.text for label in labels(analysis)}


def test_the_plan_marks_the_trials_that_vary_one_stream(run: Path) -> None:
    listed = pd.read_csv(run / workspace.PLAN, keep_default_na=False)
    assert listed.groupby("varies", sort=False).size().to_dict() == {"": 6, "init": 4, "order": 4}
    assert sorted(listed.loc[listed["varies"] == "init", "seed"].unique()) == [2, 3]


def test_verdicts_and_means_are_of_the_studys_own_seeds(seen: Analysis, run: Path, tmp_path: Path) -> None:
    plain = plan(tmp_path / "run")
    write_plan(plain)
    for trial in plain.trials:
        packing.take_over(plain.run, trial, run)
    without = analyse(plain.run)
    pd.testing.assert_frame_equal(seen.effects, without.effects)
    pd.testing.assert_frame_equal(seen.arms, without.arms)
    pd.testing.assert_frame_equal(seen.trials, without.trials)
    assert read_state(run).arms == read_state(plain.run).arms
    assert scope(seen) == scope(without)


def test_the_report_shows_the_parts_and_every_trial(seen: Analysis, run: Path, one_figure: None) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    assert "14 of 14 trials completed" in page
    assert "Parts of the spread" in page
    assert ">3 (init)<" in page
    assert "initialisation and order; beside them initialisation and order, one at a time" in page
    assert "Parts of the spread" in (run / workspace.README).read_text(encoding="utf-8")
    trials = pd.read_csv(run / workspace.TRIALS_TABLE, keep_default_na=False)
    assert (len(trials), set(trials["varies"])) == (14, {"", "init", "order"})
    spread = pd.read_csv(run / workspace.SPREAD, keep_default_na=False)
    assert len(spread) == len(seen.parts)
    assert set(spread["varies"]) == {"init", "order", "all"}


def test_parts_that_did_not_run_are_missing_and_decide_nothing(tmp_path: Path) -> None:
    made = plan(tmp_path / "run", vary=PARTS)
    write_plan(made)
    for trial in made.trials[:6]:
        write_record(made.run, fake_run.completed(trial, (0.3 + 0.3 * (trial.arm == "34"), 0.9)))
    found = analyse(made.run)
    assert found.effects["verdict"].tolist() == ["helps"]
    assert "8 of 14 trials not run" in words(found)
    assert set(found.parts.loc[found.parts["varies"] == "init", "n"]) == {1}


def test_tables_of_trials_name_the_stream(run: Path) -> None:
    made = plan(run, vary=PARTS)
    for table, last in (
        (plan_table(made.trials, dict.fromkeys((t.id for t in made.trials), 1.0)), "3 (order)"),
        (trials_table(read_state(run).trials, "test_top1"), "3 (order)"),
    ):
        seeds = next(column for column in table.columns if str(column.header) == "seed")
        assert [str(cell) for cell in seeds.cells][-1] == last
    assert load_run(run).trials["varies"].value_counts().to_dict() == {"": 6, "init": 4, "order": 4}


def test_means_on_the_screen_are_of_the_studys_own_seeds(run: Path) -> None:
    made = plan(run, vary=PARTS)
    live = live_state(Progress({}, 0, planned=made.trials, before=finished_records(run)))
    assert live.arms == read_state(run).arms
    assert [arm.seeds for arm in live.arms] == [3, 3]


def test_a_look_into_networks_is_into_those_of_the_studys_own_seeds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def nowhere(state: Path, trial_id: str) -> Path:
        asked.append(trial_id)
        return state / "nowhere"

    monkeypatch.setattr(inspect_run, "network_path", nowhere)
    with pytest.raises(WeightsError, match="no network of seed 3"):
        inspect_run.choose_networks(run, None, 3)
    assert set(asked) == {trial.id for trial in plan(run, vary=PARTS).trials if trial.seed == 3 and not trial.varies}


def test_without_a_plan_records_say_what_varies(run: Path, tmp_path: Path) -> None:
    made = plan(tmp_path / "run", vary=PARTS)
    write_plan(made)
    for trial in made.trials:
        packing.take_over(made.run, trial, run)
    (made.run / workspace.PLAN).unlink()
    found = analyse(made.run)
    assert (len(found.trials), len(found.apart)) == (6, 8)


def test_a_record_that_is_taken_over_has_the_seed_and_the_streams_of_its_new_study(run: Path, tmp_path: Path) -> None:
    alone = plan(tmp_path / "run", vary=["order"])
    for trial in alone.trials:
        record = read_record(packing.take_over(alone.run, trial, run))
        assert (record.seed, record.held, record.varies) == (trial.seed, trial.held, "")


@pytest.mark.parametrize(
    ("vary", "what"),
    [(["init"], "initialisation alone"), (["order"], "order alone"), (["split", "order"], "order and the split")],
)
def test_a_result_says_what_it_is_over(vary: list[str], what: str, tmp_path: Path, one_figure: None) -> None:
    found = analyse(fake_run.write_run(tmp_path / "run", HEADS, lambda levels: (0.6, 0.9), vary=vary))
    assert f"3 seeds ({what})" in scope(found)
    assert "are those of the first seed in every trial" in words(found)[f"over {what}"]
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert f"is over seeds ({what})" in page
    assert f"t intervals over seeds ({what})" in page


def test_by_default_nothing_more_is_said(tmp_path: Path) -> None:
    usual = fake_run.write_run(tmp_path / "usual", HEADS, lambda levels: (0.6, 0.9))
    said = fake_run.write_run(tmp_path / "said", HEADS, lambda levels: (0.6, 0.9), vary=["order", "init"])
    assert scope(analyse(usual)) == scope(analyse(said))
    assert labels(analyse(usual)) == labels(analyse(said))


def test_a_key_that_is_damaged_is_told_and_left_out(tmp_path: Path) -> None:
    run = fake_run.write_run(tmp_path / "run", HEADS, lambda levels: (0.6, 0.9), vary=["inti"])
    assert any("vary is \"['inti']\"" in fault for fault in analyse(run).faults)


def test_where_each_seed_has_its_own_test_images_nothing_is_said_image_by_image(tmp_path: Path) -> None:
    def write(vary: list[str]) -> Path:
        run = fake_run.write_run(tmp_path / vary[-1], HEADS, lambda levels: (0.6, 0.9), vary=vary)
        for seed in (2, 3):
            for arm in HEADS["head"]:
                folder = run / "trials" / fake_run.trial_id(arm, seed)
                answers = pd.read_parquet(folder / "predictions.parquet")
                fake_run.rewrite_predictions(folder, answers.assign(image=answers["image"] + f"_{seed}"))
                fake_run.rewrite(run, arm, seed, data={"split_hash": f"{seed}"}, split_seed=seed)
        return run

    found = analyse(write(["init", "order", "split"]))
    assert found.predictions is None
    assert "Each seed has test images of its own" in words(found)["over seeds alone"]
    assert not [word for word in words(found) if word.startswith("different")]
    mixed = analyse(write(["init", "order"]))
    assert mixed.predictions is not None
    assert "different splits" in words(mixed)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    tiny.photos(folder)
    return folder


def test_each_seed_draws_a_split_of_its_own_and_all_arms_share_it(photos: Path, tmp_path: Path) -> None:
    study = {**tiny.STUDY, "seeds": 3, "split_seed": 4, "vary": ["init", "split"]}
    made = make_plan(study, f"folder:{photos}", out=tmp_path / "run")
    hashes: dict[int, set[str]] = {}
    for trial in made.trials:
        data = load_dataset(made.folders[trial.id], trial.data.split, trial.split_seed)
        hashes.setdefault(trial.seed, set()).add(data.split_hash)
        assert (trial.order_seed, trial.split_seed) == (1, 3 + trial.seed)
    assert all(len(of_seed) == 1 for of_seed in hashes.values())
    assert len(set.union(*hashes.values())) == 3
    usual = make_plan({**study, "vary": ["init", "order"]}, f"folder:{photos}", out=tmp_path / "run")
    assert [t.id for t in usual.trials[:2]] == [t.id for t in made.trials[:2]]


@pytest.mark.parametrize("vary", [["split"], {"parts": ["init", "split"]}])
def test_a_split_that_is_given_cannot_vary(vary: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="vary: the generated split of synthetic is given, not drawn"):
        plan(tmp_path / "run", vary=vary)
