"""Trials through Ray: what it schedules is what `train.run` computes, and no trial's end is another's."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray import cloudpickle
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.trainable.metadata import _TrainingRunMetadata
from support import tiny, work

from resflow import provenance
from resflow.errors import TrainingError
from resflow.records.record import HISTORY_COLUMNS, Outcome, Record, read_record, write_record
from resflow.records.run import Run, finished_records, load_run
from resflow.runner import execute, local_ray, ray_session, tune_adapters, tune_patches
from resflow.runner.execute import Progress, RunPlace
from resflow.runner.gpu_sharing import Sharing
from resflow.runner.progress import ProgressFile
from resflow.runner.stopping import Stop
from resflow.study.resources import TrialResources
from resflow.study.settings import Execution
from resflow.study.trial import Candidate, Trial
from resflow.training import train
from resflow.workspace import trial_folder

pytestmark = pytest.mark.timeout(900)  # Ray's processes start slowly where others keep the cores busy
KILLED_EPOCHS = 40
cloudpickle.register_pickle_by_value(work)  # workers do not see the folder of tests
RETRIES = 1  # in place of the runner's: each worker takes seconds to start


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(scope="module")
def trials(folder: Path) -> dict[str, Trial]:
    return {
        "plain": tiny.trial(folder, 1, shortcut="none"),
        "residual": tiny.trial(folder, 1, shortcut="zero_pad"),
        "residual 2": tiny.trial(folder, 2, shortcut="zero_pad"),
        "failing": tiny.trial(folder, 1, batch_size=29),
        "killed": tiny.trial(folder, 1, epochs=KILLED_EPOCHS),
        "mortal": tiny.trial(folder, 3),
    }


@dataclass
class Screen:
    """Follows a run as the command line does, and kills workers: one trial's first, and every one of another's."""

    logs: Path
    once: str
    always: str
    most_at_a_time: int = 0
    left: list[float] = field(default_factory=list)
    killed: dict[str, set[int]] = field(default_factory=dict)

    def __call__(self, progress: Progress) -> None:
        self.most_at_a_time = max(self.most_at_a_time, len(progress.running))
        seconds = progress.seconds_left()
        if seconds is not None:
            self.left.append(seconds)
        for victim, times in ((self.once, 1), (self.always, 100)):
            if progress.epoch(victim) > 1:
                log = (self.logs / f"{victim}.log").read_text()
                worker = int(log.rsplit("worker process ", 1)[1].split()[0])
                killed = self.killed.setdefault(victim, set())
                if worker not in killed and len(killed) < times:
                    killed.add(worker)
                    os.kill(worker, signal.SIGKILL)


@dataclass
class Executed:
    new: dict[str, Record]
    run: Run
    screen: Screen
    state: Path


@pytest.fixture(scope="module")
def executed(trials: dict[str, Trial], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """One run of six trials: three good ones, one that fails, one whose worker dies, one whose workers all die."""
    base = tmp_path_factory.mktemp("run")
    screen = Screen(base / "state" / "logs", trials["killed"].id, trials["mortal"].id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # somebody's cluster: not ours to use
        patch.setattr(execute, "RETRIES", RETRIES)
        place = RunPlace(base / "results", base / "state")
        act = partial(work.train_or_linger, mortal=trials["mortal"].id)
        new = execute.execute(place, list(trials.values()), {t.id: folder for t in trials.values()}, screen, work=act)
    return Executed({record.id: record for record in new}, load_run(base / "results"), screen, base / "state")


def own_share() -> Sharing:
    return Sharing(TrialResources(1))


def log_of(executed: Executed, trial: Trial) -> str:
    return (executed.state / "logs" / f"{trial.id}.log").read_text()


def test_every_trial_has_a_record(executed: Executed, trials: dict[str, Trial]) -> None:
    written = {record.id: record for record in executed.run.records}
    assert written == executed.new
    assert written.keys() == {trial.id for trial in trials.values()}
    status = {name: written[trial.id].status for name, trial in trials.items()}
    assert status == {
        "plain": "completed", "residual": "completed", "residual 2": "completed",
        "failing": "failed", "killed": "completed", "mortal": "failed",
    }  # fmt: skip
    assert executed.run.broken == {}
    assert not list((executed.run.folder / "trials").glob(".*"))


@pytest.mark.usefixtures("tensorflow_on_one_thread")
@pytest.mark.parametrize("name", ["plain", "residual 2", "killed"])
def test_records_are_those_of_a_direct_run_to_the_bit(
    executed: Executed, trials: dict[str, Trial], folder: Path, name: str
) -> None:
    direct, scheduled = train.train_trial(trials[name], folder), executed.new[trials[name].id]
    assert scheduled.metrics == direct.record.metrics
    changing = {"seconds", "shared", "provenance"}
    assert scheduled.model_dump(exclude=changing) == direct.record.model_dump(exclude=changing)
    written = pd.read_csv(trial_folder(executed.run.folder, scheduled.id) / "history.csv")
    pd.testing.assert_frame_equal(
        written.drop(columns="seconds"), direct.history.drop(columns="seconds"), check_exact=True
    )
    pd.testing.assert_frame_equal(executed.run.predictions_of(scheduled.id), direct.predictions, check_exact=True)


def test_a_failed_trial_leaves_its_reason_and_its_traceback(executed: Executed, trials: dict[str, Trial]) -> None:
    record = executed.new[trials["failing"].id]
    assert record.reason.startswith("TrainingError: batch_size 29 is more than the 28 training images")
    log = log_of(executed, trials["failing"])
    assert "Traceback (most recent call last)" in log
    assert record.reason.removeprefix("TrainingError: ") in log


def test_a_killed_worker_is_replaced_by_one_that_goes_on(executed: Executed, trials: dict[str, Trial]) -> None:
    log = log_of(executed, trials["killed"])
    assert len(executed.screen.killed[trials["killed"].id]) == 1
    assert log.count("worker process") == 2
    assert "goes on after epoch" in log
    assert not list((executed.state / "checkpoints").iterdir())


def test_a_trial_that_kills_every_worker_leaves_a_failed_record(executed: Executed, trials: dict[str, Trial]) -> None:
    trial = trials["mortal"]
    record = executed.new[trial.id]
    assert len(executed.screen.killed[trial.id]) == 1 + RETRIES
    assert record.reason.startswith("the worker failed: ")
    assert "worker" in record.reason.removeprefix("the worker failed: ")  # Ray's own words, whatever they are
    assert (record.metrics, record.best_epoch) == ({}, None)
    assert record.settings == trial.settings()
    assert record.provenance.keys() >= {"finished", "host", "versions"}


@dataclass
class TunesTrial:
    """A trial as Ray Tune hands it to a callback."""

    config: dict[str, str]
    error_file: str | None = None
    run_metadata: _TrainingRunMetadata = field(default_factory=_TrainingRunMetadata)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Failure # 1\nray::train()\n  File x\nValueError: too small\n", "the worker failed: ValueError: too small"),
        ("", "the worker failed: Ray gave no reason"),
        (None, "the worker failed: Ray gave no reason"),
    ],
)
def test_an_error_in_a_worker_is_the_reason_of_a_failed_record(
    folder: Path, tmp_path: Path, text: str | None, reason: str
) -> None:
    trial, error = tiny.trial(folder), tmp_path / "error.txt"
    if text is not None:
        error.write_text(text)
    shown: list[Progress] = []
    removed: list[str] = []
    progress = Progress({trial.id: trial}, 1, running={trial.id: []})
    watcher = tune_adapters.Watcher(
        tmp_path, ProgressFile(tmp_path, progress), shown.append, Stop(), removed.append, own_share()
    )
    watcher.on_trial_error(1, [], TunesTrial({"trial": trial.id}, str(error)))
    assert (progress.done[trial.id].status, progress.done[trial.id].reason) == ("failed", reason)
    assert finished_records(tmp_path) == progress.done
    assert progress.running == {}
    assert shown == [progress]
    assert removed == [trial.id]


def test_an_end_keeps_the_record_that_there_is(folder: Path, tmp_path: Path) -> None:
    first, second = tiny.trial(folder, 1), tiny.trial(folder, 2)
    progress = Progress({t.id: t for t in (first, second)}, 2)
    watcher = tune_adapters.Watcher(
        tmp_path, ProgressFile(tmp_path, progress), lambda _: None, Stop(), lambda _: None, own_share()
    )
    write_record(tmp_path, Outcome(tune_adapters.make_failed_record(first, "its own reason")))
    watcher.on_trial_error(1, [], TunesTrial({"trial": first.id}))  # it died after the record was written
    watcher.on_trial_complete(1, [], TunesTrial({"trial": second.id}))
    reasons = [progress.done[t.id].reason for t in (first, second)]
    assert reasons == ["its own reason", "the worker ended without a record"]


def test_a_candidate_that_was_pruned_keeps_the_account_of_its_last_epoch(folder: Path, tmp_path: Path) -> None:
    candidate = Candidate("search", 1, {}, 4, "course")
    trial = replace(tiny.trial(folder, epochs=4), candidate=candidate)
    progress = ProgressFile(tmp_path, Progress({trial.id: trial}, 1))
    watcher = tune_adapters.Watcher(tmp_path, progress, lambda _: None, Stop(), lambda _: None, own_share())
    tunes = TunesTrial({"trial": trial.id})
    for epoch in (1, 2):
        shared = {"features": {"seconds": 70.0, "computed_seconds": 30.0 * epoch, "key": "abc"}}
        row = dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": epoch, "shared": shared}
        watcher.on_trial_result(1, [], tunes, row)
    watcher.on_trial_complete(1, [], tunes)
    record = read_record(trial_folder(tmp_path, trial.id))
    assert (record.status, record.seconds, record.spent_seconds) == ("pruned", 1.0, 61.0)
    assert record.shared["features"].key == "abc"


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_error"])
def test_tune_keeps_no_statistics_of_trials_that_have_ended(folder: Path, tmp_path: Path, end: str) -> None:
    trial = tiny.trial(folder)
    tunes = TunesTrial({"trial": trial.id})
    watcher = tune_adapters.Watcher(
        tmp_path,
        ProgressFile(tmp_path, Progress({trial.id: trial}, 1)),
        lambda progress: None,
        Stop(),
        lambda trial_id: None,
        own_share(),
    )
    empty = tunes.run_metadata.get_json_state()
    for epoch in range(12):
        tunes.run_metadata.update_metric("epoch", epoch)
    assert len(tunes.run_metadata.get_json_state()) > len(empty)
    getattr(watcher, end)(1, [], tunes)
    assert tunes.run_metadata.get_json_state() == empty


def test_trials_ask_for_no_environment_of_their_own() -> None:
    """Or Ray starts a process for each, beside those that wait."""

    class Trainable:
        pass

    with tune_patches.no_environments():
        inside = _ActorClassCache().get(Trainable)
    assert not inside._default_options.get("runtime_env")
    assert _ActorClassCache().get(Trainable)._default_options["runtime_env"]  # Tune's own way: what is left out


@pytest.mark.long
@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_a_run_that_was_stopped_goes_on_to_the_same_record(folder: Path, tmp_path: Path) -> None:
    trial, stop = tiny.trial(folder, 5, epochs=KILLED_EPOCHS), Stop()

    def show(progress: Progress) -> None:
        if progress.epoch(trial.id) > 2:
            stop.reason = "asked by the test"

    asked = (RunPlace(tmp_path / "run", tmp_path / "state"), [trial], {trial.id: folder})
    assert execute.execute(*asked, show, stop) == []
    assert not (tmp_path / "run").exists()  # no record means not run yet
    assert [path.stem for path in (tmp_path / "state" / "checkpoints").iterdir()] == [trial.id]
    (record,) = execute.execute(*asked, lambda progress: None)
    assert "goes on after epoch" in (tmp_path / "state" / "logs" / f"{trial.id}.log").read_text()
    assert record.metrics == train.train_trial(trial, folder).record.metrics
    assert not list((tmp_path / "state" / "checkpoints").iterdir())


def test_a_log_follows_each_trial(executed: Executed, trials: dict[str, Trial]) -> None:
    for trial in trials.values():
        assert f"trial {trial.id}: arm {trial.arm}, seed {trial.seed}, worker process " in log_of(executed, trial)
    lines = log_of(executed, trials["plain"]).splitlines()
    assert [line.split("epoch=")[1].split()[0] for line in lines if "epoch=" in line] == ["1", "2"]
    assert sum("worker process" in line for line in lines) == 1  # no other trial's lines


def test_trials_have_a_core_each(executed: Executed) -> None:
    assert 1 <= executed.screen.most_at_a_time <= provenance.count_processors()
    assert all(seconds >= 0 for seconds in executed.screen.left)
    assert executed.screen.left[-1] == 0


def test_what_has_a_record_is_not_run_again(
    executed: Executed, trials: dict[str, Trial], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[Trial]] = []

    class StartedError(Exception):
        pass

    def waits(
        trials: dict[str, Trial], total: int, planned: list[Trial], before: dict[str, Record], **more: Any
    ) -> Any:
        assert total == len(trials)
        assert {trial.id for trial in planned} == trials.keys() | before.keys()
        started.append(list(trials.values()))
        raise StartedError

    monkeypatch.setattr(execute, "Progress", waits)
    every = list(trials.values())
    place = RunPlace(executed.run.folder, executed.state)
    asked = (place, every, {}, lambda progress: None)
    assert execute.execute(*asked) == []
    assert started == []  # not even Ray
    short, long = tiny.trial(folder, 7), tiny.trial(folder, 7, epochs=5)
    with pytest.raises(StartedError):
        execute.execute(place, [short, *every, long], {}, lambda progress: None)
    assert started == [[short, long]]


def test_more_threads_than_cores_are_refused_before_ray_starts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_ray, "start", lambda cores, options: pytest.fail("Ray was started"))
    cores = provenance.count_processors()
    greedy = tiny.trial(folder, execution=Execution(device="cpu", threads=cores + 1))
    with pytest.raises(TrainingError, match=f"this machine has {cores}: lower it with --set threads={cores}"):
        execute.execute(RunPlace(tmp_path / "run", tmp_path), [greedy], {greedy.id: folder}, lambda progress: None)


def test_a_gpu_that_ray_does_not_see_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "start", lambda cores, options, variables: nullcontext())
    monkeypatch.setattr(ray_session, "node_resources", lambda: [{"CPU": 2.0}])
    trial = tiny.trial(folder, execution=Execution(device="gpu"))
    with pytest.raises(TrainingError, match=r"Ray sees no GPU.*--set device=cpu trains on the CPU"):
        execute.execute(RunPlace(tmp_path / "run", tmp_path), [trial], {trial.id: folder}, lambda progress: None)


@pytest.mark.long
@pytest.mark.skipif(provenance.count_gpus() > 0, reason="this machine has a GPU")
def test_a_gpu_that_only_ray_sees_makes_failed_records(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logical GPU is all that Ray needs to start a trial; TensorFlow then says that there is none."""
    real = ray_session.ray.init
    monkeypatch.setattr(ray_session.ray, "init", lambda **asked: real(num_gpus=1, **asked))
    trial = tiny.trial(folder, execution=Execution(device="gpu", lowering="native"))
    (record,) = execute.execute(
        RunPlace(tmp_path / "run", tmp_path), [trial], {trial.id: folder}, lambda progress: None
    )
    assert record.status == "failed"
    assert "device gpu was asked for, but TensorFlow sees none here" in record.reason
    assert "Traceback" in (tmp_path / "logs" / f"{trial.id}.log").read_text()
