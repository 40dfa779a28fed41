"""The inputs of a trial whose images all lie on the device: the host only says which come when, and how turned."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from resflow.data import pipeline
from resflow.data.dataset import Dataset
from resflow.study.pretrained import Normalisation
from resflow.study.trial import Trial
from resflow.training.batches import Inputs, Norms
from resflow.training.feature_cache import part_views
from resflow.training.whole_epochs import Batches

if TYPE_CHECKING:
    from resflow.training.learner import Learner


class DeviceImages(Inputs):
    """The inputs of a trial that computes its whole network, its images in the device's memory as they were decoded.

    Order and views are those of `inputs.Images`, by the same draws.
    """

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation) -> None:
        super().__init__(trial, dataset, normalisation)
        self.images = pipeline.on_device(dataset.images)

    def train(
        self, learner: Learner, epoch: int, rates: list[float], watched: Collection[int]
    ) -> tuple[np.ndarray, Norms]:
        images, size, steps = len(self.dataset.train), self.trial.recipe.batch_size, len(rates)
        with self.wait():
            positions = pipeline.order(self.trial.seed, epoch, images)[: steps * size].reshape(steps, size)
            batches, at = self._batches("train", positions, epoch), sorted(watched)
        labels = self.dataset.labels[batches.places]
        losses, norms = learner.whole.train(batches, labels, rates, np.isin(range(steps), at))
        return losses, {place: [float(norm) for norm in norms[place]] for place in at}

    def predict(self, learner: Learner, part: str, epoch: int | None = None) -> np.ndarray:
        images = len(getattr(self.dataset, part))
        with self.wait():
            batches = self._batches(part, pipeline.padded(images), epoch)
        return learner.whole.predict(batches, images)

    def _batches(self, part: str, positions: np.ndarray, epoch: int | None) -> Batches:
        """Return batches of the images at some positions of a part, augmented as in this epoch."""
        index = getattr(self.dataset, part)
        table = None if epoch is None else part_views(self.trial, part, epoch, len(index))
        return Batches(self.images, index[positions], None if table is None else table[positions])
