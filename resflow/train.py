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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

import keras
import tensorflow as tf

from resflow import models, provenance
from resflow.data import pipeline
from resflow.data.dataset import Dataset, load
from resflow.errors import TrainingError
from resflow.records import HISTORY_COLUMNS, Outcome, Record
from resflow.schedule import Patience, learning_rate
from resflow.settings import Execution, Recipe
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


class Learner:
    """A network with its optimiser and the two functions that compute on it."""

    def __init__(self, trial: Trial, mean: np.ndarray, deviation: np.ndarray) -> None:
        recipe, size = trial.recipe, trial.data.image_size
        # For each trial anew: `clear_session` after the one before it put the policy back to float32.
        keras.mixed_precision.set_global_policy(trial.execution.precision)
        self.model = models.build(trial.architecture, size, trial.classes, trial.execution.lowering)
        models.initialise(self.model, trial.seed)
        self.optimizer = _optimizer(recipe)
        self.optimizer.build(self.model.trainable_variables)
        self.decayed = [v for v in self.model.trainable_variables if v.name == "kernel"]
        self.smoothing, self.classes = recipe.label_smoothing, trial.classes
        self.decay = recipe.weight_decay if recipe.optimizer != "adamw" else 0.0
        self.mean, self.deviation = tf.constant(mean), tf.constant(deviation)
        jit = trial.execution.jit
        shape = (None, size, size, 3)
        image = tf.TensorSpec(shape, tf.uint8)
        label, rate = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.float32)
        self.step = tf.function(self._step, [image, label, rate], jit_compile=jit)
        self.logits = tf.function(self._logits, [image], jit_compile=jit)

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
        if self.decay:
            # The gradient of decay / 2 |w|^2, as in He et al.; Keras' own weight_decay is AdamW's decoupled one.
            # Mixed precision unscales inside `apply`, so the term is scaled as the loss is.
            coefficient = self.optimizer.scale_loss(tf.constant(self.decay))
            decayed = {id(v) for v in self.decayed}
            gradients = [
                g + coefficient * v.value if id(v) in decayed else g for g, v in zip(gradients, variables, strict=True)
            ]
        self.optimizer.apply(gradients, variables)
        return loss

    def _logits(self, images: Any) -> Any:
        return self.model(self._normalised(images), training=False)

    def _normalised(self, images: Any) -> Any:
        return (tf.cast(images, tf.float32) - self.mean) / self.deviation

    def predict(self, dataset: Dataset, part: np.ndarray, threads: int) -> np.ndarray:
        """Logits in inference mode, float32 (len(part), classes)."""
        batches = [self.logits(images).numpy() for images in pipeline.evaluation_batches(dataset, part, threads)]
        return np.concatenate(batches)[: len(part)]


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    rate = recipe.learning_rate
    if recipe.optimizer == "sgd":
        inner = keras.optimizers.SGD(rate, momentum=recipe.momentum)
    elif recipe.optimizer == "adam":
        inner = keras.optimizers.Adam(rate)
    else:
        inner = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        inner.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return keras.optimizers.LossScaleOptimizer(inner)
    return inner


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
    finally:
        keras.backend.clear_session()
        gc.collect()
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
    recipe, threads = trial.recipe, trial.execution.threads
    steps = len(dataset.train) // recipe.batch_size
    if steps == 0:
        raise TrainingError(
            f"batch_size {recipe.batch_size} is more than the {len(dataset.train)} training images: make it smaller."
        )
    learner = Learner(trial, *pipeline.channel_statistics(dataset))
    stopping, plateau, drops = Patience(recipe.early_stopping), Patience(recipe.plateau_patience), 0
    lowest, chosen, kept = float("inf"), 0, None
    for epoch in range(1, recipe.epochs + 1):
        clock = time.perf_counter()
        rates = [learning_rate(recipe, (epoch - 1) * steps + i, steps, drops) for i in range(steps)]
        batch_loss = _train_epoch(learner, trial, dataset, epoch, rates)
        row = {
            "epoch": epoch,
            "learning_rate": rates[-1],
            "batch_loss": batch_loss,
            **_evaluate(learner, dataset, threads),
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
            kept = learner.model.get_weights() if recipe.test_weights == "best" else None
        drops += recipe.schedule == "plateau" and plateau.update(row["validation_loss"])
        if stopping.update(row["validation_loss"]):
            break
    if kept is not None:
        learner.model.set_weights(kept)
    logits = learner.predict(dataset, dataset.test, threads)
    tested = score(logits, dataset.labels[dataset.test])
    of_chosen = {
        key: history[chosen - 1][key] for key in ("train_loss", "train_top1", "validation_loss", "validation_top1")
    }
    return (
        chosen,
        {**{f"test_{key}": value for key, value in tested.items()}, **of_chosen},
        predictions(logits, dataset),
    )


def _train_epoch(learner: Learner, trial: Trial, dataset: Dataset, epoch: int, rates: list[float]) -> float:
    recipe = trial.recipe
    batches = pipeline.training_batches(
        dataset, recipe.augmentation, trial.seed, epoch, recipe.batch_size, trial.execution.threads
    )
    losses = [
        learner.step(images, labels, rate)
        for (images, labels), rate in zip(batches, map(tf.constant, rates), strict=True)
    ]
    mean = float(np.mean([loss.numpy() for loss in losses]))
    if not np.isfinite(mean):
        raise Diverged(f"the training loss is no number in epoch {epoch}")
    return mean


def _evaluate(learner: Learner, dataset: Dataset, threads: int) -> dict[str, float]:
    """Loss and top-1 on the clean training images and on the validation images, in inference mode."""
    row: dict[str, float] = {}
    for part in ("train", "validation"):
        index = getattr(dataset, part)
        scores = score(learner.predict(dataset, index, threads), dataset.labels[index])
        row |= {f"{part}_loss": scores["loss"], f"{part}_top1": scores["top1"]}
    return row
