"""The tuning phase: one budget for every arm, the same candidates on every machine, and no look at the test images."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import tiny

from resflow import workspace
from resflow.analysis.analyse import analyse
from resflow.analysis.labels import labels
from resflow.analysis.tuning_curves import expected
from resflow.errors import RecordError, StudyError
from resflow.records.packing import pack
from resflow.records.record import Outcome, make_record, write_record
from resflow.records.run import load_run
from resflow.report import tuning as tuned
from resflow.report.write import write_report
from resflow.study import search_space
from resflow.study.load import load_study
from resflow.study.search_space import Choice, Range, Tune
from resflow.study.trial import Trial
from resflow.tuning import phase as tuning
from resflow.tuning.search import Search, make_oracle
from resflow.workflow.plan import Plan, make_plan, tuning_phase, with_tuned_trials, write_plan
from resflow.workspace import archive_path

TEXT = """\
name: mine
question: Is it the rate?
baseline: plain
factors: {{shortcut: {{plain: none, residual: zero_pad}}}}
network: {{family: cifar, depth: 8, width: 0.125}}
data: {{source: "folder:{photos}", image_size: 16}}
recipe: {{epochs: 4, batch_size: 8, learning_rate: 0.1}}
execution: {{device: cpu}}
seeds: 3
tune:
  space:
    learning_rate: {{low: 1e-4, high: 1.0, sampling: log}}
    optimizer: {{choice: [sgd, adam]}}
    momentum: {{low: 0.5, high: 0.99, when: {{optimizer: sgd}}}}
    head.hidden: {{choice: {{linear: [], wide: [16]}}}}
  candidates: 6
"""
EVERY = pytest.mark.parametrize("kind", ["random", "bayesian", "hyperband"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    tiny.photos(folder)
    return folder


@pytest.fixture
def mine(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(TEXT.format(photos=photos))
    return "./mine.yaml"


def plan_of(mine: str, kind: str = "random", **more: Any) -> Plan:
    asked: dict[str, Any] = {"tune.oracle": kind, **more}
    if kind == "hyperband":
        asked["tune.candidates"] = None
    return make_plan(load_study(mine, settings=asked), out=Path("run"))


def searches_of(mine: str, kind: str = "random", **more: Any) -> tuning.Searches:
    found = plan_of(mine, kind, **more).searches
    assert found is not None
    return found


def scored(trial: Trial, **changed: Any) -> Outcome:
    """A record as training would leave it, scored by the rate: best at 0.01."""
    top = 0.9 - 0.2 * abs(np.log10(trial.recipe.learning_rate) + 2) + trial.seed % 5 / 100
    known = {"status": "completed", "metrics": {"validation_top1": top, "validation_loss": 1 - top}, **changed}
    return Outcome(make_record(trial, **known))


def run_all(search: Search, run: Path, order: Any = None, most: int = 10**9) -> list[Trial]:
    """Run a search without Ray, two at a time; `order` draws which of them ends first."""
    running, ran = [], []
    while len(search):
        while len(running) < 2 and len(ran) < most and (trial := search.next()) is not None:
            running.append(trial)
            ran.append(trial)
        if not running:
            if len(ran) >= most or not len(search):
                break
            continue
        ending = running.pop(order(len(running)) if order else 0)
        write_record(run, scored(ending))
        search.ended(ending.id)
    search.close()
    return ran


def asked(trials: list[Trial]) -> dict[str, list[tuple[Any, ...]]]:
    """Arm -> number, values, epochs and seed of each candidate, by number."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for trial in trials:
        made = trial.candidate
        assert made is not None
        found.setdefault(trial.arm, []).append((made.number, tuple(made.values.items()), made.epochs, trial.seed))
    return {arm: sorted(some, key=lambda one: (one[0], one[3])) for arm, some in found.items()}


@EVERY
def test_every_arm_gets_the_same_budget_and_uses_it(kind: str, mine: str, tmp_path: Path) -> None:
    searches = searches_of(mine, kind, **{"tune.seeds": 2})
    ran = asked(run_all(Search(searches, tmp_path), tmp_path))
    allotted = searches.rungs("plain")
    assert {arm: [one[2] for one in some[::2]] for arm, some in ran.items()} == {
        "plain": [*allotted],
        "residual": [*allotted],
    } or kind == "hyperband"
    for some in ran.values():
        assert sorted(one[2] for one in some[::2]) == sorted(allotted)
        assert {one[3] for one in some} == set(searches.tune.chosen_seeds)
    found = tuning.phase_from_records(searches.table(), load_run(tmp_path).records)
    assert found.unfair() == found.unfinished == []
    assert (found.ledger()["candidates"] == len(allotted)).all()
    assert found.ledger()["epochs_used"].nunique() == 1
    if kind == "random":
        assert ran["plain"] == ran["residual"]  # the same points for every arm


@EVERY
def test_a_search_that_was_cut_off_goes_on_with_the_same_candidates(kind: str, mine: str, tmp_path: Path) -> None:
    searches = searches_of(mine, kind)
    whole = asked(run_all(Search(searches, tmp_path / "whole"), tmp_path / "whole"))
    begun = run_all(Search(searches, tmp_path / "cut"), tmp_path / "cut", most=5)
    assert pack(tmp_path / "cut") == 5  # which some do before they go on
    rest = run_all(Search(searches, tmp_path / "cut"), tmp_path / "cut")
    assert not {trial.id for trial in begun} & {trial.id for trial in rest}
    assert asked(begun + rest) == whole


def test_candidates_do_not_run_again_because_their_archive_is_damaged(mine: str, tmp_path: Path) -> None:
    searches = searches_of(mine, "random")
    run_all(Search(searches, tmp_path), tmp_path, most=2)
    pack(tmp_path)
    archive_path(tmp_path).write_bytes(b"no archive")
    with pytest.raises(RecordError, match="Restore it"):
        Search(searches, tmp_path)


@EVERY
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.randoms(use_true_random=False))
def test_candidates_do_not_depend_on_which_ends_first(
    kind: str, draw: Any, mine: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    searches = searches_of(mine, kind)
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    in_order = asked(run_all(Search(searches, first), first))
    assert asked(run_all(Search(searches, second), second, draw.randrange)) == in_order


def test_batches_are_heard_together_and_are_the_studys_choice(mine: str, tmp_path: Path) -> None:
    search = Search(searches_of(mine, "bayesian", **{"tune.batch": 3}), tmp_path)
    given_out = [search.next() for _ in range(7)]
    assert [trial is not None for trial in given_out] == [True] * 6 + [False]  # three an arm, then results are wanted
    search.close()


@pytest.mark.parametrize("kind", ["random", "bayesian"])
def test_a_space_of_just_enough_points_is_searched_whole(kind: str, mine: str, tmp_path: Path) -> None:
    """An oracle may ask for the same values again, which count again; it never gives up before its budget."""
    space_ = {
        "optimizer": {"choice": ["sgd", "adam"]},
        "batch_size": {"low": 4, "high": 6, "when": {"optimizer": "sgd"}},  # three, and one of adam
    }
    searches = searches_of(mine, kind, **{"tune.space": space_, "tune.candidates": 4})
    assert search_space.count_points(searches.tune.space) == 4
    ran = asked(run_all(Search(searches, tmp_path), tmp_path))
    assert all(len(some) == 4 for some in ran.values())
    assert tuning.phase_from_records(searches.table(), load_run(tmp_path).records).unfinished == []
    if kind == "random":
        assert all(len({one[1] for one in some}) == 4 for some in ran.values())


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans())
def test_points_are_the_combinations_that_can_differ(sizes: list[int], conditional: bool) -> None:
    made: dict[str, Any] = {"optimizer": Choice(choice=["sgd", "adam"])}
    when = {"optimizer": "adam"} if conditional else {}
    made |= {f"x{place}": Range(low=0, high=size, when=when) for place, size in enumerate(sizes)}
    inside = int(np.prod([size + 1 for size in sizes]))
    assert search_space.count_points(made) == (1 + inside if conditional else 2 * inside)
    assert search_space.count_points({**made, "y": Range(low=0.0, high=1.0)}) == np.inf
    assert search_space.count_points({"x": Range(low=0.0, high=1.0, step=0.25)}) == 5
    assert search_space.count_points({"x": Range(low=1e-3, high=1.0, sampling="log", step=10)}) == 4


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("epochs", [1, 4, 9, 20])
def test_hyperbands_budget_is_keras_tuners(factor: int, epochs: int, tmp_path: Path) -> None:
    """Counted before anything runs, by an own formula."""
    tune = Tune(space={"learning_rate": Range(low=1e-4, high=1.0)}, oracle="hyperband", factor=factor)
    made = make_oracle(tune, epochs)
    made.verbose = 0
    made._set_project_dir(str(tmp_path), "oracle")
    told = []
    while (one := made.create_trial("tuner")).status == "RUNNING":
        told.append(int(one.hyperparameters.values.get("tuner/epochs", epochs)))
        made.update_trial(one.trial_id, {"validation_top1": 0.5})
        one.status = "COMPLETED"
        made.end_trial(one)
    assert sorted(told) == sorted(search_space.hyperband(epochs, factor))


def test_failures_and_divergence_take_from_the_budget_and_never_win(mine: str, tmp_path: Path) -> None:
    searches = searches_of(mine)
    search = Search(searches, tmp_path)
    while len(search) and (trial := search.next()) is not None:
        made = trial.candidate
        assert made is not None
        status = {1: "failed", 2: "diverged", 3: "pruned"}.get(made.number, "completed")
        outcome = scored(trial)
        if status != "completed":
            outcome = scored(trial, status=status, reason="planted", metrics={})
        write_record(tmp_path, outcome)
        search.ended(trial.id)
    assert not len(search)
    search.close()
    found = tuning.phase_from_records(searches.table(), load_run(tmp_path).records)
    ledger = found.ledger()
    assert (
        ledger[["candidates", "failed", "diverged", "pruned", "completed"]].to_numpy().tolist() == [[6, 1, 1, 1, 3]] * 2
    )
    for arm in ("plain", "residual"):
        won = found.winner(arm)
        assert won is not None
        assert won.number >= 4
        assert won.score == max(one.score for one in found.tried[arm] if one.status == "completed")
        assert [found.tried[arm][1].score, found.tried[arm][2].score] == [0.0, 0.0]
        assert np.isnan(found.tried[arm][0].score)


def test_tuned_trials_have_the_winners_settings_on_fresh_seeds(mine: str) -> None:
    plan = plan_of(mine)
    assert plan.searches is not None
    assert [t.arm for t in plan.trials if t.seed == 1] == ["plain-untuned", "residual-untuned"]  # nobody has won yet
    run_all(Search(plan.searches, Path("run/tuning")), Path("run/tuning"))
    again = plan_of(mine)
    assert [t.arm for t in again.trials if t.seed == 1] == [
        "plain-untuned",
        "plain-tuned",
        "residual-untuned",
        "residual-tuned",
    ]
    found = tuning.phase_from_records(plan.searches.table(), load_run(Path("run/tuning")).records)
    for trial in again.trials:
        assert trial.seed not in plan.searches.tune.chosen_seeds
        assert trial.candidate is None
        if trial.tuned:
            won = found.winner(trial.arm.removesuffix("-tuned"))
            assert won is not None
            assert trial.recipe.learning_rate == won.values["learning_rate"]
            assert trial.recipe.optimizer == won.values["optimizer"]
            assert trial.recipe.momentum == won.values.get("momentum", 0.9)  # what did not count stays as written
            assert trial.network.head.hidden == {"linear": (), "wide": (16,)}[won.values["head.hidden"]]
        else:
            assert (trial.recipe.learning_rate, trial.recipe.optimizer) == (0.1, "sgd")
    untuned = plan_of(mine, **{"tune.untuned": False})
    assert {t.arm for t in untuned.trials} == {"plain", "residual"}
    assert {t.id for t in untuned.trials} == {t.id for t in again.trials if t.tuned}  # one space, one search


def test_a_winner_that_is_the_recipe_as_written_is_a_trial_of_its_own(mine: str) -> None:
    settings = {
        "tune.space": {"optimizer": {"choice": ["sgd", "adam"]}},
        "tune.candidates": 2,
        "recipe.learning_rate": 0.01,
    }
    plan = plan_of(mine, **settings)
    assert plan.searches is not None
    run_all(Search(plan.searches, Path("run/tuning")), Path("run/tuning"))
    trials = plan_of(mine, **settings).trials
    assert len({trial.id for trial in trials}) == len(trials) == 12


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_a_candidate_never_sees_the_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is the same to the bit where they are others, and where there are none."""
    from resflow.training import train

    folder = tiny.prepare()
    plain = tiny.trial(folder)
    trial = replace(plain, diagnostics=False, candidate=tuning.Candidate("s", 1, {}, plain.recipe.epochs, plain.id))
    whole = train.train_trial(trial, folder)
    given_ = train.load_dataset(folder, trial.data.split, trial.split_seed)
    images = np.array(given_.images)
    images[given_.test] = 255 - images[given_.test]
    for other in (replace(given_, images=images), replace(given_, test=np.array([10**9]))):
        monkeypatch.setattr(train, "load_dataset", lambda *asked, other=other: other)
        found = train.train_trial(trial, folder)
        assert found.record.metrics == whole.record.metrics
        pd.testing.assert_frame_equal(found.history.drop(columns="seconds"), whole.history.drop(columns="seconds"))
    assert whole.record.status == "completed"
    assert whole.predictions is None
    assert whole.record.data["test"] == 0
    assert not any(name.startswith("test") for name in whole.record.metrics)
    monkeypatch.undo()
    tested = train.train_trial(plain, folder)  # the same trial, had it been one: equal but for the test
    assert {**tested.record.metrics, **whole.record.metrics} == tested.record.metrics


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_a_longer_candidate_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    from resflow.training import train
    from resflow.training.checkpoints import Storage

    folder, storage, told = tiny.prepare(), Storage(str(tmp_path)), list[dict[str, float]]()
    plain = tiny.trial(folder, epochs=4)
    short, whole = (
        replace(plain, id=name, diagnostics=False, candidate=tuning.Candidate("s", 1, {}, epochs, "course"))
        for name, epochs in (("short", 2), ("whole", 4))
    )
    alone = train.train_trial(whole, folder)
    begun = train.train_trial(short, folder, storage=storage)
    assert begun.record.epochs_run == 2
    went_on = train.train_trial(whole, folder, on_epoch=told.append, storage=storage)
    assert [row["epoch"] for row in told] == [1, 2, 3, 4]  # what prunes hears of the earlier ones too
    columns = [name for name in alone.history if name != "seconds"]
    pd.testing.assert_frame_equal(went_on.history[columns], alone.history[columns])
    pd.testing.assert_frame_equal(begun.history[columns], alone.history[columns][:2])
    again = train.train_trial(short, folder, storage=storage)  # its checkpoint is of a longer one: not used
    pd.testing.assert_frame_equal(again.history[columns], begun.history[columns])


@pytest.fixture(scope="module")
def caught_up(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run through Ray of arms that differ in their best rate alone, ASHA among its candidates, a worker killed."""
    from ray import cloudpickle
    from support import work

    from resflow.runner import progress
    from resflow.runner.execute import RunPlace, execute, execute_search

    cloudpickle.register_pickle_by_value(work)
    place = tmp_path_factory.mktemp("caught-up")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "mine.yaml").write_text(TEXT.format(photos=photos))
        rate = {"learning_rate": {"low": 1e-4, "high": 1.0, "sampling": "log"}}
        asked_for = {"tune.space": rate, "tune.candidates": 12, "tune.pruning": "asha", "seeds": 5}
        plan = make_plan(load_study("./mine.yaml", settings=asked_for), out=Path("run"))
        assert plan.searches is not None
        write_plan(plan)
        seen: list[progress.Progress] = []
        best = {"plain": 0.1, "residual": 0.001}  # the recipe's rate is 0.1: an advantage that is none of the net's
        act = functools.partial(work.planted, best=best, marker=place / "killed")
        search_place = RunPlace(plan.run / workspace.TUNING, plan.state)
        execute_search(search_place, plan.searches, plan.folders, seen.append, work=act)
        assert (place / "killed").is_file()
        assert len(seen[-1].done) == seen[-1].total == 24
        final = with_tuned_trials(plan, tuning_phase(plan))
        write_plan(final)
        execute(RunPlace(final.run, final.state), final.trials, final.folders, seen.append, work=act)
        write_report(final.run)
        yield place / "run"


@pytest.mark.timeout(900)
def test_an_arm_that_needs_another_rate_alone_catches_up(caught_up: Path) -> None:
    analysis = analyse(caught_up)
    table = analysis.effects.set_index(["contrast_group", "arm"])
    untuned, tuned_ = (table.loc[("shortcut", f"residual-{level}")] for level in ("untuned", "tuned"))
    assert untuned["verdict"] == "hurts"
    assert untuned["difference"] < -0.35
    assert abs(tuned_["difference"]) < 0.1
    assert table.loc[("tuning", "residual-tuned"), "verdict"] == "helps"
    changed = table.loc[("shortcut:tuning", "residual-tuned")]
    assert changed["difference"] == pytest.approx(tuned_["difference"] - untuned["difference"])


@pytest.mark.timeout(900)
def test_no_candidate_is_lost_and_those_behind_end_early(caught_up: Path) -> None:
    found = tuning.read_phase(caught_up)
    assert found is not None
    ledger = found.ledger()
    assert found.unfair() == []
    assert (ledger["candidates"] == 12).all()
    assert (ledger["failed"] == 0).all()  # the one whose worker was killed ran again
    assert (ledger["pruned"] > 0).all()
    assert (ledger["epochs_used"] < 12 * 4).all()
    for arm, mine_ in found.tried.items():
        for one in mine_:
            (record,) = one.records
            history = pd.read_csv(caught_up / workspace.TUNING / "trials" / record.id / "history.csv")
            assert list(history["epoch"]) == list(range(1, record.epochs_run + 1))
            assert one.score == pytest.approx(history["validation_top1"].iloc[-1])
        won = found.winner(arm)
        assert won is not None
        assert won.status == "completed"
        assert won.score == max(one.score for one in mine_)
    assert not load_run(caught_up).broken
    assert {record.candidate for record in load_run(caught_up).records} == {None}


@pytest.mark.timeout(900)
def test_the_report_shows_the_budget_and_what_was_chosen(caught_up: Path) -> None:
    page = (caught_up / "report.html").read_text()
    for text in ("Tuning: what each arm was given", "12 of 12", "Tuning: what each arm chose", "learning_rate"):
        assert text in page
    assert (caught_up / "figures" / "tuning_curves.svg").is_file()
    assert (caught_up / "figures" / "tuning_sensitivity.svg").is_file()
    assert pd.read_csv(caught_up / "ledger.csv")["allotted"].tolist() == [12, 12]
    assert "unfairly tuned" not in {label.word for label in labels(analyse(caught_up))}


@pytest.mark.timeout(900)
def test_unequal_budgets_are_called_unfair(caught_up: Path, tmp_path: Path) -> None:
    import shutil

    run = Path(shutil.copytree(caught_up, tmp_path / "run"))
    phase = tuning.read_phase(run)
    assert phase is not None
    gone = next(one for one in phase.tried["residual"] if one.number == 12)
    shutil.rmtree(run / workspace.TUNING / "trials" / gone.records[0].id)
    said = next(label for label in labels(analyse(run)) if label.word == "unfairly tuned")
    assert "residual has tried 11 of 12" in said.text
    (run / workspace.TUNING / workspace.SEARCHES).write_text(
        (run / workspace.TUNING / workspace.SEARCHES).read_text().replace(",12,1,4", ",11,1,4", 1)
    )
    said = next(label for label in labels(analyse(run)) if label.word == "unfairly tuned")
    assert "candidates allotted: plain 11, residual 12" in said.text


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=8, unique=True))
@settings(max_examples=15)
def test_tuning_curves_are_the_expected_maximum_within_their_bands(scores: list[float]) -> None:
    curve = expected(_phase(scores), independent=True)
    ordered, n = np.sort(scores), len(scores)
    for row in curve.itertuples():
        weights = (np.arange(1, n + 1) / n) ** row.k - (np.arange(n) / n) ** row.k  # Dodge et al. 2019, equation 5
        assert row.score == pytest.approx(float(weights @ ordered), abs=1e-6)
        assert 0 <= row.low <= row.score + 1e-9 <= row.high + 2e-9 <= 1 + 1e-6
    assert (np.diff(curve["score"]) >= -1e-9).all()
    best = expected(_phase(scores), independent=False)
    assert best["score"].tolist() == np.maximum.accumulate(scores).tolist()
    assert best["low"].isna().all()


def _phase(scores: list[float]) -> tuning.Phase:
    trial = tiny.trial(tiny.prepare())
    table = pd.DataFrame([("a", "s", "x", "random", len(scores), 1, 2)], columns=list(tuning.SEARCH_COLUMNS))
    tried = [
        tuning.TriedCandidate("a", n, {}, 2, (scored(trial, metrics={"validation_top1": score}).record,))
        for n, score in enumerate(scores, start=1)
    ]
    return tuning.Phase(table, {"a": tried})


@pytest.mark.long
def test_bands_cover_the_curve_of_the_distribution() -> None:
    """Of 20 searches of 8 uniform candidates at least 15 bands hold the whole true curve k/(k+1): 95 % are promised."""
    draw, held = np.random.default_rng(5), 0
    for _ in range(20):
        curve = expected(_phase(list(draw.uniform(size=8))), independent=True)
        true = curve["k"] / (curve["k"] + 1)
        held += bool(((curve["low"] <= true) & (true <= curve["high"])).all())
    assert held >= 15  # fewer come three times in ten thousand where 95 % hold


def test_what_lies_at_an_end_is_told() -> None:
    rate = Range(low=1e-3, high=1.0, sampling="log")
    assert [rate.edge(value) for value in (1e-3, 1.9e-3, 2.1e-3, 0.03, 0.48, 0.52, 1.0)] == [
        "low",
        "low",
        "",
        "",
        "",
        "high",
        "high",
    ]
    assert [Range(low=0, high=1).edge(value) for value in (0.05, 0.5, 0.95)] == ["low", "", "high"]
    assert Choice(choice=["a", "b"]).edge("a") == ""


@given(st.floats(0, 1), st.sampled_from(["linear", "log", "reverse_log"]))
def test_places_on_a_scale_are_keras_tuners(share: float, sampling: str) -> None:
    made = keras_tuner.HyperParameters()
    made.Float("x", 0.01, 2.0, sampling=sampling)
    value = made.space[0].prob_to_value(share)
    assert Range(low=0.01, high=2.0, sampling=sampling).place(value) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tune.space": {"rate": {"low": 1, "high": 2}}}, "'rate'"),
        ({"tune.space": {"epochs": {"low": 1, "high": 2}}}, "epochs cannot be tuned"),
        ({"tune.space": {"depth": {"low": 8, "high": 20}}}, "'depth'"),
        ({"tune.space": {"learning_rate": {"low": 1.0, "high": 0.1}}}, "must be less than high"),
        ({"tune.space": {"learning_rate": {"low": 0, "high": 0.1, "sampling": "log"}}}, "above 0"),
        ({"tune.space": {"momentum": {"low": 0.5, "high": 1.5}}}, "1.5"),
        ({"tune.space": {"optimizer": {"choice": ["sgd", "sgdd"]}}}, "sgdd"),
        ({"tune.space": {"optimizer": {"choice": ["sgd"]}}}, "choice"),
        ({"tune.space": {"momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}}}}, "choice above"),
        (
            {
                "tune.space": {
                    "optimizer": {"choice": ["sgd", "adam"]},
                    "momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer": "adamw"}},
                }
            },
            "'adamw'",
        ),
        ({"tune.space": {}}, "space"),
        ({"tune.space": {"optimizer": {"choice": ["sgd", "adam"]}}}, "2 candidates can differ in this space, and 6"),
        ({"tune.space": {"batch_size": {"low": 4, "high": 8}}}, "5 candidates can differ"),
        ({"tune.oracle": "grid"}, "oracle"),
        ({"tune.oracle": "hyperband"}, "hyperband counts its own candidates"),
        ({"tune.seeds": [1]}, "seed 1 is a trial's as well"),
        ({"tune.seeds": [7, 7]}, "listed twice"),
        ({"tune.candidates": 0}, "candidates"),
        ({"factors.learning_rate": [0.1, 0.2]}, "learning_rate is a factor"),
        ({"tune.epochs": 1, "recipe.warmup_epochs": 2}, "warmup_epochs 2 must be fewer than epochs 1"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changed: dict[str, Any], said: str, mine: str) -> None:
    with pytest.raises(StudyError, match=said):
        make_plan(load_study(mine, settings=changed), out=Path("run"), prepare=False)


def test_a_study_without_tune_cannot_be_tuned(mine: str) -> None:
    from typer.testing import CliRunner

    from resflow.cli import main

    result = CliRunner().invoke(main.app, ["tune", "depth", "--profile", "demo"])
    assert isinstance(result.exception, StudyError)
    assert "has no `tune`" in str(result.exception)


def test_tables_of_a_phase_that_has_just_begun_say_so(mine: str) -> None:
    searches = searches_of(mine)
    begun = tuning.phase_from_records(searches.table(), [])
    ledger, chosen, effects = tuned.tables(begun, searches.tune.space)
    assert [row[1] for row in ledger.rows] == ["0 of 6", "0 of 6"]
    assert "plain has tried 0 of 6 candidates" in ledger.note
    assert {row[1] for row in chosen.rows} == {"–"}
    assert all("too few" in row[2] for row in effects.rows)
