"""The inputs of a trial: batches of images or of features, and how its pixels are normalised."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from resflow import provenance
from resflow.data import pipeline
from resflow.data.dataset import Dataset
from resflow.records.facts import TOLERATED_WAIT
from resflow.study.placement import least_share
from resflow.study.pretrained import RAW, Normalisation
from resflow.study.trial import Trial
from resflow.training import feature_cache
from resflow.training.batches import HostBatches, Inputs, Norms
from resflow.training.device_inputs import DeviceFeatures, DeviceImages

if TYPE_CHECKING:
    from resflow.training.learner import Learner

HELPED = 0.9  # of what a device waited before, and less, is an improvement
log = logging.getLogger("resflow.input")
_measured: dict[tuple[str, str, str], Normalisation] = {}  # of the training images that this process had last


class InputThreads:
    """The number of threads that make batches: doubled after an epoch in which the device waited for them too long.

    Never more than `most`, and no more once doubling has not helped. They change no batch.
    """

    def __init__(self, start: int, most: int) -> None:
        self.count, self.most, self.before = start, most, inf

    def adjust(self, waited: float) -> None:
        """Settle the threads of the next epoch by the share of the last one in which the device waited."""
        if waited <= TOLERATED_WAIT or self.count >= self.most:
            return
        if waited > HELPED * self.before:
            self.most = self.count
            return
        self.before, self.count = waited, min(2 * self.count, self.most)
        log.info("the device waited for input %.0f %% of an epoch: %d threads make batches", 100 * waited, self.count)


class Images(HostBatches):
    """The inputs of a trial that computes its whole network, in batches that the host makes of its images."""

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation) -> None:
        super().__init__(trial, dataset, normalisation)
        self.threads = InputThreads(trial.execution.threads, most_input_threads(trial))

    def training_batches(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Return the epoch's batches: images uint8 (batch, size, size, 3), and labels int64."""
        recipe, seed, threads = self.trial.recipe, self.trial.order_seed, self.threads.count
        return pipeline.training_batches(
            self.dataset, recipe.augmentation, seed, epoch, recipe.batch_size, threads, self.wait
        )

    def evaluation_batches(self, part: str, epoch: int | None = None) -> Iterator[Any]:
        """Yield the images of a part; `epoch` asks for that epoch's augmented views of them."""
        index = getattr(self.dataset, part)
        table = None if epoch is None else feature_cache.part_views(self.trial, part, epoch, len(index))
        return pipeline.evaluation_batches(self.dataset, index, table, self.threads.count, self.wait)

    def train(
        self, learner: Learner, epoch: int, rates: list[float], watched: Collection[int]
    ) -> tuple[np.ndarray, Norms]:
        start, waited = time.perf_counter(), self.wait.seconds
        trained = super().train(learner, epoch, rates, watched)
        self.threads.adjust((self.wait.seconds - waited) / (time.perf_counter() - start))
        return trained


def most_input_threads(trial: Trial) -> int:
    """Return how many threads may make a trial's batches: on a CPU its own, beside a GPU its share of the cores."""
    threads, share = trial.execution.threads, trial.resources
    if trial.execution.device == "cpu":
        return threads
    return max(threads, int(share.cpus or provenance.count_processors() * least_share(share.gpus)))


def make_inputs(trial: Trial, dataset: Dataset, normalisation: Normalisation, last_epoch: int = 0) -> Inputs:
    """Return features where they are the same for every head, else images; `last_epoch` has been trained before."""
    on_device = trial.execution.inputs == "device"
    if trial.shares_features:
        kind = DeviceFeatures if on_device else feature_cache.Features
        return kind(trial, dataset, normalisation, last_epoch)
    return (DeviceImages if on_device else Images)(trial, dataset, normalisation)


def choose_normalisation(trial: Trial, dataset: Dataset) -> Normalisation:
    """Return what is done to pixels: by the weights' own statistics, by the training images', or nothing."""
    if trial.data.normalisation == "raw":
        return RAW
    of_weights = trial.pretrained.normalisation if trial.pretrained else None
    if of_weights is None or trial.data.normalisation == "dataset":
        key = trial.fingerprint, dataset.split_hash, trial.data.train
        if key not in _measured:  # seconds, of large photos
            mean, deviation = ((float(r), float(g), float(b)) for r, g, b in pipeline.channel_statistics(dataset))
            _measured.clear()
            _measured[key] = Normalisation(mean, deviation)
        return _measured[key]
    return of_weights
