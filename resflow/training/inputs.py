"""The inputs of a trial: batches of images or of features, and how its pixels are normalised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from resflow.data import pipeline
from resflow.data.dataset import Dataset
from resflow.study.pretrained import RAW, Normalisation
from resflow.study.trial import Trial
from resflow.training import feature_cache
from resflow.training.batches import HostBatches
from resflow.training.device_inputs import DeviceImages


class Images(HostBatches):
    """The inputs of a trial that computes its whole network, in batches that the host makes of its images."""

    shape = None  # of features: there are none
    work = None  # that trials share

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation) -> None:
        self.trial, self.dataset, self.normalisation = trial, dataset, normalisation

    def training_batches(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Return the epoch's batches: images uint8 (batch, size, size, 3), and labels int64."""
        recipe = self.trial.recipe
        return pipeline.training_batches(
            self.dataset,
            recipe.augmentation,
            self.trial.seed,
            epoch,
            recipe.batch_size,
            self.trial.execution.threads,
        )

    def evaluation_batches(self, part: str, epoch: int | None = None) -> Iterator[Any]:
        """Yield the images of a part; `epoch` asks for that epoch's augmented views of them."""
        index = getattr(self.dataset, part)
        table = None if epoch is None else feature_cache.part_views(self.trial, part, epoch, len(index))
        return pipeline.evaluation_batches(self.dataset, index, table)


Inputs: TypeAlias = Images | DeviceImages | feature_cache.Features


def make_inputs(trial: Trial, dataset: Dataset, normalisation: Normalisation, last_epoch: int = 0) -> Inputs:
    """Return features where they are the same for every head, else images; `last_epoch` has been trained before."""
    if trial.shares_features:
        return feature_cache.Features(trial, dataset, normalisation, last_epoch)
    if trial.execution.inputs == "device":
        return DeviceImages(trial, dataset, normalisation)
    return Images(trial, dataset, normalisation)


def choose_normalisation(trial: Trial, dataset: Dataset) -> Normalisation:
    """Return what is done to pixels: by the weights' own statistics, by the training images', or nothing."""
    if trial.data.normalisation == "raw":
        return RAW
    of_weights = trial.pretrained.normalisation if trial.pretrained else None
    if of_weights is None or trial.data.normalisation == "dataset":
        mean, deviation = ((float(r), float(g), float(b)) for r, g, b in pipeline.channel_statistics(dataset))
        return Normalisation(mean, deviation)
    return of_weights
