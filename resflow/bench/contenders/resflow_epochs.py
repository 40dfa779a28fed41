"""resflow's own steps and epochs on images of noise, by the inputs that a trial would have."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism  # TensorFlow offers to enable it only

from resflow import environment
from resflow.bench.clock import BATCHES, input_wait, time_passes, time_training
from resflow.data.dataset import Dataset
from resflow.study.load import load_study
from resflow.study.pretrained import Normalisation
from resflow.study.trial import Trial
from resflow.training import scoring, train
from resflow.training.batches import Inputs
from resflow.training.inputs import make_inputs
from resflow.training.learner import Learner, prepare_learner
from resflow.workflow.plan import make_plan

GREY = Normalisation((128.0,) * 3, (64.0,) * 3)
RATE = 0.01
POLL = 0.02  # seconds


def step(spec: dict[str, Any]) -> dict[str, Any]:
    """Train as a trial does, its input included, on images in memory, or on the device where its inputs are there."""
    trial, learner = _prepare(spec)
    batch_size = trial.recipe.batch_size
    noise, epochs = make_noise(trial, BATCHES * batch_size), itertools.count(1)
    inputs = make_inputs(trial, noise, GREY)

    def run_pass(steps: int = BATCHES) -> None:
        inputs.dataset = replace(noise, train=noise.train[: steps * batch_size])
        run_steps(learner, inputs, next(epochs), steps)

    if trial.execution.inputs == "device":  # other numbers of steps would be other graphs
        return {**time_passes(run_pass, len(noise.train), spec["seconds"]), **_facts(trial, learner)}
    return {**time_training(run_pass, batch_size, spec["seconds"]), **_facts(trial, learner)}


def epoch(spec: dict[str, Any]) -> dict[str, Any]:
    """Train whole epochs for a while, with both evaluations after the steps of each."""
    trial, learner = _prepare(spec)
    inputs = make_inputs(trial, make_noise(trial, *spec["counts"]), GREY)
    steps = spec["counts"][0] // trial.recipe.batch_size
    epochs, fed = itertools.count(1), list[float]()

    def run() -> None:
        fed.append(run_epoch(learner, inputs, next(epochs), steps))

    timed = time_passes(run, spec["counts"][0], spec["seconds"])
    by_host = trial.execution.inputs != "device"
    wait = input_wait(_time_steps_alone(learner, inputs, steps), fed) if by_host else {}
    return {**timed, **wait, **_facts(trial, learner)}


def packed(spec: dict[str, Any]) -> dict[str, Any]:
    """Train epochs beside others that do the same: begin when all are warm, and count those of the next seconds.

    The folder `meeting` is where they wait for each other; they give up where it says that one has failed.
    """
    trial, learner = _prepare(spec, 1 / spec["trials"])
    inputs = make_inputs(trial, make_noise(trial, *spec["counts"]), GREY)
    steps, epochs = spec["counts"][0] // trial.recipe.batch_size, itertools.count(1)
    for _ in range(2):
        run_epoch(learner, inputs, next(epochs), steps)
    _meet(Path(spec["meeting"]), spec["number"], spec["trials"])
    count, start, seconds = 0, time.perf_counter(), 0.0
    while count == 0 or seconds < spec["seconds"]:
        run_epoch(learner, inputs, next(epochs), steps)
        count += 1
        seconds = time.perf_counter() - start
    return {"epochs_per_s": count / seconds, **_facts(trial, learner)}


def _meet(meeting: Path, number: int, expected: int) -> None:
    """Return when all have come. Raises RuntimeError where one has failed."""
    (meeting / f"{number}.ready").touch()
    while len(list(meeting.glob("*.ready"))) < expected:
        if (meeting / "failed").exists():
            raise RuntimeError("another of the trials failed")
        time.sleep(POLL)


def _prepare(spec: dict[str, Any], gpus: float = 1.0) -> tuple[Trial, Learner]:
    trial = make_plan(load_study(spec["study"], settings=spec["settings"]), prepare=False).trials[0]
    train.configure(trial.execution, gpus)
    if spec.get("unrepeatable"):
        _give_up_repeating()
    mean, deviation = (np.array(values, np.float32) for values in (GREY.mean, GREY.deviation))
    return trial, prepare_learner(trial, mean, deviation)


def _give_up_repeating() -> None:
    """Let kernels add in any order, and XLA choose them by measuring: what repeating to the bit costs is the rest."""
    disable_op_determinism()
    flags = os.environ.get("XLA_FLAGS", "").split()  # read when XLA compiles first
    os.environ["XLA_FLAGS"] = " ".join(flag for flag in flags if flag not in environment.GPU_FLAGS)


def _facts(trial: Trial, learner: Learner) -> dict[str, Any]:
    parameters = sum(int(np.prod(v.shape)) for v in learner.model.trainable_variables)
    return {"parameters": parameters, "execution": trial.execution.model_dump()}


def make_noise(trial: Trial, train: int, validation: int = 0) -> Dataset:
    """Return images of noise, of a trial's size and classes."""
    draw, count = np.random.default_rng(0), train + validation
    size = trial.data.image_size
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
        train=np.arange(train),
        validation=np.arange(train, count),
        test=np.arange(0),
    )


def run_steps(learner: Learner, inputs: Inputs, epoch: int, steps: int) -> None:
    """Take an epoch's steps, and return when the device has done the last one."""
    losses, _ = inputs.train(learner, epoch, [RATE] * steps, ())
    float(np.mean(losses))
    _wait(learner)


def _wait(learner: Learner) -> None:
    """Return when the weights are those of the last step."""
    learner.model.trainable_variables[-1].numpy()


def run_epoch(learner: Learner, inputs: Inputs, epoch: int, steps: int) -> float:
    """Train for an epoch and evaluate both parts; return the seconds of the steps."""
    start = time.perf_counter()
    run_steps(learner, inputs, epoch, steps)
    seconds = time.perf_counter() - start
    for part in ("train", "validation"):
        scoring.score(inputs.predict(learner, part), inputs.dataset.labels[getattr(inputs.dataset, part)])
    return seconds


def _time_steps_alone(learner: Learner, inputs: Any, steps: int) -> float:
    """Return the seconds of an epoch's steps on one batch that lies on the device."""
    images, labels = (tf.identity(tensor) for tensor in next(iter(inputs.training_batches(1))))
    take: Callable[..., Any] = learner.step
    start = time.perf_counter()
    losses = [take(images, labels, tf.constant(RATE)) for _ in range(steps)]
    float(np.mean([loss.numpy() for loss in losses]))
    _wait(learner)
    return time.perf_counter() - start
