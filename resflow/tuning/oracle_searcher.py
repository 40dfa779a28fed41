"""keras-tuner's oracles as a search algorithm of Ray Tune.

    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        keras_tuner.Objective("validation_top1", "max"), max_trials=12, hyperparameters=space, seed=1
    )
    tuner = ray.tune.Tuner(
        trainable,
        tune_config=ray.tune.TuneConfig(search_alg=OracleSearcher(oracle, folder), num_samples=-1),
    )

The trainable gets the values of the hyperparameters that are active as its config, and reports the objective by its
name (`ray.tune.report({"validation_top1": 0.8})`). Hyperband's oracle adds `tuner/epochs`, `tuner/initial_epoch`,
`tuner/bracket`, `tuner/round` and, from its second round on, `tuner/trial_id`: how far to train, from which candidate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from resflow import provenance
from resflow.errors import ResflowError

with provenance.quiet_import():
    import keras_tuner
    from keras_tuner.engine.trial import Trial, TrialStatus

FINISHED = Searcher.FINISHED
STEP = "training_iteration"  # Tune's own count of a trial's reports
UNREPORTED = "the candidate ended without reporting a number as '{}'"


class OracleSearcher(Searcher):
    """Hands out an oracle's candidates to Ray Tune, and Tune's reports to the oracle.

    `folder` is where the oracle keeps its files. As many candidates run at once as Tune asks for; where the oracle has
    to wait for results first (Hyperband between rounds) Tune is told to come again. A candidate that fails, or reports
    no number, is told to the oracle with the reason, which retries it as often as `max_retries_per_trial` says; where
    the oracle gives up after too many failures the search ends, and `gave_up` says why.

    Raises ResflowError for an oracle without one objective.
    """

    def __init__(self, oracle: keras_tuner.Oracle, folder: Path | str) -> None:
        objective = oracle.objective
        if type(objective) is not keras_tuner.Objective:  # its subclasses are none at all, and several
            raise ResflowError(
                f"the oracle has the objective {objective}: expected one, such as "
                "keras_tuner.Objective('validation_top1', 'max')."
            )
        super().__init__(metric=objective.name, mode=objective.direction)
        oracle.verbose = 0  # the screen is the caller's
        oracle._set_project_dir(str(folder), "oracle")  # the one way to say where an oracle without a Tuner writes
        self.oracle, self.objective = oracle, objective
        self.candidates: dict[str, str] = {}  # Tune's id -> the oracle's
        self.last_steps: dict[str, float] = {}  # Tune's id -> the last step whose report the oracle has
        self.gave_up = ""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept Tune's metric and mode where they are the objective's own: an oracle cannot change its."""
        return metric in (None, self.objective.name) and mode in (None, self.objective.direction) and not config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next candidate's values, None where the oracle waits, FINISHED where it has no more."""
        if self.gave_up:
            return Searcher.FINISHED
        candidate = self.oracle.create_trial(trial_id)
        if candidate.status == TrialStatus.STOPPED:
            return Searcher.FINISHED
        if candidate.status == TrialStatus.IDLE:
            return None
        self.candidates[trial_id] = candidate.trial_id
        return {name: _plain(value) for name, value in candidate.hyperparameters.values.items()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on the objective where it is a number, once a step."""
        value, step = result.get(self.objective.name), result.get(STEP, 0)
        if value is None or not np.isfinite(value):
            return
        if trial_id in self.candidates and step > self.last_steps.get(trial_id, -1):
            self.oracle.update_trial(self.candidates[trial_id], {self.objective.name: float(value)}, step=step)
            self.last_steps[trial_id] = step

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a candidate: completed, or with the reason for which it is not."""
        if trial_id not in self.candidates:
            return
        self.on_trial_result(trial_id, result or {})
        candidate = self.oracle.get_trial(self.candidates.pop(trial_id))
        self.last_steps.pop(trial_id, None)
        if error:
            candidate.status, candidate.message = TrialStatus.INVALID, "the candidate's process failed"
        elif not candidate.metrics.exists(self.objective.name):
            candidate.status, candidate.message = TrialStatus.INVALID, UNREPORTED.format(self.objective.name)
        elif not np.isfinite((result or {}).get(self.objective.name, 0.0)):
            candidate.status, candidate.message = TrialStatus.INVALID, f"'{self.objective.name}' was no number at last"
        else:
            candidate.status = TrialStatus.COMPLETED
        try:
            self.oracle.end_trial(candidate)
        except RuntimeError as problem:  # too many failures in a row
            self.gave_up = str(problem)
            self.oracle.ongoing_trials.pop(trial_id, None)

    def requeue(self) -> None:
        """Hand out again whatever was running, before anything new: for a search whose workers are gone."""
        for candidate in self.oracle.ongoing_trials.values():
            if candidate.trial_id not in self.oracle._retry_queue:
                self.oracle._retry_queue.insert(0, candidate.trial_id)
        self.oracle.ongoing_trials.clear()
        self.candidates.clear()
        self.last_steps.clear()

    def state(self) -> dict[str, Any]:
        """Return all that decides the next candidates, as JSON has it: another process goes on from it as this one."""
        random = getattr(self.oracle, "_random_state", None)  # Bayesian; keras-tuner's own state leaves it out
        return {
            "oracle": self.oracle.get_state(),
            "candidates": {name: trial.get_state() for name, trial in self.oracle.trials.items()},
            "random": None if random is None else [_plain(part) for part in random.get_state()],
            "given": self.candidates,
            "heard": self.last_steps,
            "gave_up": self.gave_up,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; the oracle must have been made with the same arguments."""
        self.oracle.trials = {name: Trial.from_state(one) for name, one in state["candidates"].items()}
        self.oracle.set_state(state["oracle"])
        if state["random"] is not None:
            kind, keys, *rest = state["random"]
            self.oracle._random_state.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        self.candidates, self.last_steps, self.gave_up = dict(state["given"]), dict(state["heard"]), state["gave_up"]
        for candidate in self.oracle.trials.values():
            self.oracle._save_trial(candidate)
        self.oracle.save()

    def save(self, checkpoint_path: str) -> None:
        """Write the state where Tune asks for it."""
        Path(checkpoint_path).write_text(json.dumps(self.state()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Go on from what `save` wrote."""
        self.resume(json.loads(Path(checkpoint_path).read_text(encoding="utf-8")))


def _plain(part: Any) -> Any:
    return part.tolist() if isinstance(part, np.ndarray | np.generic) else part


__all__ = ["OracleSearcher"]
