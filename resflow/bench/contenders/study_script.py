"""The opponent of a study: the script that one would write, a loop over arms and seeds with stock Keras.

It is no strawman. It is one process, whose images lie in memory as normalised float32; each model is compiled once and
its graph serves all epochs; TensorFlow takes all cores; rates are a schedule inside the graph; it keeps no records.
It has resflow's initial values, batches, steps, L2 and evaluations, so that its numbers can be compared.
"""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resflow.bench import process
from resflow.bench.contenders.keras_step import build_network, make_batches
from resflow.data import pipeline
from resflow.data.dataset import Dataset, load_dataset
from resflow.models.build import initialise
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.training.schedule import learning_rate
from resflow.workflow.plan import make_plan

EVALUATION_BATCH = 256


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """Schedule by a table of learning rates, one a step."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = tf.constant(rates, tf.float32)

    def __call__(self, step: Any) -> Any:
        return tf.gather(self.rates, tf.minimum(tf.cast(step, tf.int32), len(self.rates) - 1))


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Run every trial of a study one after the other. Reading the study and the images takes `preparing` seconds."""
    start = time.perf_counter()
    plan = make_plan(load_study(spec["study"], settings=spec["settings"]))
    datasets = {
        t.fingerprint: load_dataset(plan.folders[t.id], t.data.split, t.split_seed)
        for t in {t.fingerprint: t for t in plan.trials}.values()
    }
    preparing = time.perf_counter() - start
    return {"preparing": preparing, "trials": [run(t, datasets[t.fingerprint]) for t in plan.trials]}


def run(trial: Trial, dataset: Dataset) -> dict[str, Any]:
    """Train one network; return its metrics, and wall seconds in all, of building and of each epoch's parts."""
    start, recipe = time.perf_counter(), trial.recipe
    keras.backend.clear_session()
    mean, deviation = pipeline.channel_statistics(dataset)
    parts = {
        part: ((dataset.images[index].astype(np.float32) - mean) / deviation, dataset.labels[index])
        for part, index in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    images, labels = parts["train"]
    steps = len(images) // recipe.batch_size
    # resflow's decay is the gradient's: decay / 2 |w|^2 in the loss, which the metric below leaves out.
    model = build_network(trial.architecture, dataset.image_size, dataset.classes, recipe.weight_decay / 2)
    initialise(model, trial.seed)
    rates = [learning_rate(recipe, step, steps) for step in range(recipe.epochs * steps)]
    model.compile(
        keras.optimizers.SGD(Rates(rates), momentum=recipe.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="entropy"),
            keras.metrics.SparseCategoricalAccuracy(name="top1"),
        ],
    )
    evaluated_on = {part: make_batches(*arrays, EVALUATION_BATCH) for part, arrays in parts.items()}
    building = time.perf_counter() - start

    def evaluate(part: str) -> dict[str, float]:
        measured = model.evaluate(evaluated_on[part], verbose=0, return_dict=True)
        return {f"{part}_loss": measured["entropy"], f"{part}_top1": measured["top1"]}

    history = []
    for epoch in range(1, recipe.epochs + 1):
        clock = time.perf_counter()
        order = pipeline.order(trial.seed, epoch, len(images))[: steps * recipe.batch_size]
        batches = make_batches(images[order], labels[order], recipe.batch_size)
        losses = model.fit(batches, epochs=1, shuffle=False, verbose=0).history
        trained = time.perf_counter()
        scores = {**evaluate("train"), **evaluate("validation")} if trial.evaluates(epoch) else {}
        history.append(
            {
                "batch_loss": losses["entropy"][0],
                **scores,
                "steps": trained - clock,
                "evaluation": time.perf_counter() - trained,
            }
        )
    top1 = evaluate("test")["test_top1"]
    return {
        "id": trial.id,
        "history": history,
        "test_top1": top1,
        "building": building,
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    process.answer(job)
