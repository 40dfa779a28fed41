"""What Ray Tune does otherwise while a run lasts: a test of each fails where Tune itself no longer needs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.execution.tune_controller import TuneController

from resflow.runner import local_ray

SHORT_OF_MEMORY = "running low on memory"  # in what Ray says of workers that it ended for it


@contextmanager
def no_environments() -> Iterator[None]:
    """Have Tune ask for trials without the runtime environment that it gives them: a variable for PyTorch Lightning.

    A Ray of this machine keeps some processes waiting that have none. Trials would leave them idle, and wait for others
    to start.
    """
    before = _ActorClassCache.get
    _ActorClassCache.get = lambda cache, cls: cache._cache.setdefault(cls, ray.remote(cls))
    try:
        yield
    finally:
        _ActorClassCache.get = before


class WorkerLost(ray.exceptions.RayActorError):
    """The end of a worker that Ray calls by another name than the death of an actor, or that it has brought about."""

    def __init__(self, cause: ray.exceptions.RayError) -> None:
        self.ran_short = SHORT_OF_MEMORY in str(cause)
        told = re.search(r"[\d.]+ *\w+ used / [\d.]+ *\w+ limit", str(cause))
        words = f"main memory ran short{f' ({told[0]})' if told else ''}, and Ray ended the worker"
        super().__init__(error_msg=words if self.ran_short else local_ray.first_line(cause))


def _recognised(error: Exception) -> Exception:
    """Return an error of Ray's as WorkerLost where Tune would not know it, or could not say what it means."""
    if isinstance(error, WorkerLost | ray.exceptions.RayTaskError) or not isinstance(error, ray.exceptions.RayError):
        return error
    is_known = isinstance(error, ray.exceptions.RayActorError) and SHORT_OF_MEMORY not in str(error)
    return error if is_known else WorkerLost(error)


@contextmanager
def replaces_workers(on_shortage: Callable[[Any], bool]) -> Iterator[None]:
    """Have Tune replace a worker whatever Ray calls its end; one that Ray ended for memory would end the run with it.

    Of such a shortage `on_shortage` is told with Tune's trial, before Tune starts that again and counts a failure.
    Where it answers true, Tune does not: the trial will be handed out anew.
    """
    task_failed, trial_failed = RayActorManager._actor_task_failed, TuneController._process_trial_failure

    def on_task_failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        task_failed(manager, tracked_actor_task, _recognised(exception))

    def on_trial_failed(controller: Any, trial: Any, exception: Any) -> None:
        exception = _recognised(exception)  # of a worker that was ended while it started, Tune has heard elsewhere
        if isinstance(exception, WorkerLost) and exception.ran_short and on_shortage(trial):
            trial.max_failures = 0
        trial_failed(controller, trial, exception)

    RayActorManager._actor_task_failed = on_task_failed
    TuneController._process_trial_failure = on_trial_failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = task_failed
        TuneController._process_trial_failure = trial_failed
