"""One trial -> one record. Plain Keras on TensorFlow; knows nothing of Ray."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resflow import provenance
from resflow.training import xla_cache

os.environ["TF_XLA_FLAGS"] = xla_cache.flags()

with provenance.quiet_import():
    import keras
    import tensorflow as tf

from resflow import provenance
from resflow.data.dataset import Dataset, load_dataset
from resflow.errors import ResflowError, TrainingError
from resflow.models.build import build_network, initialise
from resflow.records.record import HISTORY_COLUMNS, Outcome, make_record
from resflow.study.pretrained import Normalisation
from resflow.study.settings import Execution
from resflow.study.trial import Trial
from resflow.training import diagnostics, gpu_memory
from resflow.training.checkpoints import Arrays, Checkpoints, Storage, TrainingState
from resflow.training.inputs import Inputs, choose_normalisation, make_inputs
from resflow.training.learner import ALL, HEAD, Learner, forget_graphs, prepare_learner
from resflow.training.schedule import learning_rate
from resflow.training.scoring import predictions, score
from resflow.weights.description import describe_trial
from resflow.weights.load import load_weights
from resflow.weights.saved import write_network

log = logging.getLogger("resflow.train")
OnEpoch = Callable[[dict[str, float]], None]


class Diverged(Exception):  # noqa: N818  (an outcome, not an error)
    """The loss is no longer a number."""


def configure(execution: Execution, gpus: float = 1.0) -> None:
    """Set threads, GPU memory and determinism. Must run before TensorFlow's first computation.

    On a share of a GPU, `gpus` below 1, TensorFlow may take that share of its memory; on a whole one what it needs.

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
                if gpus < 1:
                    limit = [tf.config.LogicalDeviceConfiguration(memory_limit=gpu_memory.megabytes(gpus))]
                    tf.config.set_logical_device_configuration(device, limit)
                else:
                    tf.config.experimental.set_memory_growth(device, True)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"TensorFlow was in use before this trial set it up: {error}") from error
    tf.config.experimental.enable_op_determinism()
    if execution.jit is True:
        xla_cache.prune()


def train_trial(
    trial: Trial,
    folder: Path,
    on_epoch: OnEpoch | None = None,
    keep: Path | None = None,
    storage: Storage | None = None,
) -> Outcome:
    """Train one trial on a prepared data folder and return its outcome; only interruptions escape.

    A loss that is no number makes a record `diverged`, an exception one that is `failed`; both keep the
    history so far and the reason, and the log has the traceback. `keep` is where the network that
    `trial.keep_weights` asks for is written; the outcome does not depend on it. With `storage` the trial goes on from
    the checkpoint that an interrupted process left there, and leaves its own; whoever has the outcome removes it.
    """
    started, clock = {"started": provenance.now(), **provenance.environment()}, time.perf_counter()
    course = TrainingState.from_recipe(trial.recipe)
    facts: dict[str, Any] = {}
    predicted, inside, saved = None, None, Arrays()
    try:
        dataset = load_dataset(folder, trial.data.split, trial.split_seed)
        if trial.candidate:
            dataset = replace(dataset, test=dataset.test[:0])  # what chooses settings never sees the test images
        pixels = choose_normalisation(trial, dataset)
        facts["data"] = _data_facts(trial, dataset, pixels)
        checkpoints = Checkpoints(storage, trial.checkpoint, _numerics(trial, keep)) if storage else None
        found = checkpoints.load(trial.recipe) if checkpoints else None
        if found and found[0].epochs["last"] <= trial.epochs:
            course, saved = found
            if on_epoch is not None and trial.candidate:
                for row in course.history:
                    on_epoch(row)  # what prunes has to know all of them
        fed = make_inputs(trial, dataset, pixels)
        best_epoch, metrics, predicted, inside = _fit(fed, pixels, course, saved, on_epoch, keep, checkpoints)
        facts |= {"status": "completed", "metrics": metrics, "best_epoch": best_epoch}
    except Diverged as error:
        facts |= {"status": "diverged", "reason": str(error)}
        log.warning("diverged: %s", error)
    except Exception as error:  # one trial's fault must not stop the others: it becomes the record's reason
        facts |= {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        log.error("failed:\n%s", traceback.format_exc())
        forget_graphs()  # whatever it broke must not reach the next trial
    record = make_record(
        trial,
        network=_network_facts(trial),
        epochs_run=len(course.history),
        seconds=round(course.seconds + time.perf_counter() - clock, 3),
        provenance={**started, "finished": provenance.now()},
        **facts,
    )
    return Outcome(record, pd.DataFrame(course.history, columns=list(HISTORY_COLUMNS)), predicted, inside)


def _network_facts(trial: Trial) -> dict[str, Any]:
    facts: dict[str, Any] = {"parameters": trial.parameters, "multiply_adds": trial.multiply_adds}
    facts["stem"] = trial.architecture.stem
    if trial.pretrained is not None:
        facts |= {"weights": trial.pretrained.origin, "weights_digest": trial.pretrained.digest}
        facts |= {"stem_pool": trial.architecture.stem_pool, "shared_features": trial.shares_features}
    return facts


def _data_facts(trial: Trial, dataset: Dataset, pixels: Normalisation) -> dict[str, Any]:
    return {
        "source": dataset.source,
        "fingerprint": trial.fingerprint,
        "split": dataset.split,
        "split_hash": dataset.split_hash,
        "image_size": dataset.image_size,
        "normalisation": {name: list(values) for name, values in asdict(pixels).items()},  # as JSON has it
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        **{part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
    }


def _wanted(trial: Trial, keep: Path | None) -> set[str]:
    """The epochs, `best` and `last`, whose networks are needed at the end."""
    return {trial.recipe.test_weights, trial.keep_weights} if keep else {trial.recipe.test_weights}


def _numerics(trial: Trial, keep: Path | None) -> dict[str, str]:
    """What a checkpoint must share with this process: the last bits of all that follows, and the networks it holds."""
    return {"tensorflow": tf.__version__, "keras": keras.__version__, "networks": str(sorted(_wanted(trial, keep)))}


def _fit(
    fed: Inputs,
    pixels: Normalisation,
    course: TrainingState,
    saved: Arrays,
    on_epoch: OnEpoch | None,
    keep: Path | None,
    checkpoints: Checkpoints | None,
) -> tuple[int, dict[str, float], pd.DataFrame | None, pd.DataFrame | None]:
    """Train on from where `course` stands, then test once, unless it is a candidate.

    Returns the epoch of the weights that count, metrics, predictions, diagnostics.

    `course` grows as epochs end; `saved` are its checkpoint's arrays, none at a trial's beginning.
    """
    trial, dataset = fed.trial, fed.dataset
    recipe, clock = trial.recipe, time.perf_counter()
    steps = len(dataset.train) // recipe.batch_size
    if steps == 0:
        raise TrainingError(
            f"batch_size {recipe.batch_size} is more than the {len(dataset.train)} training images: make it smaller."
        )
    mean, deviation = (np.array(values, np.float32) for values in (pixels.mean, pixels.deviation))
    net = prepare_learner(trial, mean, deviation, fed.shape)
    wanted = _wanted(trial, keep)
    values: dict[str, list[np.ndarray]] = {}  # of the network at these epochs, where it must be put back
    if saved:
        net.restore(saved)
        net.begin(ALL if course.epochs["last"] > recipe.head_epochs else HEAD)
        values = _values_of(saved)
        log.info("goes on after epoch %d", course.epochs["last"])
    while course.epochs["last"] < trial.epochs and not course.stopped:
        epoch = course.epochs["last"] + 1
        if epoch == recipe.head_epochs + 1:
            net.begin(ALL)
        row = _epoch(net, fed, epoch, steps, course)
        course.history.append(row)
        log.info(" ".join(f"{key}={value:.6g}" for key, value in row.items()))
        if not np.isfinite([row["train_loss"], row["validation_loss"]]).all():
            raise Diverged(f"the loss is no number after epoch {epoch}")
        if on_epoch is not None:
            on_epoch(row)
        course.epochs["last"] = epoch
        if row["validation_loss"] < course.lowest:
            course.lowest, course.epochs["best"] = row["validation_loss"], epoch
            if "best" in wanted:
                values["best"] = net.model.get_weights()
        course.drops += recipe.schedule == "plateau" and course.plateau.update(row["validation_loss"])
        course.stopped = course.stopping.update(row["validation_loss"])
        if checkpoints is not None:
            seconds = course.seconds + time.perf_counter() - clock
            checkpoints.save(course, lambda: {**net.state(), **_arrays_of(values)}, seconds)
    return _conclude(net, fed, pixels, course, values, keep)


def _conclude(
    net: Learner,
    fed: Inputs,
    pixels: Normalisation,
    course: TrainingState,
    values: dict[str, list[np.ndarray]],
    keep: Path | None,
) -> tuple[int, dict[str, float], pd.DataFrame | None, pd.DataFrame | None]:
    """Test the weights that count, look inside them, and keep the network; returns as `_fit`."""
    trial, dataset, recipe, wanted = fed.trial, fed.dataset, fed.trial.recipe, _wanted(fed.trial, keep)
    epochs, history = course.epochs, course.history
    if "best" in values and "last" in wanted:
        values["last"] = net.model.get_weights()
    if recipe.test_weights in values:
        net.model.set_weights(values[recipe.test_weights])
    chosen, tested, predicted = epochs[recipe.test_weights], {}, None
    if not trial.candidate:
        logits = net.predict(fed.evaluation_batches("test"), len(dataset.test))
        tested, predicted = score(logits, dataset.labels[dataset.test]), predictions(logits, dataset)
    inside = diagnostics.diagnose(net, dataset, course.gradients, chosen) if trial.diagnostics else None
    if keep is not None and trial.keep_weights != "none":
        if trial.keep_weights in values:
            net.model.set_weights(values[trial.keep_weights])
        _keep(trial, net, dataset, pixels, epochs[trial.keep_weights], keep)
    of_chosen = {
        key: history[chosen - 1][key] for key in ("train_loss", "train_top1", "validation_loss", "validation_top1")
    }
    return (
        chosen,
        {**{f"test_{key}": value for key, value in tested.items()}, **of_chosen},
        predicted,
        inside,
    )


def _epoch(net: Learner, fed: Inputs, epoch: int, steps: int, course: TrainingState) -> dict[str, float]:
    """Train for one epoch and evaluate: a row of the history."""
    clock, recipe = time.perf_counter(), fed.trial.recipe
    rates = [learning_rate(recipe, (epoch - 1) * steps + i, steps, course.drops) for i in range(steps)]
    watch = diagnostics.steps_watched(epoch, recipe.epochs, steps) if fed.trial.diagnostics else {}
    batch_loss = _train_epoch(net, fed, epoch, rates, watch, course)
    return {
        "epoch": epoch,
        "learning_rate": rates[-1],
        "batch_loss": batch_loss,
        **_evaluate(net, fed, epoch),
        "seconds": round(time.perf_counter() - clock, 4),
    }


def _arrays_of(values: dict[str, list[np.ndarray]]) -> Arrays:
    return {f"best/{number}": array for number, array in enumerate(values.get("best", ()))}


def _values_of(saved: Arrays) -> dict[str, list[np.ndarray]]:
    count = sum(name.startswith("best/") for name in saved)
    return {"best": [saved[f"best/{number}"] for number in range(count)]} if count else {}


def _keep(trial: Trial, net: Learner, dataset: Dataset, pixels: Normalisation, epoch: int, path: Path) -> None:
    """Write the network as it is. A disk that refuses costs the network, not the record: `kept.lacking` finds out."""
    try:
        write_network(path, _whole(trial, net), describe_trial(trial, epoch, dataset.class_names, pixels))
    except ResflowError as error:
        log.error("its network is not kept: %s", error)


def _whole(trial: Trial, net: Learner) -> keras.Model:
    """The network of a Learner; where that is a head on features, on the backbone that they came from."""
    if net.features is None:
        return net.model
    execution, head = trial.execution, trial.network.head
    whole = build_network(trial.architecture, trial.data.image_size, trial.classes, execution.lowering, net.jit, head)
    assert trial.pretrained is not None  # no features without
    initialise(whole, trial.seed)
    load_weights(whole, trial.pretrained, partial=trial.network.partial_weights)
    for layer in net.model.layers:
        if layer.weights:
            whole.get_layer(layer.name).set_weights(layer.get_weights())
    return whole


def _train_epoch(
    net: Learner, fed: Inputs, epoch: int, rates: list[float], watch: Mapping[int, int], course: TrainingState
) -> float:
    """Mean loss of an epoch's steps. `watch` says as which epoch the gradients of some steps are kept in `course`."""
    losses = []
    for place, ((x, labels), rate) in enumerate(zip(fed.training_batches(epoch), rates, strict=True)):
        if place in watch:
            net.watch.assign(True)
        losses.append(net.step(x, labels, tf.constant(rate)))
        if place in watch:
            net.watch.assign(False)
            course.gradients.append([watch[place], [float(norm) for norm in net.norms.numpy()]])
    mean = float(np.mean([loss.numpy() for loss in losses]))
    if not np.isfinite(mean):
        raise Diverged(f"the training loss is no number in epoch {epoch}")
    return mean


def _evaluate(net: Learner, fed: Inputs, epoch: int) -> dict[str, float]:
    """Loss and top-1 on the clean training images and on the validation images, in inference mode."""
    augmented = fed.trial.recipe.validation_views == "augmented"
    row: dict[str, float] = {}
    for part, view in (("train", None), ("validation", epoch if augmented else None)):
        labels = fed.dataset.labels[getattr(fed.dataset, part)]
        scores = score(net.predict(fed.evaluation_batches(part, view), len(labels)), labels)
        row |= {f"{part}_loss": scores["loss"], f"{part}_top1": scores["top1"]}
    return row
