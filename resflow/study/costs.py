"""Estimates of what trials cost before they run: multiply-adds, and bytes of shared features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resflow import architectures
from resflow.study.trial import Trial

FORWARD = 1
TRAINING = {"frozen": 1, "partial": 2, "full": 3, "scratch": 3}  # a backward pass costs two forward ones
# Multiply-adds a second of one trial, for `plan`'s estimate until a record of the run tells better. cpu: over the 40
# records of results/depth-cpu-oxford_flowers102 (one thread of two). gpu: a guess, no GPU was at hand.
ASSUMED_RATE = {"cpu": 3.1e10, "gpu": 1e12}
STEP = 1.5e8  # multiply-adds in the time that a step takes however small its network: a guess of 5 ms
# The same by layer, and the seconds that a layer's part of a graph takes to trace and compile: rough figures, timed
# once on one thread of an Intel Xeon with other work beside it, at 16 and 32 pixels (0.15 to 0.25 ms and 0.1 to 0.2 s).
# They matter until the first trial of a run has ended.
LAYER, GRAPH_SECONDS = 5e6, 0.13

AHEAD = 4  # epochs whose features are made at a time


def estimate_work(trials: Sequence[Trial]) -> dict[str, float]:
    """Return the multiply-adds of each trial by id, its evaluations included.

    Features that several trials share are counted once, for the first of them.
    """
    work: dict[str, float] = {}
    views: set[tuple[Any, ...]] = set()
    for trial in trials:
        test = 0 if trial.candidate else trial.counts[2]
        work[trial.id] = trial.epochs * epoch_work(trial)
        if not trial.shares_features:
            work[trial.id] += test * trial.multiply_adds
            continue
        for view, images in feature_views(trial).items():
            if view not in views:
                views.add(view)
                work[trial.id] += images * (trial.multiply_adds - _head(trial))
    return work


def epoch_work(trial: Trial) -> float:
    """Return the multiply-adds of an epoch of a trial, evaluations included; of a trial of features, its head's."""
    train, validation, _ = trial.counts
    steps, evaluated = train // trial.recipe.batch_size, (train + validation) / trial.recipe.evaluate_every
    if trial.shares_features:
        return (steps + 3) * STEP + (3 * train + evaluated) * _head(trial)
    passes = train * TRAINING[trial.recipe.finetune] + evaluated * FORWARD
    return passes * trial.multiply_adds + steps * trial.architecture.depth * LAYER


def estimate_graph_seconds(trials: Sequence[Trial]) -> float:
    """Return the seconds of building the graphs of some trials, each arm's once; those of heads alone are small."""
    built = {trial.arm: trial for trial in trials if not trial.shares_features}
    return GRAPH_SECONDS * sum(trial.architecture.depth for trial in built.values())


def longest_silence(trial: Trial) -> float:
    """Return the most multiply-adds between two signs of life of a trial: of an epoch, the test, or making features."""
    train, validation, test = trial.counts
    if trial.shares_features:
        return float((sum(trial.counts) + AHEAD * (train + validation)) * trial.multiply_adds)
    epoch = train * (TRAINING[trial.recipe.finetune] + FORWARD) + validation
    return float(max(epoch, test) * trial.multiply_adds)


def _head(trial: Trial) -> int:
    """Return the multiply-adds of the head alone."""
    backbone = architectures.multiply_adds(trial.architecture, trial.data.image_size, 0)
    return trial.multiply_adds - backbone


def feature_group(trial: Trial) -> tuple[Any, ...]:
    """Return the key of trials that share features: the backbone, the data, what is done to pixels, and the views."""
    augmentation, augmented = trial.recipe.augmentation, trial.recipe.augmentation != type(trial.recipe.augmentation)()
    weights = trial.pretrained.digest if trial.pretrained else None
    backbone = (trial.architecture, weights, trial.fingerprint, trial.data.normalisation)
    return (*backbone, *((augmentation, trial.order_seed) if augmented else ()))


def feature_views(trial: Trial) -> dict[tuple[Any, ...], int]:
    """Return the views that a trial with shared features needs of the images, and how many images each has."""
    train, validation, _ = trial.counts
    clean, augmented = feature_group(trial)[:4], feature_group(trial)
    views = {(*clean, part): images for part, images in zip(("train", "validation", "test"), trial.counts, strict=True)}
    for epoch in range(1, trial.recipe.epochs + 1):
        for part in trial.augmented_parts(epoch):
            views[(*augmented, part, epoch)] = train if part == "train" else validation
    return views


def feature_bytes(trials: Sequence[Trial]) -> int:
    """Return the bytes on disk of all features that trials share: maps where a head flattens, else averages alone."""
    sizes: dict[tuple[Any, ...], int] = {}
    for trial in trials:
        if trial.shares_features:
            channels = architectures.feature_channels(trial.architecture)
            pixels = architectures.map_size(trial.architecture, trial.data.image_size) ** 2
            vectors = 1 + pixels * (trial.network.head.pooling == "flatten")
            for view, images in feature_views(trial).items():
                sizes[view] = max(sizes.get(view, 0), 4 * channels * vectors * images)
    return sum(sizes.values())


def sort_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials in the order to start them: the longest first, then those that share features, group by group.

    Trials of an arm stay together, twins of one length apart: a process uses the graph of the trial before. A group's
    features are then made by all processes together, and may leave the disk when its trials have ended.
    """
    work = estimate_work(trials)
    groups = {
        key: place for place, key in enumerate(dict.fromkeys(feature_group(t) for t in trials if t.shares_features))
    }
    return sorted(trials, key=lambda t: (groups[feature_group(t)] if t.shares_features else -1, -work[t.id], t.arm))
