"""resflow itself as a contender, under the settings that the product chooses for a trial on this machine."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resflow.bench import process
from resflow.bench.clock import time_training
from resflow.bench.contenders.resflow_epochs import epoch, packed, step
from resflow.data import pipeline
from resflow.data.dataset import load_dataset
from resflow.study import costs
from resflow.study.load import load_study
from resflow.study.settings import Augmentation
from resflow.study.trial import Trial
from resflow.training import scoring, train
from resflow.training.batches import HostBatches
from resflow.training.inputs import Images, choose_normalisation, make_inputs
from resflow.training.learner import graph_key, graphs, prepare_learner
from resflow.training.schedule import learning_rate
from resflow.workflow.plan import make_plan


def job(spec: dict[str, Any]) -> dict[str, Any]:
    jobs = {"step": step, "epoch": epoch, "packed": packed, "input": feed}
    return {**jobs, "trial": run_trial, "bare": run_bare, "worker": run_worker}[spec["job"]](spec)


def feed(spec: dict[str, Any]) -> dict[str, Any]:
    """Time whole epochs of augmented batches, from the decoded cache to the device, with nothing that consumes them."""
    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    dataset, batch_size = load_dataset(Path(spec["folder"])), spec["batch_size"]
    augmentation, epochs = Augmentation(**spec["augmentation"]), itertools.count(1)

    def run_steps(steps: int) -> None:
        part = replace(dataset, train=dataset.train[: steps * batch_size])
        for images, _ in pipeline.training_batches(part, augmentation, 1, next(epochs), batch_size, spec["threads"]):
            last = images
        last.numpy()  # in the order of their making: with the last one all have come

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


class Ready(HostBatches):
    """The batches of a whole trial, all of them made beforehand."""

    def __init__(self, inputs: Images) -> None:
        super().__init__(inputs.trial, inputs.dataset, inputs.normalisation)
        self.epochs = [list(inputs.training_batches(epoch)) for epoch in range(1, self.trial.recipe.epochs + 1)]
        self.parts = {part: list(inputs.evaluation_batches(part)) for part in ("train", "validation", "test")}

    def training_batches(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        return iter(self.epochs[epoch - 1])

    def evaluation_batches(self, part: str, epoch: int | None = None) -> Iterator[Any]:
        return iter(self.parts[part])


def run_bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the same trial without a harness: all input lies ready, nothing is recorded.

    Returns wall seconds in all, of building the network, of each epoch's steps and of each evaluation.
    """
    trial, folder = _first_trial(spec)
    train.configure(trial.execution)
    dataset, recipe = load_dataset(folder, trial.data.split, trial.split_seed), trial.recipe
    steps = len(dataset.train) // recipe.batch_size
    made = make_inputs(trial, dataset, choose_normalisation(trial, dataset))
    inputs = Ready(made) if isinstance(made, Images) else made
    statistics = pipeline.channel_statistics(dataset)
    seconds: dict[str, list[float]] = {"steps": [], "evaluation": []}
    start = time.perf_counter()
    learner = prepare_learner(trial, *statistics)
    building = time.perf_counter() - start

    def evaluate(part: str) -> None:
        scoring.score(inputs.predict(learner, part), dataset.labels[getattr(dataset, part)])

    for number in range(recipe.epochs):
        clock = time.perf_counter()
        rates = [learning_rate(recipe, number * steps + i, steps) for i in range(steps)]
        losses, _ = inputs.train(learner, number + 1, rates, ())
        float(np.mean(losses))
        seconds["steps"].append(time.perf_counter() - clock)
        clock = time.perf_counter()
        if trial.evaluates(number + 1):
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
