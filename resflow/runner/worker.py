"""The work of a process of Ray: one trial after the other."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from resflow import environment, provenance, scratch, workspace
from resflow.errors import ResflowError, TrainingError
from resflow.records.record import Outcome
from resflow.runner import file_transfer, janitor
from resflow.runner.gpu_sharing import MEMORY
from resflow.runner.record_writer import LogForwarder
from resflow.study.resources import TrialResources
from resflow.study.trial import Trial
from resflow.training.checkpoints import Storage
from resflow.training.gpu_memory import OUT_OF_MEMORY

ALIKE = ("resflow", "tensorflow", "keras")  # packages whose version decides the numbers of a trial
Report = Callable[[dict[str, Any]], None]
# trial, its images' folder, a function that gets each epoch's row, the path to keep the network at, the checkpoints
Work = Callable[[Trial, Path, Report, Path, Storage], Outcome]


def train_in_worker(trial: Trial, folder: Path, on_epoch: Report, keep: Path, storage: Storage) -> Outcome:
    """Train a trial in this process, which is set up for it before the first one."""
    from resflow.training import train  # imports TensorFlow, which takes seconds

    _configure_once(train, trial)
    if trial.execution.device == "gpu":

        def on_epoch_of_gpu(row: dict[str, Any]) -> None:
            on_epoch({**row, MEMORY: train.gpu_memory.peak()})

        return train.train_trial(trial, folder, on_epoch=on_epoch_of_gpu, keep=keep, storage=storage)
    return train.train_trial(trial, folder, on_epoch=on_epoch, keep=keep, storage=storage)


@dataclass(frozen=True)
class Job:
    """The order that every worker of a run is given."""

    make: Callable[[dict[str, Any]], Trial]  # a trial of its source's message
    folders: Mapping[str, str]  # of images by their fingerprint, on the driver's machine
    writer: Any  # the RecordWriter
    file_server: Any  # the FileServer, None where all runs on the driver's machine
    node: str  # the driver's
    checkpoints: str  # where they lie: a folder of the driver's machine, or
    anywhere: bool  # a place that every node reaches
    run: str  # its name
    versions: Mapping[str, str]  # the driver's
    work: Work

    def storage(self) -> Storage:
        """Return the checkpoints' storage: a folder of its own on another machine that has no place that all reach."""
        if self.anywhere or ray.get_runtime_context().get_node_id() == self.node:
            return Storage(self.checkpoints)
        return Storage(str(workspace.cache(workspace.CHECKPOINTS, self.run)))


def train_one(config: dict[str, Any], job: Job) -> None:
    """Run one trial and send its results to the writer: the outcome, the network to be kept, the log."""
    environment.settle_program()  # in a cluster the variables are those of the machine's own raylet
    _keep_temporary_files_private()
    trial = _with_share(job.make(config), config)
    forwarder, logger = LogForwarder(job.writer, trial.id), logging.getLogger("resflow")
    logger.setLevel(logging.INFO)
    logger.addHandler(forwarder)
    try:
        node = provenance.environment()["host"]
        logger.info("trial %s: arm %s, seed %d, worker process %d", trial.id, trial.arm, trial.seed, os.getpid())
        tune.report({"started": 1})  # with it Tune says on which machine and in which process
        _check_versions(job.versions, node)
        if names := environment.too_late():
            raise TrainingError(
                f"{node} sets {', '.join(names)}, which changes NumPy's last digits: unset it where the cluster's "
                "processes are started, on every machine."
            )
        trial, folder = file_transfer.fetch_files(trial, Path(job.folders[trial.fingerprint]), job.file_server)
        storage = job.storage()
        with tempfile.TemporaryDirectory(prefix="resflow-") as place:
            keep = Path(place) / f"{trial.id}.safetensors"
            outcome = job.work(trial, folder, lambda row: tune.report(dict(row)), keep, storage)
            if OUT_OF_MEMORY in outcome.record.provenance and config.get("gpus", 1.0) < 1:
                tune.report({OUT_OF_MEMORY: 1})  # it goes on from its checkpoint, alone
                return
            try:
                ray.get(job.writer.write.remote(outcome))
            except ray.exceptions.RayTaskError as error:  # the trial has not failed: the same command makes its record
                tune.report({"refused": str(error.cause)})
                return
            if keep.is_file():
                _keep(job.writer, trial.id, keep, logger)
        if trial.candidate is None or trial.epochs == trial.recipe.epochs:  # none goes on from it
            storage.remove(trial.checkpoint)
        tune.report({"status": outcome.record.status})
    except Exception:
        logger.exception("the worker failed")
        raise
    finally:
        logger.removeHandler(forwarder)
        forwarder.close()


def _with_share(trial: Trial, config: dict[str, Any]) -> Trial:
    """Return a trial with the share of a GPU that it was handed out with."""
    if "gpus" not in config:
        return trial
    return replace(trial, resources=trial.resources.model_copy(update={"gpus": config["gpus"]}))


def _keep(writer: Any, trial_id: str, path: Path, logger: logging.Logger) -> None:
    """Send a network. A disk that refuses costs the network, not the record: `weights.saved` finds out later."""
    try:
        ray.get(writer.keep.remote(trial_id, path.read_bytes()))
    except (ray.exceptions.RayTaskError, ResflowError, OSError) as error:
        logger.error("its network is not kept: %s", str(error).strip().splitlines()[-1])


def _check_versions(driver: Mapping[str, str], node: str) -> None:
    versions = provenance.environment()["versions"]
    for package in ALIKE:
        if versions.get(package) != driver.get(package):
            raise TrainingError(
                f"{node} has {package} {versions.get(package)}, the driver {driver.get(package)}: their results would "
                "not compare. Install the same version on every machine of the cluster."
            )


@functools.cache  # once a process
def _keep_temporary_files_private() -> None:
    """Give a worker of a cluster a folder for its temporary files; in a local session it has one already."""
    if janitor.SESSION not in os.environ:
        folder = scratch.private_temporary_files()
        folder.__enter__()
        atexit.register(folder.__exit__, None, None, None)


_configured: list[Any] = []  # the execution spec of this worker process


def _configure_once(train: Any, trial: Trial) -> None:
    if not _configured:
        train.configure(trial.execution, TrialResources.from_trial(trial).gpus)
        _configured.append(trial.execution)
    elif _configured != [trial.execution]:
        raise TrainingError("a worker was given trials of two execution specs: one study has one.")
