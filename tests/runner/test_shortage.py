"""What a run does where main memory runs short: Ray ends a worker, and the run goes on with fewer at a time."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle, exceptions
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TuneController
from ray.tune.search import Searcher
from support import tiny, work

from resflow.records.run import load_run
from resflow.runner import execute
from resflow.runner.execute import RunPlace
from resflow.runner.gpu_sharing import Sharing
from resflow.runner.progress import Progress
from resflow.runner.queue import TrialQueue
from resflow.runner.tune_adapters import TrialSearcher
from resflow.runner.tune_patches import WorkerLost, replaces_workers
from resflow.study.resources import TrialResources

cloudpickle.register_pickle_by_value(work)  # workers do not see the folder of tests
WORDS = """2 worker(s) were killed due to the node running low on memory. Memory was 21.42GB used / 23.54GB limit (0.91)
Refer to the documentation"""
SHORT = exceptions.OutOfMemoryError(WORDS)
ROOM = 2 * 10**9  # bytes that the trials of a test may take before memory is short
MOST = 8 * ROOM  # that they try to take


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@given(running=st.integers(1, 8), shortages=st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_fewer_run_at_a_time_once_memory_has_run_short(running: int, shortages: list[int]) -> None:
    sharing, nodes = Sharing(TrialResources(1)), [{"CPU": 8}]
    trials: list[Any] = [SimpleNamespace(id=str(n)) for n in range(running)]
    for trial in trials:
        sharing.begin(trial.id)
    for victim in shortages:
        trial, before = trials[victim % running], sharing.places(nodes, 8)
        if trial.id not in sharing.running:
            continue
        left = len(sharing.running) - 1
        assert sharing.ran_short(trial) == (min(before, left) if left else None)
        assert 1 <= sharing.places(nodes, 8) <= before
        if left:
            sharing.end(trial.id)
            assert sharing.places(nodes, 8) <= left
            assert sharing.retry() is trial
            assert sharing.retry() is None


def test_the_search_for_trials_is_over_once_none_can_come_back(folder: Path) -> None:
    trials = [tiny.trial(folder, seed) for seed in (1, 2)]
    source, sharing = TrialQueue(trials), Sharing(TrialResources(1))
    searcher = TrialSearcher(source, sharing)
    searcher.nodes = [{"CPU": 2}]
    first, second = (searcher.suggest(name)["trial"] for name in "ab")
    assert searcher.suggest("c") is None  # both are known to Tune, and none has begun yet
    by_id = {trial.id: trial for trial in trials}
    for trial_id in (first, second):
        sharing.begin(trial_id)
    sharing.ran_short(by_id[first])
    searcher.on_trial_complete("a", error=True)
    sharing.end(first)
    assert searcher.suggest("c") is None  # one at a time
    searcher.on_trial_complete("b")
    sharing.end(second)
    assert searcher.suggest("c")["trial"] == first
    searcher.on_trial_complete("c")
    assert searcher.suggest("d") == Searcher.FINISHED


def failed_with(error: Exception, answer: bool) -> tuple[Any, list[Exception], list[Any]]:
    """Tune's trial whose worker has failed, the errors that it heard of, and the trials that memory ran short for."""
    heard: list[Exception] = []
    told: list[Any] = []
    trial = SimpleNamespace(max_failures=3, handle_error=heard.append, status="ERROR")
    task = SimpleNamespace(
        _tracked_actor=SimpleNamespace(actor_id=1, _on_error=None),
        _on_error=lambda actor, error: TuneController._process_trial_failure(controller, trial=trial, exception=error),
    )
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    controller: Any = SimpleNamespace()

    def on_shortage(of: Any) -> bool:
        told.append(of)
        return answer

    with replaces_workers(on_shortage):
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=error)
    return trial, heard, told


@pytest.mark.parametrize("is_handed_out_anew", [True, False])
@pytest.mark.parametrize("error", [SHORT, exceptions.RayActorError(error_msg=WORDS)])
def test_tune_hears_of_a_shortage_as_of_a_worker_that_died(error: Any, is_handed_out_anew: bool) -> None:
    trial, heard, told = failed_with(error, is_handed_out_anew)
    assert told == [trial]
    assert trial.max_failures == (0 if is_handed_out_anew else 3)
    (said,) = heard
    assert isinstance(said, exceptions.RayActorError)
    assert str(said) == "main memory ran short (21.42GB used / 23.54GB limit), and Ray ended the worker"


@pytest.mark.parametrize("kind", [exceptions.WorkerCrashedError, exceptions.LocalRayletDiedError])
def test_whatever_ray_calls_the_end_of_a_worker_tune_replaces_it(kind: type[Exception]) -> None:
    trial, heard, told = failed_with(kind(), True)
    assert (told, trial.max_failures) == ([], 3)
    assert isinstance(heard[0], WorkerLost)
    assert str(heard[0])


@pytest.mark.parametrize("answer", [True, False])
def test_a_worker_that_was_ended_while_it_started_counts_as_well(answer: bool) -> None:
    heard: list[Exception] = []
    trial = SimpleNamespace(max_failures=3, handle_error=heard.append, status="ERROR")
    with replaces_workers(lambda of: answer):
        TuneController._process_trial_failure(SimpleNamespace(), trial, exception=SHORT)
    assert trial.max_failures == (0 if answer else 3)
    assert isinstance(heard[0], WorkerLost)


def test_other_errors_are_left_to_tune() -> None:
    died = exceptions.ActorDiedError()
    assert failed_with(died, True)[1:] == ([died], [])
    with pytest.raises(RuntimeError, match="unexpected"):
        failed_with(ValueError("none of Ray's"), True)
    with pytest.raises(RuntimeError, match="unexpected"):  # Tune's own way, once the run is over
        RayActorManager._actor_task_failed(None, SimpleNamespace(_tracked_actor=None), SHORT)


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own monitor ends workers once ROOM more is taken than now, be it by whom it may.

    What else runs here takes and frees gigabytes meanwhile: trials take what is needed, and may be ended often.
    """
    threshold = (get_used_memory() + ROOM) / get_system_memory()
    if threshold > 0.95:
        pytest.skip("needs 2 GB of free memory below Ray's own threshold")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("short_of_memory")
def test_a_run_that_is_short_of_memory_goes_on_one_trial_at_a_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "RETRIES", 100)
    trials = [tiny.trial(folder, seed) for seed in (1, 2)]  # both at once, and none to come
    (tmp_path / "marks").mkdir()
    notes: list[str] = []

    def show(progress: Progress) -> None:
        notes.extend(progress.take_notes())

    act = partial(work.take_memory, place=tmp_path / "marks", most=MOST)
    place = RunPlace(tmp_path / "run", tmp_path / "state")
    execute.execute(place, trials, {trial.id: folder for trial in trials}, show, work=act)
    records = load_run(tmp_path / "run").records
    assert {record.id: record.status for record in records} == {trial.id: "completed" for trial in trials}
    assert any("Main memory ran short" in note and "at most 1 at a time" in note for note in notes)
    assert [record.provenance["company"] for record in records] == [0, 0]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("short_of_memory")
def test_a_trial_that_has_too_little_memory_alone_fails_with_that_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "RETRIES", 1)
    trial = tiny.trial(folder)
    act = partial(work.take_all, most=MOST)
    place = RunPlace(tmp_path / "run", tmp_path / "state")
    (record,) = execute.execute(place, [trial], {trial.id: folder}, lambda progress: None, work=act)
    assert record.status == "failed"
    assert re.fullmatch(
        r"the worker failed: main memory ran short \([\d.]+GB used / [\d.]+GB limit\), and Ray ended the worker",
        record.reason,
    )
