"""A check that study_script trains what resflow trains, step by step, and a measure of what rounding alone does.

Losses of single steps are read here, untimed, so that neither of the two has to stop for them.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resflow.bench import process
from resflow.bench.contenders.keras_step import build_network
from resflow.data import pipeline
from resflow.data.dataset import Dataset, load_dataset
from resflow.models.build import initialise
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.training import train
from resflow.training.learner import prepare_learner
from resflow.training.schedule import learning_rate
from resflow.workflow.plan import make_plan

NUDGE = 1e-7  # of each initial kernel value, up or down: about a float32's last bit


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the loss of every step of the first epoch of each arm's first trial, as `list_losses` does."""
    plan = make_plan(load_study(spec["study"], settings=spec["settings"]))
    first = [t for t in plan.trials if t.seed == plan.study.seeds[0]]
    train.configure(first[0].execution)
    return {t.arm: list_losses(t, load_dataset(plan.folders[t.id], t.data.split, t.split_seed)) for t in first}


def list_losses(trial: Trial, dataset: Dataset) -> dict[str, list[float]]:
    """Return the cross-entropy (nats) of each step of a trial's first epoch: `resflow`, its nudged `twin`, `script`."""
    recipe, (mean, deviation) = trial.recipe, pipeline.channel_statistics(dataset)
    batches = list(pipeline.training_batches(dataset, recipe.augmentation, trial.seed, 1, recipe.batch_size))
    rates = [learning_rate(recipe, step, len(batches)) for step in range(len(batches))]
    losses: dict[str, list[float]] = {}
    for name, nudge in (("resflow", 0.0), ("twin", NUDGE)):
        learner = prepare_learner(trial, mean, deviation)
        for variable in (v for v in learner.model.trainable_variables if v.name == "kernel"):
            signs = np.random.default_rng(0).choice((-nudge, nudge), variable.shape)
            variable.assign(variable.numpy() * (1 + signs).astype(np.float32))
        steps = zip(batches, rates, strict=True)
        losses[name] = [float(learner.step(x, y, tf.constant(rate)).numpy()) for (x, y), rate in steps]
    model = build_network(trial.architecture, dataset.image_size, dataset.classes, recipe.weight_decay / 2)
    initialise(model, trial.seed)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="entropy")
    model.compile(keras.optimizers.SGD(rates[0], momentum=recipe.momentum), entropy, metrics=[metric])
    losses["script"] = []
    for (images, labels), rate in zip(batches, rates, strict=True):
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        normalised = (images.numpy().astype(np.float32) - mean) / deviation
        losses["script"].append(float(model.train_on_batch(normalised, labels.numpy(), return_dict=True)["entropy"]))
    return losses


if __name__ == "__main__":
    process.answer(job)
