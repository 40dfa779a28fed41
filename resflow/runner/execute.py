"""The execution of trials on Ray Tune: those of a plan, or the candidates of a search.

The records are the state of a run.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler

from resflow import atomic, provenance, workspace
from resflow.errors import RecordError, ResflowError
from resflow.records.record import Record
from resflow.records.run import load_run
from resflow.runner import file_transfer, gpu_sharing, ray_session, tune_adapters, tune_patches, worker
from resflow.runner.progress import Progress, ProgressFile
from resflow.runner.queue import TrialQueue, TrialSource
from resflow.runner.record_writer import RecordWriter, start_beside_driver
from resflow.runner.stopping import Stop
from resflow.runner.worker import Work
from resflow.study.trial import Trial
from resflow.training.checkpoints import Storage, checkpoint_place
from resflow.tuning.phase import SCORE, Searches
from resflow.weights.saved import trials_to_run

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # of a disk
RETRIES = 3  # of a trial whose worker died; what an exception says is a record at once


@dataclass(frozen=True)
class RunPlace:
    """The places of a run: its files, and the machines that it runs on. None of it changes a result.

    `state` is the ignored folder for logs, kept networks and Ray's files; `storage` a folder or a URL for the
    checkpoints of running trials, in `state` by default; `address` that of a Ray cluster, this machine by default.
    """

    run: Path
    state: Path
    storage: str | None = None
    address: str | None = None

    @property
    def name(self) -> str:
        """The run's name; a search's begins with that of the run that it is for."""
        return f"{self.run.parent.name}-{self.run.name}" if self.run.name == workspace.TUNING else self.run.name

    @property
    def checkpoints(self) -> str:
        return checkpoint_place(Path(self.name), self.state, self.storage)


def execute(
    place: RunPlace,
    trials: Sequence[Trial],
    folders: Mapping[str, Path],
    show: Callable[[Progress], Any],
    stop: Stop | None = None,
    work: Work = worker.train_in_worker,
) -> list[Record]:
    """Run every trial of `saved.trials_to_run`, in the order of TrialQueue, and return the new records.

    `folders` maps a trial's id to its prepared data; `show` is called with the Progress whenever it changes; `stop`
    says when no more is to run; `work` is done with a trial in a worker. A failing trial becomes a record; one whose
    worker dies or hangs goes on in another, RETRIES times; the others go on.
    """
    run = load_run(place.run) if place.run.is_dir() else None
    known = {record.id: record for record in run.records} if run else {}
    waiting = trials_to_run(trials, known, place.state)
    Storage(place.checkpoints).sweep(known.keys() - {trial.id for trial in waiting})
    if not waiting:
        return []
    atomic.sweep(place.state / workspace.NETWORKS)
    make = ListedTrials({trial.id: trial for trial in waiting})
    source = TrialQueue(waiting)
    progress = Progress(
        source.trials,
        source.total,
        planned=trials,
        before={t.id: known[t.id] for t in trials if t.id in known and t.id not in source.trials},
        metric=str(run.study.get("metric", "test_top1")) if run else "test_top1",
        is_sequential=run is not None and isinstance(run.study.get("seeds"), Mapping),
    )
    return _run(Schedule(source, waiting, make), progress, place, folders, show, stop or Stop(), work)


def execute_search(
    place: RunPlace,
    searches: Searches,
    folders: Mapping[str, Path],
    show: Callable[[Progress], Any],
    stop: Stop | None = None,
    work: Work = worker.train_in_worker,
) -> list[Record]:
    """Run the candidates of a tuning phase that have no record in `place.run` yet, and return the new records.

    The rest as in `execute`; `folders` maps the ids of the searches' own trials.
    """
    from resflow.tuning.search import Search  # with keras-tuner comes TensorFlow, which a driver of trials does without

    tune_, like = searches.tune, list(searches.templates.values())
    scheduler = None
    if tune_.pruning == "asha":
        epochs = {name: arm.recipe.epochs for name, arm in searches.arms.items()}
        scheduler = tune_adapters.ByArm(
            {
                arm: ASHAScheduler("epoch", SCORE, "max", most, min(tune_.grace_epochs, most), tune_.factor)
                for arm, most in epochs.items()
            },
            epochs,
        )
    source = Search(searches, place.run)
    try:
        records = _run(
            Schedule(source, like, Candidates(searches), scheduler),
            Progress(source.trials, source.total, metric=SCORE, is_search=True),
            *(place, folders, show, stop or Stop(), work),
        )
        if not len(source):  # no candidate goes on from another's checkpoint any more
            Storage(place.checkpoints).sweep({trial.checkpoint for trial in source.trials.values()})
        return records
    finally:
        source.close()


@dataclass(frozen=True)
class ListedTrials:
    """Trials that are known before the first one starts."""

    trials: Mapping[str, Trial]

    def __call__(self, config: dict[str, Any]) -> Trial:
        return self.trials[config["trial"]]


@dataclass(frozen=True)
class Candidates:
    """Makes a candidate again from its oracle's answer."""

    searches: Searches

    def __call__(self, config: dict[str, Any]) -> Trial:
        return self.searches.candidate(**{name: config[name] for name in ("arm", "number", "values", "epochs", "seed")})


@dataclass(frozen=True)
class Schedule:
    """The trials that run, and their order.

    `like` are trials of the same data, weights and resources as those that `source` hands out; `make` makes a trial
    again in a worker, of `source.config`; `scheduler` is Tune's, which may end trials early.
    """

    source: TrialSource
    like: Sequence[Trial]
    make: Callable[[dict[str, Any]], Trial]
    scheduler: Any = None


def _run(
    schedule: Schedule,
    progress: Progress,
    place: RunPlace,
    folders: Mapping[str, Path],
    show: Callable[[Progress], Any],
    stop: Stop,
    work: Work,
) -> list[Record]:
    """Have Tune run the trials that a schedule hands out."""
    if stop.due():
        return []
    source, like = schedule.source, schedule.like
    run, state, address = place.run, place.state, place.address
    file = ProgressFile(state, progress)
    sharing = gpu_sharing.make_sharing(like, source.trials, run, address)
    resources = sharing.resources
    watcher = tune_adapters.Watcher(run, file, show, stop, Storage(place.checkpoints).remove, sharing)
    with _ends_in_order(stop), file.kept(), ray_session.connect(resources, address):
        progress.most_at_a_time = max(1, min(source.total, sharing.places(ray_session.node_resources(), source.total)))
        job = worker.Job(
            make=schedule.make,
            folders={trial.fingerprint: str(folders[trial.id].absolute()) for trial in like},
            writer=start_beside_driver(RecordWriter, str(run.absolute()), str(state.absolute())),
            file_server=start_beside_driver(file_transfer.FileServer, file_transfer.list_parcels(like, folders))
            if address
            else None,
            node=ray.get_runtime_context().get_node_id(),
            checkpoints=place.checkpoints,
            anywhere=place.storage is not None,
            run=place.name,
            versions=provenance.environment()["versions"],
            work=work,
        )
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(worker.train_one, job=job),
                lambda config: tune.PlacementGroupFactory([gpu_sharing.request_resources(resources, config)]),
            ),
            tune_config=tune.TuneConfig(
                search_alg=tune_adapters.TrialSearcher(source, sharing, cluster=address is not None),
                scheduler=schedule.scheduler,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"{place.name}-{int(time.time())}",
                storage_path=str((state / workspace.RAY).absolute()),
                stop=tune_adapters.Stopper(stop),
                verbose=0,
                progress_reporter=tune_adapters.Silent(),
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=RETRIES, fail_fast=False),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        environments = nullcontext() if address else tune_patches.no_environments()
        with environments, tune_patches.replaces_workers(watcher.on_shortage):
            tuner.fit()
        if watcher.refusal:
            raise watcher.refusal
    return list(progress.done.values())


@contextmanager
def _ends_in_order(stop: Stop) -> Iterator[None]:
    """Turn what ends a run from outside into the reason of its Stop: a signal, or the death of Ray.

    Raises RecordError where a disk refuses what Tune or the driver write.
    """
    with stop.on_signals():
        try:
            yield
        except ray_session.RayDied as death:
            stop.reason = stop.reason or str(death)  # a signal to the whole group ends Ray as well
        except KeyboardInterrupt:
            if not stop.reason:
                raise
        except (TuneError, OSError) as error:
            cause = _find_cause(error)
            if isinstance(cause, OSError) and cause.errno in REFUSALS:
                raise RecordError(
                    f"the run cannot be written: {cause}. Free space, or choose another folder with --out, then run "
                    "the same command again: nothing that has finished is lost."
                ) from error
            raise cause from error


def _find_cause(error: BaseException) -> BaseException:
    """Return what a user can mend among what Tune has wrapped in errors of its own, else the error itself."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ResflowError | OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error
