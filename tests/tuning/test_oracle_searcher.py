"""keras-tuner's oracles under Ray Tune: no candidate lost, the same ones after a restore, failures told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle
from ray.tune.search import Searcher

from resflow.errors import ResflowError, StudyError
from resflow.tuning.oracle_searcher import OracleSearcher

Oracle = keras_tuner.Oracle
BEST = keras_tuner.Objective("top1", "max")


def space() -> keras_tuner.HyperParameters:
    """A conditional space: momentum exists for sgd alone."""
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Float("momentum", 0.5, 0.99)
    return hp


MAKE: dict[str, Callable[..., Oracle]] = {
    "random": lambda **more: RandomSearchOracle(BEST, max_trials=7, hyperparameters=space(), seed=3, **more),
    "bayesian": lambda **more: BayesianOptimizationOracle(
        BEST, max_trials=7, num_initial_points=3, hyperparameters=space(), seed=3, **more
    ),
    "hyperband": lambda **more: HyperbandOracle(BEST, max_epochs=6, hyperparameters=space(), seed=3, **more),
}
EVERY = pytest.mark.parametrize("kind", MAKE)


def score(values: dict[str, Any]) -> float:
    """A landscape with its top at a rate of 0.01."""
    extra = 0.1 * values["momentum"] if "momentum" in values else 0.0
    return 1 - abs(math.log10(values["rate"]) + 2) / 4 + extra


def one_by_one(searcher: OracleSearcher, start: int = 0, most: int = 1000) -> list[dict[str, Any]]:
    """Run a search a candidate at a time; returns what was suggested."""
    suggested = []
    for number in range(start, start + most):
        values = searcher.suggest(f"ray{number}")
        if values == Searcher.FINISHED:
            break
        assert values is not None, "one at a time nothing is waited for"
        suggested.append(values)
        searcher.on_trial_complete(f"ray{number}", {"top1": score(values), "training_iteration": 1})
    return suggested


@EVERY
def test_every_candidate_ends_in_the_oracle(kind: str, tmp_path: Path) -> None:
    searcher = OracleSearcher(MAKE[kind](), tmp_path)
    suggested = one_by_one(searcher)
    trials = searcher.oracle.trials.values()
    assert len(suggested) == len(trials) >= 7
    assert all(trial.status == TrialStatus.COMPLETED for trial in trials)
    assert searcher.oracle.ongoing_trials == {}
    assert [trial.score for trial in trials] == pytest.approx([score(values) for values in suggested])
    best = searcher.oracle.get_best_trials()[0]
    assert best.score == max(map(score, suggested))


@EVERY
@pytest.mark.parametrize("after", [1, 5])
def test_a_search_goes_on_from_its_checkpoint_with_the_same_candidates(kind: str, after: int, tmp_path: Path) -> None:
    whole = one_by_one(OracleSearcher(MAKE[kind](), tmp_path / "whole"))
    first = OracleSearcher(MAKE[kind](), tmp_path / "first")
    begun = one_by_one(first, most=after)
    first.save(str(tmp_path / "state.json"))
    second = OracleSearcher(MAKE[kind](), tmp_path / "second")
    second.restore(str(tmp_path / "state.json"))
    assert begun + one_by_one(second, start=after) == whole


@EVERY
def test_conditional_values_are_there_where_they_count_only(kind: str, tmp_path: Path) -> None:
    for values in one_by_one(OracleSearcher(MAKE[kind](), tmp_path)):
        assert ("momentum" in values) == (values["optimizer"] == "sgd")
        assert 1e-4 <= values["rate"] <= 1e-1


@EVERY
def test_several_at_once_lose_none(kind: str, tmp_path: Path) -> None:
    """Four at a time, which end in another order than they began."""
    searcher, running, done, number = OracleSearcher(MAKE[kind](), tmp_path), {}, 0, 0
    draw = np.random.default_rng(0)
    while True:
        finished = False
        while len(running) < 4:
            values = searcher.suggest(f"ray{number}")
            if values == Searcher.FINISHED:
                finished = True
                break
            if values is None:
                assert running, "nothing runs, and the oracle waits"
                break
            running[f"ray{number}"] = values
            number += 1
        if not running:
            assert finished
            break
        chosen = sorted(running)[draw.integers(len(running))]
        searcher.on_trial_complete(chosen, {"top1": score(running.pop(chosen)), "training_iteration": 1})
        done += 1
    assert done == number == len(searcher.oracle.trials)
    assert searcher.candidates == searcher.last_steps == {}


def test_the_best_of_a_candidates_reports_counts_and_none_twice(tmp_path: Path) -> None:
    searcher = OracleSearcher(MAKE["random"](), tmp_path)
    searcher.suggest("ray")
    for step, value in enumerate((0.2, 0.6, 0.4), start=1):
        searcher.on_trial_result("ray", {"top1": value, "training_iteration": step})
        searcher.on_trial_result("ray", {"top1": 0.0, "training_iteration": step})  # again: Tune repeats its last one
    searcher.on_trial_complete("ray", {"top1": 0.4, "training_iteration": 3})
    (trial,) = searcher.oracle.trials.values()
    assert trial.score == 0.6
    assert trial.best_step == 2


@pytest.mark.parametrize(
    ("result", "error", "said"),
    [(None, True, "failed"), ({"loss": 1.0}, False, "top1"), ({"top1": float("nan")}, False, "number")],
)
def test_a_failure_is_told_to_the_oracle_and_retried(result: Any, error: bool, said: str, tmp_path: Path) -> None:
    searcher = OracleSearcher(MAKE["random"](max_retries_per_trial=1), tmp_path)
    values = searcher.suggest("ray0")
    searcher.on_trial_complete("ray0", result, error=error)
    (trial,) = searcher.oracle.trials.values()
    assert trial.status == TrialStatus.INVALID
    assert said in (trial.message or "")
    assert searcher.suggest("ray1") == values
    searcher.on_trial_complete("ray1", {"top1": 0.5, "training_iteration": 1})
    assert trial.status == TrialStatus.COMPLETED


def test_too_many_failures_end_the_search_and_say_why(tmp_path: Path) -> None:
    searcher = OracleSearcher(MAKE["random"](max_consecutive_failed_trials=2), tmp_path)
    for number in range(2):
        assert isinstance(searcher.suggest(f"ray{number}"), dict)
        searcher.on_trial_complete(f"ray{number}", error=True)
    assert "consecutive" in searcher.gave_up
    assert searcher.suggest("ray2") == Searcher.FINISHED


def test_what_ran_when_a_process_died_is_handed_out_first(tmp_path: Path) -> None:
    first = OracleSearcher(MAKE["bayesian"](), tmp_path / "first")
    one_by_one(first, most=4)
    running = [first.suggest("ray4"), first.suggest("ray5")]
    state = json.loads(json.dumps(first.state()))
    second = OracleSearcher(MAKE["bayesian"](), tmp_path / "second")
    second.resume(state)
    second.requeue()
    again = [second.suggest("ray6"), second.suggest("ray7")]
    assert sorted(map(str, again)) == sorted(map(str, running))
    assert len(second.oracle.trials) == 6


def test_it_takes_no_other_objective_than_the_oracles(tmp_path: Path) -> None:
    searcher = OracleSearcher(MAKE["random"](), tmp_path)
    assert searcher.set_search_properties("top1", "max", {})
    assert not searcher.set_search_properties("loss", "min", {})
    assert not searcher.set_search_properties(None, None, {"rate": 1})
    with pytest.raises(ResflowError, match="objective"):
        OracleSearcher(RandomSearchOracle(hyperparameters=space()), tmp_path)


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_the_networks_are_a_hypermodel_by_themselves(tmp_path: Path) -> None:
    import keras

    import resflow

    keras.utils.set_random_seed(1)  # determinism, which other tests switch on, wants one for `fit` to shuffle by
    made = resflow.ResNetHyperModel(16, 3, tune=("learning_rate", "dropout", "hidden"), family="cifar", depth=8)
    tuner = keras_tuner.RandomSearch(
        made, objective="val_accuracy", max_trials=2, seed=1, directory=str(tmp_path), project_name="own"
    )
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(24, 16, 16, 3)).astype(np.float32), draw.integers(0, 3, 24)
    tuner.search(x, y, validation_data=(x, y), epochs=1, batch_size=8, verbose=0)
    trials = tuner.oracle.trials.values()
    assert len(trials) == 2
    assert all({"learning_rate", "dropout", "hidden"} == set(trial.hyperparameters.values) for trial in trials)
    assert all(0 <= trial.score <= 1 for trial in trials)
    _loads_again(tuner.get_best_models()[0], tmp_path / "best.keras", x, y)
    with pytest.raises(StudyError, match=r"'rate'.*learning_rate"):
        resflow.ResNetHyperModel(16, 3, tune=("rate",))
    with pytest.raises(StudyError, match=r"'dept'.*depth"):
        resflow.ResNetHyperModel(16, 3, dept=18)


def _loads_again(model: Any, path: Path, x: np.ndarray, y: np.ndarray) -> None:
    """A saved model comes back compiled: with the same loss, smoothing and all."""
    import keras

    from resflow.models.hypermodel import SmoothedCrossEntropy

    model.compile(model.optimizer, SmoothedCrossEntropy(3, 0.1), metrics=["accuracy"])
    model.save(path)
    loaded = keras.models.load_model(path)
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))


@pytest.mark.parametrize("kind", ["hyperband"])
def test_ray_tune_runs_a_whole_search(kind: str, tmp_path: Path) -> None:
    """Through Tune itself, a worker of which is killed: its candidate is tried again, and none is lost."""
    import ray
    from ray import cloudpickle, tune
    from support import work

    from resflow.runner import ray_session
    from resflow.study.resources import TrialResources

    cloudpickle.register_pickle_by_value(work)
    searcher = OracleSearcher(MAKE[kind](), tmp_path / "oracle")
    with ray_session.connect(TrialResources(cpus=1)):
        tuner = tune.Tuner(
            tune.with_parameters(work.scored_once_killed, marker=str(tmp_path / "killed")),
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=2, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path / "ray"), verbose=0, failure_config=tune.FailureConfig(max_failures=1)
            ),
        )
        results = tuner.fit()
        assert ray.is_initialized()
    assert (tmp_path / "killed").is_file()
    assert results.num_errors == 0
    trials = searcher.oracle.trials.values()
    assert len(trials) == len(results)
    assert all(trial.status == TrialStatus.COMPLETED for trial in trials)
