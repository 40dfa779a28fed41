"""Adapters to Ray Tune: they give it the next trial, stop it, and follow what it does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from ray import tune
from ray.tune import Callback, CLIReporter
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resflow import provenance
from resflow.errors import RecordError
from resflow.records.packing import find_record
from resflow.records.record import HISTORY_COLUMNS, Outcome, Record, make_record, write_record
from resflow.runner import ray_session
from resflow.runner.gpu_sharing import Sharing
from resflow.runner.progress import Progress, ProgressFile
from resflow.runner.queue import TrialSource
from resflow.runner.stopping import Stop
from resflow.runner.watchdog import Watchdog
from resflow.study.trial import Trial
from resflow.training.gpu_memory import OUT_OF_MEMORY


class Silent(CLIReporter):
    """Reporter that keeps Tune's own tables off the screen."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return False


class TrialSearcher(Searcher):
    """Searcher that gives Tune the trials of a source, each when it can start: no sooner is it known which is best.

    In a cluster half as many more wait, and one at least: they are what an autoscaler sees.
    """

    def __init__(self, source: TrialSource, sharing: Sharing, cluster: bool = False) -> None:
        super().__init__()
        self.source, self.sharing, self.cluster = source, sharing, cluster
        self.nodes: list[dict[str, float]] = []  # resources of each machine
        self.trial_ids: dict[str, str] = {}  # by Tune's own

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self._is_over():
            return Searcher.FINISHED
        ray_session.check_alive()
        if not self.nodes or self.cluster:  # where machines join and leave
            self.nodes = ray_session.node_resources()
        running = len(self.source.running) - len(self.sharing.again)
        places = self.sharing.places(self.nodes, len(self.source) + len(self.source.running))
        if running >= (max(places + 1, places * 3 // 2) if self.cluster else places):
            return None
        trial = self.sharing.retry() or (self.source.next(self.sharing.arm) if len(self.source) else None)
        if trial is None:  # others have to end first, or that was the last one
            return Searcher.FINISHED if self._is_over() else None
        self.trial_ids[trial_id] = trial.id
        return {**self.source.config(trial), **self.sharing.config(trial)}

    def _is_over(self) -> bool:
        return not (len(self.source) or len(self.source.running) or self.sharing.again)  # one that runs may run again

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        if self.trial_ids[trial_id] not in self.sharing.again:
            self.source.ended(self.trial_ids[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the next run hands out again whatever has no record."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, as in `save`."""


class ByArm(FIFOScheduler):
    """ASHA among the candidates of each arm: an arm that learns slowly is not cut short by the others."""

    def __init__(self, schedulers: Mapping[str, TrialScheduler], epochs: Mapping[str, int]) -> None:
        super().__init__()
        self.schedulers, self.epochs = schedulers, epochs

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        self.schedulers[trial.config["arm"]].on_trial_add(controller, trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        arm = trial.config["arm"]
        if result.get("epoch", 0) >= self.epochs[arm]:  # it has trained to its end: nothing is left to spare
            return str(TrialScheduler.CONTINUE)
        return self.schedulers[arm].on_trial_result(controller, trial, result)

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.schedulers[trial.config["arm"]].on_trial_complete(controller, trial, result)


class Stopper(tune.Stopper):
    """Stopper of Tune that does what a Stop says."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.stop.due()


class Watcher(Callback):
    """Follower of Tune's trials: for the screen, for the watchdog, and where a trial's last worker has died.

    A trial without a record then gets a failed one, or one that is pruned where Tune's scheduler has ended it.
    `remove_checkpoint` is called with the name of a checkpoint that no trial goes on from.
    """

    def __init__(
        self,
        run: Path,
        file: ProgressFile,
        show: Callable[[Progress], Any],
        stop: Stop,
        remove_checkpoint: Callable[[str], Any],
        sharing: Sharing,
    ) -> None:
        self.run, self.file, self.show, self.stop, self.sharing = run, file, show, stop, sharing
        self.progress = progress = file.progress
        self.remove_checkpoint = remove_checkpoint
        self.trials = progress.trials
        self.rows: dict[str, dict[int, dict[str, float]]] = {}  # of running candidates: epoch -> a row of the history
        self.shared: dict[str, dict[str, Any]] = {}  # of running candidates: as their records would have it
        self.watchdog = Watchdog(progress.trials)
        self.refusal: RecordError | None = None  # of a record by the disk
        self.hung: dict[str, float] = {}  # seconds of silence, of trials whose worker was killed for it

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watchdog.watch(trial.config["trial"])
        self.sharing.begin(trial.config["trial"])
        self.progress.begin(trial.config["trial"])
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.watchdog.reset(trial.config["trial"])
        if "refused" in result:
            self.refusal = RecordError(result["refused"])
            self.stop.reason = "a record cannot be written"
        if OUT_OF_MEMORY in result:
            self.sharing.ran_out(self.trials[trial.config["trial"]])
        elif "epoch" in result and "status" not in result:
            self._keep_row(trial.config["trial"], result)
        self._show()

    def _show(self) -> None:
        self.show(self.progress)
        self.file.write(changed=True)

    def _keep_row(self, trial_id: str, result: dict[str, Any]) -> None:
        self.progress.end_epoch(trial_id, result)
        self.sharing.hear(trial_id, result)
        if self.trials[trial_id].candidate and result.keys() >= set(HISTORY_COLUMNS):
            row = {name: result[name] for name in HISTORY_COLUMNS}
            self.rows.setdefault(trial_id, {})[int(row["epoch"])] = row
            self.shared[trial_id] = result.get("shared", {})  # none of epochs that another process has trained

    def on_shortage(self, trial: Any) -> bool:
        """Take note that Ray ended a trial's worker because main memory ran short; tell whether it is to run again."""
        most = self.sharing.ran_short(self.trials[trial.config["trial"]])
        if most is None:
            return False
        self.progress.notes.append(
            "Main memory ran short, and Ray ended a trial's worker. The trial will go on from its last epoch; from now "
            f"on at most {most} at a time. --set memory=N sets N gigabytes aside for each trial of the next run."
        )
        return True

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        ray_session.check_alive()
        self.file.write()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        overdue = self.watchdog.find_overdue()
        for trial in trials if overdue else ():
            trial_id = trial.config["trial"]
            if trial_id in overdue:
                self.hung[trial_id] = overdue[trial_id]
                self.watchdog.forget(trial_id)  # until another worker starts it
                kill_worker(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        forget_statistics(trial)
        self._finish(trial.config["trial"], "the worker ended without a record", was_pruned=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        forget_statistics(trial)
        trial_id = trial.config["trial"]
        silent = f" after {self.hung[trial_id]:.0f} s of silence" if trial_id in self.hung else ""
        self._finish(trial_id, f"the worker failed{silent}: {read_exception(trial.error_file)}")

    def _finish(self, trial_id: str, reason: str, was_pruned: bool = False) -> None:
        """Take note of a trial's end; one without a record gets one, which gives `reason` unless it was pruned."""
        self.watchdog.forget(trial_id)
        self.sharing.end(trial_id)
        if trial_id in self.sharing.again:
            self.progress.withdraw(trial_id)
            return
        try:
            record = find_record(self.run, trial_id)
        except RecordError:
            if self.stop.reason:
                return  # it was stopped: no record means not run yet
            trial, rows = self.trials[trial_id], self.rows.get(trial_id, {})
            if was_pruned and rows:
                outcome = make_pruned_outcome(trial, rows, self.shared[trial_id])
            else:
                outcome = Outcome(make_failed_record(trial, reason))
            record = outcome.record
            write_record(self.run, outcome)
            self.remove_checkpoint(trial.checkpoint)
        self.rows.pop(trial_id, None)
        self.shared.pop(trial_id, None)
        self.progress.end(trial_id, record)
        self.stop.count(record.status)
        self._show()


def forget_statistics(trial: Any) -> None:
    """Drop the statistics that Tune keeps, to its own end, of each number that one of its trials reported.

    They are the extremes, the mean and the last ten values. Nobody here reads them, and they take 40 kB a trial.
    """
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}


def kill_worker(trial: Any) -> None:
    """End the process of one of Tune's trials, hard, on whichever machine it runs: Tune starts the trial again.

    A signal reaches it where Tune knows its number: a process that is stopped or stuck in the kernel ignores Ray.
    """
    result = trial.last_result or {}
    nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if result.get("node_ip") in nodes:
        there = NodeAffinitySchedulingStrategy(nodes[result["node_ip"]], soft=False)
        ray.remote(num_cpus=0, scheduling_strategy=there)(_kill_process).remote(result["pid"])
    elif trial.temporary_state.ray_actor is not None:
        ray.kill(trial.temporary_state.ray_actor)


def _kill_process(number: int) -> None:
    os.kill(number, signal.SIGKILL)


def read_exception(path: str | None) -> str:
    """Return the last line that Tune wrote about an error: the exception, below its traceback.

    `path` lies in Tune's staging folder; `Trial.get_error` reads a copy that may not have been made yet.
    """
    try:
        lines = Path(path or "").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].strip() if lines else "Ray gave no reason"


def make_pruned_outcome(trial: Trial, rows: dict[int, dict[str, float]], shared: dict[str, Any]) -> Outcome:
    """Return the outcome of a candidate that was ended because others were better at its epoch."""
    history = pd.DataFrame([rows[epoch] for epoch in sorted(rows)], columns=list(HISTORY_COLUMNS))
    epoch, score = int(history["epoch"].iloc[-1]), float(history["validation_top1"].iloc[-1])
    record = make_record(
        trial,
        status="pruned",
        reason=f"ended after epoch {epoch}: others were better",
        network={"parameters": trial.parameters, "multiply_adds": trial.multiply_adds},
        epochs_run=len(history),
        seconds=round(float(history["seconds"].sum()), 3),
        shared=shared,
        provenance={"finished": provenance.now(), **provenance.environment()},
    )
    assert record.candidate is not None
    candidate = record.candidate.model_copy(update={"reached": {"epoch": epoch, "validation_top1": score}})
    return Outcome(record.model_copy(update={"candidate": candidate}), history)


def make_failed_record(trial: Trial, reason: str) -> Record:
    """Return the record of a trial that left none itself."""
    return make_record(
        trial,
        status="failed",
        reason=reason[:300],
        network={"parameters": trial.parameters, "multiply_adds": trial.multiply_adds},
        provenance={"finished": provenance.now(), **provenance.environment()},
    )
