"""The inputs of a trial: what trains and tests a network on them, wherever its batches come from."""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from resflow.data.dataset import Dataset
from resflow.quiet_tensorflow import tf
from resflow.study.pretrained import Normalisation
from resflow.study.trial import Trial
from resflow.training.trial_clock import InputWait, SharedWork

if TYPE_CHECKING:
    from resflow.training.learner import Learner

Norms = dict[int, list[float]]  # of the gradients of each kernel, by step


class Inputs(abc.ABC):
    """The inputs of one trial. `wait` has the time in which the device had nothing to do for want of them."""

    shape: tuple[int, ...] | None = None  # of features, where they are inputs
    work: SharedWork | None = None  # that trials share to make them

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation) -> None:
        self.trial, self.dataset, self.normalisation, self.wait = trial, dataset, normalisation, InputWait()

    @abc.abstractmethod
    def train(
        self, learner: Learner, epoch: int, rates: list[float], watched: Collection[int]
    ) -> tuple[np.ndarray, Norms]:
        """Take an epoch's steps; return their losses, and the norms of the gradients of the `watched` ones."""

    @abc.abstractmethod
    def predict(self, learner: Learner, part: str, epoch: int | None = None) -> np.ndarray:
        """Return the logits of a part in inference mode, float32 (images, classes).

        `epoch` asks for those of that epoch's augmented views of it.
        """


class HostBatches(Inputs):
    """Inputs that the host makes batch by batch, while the device computes on the ones before."""

    @abc.abstractmethod
    def training_batches(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Return the epoch's batches: inputs, and labels int64."""

    @abc.abstractmethod
    def evaluation_batches(self, part: str, epoch: int | None = None) -> Iterator[Any]:
        """Return the inputs of a part in its order; `epoch` asks for that epoch's augmented views of them."""

    def train(
        self, learner: Learner, epoch: int, rates: list[float], watched: Collection[int]
    ) -> tuple[np.ndarray, Norms]:
        losses, norms = [], Norms()
        for place, ((inputs, labels), rate) in enumerate(zip(self.training_batches(epoch), rates, strict=True)):
            losses.append(learner.step(inputs, labels, tf.constant(rate), place in watched))
            self.wait.last = losses[-1]
            if place in watched:
                norms[place] = [float(norm) for norm in learner.norms.numpy()]
        return np.array([loss.numpy() for loss in losses]), norms

    def predict(self, learner: Learner, part: str, epoch: int | None = None) -> np.ndarray:
        return learner.predict(self.evaluation_batches(part, epoch), len(getattr(self.dataset, part)))
