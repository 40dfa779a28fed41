"""The inputs of a trial that lie on the device: the host only says which come when, and how images are turned."""

from __future__ import annotations

import abc
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from resflow.data import pipeline
from resflow.data.dataset import Dataset
from resflow.study.pretrained import Normalisation
from resflow.study.trial import Trial
from resflow.training.batches import Inputs, Norms
from resflow.training.feature_cache import Features, part_views
from resflow.training.whole_epochs import Batches

if TYPE_CHECKING:
    from resflow.training.learner import Learner


class DeviceInputs(Inputs):
    """Inputs in the device's memory. Order and views are those of batches from the host, by the same draws."""

    @abc.abstractmethod
    def _batches(self, part: str, positions: np.ndarray, epoch: int | None) -> Batches:
        """Return batches of a part by positions in it, int64 (batches, size), augmented as in this epoch."""

    def train(
        self, learner: Learner, epoch: int, rates: list[float], watched: Collection[int]
    ) -> tuple[np.ndarray, Norms]:
        images, size, steps = len(self.dataset.train), self.trial.recipe.batch_size, len(rates)
        positions = pipeline.order(self.trial.order_seed, epoch, images)[: steps * size].reshape(steps, size)
        batches, at = self._batches("train", positions, epoch), sorted(watched)
        labels = self.dataset.labels[self.dataset.train[positions]]
        losses, norms = learner.whole.train(batches, labels, rates, np.isin(range(steps), at))
        return losses, {place: [float(norm) for norm in norms[place]] for place in at}

    def predict(self, learner: Learner, part: str, epoch: int | None = None) -> np.ndarray:
        images = len(getattr(self.dataset, part))
        return learner.whole.predict(self._batches(part, pipeline.padded(images), epoch), images)


class DeviceImages(DeviceInputs):
    """The inputs of a trial that computes its whole network: all images, as they were decoded."""

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation) -> None:
        super().__init__(trial, dataset, normalisation)
        self.images = pipeline.on_device(dataset.images)

    def _batches(self, part: str, positions: np.ndarray, epoch: int | None) -> Batches:
        with self.wait():
            index = getattr(self.dataset, part)
            table = None if epoch is None else part_views(self.trial, part, epoch, len(index))
            return Batches(self.images, index[positions], None if table is None else table[positions])


class DeviceFeatures(DeviceInputs, Features):
    """The inputs of a head on a frozen backbone: clean features for good, those of an epoch's views while it lasts."""

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation, last_epoch: int = 0) -> None:
        super().__init__(trial, dataset, normalisation, last_epoch)
        self.clean: dict[str, Any] = {}  # by part

    def train(
        self, learner: Learner, epoch: int, rates: list[float], watched: Collection[int]
    ) -> tuple[np.ndarray, Norms]:
        self.prepare(epoch)
        return super().train(learner, epoch, rates, watched)

    def _batches(self, part: str, positions: np.ndarray, epoch: int | None) -> Batches:
        augmented = epoch is not None and self.augmented
        if not augmented and part in self.clean:
            return Batches(self.clean[part], positions)
        rows = self.rows(part, epoch)
        with self.wait():
            there = pipeline.on_device(rows)
        if not augmented:
            self.clean[part] = there
        return Batches(there, positions)
