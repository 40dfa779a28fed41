"""One trial to one record; nothing here knows of Ray."""

from __future__ import annotations

import logging
import os
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from resflow import environment, gpu_driver, provenance
from resflow.training import xla_cache

os.environ["TF_XLA_FLAGS"] = xla_cache.flags()

from resflow.data.dataset import Dataset, load_dataset
from resflow.errors import TrainingError
from resflow.quiet_tensorflow import keras, tf
from resflow.records.facts import TOLERATED_WAIT
from resflow.records.record import HISTORY_COLUMNS, Outcome, make_record
from resflow.study.pretrained import Normalisation
from resflow.study.resources import TrialResources
from resflow.study.settings import Execution
from resflow.study.trial import Trial
from resflow.training import gpu_memory
from resflow.training.checkpoints import Arrays, Checkpoints, Storage, TrainingState
from resflow.training.fit import Diverged, Fit, Fitted, OnEpoch, networks_needed
from resflow.training.inputs import choose_normalisation, make_inputs
from resflow.training.learner import forget_graphs
from resflow.training.trial_clock import TrialClock

log = logging.getLogger("resflow.train")


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
            environment.settle_gpu()
            tf.config.experimental.enable_tensor_float_32_execution(execution.precision == "tensorfloat32")
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
    started, clock = {"started": provenance.now(), **provenance.environment(), **_load("load_at_start")}, TrialClock()
    state, arrays = TrainingState.from_recipe(trial.recipe), Arrays()
    on_gpu, share = trial.execution.device == "gpu", TrialResources.from_trial(trial).gpus
    facts: dict[str, Any] = {}
    fitted: Fitted | None = None
    try:
        dataset = load_dataset(folder, trial.data.split, trial.split_seed, trial.data.train)
        if trial.candidate:
            dataset = replace(dataset, test=dataset.test[:0])  # what chooses settings never sees the test images
        normalisation = choose_normalisation(trial, dataset)
        facts["data"] = _data_facts(trial, dataset, normalisation)
        checkpoints = Checkpoints(storage, trial.checkpoint, _numerics(trial, keep)) if storage else None
        checkpoint = checkpoints.load(trial.recipe) if checkpoints else None
        if checkpoint and checkpoint[0].last_epoch <= trial.epochs:
            state, arrays = checkpoint
            clock.go_on(state.seconds, state.computed)
            if on_epoch is not None and trial.candidate:
                for row in state.history:
                    on_epoch(row)  # what prunes has to know all of them
        inputs = make_inputs(trial, dataset, normalisation, state.last_epoch)
        fit = Fit(inputs, state, arrays, keep, clock)
        fitted = fit.run(on_epoch, checkpoints)
        facts |= {"status": "completed", "metrics": fitted.metrics, "best_epoch": fitted.epoch}
    except Diverged as error:
        facts |= {"status": "diverged", "reason": str(error)}
        log.warning("diverged: %s", error)
    except Exception as error:  # one trial's fault must not stop the others: it becomes the record's reason
        reason = f"{type(error).__name__}: {error}"
        if on_gpu and gpu_memory.is_exhausted(error):
            reason = gpu_memory.tell_shortage(error, share)
            started[gpu_memory.OUT_OF_MEMORY] = gpu_memory.peak()
        facts |= {"status": "failed", "reason": reason.splitlines()[0][:300]}
        log.error("failed:\n%s", traceback.format_exc())
        forget_graphs()  # whatever it broke must not reach the next trial
    if on_gpu:
        started["gpu"] = gpu_memory.describe(share)
    record = make_record(
        trial,
        network=_network_facts(trial),
        epochs_run=len(state.history),
        seconds=round(clock.own, 3),
        shared=clock.costs(),
        provenance={**started, "finished": provenance.now(), **_load("load_at_end"), **_input_wait(trial, state)},
        **facts,
    )
    history = pd.DataFrame(state.history, columns=list(HISTORY_COLUMNS))
    if fitted is None:
        return Outcome(record, history)
    return Outcome(record, history, fitted.predictions, fitted.diagnostics)


def _load(moment: str) -> dict[str, float]:
    """Return the load average under this name; empty where the system has none."""
    load = provenance.load_average()
    return {} if load is None else {moment: load}


def _input_wait(trial: Trial, state: TrainingState) -> dict[str, float]:
    """Return the share of its epochs in which a trial's device waited for input, and warn where that is much."""
    waited, execution = state.input_wait, trial.execution
    if waited is None:
        return {}
    if waited > TOLERATED_WAIT:
        ways = [f"give trials more {'cpus' if execution.device == 'gpu' else 'threads'}"]
        if execution.inputs != "device":
            ways.append("keep all inputs in its memory (inputs=device)")
        name = execution.device.upper()
        log.warning("the %s waited for input %.0f %% of the time: %s", name, 100 * waited, ", or ".join(ways))
    return {"input_wait": round(waited, 4)}


def _network_facts(trial: Trial) -> dict[str, Any]:
    facts: dict[str, Any] = {"parameters": trial.parameters, "multiply_adds": trial.multiply_adds}
    facts["stem"] = trial.architecture.stem
    if trial.pretrained is not None:
        facts |= {"weights": trial.pretrained.origin, "weights_digest": trial.pretrained.digest}
        facts |= {f"weights_{name}": text for name, text in asdict(trial.pretrained.notes).items() if text}
        facts |= {"stem_pool": trial.architecture.stem_pool, "shared_features": trial.shares_features}
    return facts


def _data_facts(trial: Trial, dataset: Dataset, normalisation: Normalisation) -> dict[str, Any]:
    originals = dataset.originals
    return {
        "source": dataset.source,
        "fingerprint": trial.fingerprint,
        "split": dataset.split,
        "split_hash": dataset.split_hash,
        "image_size": dataset.image_size,
        "normalisation": {name: list(values) for name, values in asdict(normalisation).items()},  # as JSON has it
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        **{part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        **({"originals": asdict(originals)} if originals else {}),  # drawn images have none
    }


def _numerics(trial: Trial, keep: Path | None) -> dict[str, str]:
    """Return what a checkpoint must share with this process: what decides the last bits, and the networks it holds."""
    networks = str(sorted(networks_needed(trial, keep)))
    numerics = {"tensorflow": tf.__version__, "keras": keras.__version__, "networks": networks}
    return {**numerics, "gpu": gpu_driver.kind()} if trial.execution.device == "gpu" else numerics
