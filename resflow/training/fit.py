"""The epochs of one trial, from where it stands to the test of its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resflow.errors import ResflowError, TrainingError
from resflow.study.trial import Trial
from resflow.training import diagnostics
from resflow.training.checkpoints import Arrays, Checkpoints, TrainingState
from resflow.training.inputs import Inputs
from resflow.training.learner import ALL, HEAD, Learner, prepare_learner
from resflow.training.schedule import learning_rate
from resflow.training.scoring import predictions, score
from resflow.training.trial_clock import TrialClock
from resflow.weights.description import describe_trial
from resflow.weights.saved import write_network

log = logging.getLogger("resflow.train")
OnEpoch = Callable[[dict[str, Any]], None]  # of the history's row, and `shared`, as the record has it, so far


class Diverged(Exception):  # noqa: N818  (an outcome, not an error)
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Fitted:
    """The result of training: figures of the weights that were tested."""

    epoch: int  # whose weights they are
    metrics: dict[str, float]
    predictions: pd.DataFrame | None  # none of a candidate
    diagnostics: pd.DataFrame | None


def networks_needed(trial: Trial, keep: Path | None) -> set[str]:
    """Return the epochs, `best` and `last`, whose networks are needed at a trial's end."""
    return {trial.recipe.test_weights, trial.keep_weights} if keep else {trial.recipe.test_weights}


class Fit:
    """The training of one trial; `state` grows as its epochs end.

    `arrays` are those of the checkpoint that `state` comes from, none at a trial's beginning. `keep` is where the
    network that `trial.keep_weights` asks for is written; `clock` is told of the work that the trial shares. Raises
    TrainingError where there are too few images.
    """

    def __init__(
        self, inputs: Inputs, state: TrainingState, arrays: Arrays, keep: Path | None, clock: TrialClock
    ) -> None:
        self.clock = clock
        self.inputs, self.trial, self.state, self.keep = inputs, inputs.trial, state, keep
        recipe, images = self.trial.recipe, len(inputs.dataset.train)
        self.steps = images // recipe.batch_size
        if self.steps == 0:
            raise TrainingError(
                f"batch_size {recipe.batch_size} is more than the {images} training images: make it smaller."
            )
        normalisation = inputs.normalisation
        mean, deviation = (np.array(values, np.float32) for values in (normalisation.mean, normalisation.deviation))
        self.learner = prepare_learner(self.trial, mean, deviation, inputs.shape)
        self.clock.shared = {"graph": self.learner.work} | ({"features": inputs.work} if inputs.work else {})
        self.needed = networks_needed(self.trial, keep)
        self.networks: dict[str, list[np.ndarray]] = {}  # weights by epoch, `best` or `last`, that must be put back
        if arrays:
            self.learner.restore(arrays)
            self.learner.begin(ALL if state.last_epoch > recipe.head_epochs else HEAD)
            self.networks = _networks_of(arrays)
            log.info("goes on after epoch %d", state.last_epoch)

    def run(self, on_epoch: OnEpoch | None, checkpoints: Checkpoints | None) -> Fitted:
        """Train the epochs that are left, then test once, unless it is a candidate. Raises Diverged."""
        state = self.state
        while state.last_epoch < self.trial.epochs and not state.stopped:
            epoch = state.last_epoch + 1
            if epoch == self.trial.recipe.head_epochs + 1:
                self.learner.begin(ALL)
            row = self._run_epoch(epoch)
            state.history.append(row)
            log.info(" ".join(f"{key}={value:.6g}" for key, value in row.items()))
            validation_loss = row.get("validation_loss", np.nan)  # none where these images are trained on
            if not np.isfinite([row.get("train_loss", 0.0), row.get("validation_loss", 0.0)]).all():
                raise Diverged(f"the loss is no number after epoch {epoch}")
            if on_epoch is not None:
                on_epoch({**row, "shared": {kind: cost.model_dump() for kind, cost in self.clock.costs().items()}})
            if state.end_epoch(epoch, validation_loss, self.trial.recipe) and "best" in self.needed:
                self.networks["best"] = self.learner.model.get_weights()
            if checkpoints is not None:
                state.seconds, state.computed = self.clock.own, self.clock.computed
                checkpoints.save(state, lambda: {**self.learner.state(), **_arrays_of(self.networks)})
        return self._conclude()

    def _run_epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch and evaluate, where that is due; return its row of the history."""
        start, recipe, steps = self.clock.own, self.trial.recipe, self.steps
        waited = self.state.waited - self.inputs.wait.seconds  # before this process began
        rates = [learning_rate(recipe, (epoch - 1) * steps + i, steps, self.state.drops) for i in range(steps)]
        watched = diagnostics.steps_watched(epoch, recipe.epochs, steps) if self.trial.diagnostics else {}
        batch_loss = _train_epoch(self.learner, self.inputs, epoch, rates, watched, self.state)
        if not np.isfinite(batch_loss):
            raise Diverged(f"the training loss is no number in epoch {epoch}")
        scores = _evaluate(self.learner, self.inputs, epoch) if self.trial.evaluates(epoch) else {}
        self.state.waited = waited + self.inputs.wait.seconds
        return {
            "epoch": epoch,
            "learning_rate": rates[-1],
            "batch_loss": batch_loss,
            **scores,
            "seconds": round(self.clock.own - start, 4),
        }

    def _conclude(self) -> Fitted:
        """Test the weights that count, look inside them, and keep the network."""
        trial, learner, dataset = self.trial, self.learner, self.inputs.dataset
        if "best" in self.networks and "last" in self.needed:
            self.networks["last"] = learner.model.get_weights()
        epoch = self._put_back(trial.recipe.test_weights)
        row = self.state.history[epoch - 1]
        measured = ("train_loss", "train_top1", "validation_loss", "validation_top1")
        metrics = {key: row[key] for key in measured if key in row}
        predicted, inside = None, None
        if not trial.candidate:
            logits = self.inputs.predict(learner, "test")
            scores, predicted = score(logits, dataset.labels[dataset.test]), predictions(logits, dataset)
            metrics = {**{f"test_{key}": value for key, value in scores.items()}, **metrics}
        if trial.diagnostics:
            inside = diagnostics.diagnose(learner, trial, dataset, self.state.gradients, epoch)
        if self.keep is not None and trial.keep_weights != "none":
            self._keep_network(self.keep, self._put_back(trial.keep_weights))
        return Fitted(epoch, metrics, predicted, inside)

    def _put_back(self, which: str) -> int:
        """Give the network the weights of its `best` or `last` epoch; return that epoch."""
        if which in self.networks:
            self.learner.model.set_weights(self.networks[which])
        return self.state.best_epoch if which == "best" else self.state.last_epoch

    def _keep_network(self, path: Path, epoch: int) -> None:
        """Write the network as it is. A disk that refuses costs the network, not the record."""
        inputs = self.inputs
        network = describe_trial(self.trial, epoch, inputs.dataset.class_names, inputs.normalisation)
        try:
            write_network(path, self.learner.whole_model(self.trial), network)
        except ResflowError as error:
            log.error("its network is not kept: %s", error)


def _arrays_of(networks: Mapping[str, list[np.ndarray]]) -> Arrays:
    return {f"best/{number}": array for number, array in enumerate(networks.get("best", ()))}


def _networks_of(arrays: Arrays) -> dict[str, list[np.ndarray]]:
    count = sum(name.startswith("best/") for name in arrays)
    return {"best": [arrays[f"best/{number}"] for number in range(count)]} if count else {}


def _train_epoch(
    learner: Learner,
    inputs: Inputs,
    epoch: int,
    rates: list[float],
    watched: Mapping[int, int],
    state: TrainingState,
) -> float:
    """Return the mean loss of an epoch's steps. `watched` has the epoch by which `state` keeps a step's gradients."""
    losses, norms = inputs.train(learner, epoch, rates, watched.keys())
    state.gradients += [[watched[place], norms[place]] for place in sorted(norms)]
    return float(np.mean(losses))


def _evaluate(learner: Learner, inputs: Inputs, epoch: int) -> dict[str, float]:
    """Return loss and top-1 on the clean training images and on the validation images, if any, in inference mode."""
    augmented = inputs.trial.recipe.validation_views == "augmented"
    row: dict[str, float] = {}
    views = {"train": None, **({"validation": epoch if augmented else None} if len(inputs.dataset.validation) else {})}
    for part, view in views.items():
        labels = inputs.dataset.labels[getattr(inputs.dataset, part)]
        scores = score(inputs.predict(learner, part, view), labels)
        row |= {f"{part}_loss": scores["loss"], f"{part}_top1": scores["top1"]}
    return row
