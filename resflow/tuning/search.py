"""The candidates of a tuning phase, as the oracles of keras-tuner ask for them.

Every arm has an oracle of its own, of one seed and one budget. Its candidates come in batches, whose results it learns
in the order in which it asked: so which candidates are tried depends on no machine and on no moment, and a search that
was cut off goes on by asking again and reading the records that are there.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resflow import provenance

with provenance.quiet_import():
    import keras_tuner

from resflow.errors import RecordError
from resflow.records.archive import open_archive
from resflow.records.packing import find_record
from resflow.records.record import Record
from resflow.study.search_space import Choice, Parameter, Tune
from resflow.study.trial import Trial
from resflow.tuning.oracle_searcher import FINISHED, OracleSearcher
from resflow.tuning.phase import SCORE, Searches, TriedCandidate

EPOCHS = "tuner/epochs"  # how keras-tuner names what Hyperband adds to a candidate's values
OWN = "tuner/"
MOST_DRAWS = 10_000  # for a candidate that was not tried yet: keras-tuner gives a small space up after 20


def make_hyperparameters(space: Mapping[str, Parameter]) -> keras_tuner.HyperParameters:
    """Return a study's space as keras-tuner has it; choices go by their labels."""
    space_of_tuner = keras_tuner.HyperParameters()
    for name, parameter in space.items():
        _register(space_of_tuner, name, parameter, list(parameter.wanted().items()))
    return space_of_tuner


def _register(tuners: Any, name: str, parameter: Parameter, conditions: list[tuple[str, list[str]]]) -> None:
    if conditions:
        (parent, labels), *further = conditions
        with tuners.conditional_scope(parent, labels):
            _register(tuners, name, parameter, further)
    elif isinstance(parameter, Choice):
        tuners.Choice(name, list(parameter.labelled))
    else:
        kind = tuners.Int if parameter.whole else tuners.Float
        kind(name, parameter.low, parameter.high, step=parameter.step, sampling=parameter.sampling)


def make_oracle(tune: Tune, epochs: int) -> keras_tuner.Oracle:
    """Return a new oracle of keras-tuner for one arm, whose candidates train for so many epochs at most."""
    common = {
        "objective": keras_tuner.Objective(SCORE, "max"),
        "hyperparameters": make_hyperparameters(tune.space),
        "seed": tune.seed + 1,  # keras-tuner takes a 0 for none, and draws one
        "allow_new_entries": False,
        "tune_new_entries": False,
        "max_consecutive_failed_trials": 10**9,  # every arm is given all its candidates, whatever comes of them
    }
    if tune.oracle == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=epochs, factor=tune.factor, **common)
    else:
        kind = {
            "random": keras_tuner.oracles.RandomSearchOracle,
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        }[tune.oracle]
        oracle = kind(max_trials=len(tune.rungs(epochs)), **common)
    oracle._max_collisions = MOST_DRAWS
    return oracle


@dataclass
class PendingCandidate:
    """A candidate that an oracle waits for, and its trials, one a seed."""

    name: str  # the oracle's
    number: int
    values: dict[str, Any]
    epochs: int
    trials: list[Trial]
    records: list[Record] = field(default_factory=list)


class ArmSearch:
    """The search of one arm: `next` gives the trials of its candidates, `report_result` takes in the record of one."""

    def __init__(self, searches: Searches, arm: str, folder: Path) -> None:
        self.searches, self.arm, self.tune = searches, arm, searches.tune
        self.epochs = searches.arms[arm].recipe.epochs
        self.searcher = OracleSearcher(make_oracle(self.tune, self.epochs), folder)
        self.batch = self.tune.batch or (len(searches.rungs(arm)) if self.tune.oracle == "random" else 1)
        self.pending: list[PendingCandidate] = []
        self.by_trial: dict[str, PendingCandidate] = {}
        self.waiting = deque[Trial]()
        self.number = 0
        self.finished = False

    def next(self) -> Trial | None:
        """Return the next trial; None where results have to come first, or there is no more."""
        if not self.waiting and not self.finished and self._batch_has_ended():
            self._report_batch()
            self._ask_for_batch()
        return self.waiting.popleft() if self.waiting else None

    def report_result(self, record: Record) -> None:
        """Take in the record of a trial that `next` gave."""
        self.by_trial[record.id].records.append(record)

    def _batch_has_ended(self) -> bool:
        return all(len(candidate.records) == len(candidate.trials) for candidate in self.pending)

    def _report_batch(self) -> None:
        for one in self.pending:
            candidate = TriedCandidate(self.arm, one.number, one.values, one.epochs, tuple(one.records))
            failed = candidate.status == "failed"
            if failed and self.tune.oracle != "hyperband":
                self.searcher.on_trial_complete(one.name, error=True)
            else:  # Hyperband waits for a result of each: one that failed is its worst
                score = 0.0 if failed else candidate.score
                self.searcher.on_trial_complete(one.name, {SCORE: score, "training_iteration": 1})
        self.pending, self.by_trial = [], {}

    def _ask_for_batch(self) -> None:
        while len(self.pending) < self.batch:
            suggestion = self.searcher.suggest(f"candidate{self.number + 1}")
            if suggestion is None and self.pending:
                break  # Hyperband wants results
            if suggestion is None or suggestion == FINISHED:
                self.finished = not self.pending
                break
            assert isinstance(suggestion, dict)
            self.number += 1
            epochs = int(suggestion.get(EPOCHS, self.epochs))
            values = {name: value for name, value in suggestion.items() if not name.startswith(OWN)}
            trials = [
                self.searches.candidate(self.arm, self.number, values, epochs, seed) for seed in self.tune.chosen_seeds
            ]
            self.pending.append(PendingCandidate(f"candidate{self.number}", self.number, values, epochs, trials))
            self.by_trial |= dict.fromkeys((trial.id for trial in trials), self.pending[-1])
            self.waiting += trials


class Search:
    """All searches of a study as a source of trials for the runner; a process that is free goes on with its arm.

    `run` is where candidates' records lie; those that are there are not run again. Raises RecordError.
    """

    def __init__(self, searches: Searches, run: Path) -> None:
        self.searches, self.run = searches, run
        open_archive(run)  # raises where it is damaged: the candidates in it would run again
        self.scratch = tempfile.TemporaryDirectory(prefix="resflow-")  # keras-tuner writes files that nobody reads
        self.arms = {
            arm: ArmSearch(searches, arm, Path(self.scratch.name) / str(i)) for i, arm in enumerate(searches.arms)
        }
        self.trials: dict[str, Trial] = {}  # all that were handed out or found done
        self.running: dict[str, str] = {}  # id -> arm
        self.warm: list[str] = []  # arms of processes that have become free, the last one first: their graphs are built
        self.ended_ids: list[str] = []  # whose records are still to be read
        self.total = sum(len(searches.rungs(arm)) for arm in self.arms) * len(searches.tune.chosen_seeds)

    def __len__(self) -> int:
        """Return how many trials may still come; 0 where the search is over."""
        return 0 if all(arm.finished for arm in self.arms.values()) else max(1, self.total - len(self.trials))

    def next(self, arm: str | None = None) -> Trial | None:
        """Return the next trial that is to run, of `arm` where it has one to give.

        It is None where results have to come first, or there is no more.
        """
        self._report_ended()
        warm = arm or (self.warm.pop(0) if self.warm else "")
        busy = set(self.running.values())
        for _, search in sorted(self.arms.items(), key=lambda named: (named[0] != warm, named[0] in busy)):
            while (trial := search.next()) is not None:
                self.trials[trial.id] = trial
                try:
                    search.report_result(find_record(self.run, trial.id))
                except RecordError:
                    self.running[trial.id] = trial.arm
                    return trial
        return None

    def ended(self, trial_id: str) -> None:
        """Take note that a trial's process is free; more than once does no harm."""
        if trial_id in self.running:
            self.warm.insert(0, self.running.pop(trial_id))
            self.ended_ids.append(trial_id)

    def config(self, trial: Trial) -> dict[str, Any]:
        """Return what a worker needs to make the trial again."""
        candidate = trial.candidate
        assert candidate is not None
        return {
            "trial": trial.id,
            "arm": trial.arm,
            "number": candidate.number,
            "values": candidate.values,
            "epochs": candidate.epochs,
            "seed": trial.seed,
        }

    def close(self) -> None:
        """Remove the files of keras-tuner."""
        self.scratch.cleanup()

    def _report_ended(self) -> None:
        """Report the trials that have ended; a record may come a moment after its trial's end."""
        later = []
        for trial_id in self.ended_ids:
            try:
                record = find_record(self.run, trial_id)
            except RecordError:
                later.append(trial_id)
            else:
                self.arms[self.trials[trial_id].arm].report_result(record)
        self.ended_ids = later
