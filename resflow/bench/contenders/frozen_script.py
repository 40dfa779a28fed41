"""The opponent of the head study: the script that one would write, each model of it with the frozen backbone inside.

It is no strawman. Images lie in memory as normalised float32, an epoch's augmented views made before its clock
starts; the backbone is built and loaded once for all trials, is not trainable and runs in inference mode, so that no
gradient passes it; each model is compiled once and its graph serves all epochs; TensorFlow takes all cores.
It has resflow's initial values, batches, views and evaluations, so that its numbers can be compared.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resflow.bench import process
from resflow.bench.contenders.keras_step import build_backbone, make_batches
from resflow.bench.contenders.study_script import EVALUATION_BATCH, Rates
from resflow.data import pipeline
from resflow.data.dataset import Dataset, load_dataset
from resflow.models.build import build_network, initialise
from resflow.models.layers import Dropout
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.training import inputs
from resflow.training.schedule import learning_rate
from resflow.weights import load
from resflow.workflow.plan import Plan, make_plan

CALIBRATING = 256  # images
layers = keras.layers


def job(spec: dict[str, Any]) -> dict[str, Any]:
    return {"timed": run_timed, "same": run_same, "random_weights": write_random_weights}[spec["job"]](spec)


def _make_plan(spec: dict[str, Any]) -> Plan:
    return make_plan(load_study(spec["study"], spec["profile"], spec["settings"]))


def write_random_weights(spec: dict[str, Any]) -> dict[str, Any]:
    """Write random weights of the study's backbone, its batch norms' statistics those of some of the images.

    With means of 0 and variances of 1 a network of so many blocks would blow its features up.
    """
    plan = _make_plan(spec)
    trial = plan.trials[0]
    dataset = load_dataset(plan.folders[trial.id], trial.data.split, trial.split_seed)
    mean, deviation = pipeline.channel_statistics(dataset)
    net = build_network(trial.architecture, dataset.image_size, dataset.classes)
    initialise(net, seed=0)
    for layer in net.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0  # one pass sets the statistics
    net((dataset.images[dataset.train[:CALIBRATING]].astype(np.float32) - mean) / deviation, training=True)
    pixels = inputs.choose_normalisation(trial, dataset)
    load.save_weights(net, Path(spec["file"]), normalisation=pixels, architecture=asdict(trial.architecture))
    return {"parameters": net.count_params()}


def run_timed(spec: dict[str, Any]) -> dict[str, Any]:
    """Train the first seed of some `arms` for `epochs` epochs. The seconds of `preparing` are not the script's own."""
    start = time.perf_counter()
    plan = _make_plan(spec)
    trials = _first_seed(plan, spec["arms"])
    preparing = time.perf_counter() - start
    script = Script(trials[0], load_dataset(plan.folders[trials[0].id], trials[0].data.split, trials[0].split_seed))
    runs = [script.run(trial, spec["epochs"]) for trial in trials]
    return {"preparing": preparing + sum(run.pop("preparing") for run in runs), "trials": runs}


def run_same(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the first epoch's losses of the first seed of every head, with resflow's masks in place of Keras' own."""
    plan = _make_plan(spec)
    trials = _first_seed(plan, [arm.name for arm in plan.study.arms])
    script = Script(trials[0], load_dataset(plan.folders[trials[0].id], trials[0].data.split, trials[0].split_seed))
    return {trial.id: script.run(trial, 1, keyed=True)["history"][0] for trial in trials}


def _first_seed(plan: Plan, arms: Sequence[str]) -> list[Trial]:
    return [t for t in plan.trials if t.seed == plan.study.seeds[0] and t.arm in arms]


class Script:
    """The script: it holds the images and the frozen backbone for all trials."""

    def __init__(self, trial: Trial, dataset: Dataset) -> None:
        assert trial.pretrained is not None
        assert trial.pretrained.normalisation is not None
        self.dataset = dataset
        self.mean, self.deviation = (np.float32(v) for v in asdict(trial.pretrained.normalisation).values())
        self.parts = {
            part: (self._normalise(dataset.images[index]), dataset.labels[index])
            for part, index in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
        }
        self.evaluated_on = {part: make_batches(*arrays, EVALUATION_BATCH) for part, arrays in self.parts.items()}
        self.backbone = build_backbone(trial.architecture, dataset.image_size)
        load.load_weights(self.backbone, trial.pretrained)
        self.backbone.trainable = False

    def _normalise(self, images: np.ndarray) -> np.ndarray:
        return (images.astype(np.float32) - self.mean) / self.deviation

    def run(self, trial: Trial, epochs: int, keyed: bool = False) -> dict[str, Any]:
        """Train one head for some epochs, then test it; return wall seconds of all parts, and losses."""
        start, recipe = time.perf_counter(), trial.recipe
        model = self.build_network(trial, keyed)
        steps = len(self.parts["train"][0]) // recipe.batch_size
        rates = Rates([learning_rate(recipe, step, steps) for step in range(recipe.epochs * steps)])
        optimizer = keras.optimizers.Adam if recipe.optimizer == "adam" else keras.optimizers.SGD
        momentum = {} if recipe.optimizer == "adam" else {"momentum": recipe.momentum}
        model.compile(
            optimizer(rates, **momentum),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="top1")],
        )
        for layer in model.get_layer("head_only").layers:
            if isinstance(layer, KeyedDropout):
                layer.key = functools.partial(_key, trial.seed, model.optimizer.iterations)
        building, preparing, history = time.perf_counter() - start, 0.0, []
        for epoch in range(1, epochs + 1):
            clock = time.perf_counter()
            images = self._augment(trial, epoch)
            order = pipeline.order(trial.seed, epoch, len(images))[: steps * recipe.batch_size]
            preparing += time.perf_counter() - clock
            history.append(self._run_epoch(model, images, order, recipe.batch_size))
        clock = time.perf_counter()
        test = self._evaluate(model, "test")
        end = time.perf_counter()
        return {
            "id": trial.id,
            "arm": trial.arm,
            "building": building,
            "preparing": preparing,
            "history": history,
            "test": end - clock,
            "test_top1": test["top1"],
            "seconds": end - start - preparing,
        }

    def _augment(self, trial: Trial, epoch: int) -> np.ndarray:
        """Return the training images as resflow shows them in one epoch."""
        augmentation, dataset = trial.recipe.augmentation, self.dataset
        images = dataset.images[dataset.train]
        table = pipeline.views(augmentation, trial.seed, epoch, len(images), dataset.image_size)
        return self.parts["train"][0] if table is None else self._normalise(pipeline.transform(images, table))

    def _run_epoch(self, model: Any, images: np.ndarray, order: np.ndarray, batch_size: int) -> dict[str, float]:
        clock = time.perf_counter()
        labels = self.parts["train"][1]
        losses = model.fit(make_batches(images[order], labels[order], batch_size), shuffle=False, verbose=0).history
        trained = time.perf_counter()
        clean = self._evaluate(model, "train")
        evaluated = time.perf_counter()
        validation = self._evaluate(model, "validation")
        return {
            "batch_loss": losses["loss"][0],
            "train_loss": clean["loss"],
            "validation_loss": validation["loss"],
            "steps": trained - clock,
            "training_evaluation": evaluated - trained,
            "validation_evaluation": time.perf_counter() - evaluated,
        }

    def _evaluate(self, model: Any, part: str) -> dict[str, float]:
        return dict(model.evaluate(self.evaluated_on[part], verbose=0, return_dict=True))

    def build_network(self, trial: Trial, keyed: bool) -> keras.Model:
        """Build the frozen backbone with one trial's head, which has resflow's initial values under resflow's names."""
        head = _build_head(self.backbone.output.shape[1:], trial, keyed)
        initialise(head, trial.seed)
        inputs = keras.Input(self.backbone.input.shape[1:])
        return keras.Model(inputs, head(self.backbone(inputs, training=False)))


def _build_head(shape: Sequence[int], trial: Trial, keyed: bool) -> keras.Model:
    settings = trial.network.head
    inputs = keras.Input(shape)
    x = layers.Flatten()(inputs) if settings.pooling == "flatten" else layers.GlobalAveragePooling2D()(inputs)
    for number, width in enumerate((*settings.hidden, trial.classes), start=1):
        if settings.dropout:
            x = (KeyedDropout(settings.dropout, number) if keyed else layers.Dropout(settings.dropout))(x)
        last = number > len(settings.hidden)
        activation, name = (None, "head") if last else (settings.activation, f"head_hidden{number}")
        x = layers.Dense(width, activation, name=name)(x)
    return keras.Model(inputs, x, name="head_only")


class KeyedDropout(Dropout):
    """resflow's dropout under `fit`: `key` gives the seed and the step that masks are drawn from."""

    key: Callable[[], tuple[Any, Any]] | None = None  # a function, since Keras keeps count of a layer's variables

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.key is not None:
            self.drawn_from(*self.key())
        return super().call(inputs, training=training)


def _key(seed: int, iterations: Any) -> tuple[Any, Any]:
    return tf.constant(seed, tf.int64), tf.cast(iterations.value, tf.int64)


if __name__ == "__main__":
    process.answer(job)
