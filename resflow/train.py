"""One trial -> one record. Plain Keras on TensorFlow; knows nothing of Ray."""

from __future__ import annotations

import gc
import logging
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Before TensorFlow is imported. It leaves oneDNN off on CPUs without AVX-512 VNNI, where its own backward
# convolutions make a training step several times slower (results/bench/).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from resflow import compiled

os.environ["TF_XLA_FLAGS"] = compiled.flags()

import keras
import tensorflow as tf

from resflow import models, provenance
from resflow.data import pipeline
from resflow.data.dataset import Dataset, load
from resflow.errors import TrainingError
from resflow.records import HISTORY_COLUMNS, Outcome, Record
from resflow.schedule import Patience, learning_rate
from resflow.settings import Execution
from resflow.trial import Trial

log = logging.getLogger("resflow.train")
OnEpoch = Callable[[dict[str, float]], None]


class Diverged(Exception):  # noqa: N818  (an outcome, not an error)
    """The loss is no longer a number."""


def configure(execution: Execution) -> None:
    """Set threads, memory growth and determinism. Must run before TensorFlow's first computation.

    Raises TrainingError where the process computed already under other settings, or has no GPU where one
    was asked for.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(execution.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        devices = tf.config.list_physical_devices("GPU")
        if execution.device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        elif not devices:
            raise TrainingError(
                "device gpu was asked for, but TensorFlow sees none here. `resflow doctor` tells why; "
                "--set device=cpu trains on the CPU."
            )
        else:
            for device in devices:
                tf.config.experimental.set_memory_growth(device, True)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"TensorFlow was in use before this trial set it up: {error}") from error
    tf.config.experimental.enable_op_determinism()
    if execution.jit is True:
        compiled.prune()


class Learner:
    """A network with its optimiser and the two functions that compute on it: one graph, for any trial that shares it.

    What differs in numbers alone (seed, rates, decay, smoothing, the data's mean) is in variables that `reset` sets;
    what makes another graph is in `graph_of`.
    """

    def __init__(self, trial: Trial) -> None:
        size, execution = trial.data.image_size, trial.execution
        self.jit = execution.jit is True  # `auto` was settled when the study was expanded
        # For each graph anew: `clear_session` after the one before it put the policy back to float32.
        keras.mixed_precision.set_global_policy(execution.precision)
        self.model = models.build(trial.architecture, size, trial.classes, execution.lowering, self.jit)
        self.classes, self.decoupled = trial.classes, trial.recipe.optimizer == "adamw"
        self.momentum, self.decay, self.smoothing = (tf.Variable(0.0, trainable=False) for _ in range(3))
        self.mean, self.deviation = (tf.Variable(tf.zeros(3), trainable=False) for _ in range(2))
        self.optimizer = _optimizer(trial.recipe.optimizer, self.momentum)
        self.optimizer.build(self.model.trainable_variables)
        scalars = [v for v in self.optimizer.variables if len(v.shape) == 0]
        self.counters = [(scalar, scalar.numpy()) for scalar in scalars]  # steps, the loss's scale
        self.slots = [v for v in self.optimizer.variables if len(v.shape) > 0]  # momenta start at zero
        image, label = tf.TensorSpec((None, size, size, 3), tf.uint8), tf.TensorSpec((None,), tf.int64)
        rate = tf.TensorSpec((), tf.float32)
        self.step = tf.function(self._step, [image, label, rate], jit_compile=self.jit)
        self.logits = tf.function(self._logits, [image], jit_compile=self.jit)

    def reset(self, trial: Trial, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Put everything to where a new trial starts; `mean` and `deviation` are float32 (3,), in 0..255."""
        models.initialise(self.model, trial.seed)
        for counter, value in self.counters:
            counter.assign(value)
        for slot in self.slots:
            slot.assign(tf.zeros_like(slot))
        recipe = trial.recipe
        self.momentum.assign(recipe.momentum)
        self.decay.assign(recipe.weight_decay)
        self.smoothing.assign(recipe.label_smoothing)
        self.mean.assign(mean)
        self.deviation.assign(deviation)

    def _step(self, images: Any, labels: Any, rate: Any) -> Any:
        """One optimiser step; returns the batch's cross-entropy, label smoothing included."""
        self.optimizer.learning_rate.assign(rate)
        variables = self.model.trainable_variables
        targets = tf.one_hot(labels, self.classes) * (1 - self.smoothing) + self.smoothing / self.classes
        with tf.GradientTape() as tape:
            logits = self.model(self._normalised(images), training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        if self.decoupled:
            # Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2: apart from the gradient's moments
            for variable in variables:
                if variable.name == "kernel":
                    variable.assign_sub(rate * self.decay * variable)
        else:
            # The gradient of decay / 2 |w|^2, as in He et al. Mixed precision unscales inside `apply`, so the term
            # is scaled as the loss is.
            coefficient = self.optimizer.scale_loss(self.decay.value())
            gradients = [
                g + coefficient * v.value if v.name == "kernel" else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        self.optimizer.apply(gradients, variables)
        return loss

    def _logits(self, images: Any) -> Any:
        return self.model(self._normalised(images), training=False)

    def _normalised(self, images: Any) -> Any:
        return (tf.cast(images, tf.float32) - self.mean) / self.deviation

    def predict(self, dataset: Dataset, part: np.ndarray) -> np.ndarray:
        """Logits in inference mode, float32 (len(part), classes)."""
        batches = [self.logits(images).numpy() for images in pipeline.evaluation_batches(dataset, part)]
        return np.concatenate(batches)[: len(part)]


class Momentum(keras.optimizers.SGD):
    """Keras' SGD with momentum, its velocity and weight updated in one pass over memory; no Nesterov."""

    def __init__(self, coefficient: tf.Variable) -> None:
        super().__init__(learning_rate=0.0, momentum=0.9)  # any momentum but 0: Keras makes the velocities for it
        self.coefficient = coefficient

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        velocity = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=velocity.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=self.coefficient,
        )


def _optimizer(name: str, momentum: tf.Variable) -> keras.optimizers.Optimizer:
    inner = Momentum(momentum) if name == "sgd" else keras.optimizers.Adam(0.0)
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return keras.optimizers.LossScaleOptimizer(inner)
    return inner


def graph_of(trial: Trial) -> tuple[Any, ...]:
    """What trials must share to share a graph: all else is numbers."""
    return (
        trial.architecture,
        trial.data.image_size,
        trial.classes,
        trial.recipe.optimizer,
        trial.execution,
    )


graphs: dict[tuple[Any, ...], Learner] = {}  # the graph of this process's last trial: tracing is dear, memory is short


def learner(trial: Trial, mean: np.ndarray, deviation: np.ndarray) -> Learner:
    """Return a Learner at the trial's start, with the graph of the trial before it where the two share one."""
    key = graph_of(trial)
    if key not in graphs:
        forget()
        graphs[key] = Learner(trial)
    graphs[key].reset(trial, mean, deviation)
    return graphs[key]


def forget() -> None:
    """Drop the kept graph and its memory."""
    graphs.clear()
    keras.backend.clear_session()
    gc.collect()


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Cross-entropy (nats), top-1, top-5 and mean per-class accuracy of logits (n, classes)."""
    log_probability = _log_softmax(logits)[np.arange(len(labels)), labels]
    rank = _rank(logits, labels)
    right = rank == 0
    per_class = [right[labels == c].mean() for c in np.unique(labels)]
    return {
        "loss": float(-log_probability.mean()),
        "top1": float(right.mean()),
        "top5": float((rank < 5).mean()),
        "mean_class_accuracy": float(np.mean(per_class)),
    }


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Classes that score at least as high as the true one: a tie is no correct answer."""
    true = logits[np.arange(len(labels)), labels][:, None]
    return (logits >= true).sum(axis=1) - 1


def predictions(logits: np.ndarray, dataset: Dataset) -> pd.DataFrame:
    """A row a test image: records.PREDICTION_COLUMNS."""
    labels = dataset.labels[dataset.test]
    return pd.DataFrame(
        {
            "image": [dataset.names[i] for i in dataset.test],
            "label": labels,
            "predicted": logits.argmax(axis=1),
            "probability": np.exp(_log_softmax(logits)[np.arange(len(labels)), labels]),
            "rank": _rank(logits, labels),
        }
    )


def run(trial: Trial, folder: Path, on_epoch: OnEpoch | None = None) -> Outcome:
    """Train one trial on a prepared data folder and return its outcome; only interruptions escape.

    A loss that is no number makes a record `diverged`, an exception one that is `failed`; both keep the
    history so far and the reason, and the log has the traceback.
    """
    started, clock = {"started": provenance.now(), **provenance.environment()}, time.perf_counter()
    history: list[dict[str, float]] = []
    facts: dict[str, Any] = {}
    predicted = None
    try:
        dataset = load(folder, trial.data.split, trial.split_seed)
        facts["data"] = _data_facts(trial, dataset)
        best_epoch, metrics, predicted = _fit(trial, dataset, history, on_epoch)
        facts |= {"status": "completed", "metrics": metrics, "best_epoch": best_epoch}
    except Diverged as error:
        facts |= {"status": "diverged", "reason": str(error)}
        log.warning("diverged: %s", error)
    except Exception as error:  # one trial's fault must not stop the others: it becomes the record's reason
        facts |= {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        log.error("failed:\n%s", traceback.format_exc())
        forget()  # whatever it broke must not reach the next trial
    record = Record(
        id=trial.id,
        study=trial.study,
        arm=trial.arm,
        levels=trial.levels,
        seed=trial.seed,
        split_seed=trial.split_seed,
        settings=trial.settings(),
        execution=trial.execution.model_dump(),
        network={
            "parameters": trial.parameters,
            "multiply_adds": trial.multiply_adds,
            "stem": trial.architecture.stem,
        },
        epochs_run=len(history),
        seconds=round(time.perf_counter() - clock, 3),
        provenance={**started, "finished": provenance.now()},
        **facts,
    )
    return Outcome(record, pd.DataFrame(history, columns=list(HISTORY_COLUMNS)), predicted)


def _data_facts(trial: Trial, dataset: Dataset) -> dict[str, Any]:
    return {
        "source": dataset.source,
        "fingerprint": trial.fingerprint,
        "split": dataset.split,
        "split_hash": dataset.split_hash,
        "image_size": dataset.image_size,
        "classes": dataset.classes,
        **{part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
    }


def _fit(
    trial: Trial, dataset: Dataset, history: list[dict[str, float]], on_epoch: OnEpoch | None
) -> tuple[int, dict[str, float], pd.DataFrame]:
    """Train, then test once. Appends to `history` as epochs end; returns the tested epoch, metrics, predictions."""
    recipe = trial.recipe
    steps = len(dataset.train) // recipe.batch_size
    if steps == 0:
        raise TrainingError(
            f"batch_size {recipe.batch_size} is more than the {len(dataset.train)} training images: make it smaller."
        )
    net = learner(trial, *pipeline.channel_statistics(dataset))
    stopping, plateau, drops = Patience(recipe.early_stopping), Patience(recipe.plateau_patience), 0
    lowest, chosen, kept = float("inf"), 0, None
    for epoch in range(1, recipe.epochs + 1):
        clock = time.perf_counter()
        rates = [learning_rate(recipe, (epoch - 1) * steps + i, steps, drops) for i in range(steps)]
        batch_loss = _train_epoch(net, trial, dataset, epoch, rates)
        row = {
            "epoch": epoch,
            "learning_rate": rates[-1],
            "batch_loss": batch_loss,
            **_evaluate(net, dataset),
            "seconds": round(time.perf_counter() - clock, 4),
        }
        history.append(row)
        log.info(" ".join(f"{key}={value:.6g}" for key, value in row.items()))
        if not np.isfinite([row["train_loss"], row["validation_loss"]]).all():
            raise Diverged(f"the loss is no number after epoch {epoch}")
        if on_epoch is not None:
            on_epoch(row)
        if recipe.test_weights == "last" or row["validation_loss"] < lowest:
            lowest, chosen = min(lowest, row["validation_loss"]), epoch
            kept = net.model.get_weights() if recipe.test_weights == "best" else None
        drops += recipe.schedule == "plateau" and plateau.update(row["validation_loss"])
        if stopping.update(row["validation_loss"]):
            break
    if kept is not None:
        net.model.set_weights(kept)
    logits = net.predict(dataset, dataset.test)
    tested = score(logits, dataset.labels[dataset.test])
    of_chosen = {
        key: history[chosen - 1][key] for key in ("train_loss", "train_top1", "validation_loss", "validation_top1")
    }
    return (
        chosen,
        {**{f"test_{key}": value for key, value in tested.items()}, **of_chosen},
        predictions(logits, dataset),
    )


def _train_epoch(net: Learner, trial: Trial, dataset: Dataset, epoch: int, rates: list[float]) -> float:
    recipe = trial.recipe
    batches = pipeline.training_batches(
        dataset, recipe.augmentation, trial.seed, epoch, recipe.batch_size, trial.execution.threads
    )
    losses = [
        net.step(images, labels, rate) for (images, labels), rate in zip(batches, map(tf.constant, rates), strict=True)
    ]
    mean = float(np.mean([loss.numpy() for loss in losses]))
    if not np.isfinite(mean):
        raise Diverged(f"the training loss is no number in epoch {epoch}")
    return mean


def _evaluate(net: Learner, dataset: Dataset) -> dict[str, float]:
    """Loss and top-1 on the clean training images and on the validation images, in inference mode."""
    row: dict[str, float] = {}
    for part in ("train", "validation"):
        index = getattr(dataset, part)
        scores = score(net.predict(dataset, index), dataset.labels[index])
        row |= {f"{part}_loss": scores["loss"], f"{part}_top1": scores["top1"]}
    return row
