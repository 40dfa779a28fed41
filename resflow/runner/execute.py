"""Run trials on Ray Tune: those of a plan, or the candidates of a search. The records are the state of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray reads these when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it phones home unless told otherwise; resflow has no telemetry
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # trials on CPUs hide the GPUs from TensorFlow
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # records are resflow's own
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the screen is resflow's own
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # and so is what Ctrl-C does (stopping.py)
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # not every report has what ASHA looks at
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")  # a run goes on from its records, not from Tune's snapshots

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from resflow import provenance
from resflow.records import run as runs
from resflow.records.record import Record
from resflow.runner import file_transfer as courier
from resflow.runner import ray_session as session
from resflow.runner import tune_adapters as adapters
from resflow.runner import worker
from resflow.runner.progress import Progress
from resflow.runner.queue import Dispatch, Source
from resflow.runner.ray_session import check_address, visible
from resflow.runner.record_writer import Desk, on_this_machine
from resflow.runner.stopping import Stop
from resflow.runner.worker import Work
from resflow.study.resources import Needs
from resflow.study.trial import Trial
from resflow.training.checkpoints import Storage, place_of
from resflow.tuning.phase import SCORE, Searches
from resflow.weights import saved as kept

RETRIES = 3  # of a trial whose worker died; what an exception says is a record at once


def execute(
    run: Path,
    trials: Sequence[Trial],
    folders: Mapping[str, Path],
    state: Path,
    show: Callable[[Progress], Any],
    stop: Stop | None = None,
    storage: str | None = None,
    address: str | None = None,
    work: Work = worker.trained,
) -> list[Record]:
    """Run every trial of `kept.waiting`, as Dispatch hands them out, and return the new records.

    `folders` maps a trial's id to its prepared data; `state` is the ignored folder for logs, kept networks and Ray's
    files; `show` is called with the Progress whenever it changes; `stop` says when no more is to run; `storage` is a
    folder or a URL for the checkpoints of running trials, in `state` by default; `address` is a Ray cluster's; `work`
    is what a worker does with a trial. A failing trial becomes a record; one whose worker dies or hangs goes on in
    another, RETRIES times; the others go on.
    """
    known = runs.finished(run) if run.is_dir() else {}
    waiting = kept.waiting(trials, known, state)
    place = Place(run, run.name, state, storage, address)
    Storage(place.checkpoints).sweep(known.keys() - {trial.id for trial in waiting})
    if not waiting:
        return []
    kept.sweep(state)
    make = Listed({trial.id: trial for trial in waiting})
    return _run(Dispatch(waiting), waiting, make, folders, place, show, stop or Stop(), work, None)


def search(
    run: Path,
    searches: Searches,
    folders: Mapping[str, Path],
    state: Path,
    show: Callable[[Progress], Any],
    stop: Stop | None = None,
    storage: str | None = None,
    address: str | None = None,
    work: Work = worker.trained,
) -> list[Record]:
    """Run the candidates of a tuning phase that have no record below `run` yet, and return the new records.

    The rest as in `execute`; `folders` maps the ids of the searches' own trials.
    """
    from resflow.tuning.search import Search  # with keras-tuner comes TensorFlow, which a driver of trials does without

    tune_, like = searches.tune, list(searches.templates.values())
    scheduler = None
    if tune_.pruning == "asha":
        epochs = {name: arm.recipe.epochs for name, arm in searches.arms.items()}
        scheduler = adapters.ByArm(
            {
                arm: ASHAScheduler("epoch", SCORE, "max", most, min(tune_.grace_epochs, most), tune_.factor)
                for arm, most in epochs.items()
            },
            epochs,
        )
    source = Search(searches, run)
    try:
        place = Place(run, f"{run.parent.name}-{run.name}", state, storage, address)
        done = _run(source, like, Candidates(searches), folders, place, show, stop or Stop(), work, scheduler)
        if not len(source):  # no candidate goes on from another's checkpoint any more
            Storage(place.checkpoints).sweep({trial.checkpoint for trial in source.trials.values()})
        return done
    finally:
        source.close()


@dataclass(frozen=True)
class Listed:
    """Trials that are known before the first one starts."""

    trials: Mapping[str, Trial]

    def __call__(self, config: dict[str, Any]) -> Trial:
        return self.trials[config["trial"]]


@dataclass(frozen=True)
class Candidates:
    """Makes a candidate again from what its oracle said of it."""

    searches: Searches

    def __call__(self, config: dict[str, Any]) -> Trial:
        told = {name: config[name] for name in ("arm", "number", "values", "epochs", "seed")}
        return self.searches.candidate(**told)


@dataclass(frozen=True)
class Place:
    """Where a run's records, its ignored files and its checkpoints lie, and on which cluster it runs."""

    run: Path
    name: str
    state: Path
    storage: str | None
    address: str | None

    @property
    def checkpoints(self) -> str:
        return place_of(Path(self.name), self.state, self.storage)


def _run(
    source: Source,
    like: Sequence[Trial],
    make: Callable[[dict[str, Any]], Trial],
    folders: Mapping[str, Path],
    place: Place,
    show: Callable[[Progress], Any],
    stop: Stop,
    work: Work,
    scheduler: Any,
) -> list[Record]:
    """Have Tune run what a source hands out. `like` are trials of the same data, weights and needs."""
    run, state, address = place.run, place.state, place.address
    progress = Progress(source.trials, source.total)
    watcher = adapters.Watcher(run, progress, show, stop, Storage(place.checkpoints).remove)
    needs = Needs.of(like[0])
    with session.connected(needs, address), stop.on_signals():
        job = worker.Job(
            make=make,
            folders={trial.fingerprint: str(folders[trial.id].absolute()) for trial in like},
            desk=on_this_machine(Desk, str(run.absolute()), str(state.absolute())),
            courier=on_this_machine(courier.Courier, courier.parcels(like, folders)) if address else None,
            node=ray.get_runtime_context().get_node_id(),
            checkpoints=place.checkpoints,
            anywhere=place.storage is not None,
            run=place.name,
            versions=provenance.environment()["versions"],
            work=work,
        )
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(worker.train_one, job=job), needs.as_ray()),
            tune_config=tune.TuneConfig(
                search_alg=adapters.TrialSearcher(source, needs, cluster=address is not None),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"{place.name}-{int(time.time())}",
                storage_path=str((state / "ray").absolute()),
                stop=adapters.Stopper(stop),
                verbose=0,
                progress_reporter=adapters.Silent(),
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=RETRIES, fail_fast=False),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        tuner.fit()
    return list(progress.done.values())


__all__ = ["RETRIES", "Progress", "Work", "check_address", "execute", "search", "visible"]
