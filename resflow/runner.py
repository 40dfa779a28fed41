"""Trials -> Ray Tune -> records. With tune_bridge the only module that imports Ray.

Workers train; one recorder process on the driver's machine writes what they hand over, so workers need no
shared file system for records. The state of a run is its records, and a checkpoint of each trial that runs: what has a
record is never run again, what was cut off goes on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Ray reads these when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it phones home unless told otherwise; resflow has no telemetry
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # trials on CPUs hide the GPUs from TensorFlow
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # records are resflow's own
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the screen is resflow's own
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # and so is what Ctrl-C does (stopping.py)

import ray
from ray import tune
from ray.tune import Callback, CLIReporter
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resflow import costs, kept, provenance, records
from resflow.checkpoints import Storage, place_of
from resflow.dispatch import Dispatch
from resflow.errors import RecordError, TrainingError
from resflow.records import Outcome, Record
from resflow.stopping import Stop
from resflow.trial import Trial

log = logging.getLogger("resflow.runner")
RETRIES = 3  # of a trial whose worker died; what an exception says is a record at once


@dataclass
class Progress:
    """What a screen shows of a run: `running` maps a trial's id to its last epoch's row."""

    trials: Sequence[Trial]
    done: dict[str, Record] = field(default_factory=dict)
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    work: dict[str, float] = field(init=False)  # multiply-adds by id

    def __post_init__(self) -> None:
        self.work = costs.work(self.trials)

    def seconds_left(self) -> float | None:
        """Work left over the rate so far of multiply-adds a second, None before the first epoch ends."""
        part = {t.id: self.running.get(t.id, {}).get("epoch", 0) / t.recipe.epochs for t in self.trials}
        total = sum(self.work.values())
        worked = sum(self.work[t.id] * (1 if t.id in self.done else part[t.id]) for t in self.trials)
        return (time.monotonic() - self.started) * (total - worked) / worked if worked else None


def execute(
    run: Path,
    trials: Sequence[Trial],
    folders: dict[str, Path],
    state: Path,
    show: Callable[[Progress], Any],
    stop: Stop | None = None,
    storage: str | None = None,
) -> list[Record]:
    """Run every trial of `kept.waiting`, as Dispatch hands them out, and return the new records.

    `folders` maps a trial's id to its prepared data; `state` is the ignored folder for logs, kept networks and Ray's
    files; `show` is called with the Progress whenever it changes; `stop` says when no more is to run; `storage` is a
    folder or a URL for the checkpoints of running trials, in `state` by default. A failing trial becomes a record; one
    whose worker dies goes on in another, RETRIES times; the others go on.
    """
    stop = stop or Stop()
    known = records.finished(run) if run.is_dir() else {}
    waiting = kept.waiting(trials, known, state)
    place = place_of(run, state, storage)
    kept_in = Storage(place)
    kept_in.sweep(known.keys() - {trial.id for trial in waiting})
    if not waiting:
        return []
    kept.sweep(state)
    progress = Progress(waiting)
    with _session(waiting), stop.on_signals():
        task = tune.with_parameters(
            _train_one,
            trials={t.id: t for t in waiting},
            folders={key: str(path.absolute()) for key, path in folders.items()},
            recorder=_recorder(run),
            state=str(state.absolute()),
            storage=place,
        )
        (state / "logs").mkdir(parents=True, exist_ok=True)
        tuner = tune.Tuner(
            tune.with_resources(task, _resources(waiting[0])),
            tune_config=tune.TuneConfig(search_alg=_Searcher(waiting), num_samples=len(waiting), reuse_actors=True),
            run_config=tune.RunConfig(
                name=f"{run.name}-{int(time.time())}",
                storage_path=str((state / "ray").absolute()),
                stop=_Stopper(stop),
                verbose=0,
                progress_reporter=_Silent(),
                callbacks=[_Watcher(run, {t.id: t for t in waiting}, progress, show, stop, kept_in)],
                failure_config=tune.FailureConfig(max_failures=RETRIES, fail_fast=False),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        tuner.fit()
    return list(progress.done.values())


def _recorder(run: Path) -> Any:
    """The actor that writes records: on this machine, and started again where it dies; writing twice does no harm."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(_Recorder)
    return actor.remote(str(run.absolute()))


def visible() -> dict[str, float]:
    """Start Ray on this machine and return the resources that it sees."""
    with _local_ray(provenance.processors()):
        return {key: float(value) for key, value in ray.cluster_resources().items() if key in ("CPU", "GPU", "memory")}


def _resources(trial: Trial) -> dict[str, float]:
    execution = trial.execution
    return {"cpu": execution.threads, "gpu": 1} if execution.device == "gpu" else {"cpu": execution.threads}


@contextmanager
def _session(trials: Sequence[Trial]) -> Iterator[None]:
    """Ray for the length of a run. Raises TrainingError where a trial asks for more than there is."""
    threads = trials[0].execution.threads
    cores = provenance.processors()
    if threads > cores:
        raise TrainingError(
            f"a trial asks for {threads} CPU threads, this machine has {cores}: lower it with --set threads={cores}."
        )
    with _local_ray(cores):
        if trials[0].execution.device == "gpu" and not ray.cluster_resources().get("GPU"):
            raise TrainingError(
                "device gpu was asked for, but Ray sees no GPU. `resflow doctor` tells what TensorFlow and Ray "
                "see; --set device=cpu trains on the CPU."
            )
        yield


@contextmanager
def _local_ray(cores: int) -> Iterator[None]:
    try:
        ray.init(
            address="local",  # never somebody's cluster that RAY_ADDRESS or `ray start` left to be found
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            runtime_env={"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "2", "RAY_USAGE_STATS_ENABLED": "0"}},
        )
    except (ConnectionError, RuntimeError, TimeoutError, OSError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise TrainingError(
            f"Ray did not start: {first[0]} A machine under heavy load, a full disk or a full /tmp does this; "
            "run the same command again when it is calmer: nothing that has finished is lost."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


class _Recorder:
    """Writes records on the driver's machine, one at a time.

    A trial that has completed before runs again for its network alone: should that fail, its record stays.
    """

    def __init__(self, run: str) -> None:
        self.run = Path(run)

    def write(self, outcome: Outcome) -> None:
        if outcome.record.status == "completed" or not self._has_completed(outcome.record.id):
            records.write(self.run, outcome)

    def _has_completed(self, trial_id: str) -> bool:
        try:
            return records.read(records.trial_folder(self.run, trial_id)).status == "completed"
        except RecordError:
            return False


def _train_one(
    config: dict[str, str],
    trials: dict[str, Trial],
    folders: dict[str, str],
    recorder: Any,
    state: str,
    storage: str,
) -> None:
    """One trial inside a worker: train, hand the outcome to the recorder, log to a file of its own."""
    trial, checkpoints = trials[config["trial"]], Storage(storage)
    (Path(state) / "logs").mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(Path(state) / "logs" / f"{trial.id}.log", encoding="utf-8", delay=False)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("resflow")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        logger.info("trial %s: arm %s, seed %d, worker process %d", trial.id, trial.arm, trial.seed, os.getpid())
        from resflow import train

        _configure_once(train, trial)
        outcome = train.run(
            trial,
            Path(folders[trial.id]),
            on_epoch=lambda row: tune.report(dict(row)),
            keep=kept.path_of(Path(state), trial.id),
            storage=checkpoints,
        )
        ray.get(recorder.write.remote(outcome))
        checkpoints.remove(trial.id)
        tune.report({"status": outcome.record.status})
    except Exception:
        logger.exception("the worker failed")
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()


_configured: list[Any] = []  # the execution spec of this worker process


def _configure_once(train: Any, trial: Trial) -> None:
    if not _configured:
        train.configure(trial.execution)
        _configured.append(trial.execution)
    elif _configured != [trial.execution]:
        raise TrainingError("a worker was given trials of two execution specs: one study has one.")


class _Silent(CLIReporter):
    """Tune's own tables stay off the screen."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return False


class _Searcher(Searcher):
    """Gives Tune the trials of a Dispatch, one for each that can start at once: no sooner is it known which is best."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        super().__init__()
        self.dispatch, self.needs = Dispatch(trials), _resources(trials[0])
        self.given: dict[str, str] = {}  # Tune's id -> ours

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if not len(self.dispatch):
            return Searcher.FINISHED
        there = ray.cluster_resources()
        places = min(there.get(name.upper(), 0) // needed for name, needed in self.needs.items() if needed)
        if len(self.dispatch.running) >= places:
            return None
        self.given[trial_id] = self.dispatch.next().id
        return {"trial": self.given[trial_id]}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.dispatch.ended(self.given[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what has no record is handed out again by the next run."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as in `save`."""


class _Stopper(tune.Stopper):
    """Tells Tune what a Stop says."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.stop.due()


class _Watcher(Callback):
    """Follows Tune's trials for the screen, and turns the death of a trial's last worker into a failed record."""

    def __init__(
        self,
        run: Path,
        trials: dict[str, Trial],
        progress: Progress,
        show: Callable[[Progress], Any],
        stop: Stop,
        storage: Storage,
    ) -> None:
        self.run, self.trials, self.progress, self.show = run, trials, progress, show
        self.stop, self.storage = stop, storage

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.running[trial.config["trial"]] = {}
        self.show(self.progress)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "epoch" in result and "status" not in result:
            self.progress.running[trial.config["trial"]] = result
        self.show(self.progress)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial.config["trial"], "the worker ended without a record")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial.config["trial"], f"the worker failed: {_last_line(trial.error_file)}")

    def _ended(self, trial_id: str, otherwise: str) -> None:
        try:
            record = records.read(records.trial_folder(self.run, trial_id))
        except RecordError:
            if self.stop.reason:
                return  # it was stopped: no record means not run yet
            record = _failed(self.trials[trial_id], otherwise)
            records.write(self.run, Outcome(record))
            self.storage.remove(trial_id)
        self.progress.running.pop(trial_id, None)
        self.progress.done[trial_id] = record
        self.stop.count(record.status)
        self.show(self.progress)


def _last_line(path: str | None) -> str:
    """Of what Tune wrote about an error: the exception, below its traceback.

    `path` lies in Tune's staging folder; `Trial.get_error` reads a copy that may not have been made yet.
    """
    try:
        lines = Path(path or "").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].strip() if lines else "Ray gave no reason"


def _failed(trial: Trial, reason: str) -> Record:
    return Record(
        id=trial.id,
        study=trial.study,
        arm=trial.arm,
        levels=trial.levels,
        seed=trial.seed,
        split_seed=trial.split_seed,
        status="failed",
        reason=reason[:300],
        settings=trial.settings(),
        execution=trial.execution.model_dump(),
        network={"parameters": trial.parameters, "multiply_adds": trial.multiply_adds},
        provenance={"finished": provenance.now(), **provenance.environment()},
    )
