"""resflow itself as a contender, under the settings that the product chooses for a trial on this machine."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resflow.bench import process
from resflow.bench.clock import BATCHES, time_training
from resflow.data import pipeline
from resflow.data.dataset import Dataset, load_dataset
from resflow.study import costs
from resflow.study.load import load_study
from resflow.study.settings import Augmentation
from resflow.study.trial import Trial
from resflow.training import scoring, train
from resflow.training.learner import graph_key, graphs, prepare_learner
from resflow.training.schedule import learning_rate
from resflow.workflow.plan import make_plan


def job(spec: dict[str, Any]) -> dict[str, Any]:
    return {"step": step, "input": feed, "trial": run_trial, "bare": run_bare, "worker": run_worker}[spec["job"]](spec)


def step(spec: dict[str, Any]) -> dict[str, Any]:
    """Train as a trial does, its pipeline included, on images in memory."""
    trial = make_plan(load_study(spec["study"], settings=spec["settings"]), prepare=False).trials[0]
    train.configure(trial.execution)
    learner = prepare_learner(trial, np.full(3, 128, np.float32), np.full(3, 64, np.float32))
    batch_size, rate = trial.recipe.batch_size, tf.constant(0.01)
    images = _make_noise(trial, BATCHES * batch_size)
    epochs = itertools.count(1)

    def run_steps(steps: int) -> None:
        part = _take(images, steps * batch_size)
        batches = pipeline.training_batches(part, Augmentation(), 1, next(epochs), batch_size, trial.execution.threads)
        losses = [learner.step(x, y, rate) for x, y in batches]
        float(np.mean([loss.numpy() for loss in losses]))

    parameters = sum(int(np.prod(v.shape)) for v in learner.model.trainable_variables)
    return {
        **time_training(run_steps, batch_size, spec["seconds"]),
        "parameters": parameters,
        "execution": trial.execution.model_dump(),
    }


def _make_noise(trial: Trial, count: int) -> Dataset:
    draw = np.random.default_rng(0)
    size, none = trial.data.image_size, np.arange(0)
    return Dataset(
        source="noise",
        identity="",
        image_size=size,
        images=draw.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        labels=draw.integers(0, trial.classes, count),
        names=(),
        class_names=("",) * trial.classes,
        split="",
        split_hash="",
        train=np.arange(count),
        validation=none,
        test=none,
    )


def _take(dataset: Dataset, count: int) -> Dataset:
    return replace(dataset, train=dataset.train[:count])


def feed(spec: dict[str, Any]) -> dict[str, Any]:
    """Time whole epochs of augmented batches, from the decoded cache to the device, with nothing that consumes them."""
    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    dataset, batch_size = load_dataset(Path(spec["folder"])), spec["batch_size"]
    augmentation, epochs = Augmentation(**spec["augmentation"]), itertools.count(1)

    def run_steps(steps: int) -> None:
        part = _take(dataset, steps * batch_size)
        for images, _ in pipeline.training_batches(part, augmentation, 1, next(epochs), batch_size, spec["threads"]):
            images.numpy()

    return time_training(run_steps, batch_size, spec["seconds"], len(dataset.train) // batch_size)


def run_trial(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the first trial of a study through resflow's harness; measure the wall seconds of `train.train_trial`."""
    trial, folder = _first_trial(spec)
    train.configure(trial.execution)
    start = time.perf_counter()
    record = train.train_trial(trial, folder).record
    if record.status != "completed":
        raise RuntimeError(f"the trial {record.status}: {record.reason}")
    return {"seconds": time.perf_counter() - start}


def _first_trial(spec: dict[str, Any]) -> tuple[Trial, Path]:
    plan = make_plan(load_study(spec["study"], settings=spec["settings"]))
    return plan.trials[0], plan.folders[plan.trials[0].id]


def run_bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the same trial without a harness: all batches lie ready, nothing is recorded.

    Returns wall seconds in all, of building the network, of each epoch's steps and of each evaluation.
    """
    trial, folder = _first_trial(spec)
    train.configure(trial.execution)
    dataset, recipe = load_dataset(folder, trial.data.split, trial.split_seed), trial.recipe
    steps = len(dataset.train) // recipe.batch_size
    epochs = [
        list(pipeline.training_batches(dataset, recipe.augmentation, trial.seed, e, recipe.batch_size))
        for e in range(1, recipe.epochs + 1)
    ]
    parts = {
        part: (list(pipeline.evaluation_batches(dataset, index)), dataset.labels[index])
        for part, index in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    statistics = pipeline.channel_statistics(dataset)
    seconds: dict[str, list[float]] = {"steps": [], "evaluation": []}
    start = time.perf_counter()
    learner = prepare_learner(trial, *statistics)
    building = time.perf_counter() - start

    def evaluate(part: str) -> None:
        batches, labels = parts[part]
        logits = np.concatenate([learner.logits(images).numpy() for images in batches])
        scoring.score(logits[: len(labels)], labels)

    for epoch, batches in enumerate(epochs):
        clock = time.perf_counter()
        rates = [learning_rate(recipe, epoch * steps + i, steps) for i in range(steps)]
        losses = [learner.step(x, y, tf.constant(rate)) for (x, y), rate in zip(batches, rates, strict=True)]
        float(np.mean([loss.numpy() for loss in losses]))
        seconds["steps"].append(time.perf_counter() - clock)
        clock = time.perf_counter()
        evaluate("train")
        evaluate("validation")
        seconds["evaluation"].append(time.perf_counter() - clock)
    evaluate("test")
    return {"seconds": time.perf_counter() - start, "building": building, **seconds, "steps_an_epoch": steps}


def run_worker(spec: dict[str, Any]) -> dict[str, Any]:
    """Run a study's trials in turn, over and over, as a worker of Ray does; measure resident memory (MB) after each."""
    plan = make_plan(load_study(spec["study"], settings=spec["settings"]))
    longest_first = costs.sort_trials(plan.trials)
    train.configure(longest_first[0].execution)
    memory, seconds, reused = [], [], []
    for trial in itertools.islice(itertools.cycle(longest_first), spec["trials"]):
        reused.append(graph_key(trial) in graphs)
        seconds.append(round(train.train_trial(trial, plan.folders[trial.id]).record.spent_seconds, 2))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
    return {"rss_mb": memory, "seconds": seconds, "used_graph": reused, "arms": len(plan.study.arms)}


if __name__ == "__main__":
    process.answer(job)
