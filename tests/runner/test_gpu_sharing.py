"""How trials share a GPU: by the rules alone first, then by Ray's logical GPUs. No GPU is needed."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle
from support import tiny, work
from support.driver import MB, FakeDriver

from resflow import provenance
from resflow.errors import TrainingError
from resflow.records.gpu_choice import GpuChoice, read_choice
from resflow.records.record import Record
from resflow.runner import execute, gpu_sharing, ray_session
from resflow.runner.execute import RunPlace
from resflow.runner.gpu_sharing import MEMORY, MeasuredSharing, Sharing, make_sharing, request_resources
from resflow.runner.queue import TrialQueue
from resflow.study.memory import MARGIN, estimate_memory
from resflow.study.resources import TrialResources
from resflow.study.settings import Execution, Resources
from resflow.study.trial import Trial

pytestmark = pytest.mark.timeout(900)
cloudpickle.register_pickle_by_value(work)  # workers do not see the folder of tests
GPU = {"name": "card", "memory": 24 * 2**30}
CONTEXT = 300 * MB


@functools.cache
def _like() -> Trial:
    return tiny.trial(tiny.prepare(), execution=Execution(device="gpu"))


def make_trials(number: int, gpus: Any = "auto", **resources: Any) -> list[Trial]:
    """So many trials of one arm."""
    wanted = Resources(gpus=gpus, **resources)
    return [replace(_like(), id=f"{n:012x}", seed=n, resources=wanted) for n in range(number)]


@dataclass
class Gpu:
    """Trials that take turns on one GPU in a time of its own: `speed` is of all of them, by how many run.

    A step ends the epoch that is due next. Each trial's first epoch is the longest, so that no two end together.
    """

    speed: dict[int, float]
    peak: int = 2 * 2**30
    epochs: int = 12
    cores: int = 16
    gpus: int = 1
    now: float = 0.0
    most: int = 0
    counts: list[int] = field(default_factory=list)
    settled: list[GpuChoice] = field(default_factory=list)

    def sharing(self, trials: Iterable[Trial], **known: Any) -> MeasuredSharing:
        choice = GpuChoice(**{"gpu": GPU, "context_bytes": CONTEXT, "estimated_bytes": self.estimate, **known})
        by_id = {trial.id: trial for trial in trials}
        return MeasuredSharing(TrialResources(1, 1.0), choice, by_id, self.settled.append, lambda: self.now)

    @property
    def estimate(self) -> int:
        return estimate_memory(_like()).peak

    def run(self, sharing: Sharing, trials: list[Trial]) -> None:
        source = TrialQueue(trials)
        left: dict[str, list[float]] = {}  # id -> work that is left of each of its epochs
        began: dict[str, float] = {}  # the one that runs
        nodes = [{"CPU": self.cores, "GPU": self.gpus}]
        while len(source) or left:
            while len(source) and len(left) < sharing.places(nodes, len(source) + len(source.running)):
                trial = source.next(sharing.arm)
                assert sharing.config(trial) == {"gpus": sharing.resources.gpus}
                sharing.begin(trial.id)
                left[trial.id], began[trial.id] = [1.37 + trial.seed / 100] + [1.0] * (self.epochs - 1), self.now
            self.counts.append(len(left))
            rate = self.speed.get(len(left), min(self.speed.values())) / len(left)
            trial_id = min(left, key=lambda one: left[one][0])
            step = left[trial_id][0]
            self.now += step / rate
            for epochs in left.values():
                epochs[0] -= step
            left[trial_id].pop(0)
            sharing.hear(trial_id, {"epoch": 1, "seconds": self.now - began[trial_id], MEMORY: self.peak})
            began[trial_id] = self.now
            if not left[trial_id]:
                del left[trial_id]
                source.ended(trial_id)
                sharing.end(trial_id)


@pytest.mark.parametrize(
    ("speed", "fastest"),
    [
        ({1: 1.0, 2: 1.8, 4: 3.0, 8: 4.0}, 8),
        ({1: 1.0, 2: 1.8, 4: 1.7, 8: 9.0}, 2),  # what comes behind a slower number is not tried
        ({1: 1.0, 2: 1.0, 4: 2.0, 8: 3.0}, 1),  # no faster is no reason to share
        ({1: 1.0, 2: 0.7, 4: 0.5, 8: 0.2}, 1),
        ({1: 1.0, 2: 1.5, 4: 2.5, 8: 2.4}, 4),
    ],
)
def test_the_fastest_number_is_taken(speed: dict[int, float], fastest: int) -> None:
    gpu, trials = Gpu(speed, epochs=30), make_trials(40)
    sharing = gpu.sharing(trials)
    gpu.run(sharing, trials)
    (choice,) = gpu.settled
    assert choice.trials_per_gpu == fastest
    measured = choice.throughput
    assert {count: round(value / measured[1], 6) for count, value in measured.items()} == {
        count: speed[count] for count in measured
    }
    assert max(gpu.counts) <= 2 * fastest  # and never more than the next number to measure


@given(
    gains=st.lists(st.floats(0.3, 2.5), min_size=3, max_size=3),
    number=st.integers(1, 30),
    epochs=st.integers(1, 12),
    peak=st.integers(MB, 30 * 2**30),
    cores=st.integers(1, 16),
)
def test_what_is_chosen_was_measured_and_fits(
    gains: list[float], number: int, epochs: int, peak: int, cores: int
) -> None:
    """Whatever the trials are like: a choice is no slower than one after the other, and has room."""
    speed = {1: 1.0}
    for count, gain in zip((2, 4, 8), gains, strict=True):
        speed[count] = speed[count // 2] * gain
    gpu, trials = Gpu(speed, peak=peak, epochs=epochs, cores=cores), make_trials(number)
    sharing = gpu.sharing(trials)
    gpu.run(sharing, trials)
    assert len(gpu.settled) <= 1
    for choice in gpu.settled:
        assert choice.trials_per_gpu == 1 or choice.trials_per_gpu in choice.throughput
        assert speed[choice.trials_per_gpu] >= 1.0
        assert choice.trials_per_gpu <= cores
        room = choice.trials_per_gpu * MARGIN * (peak + CONTEXT)
        assert choice.trials_per_gpu == 1 or room <= GPU["memory"]


def test_only_epochs_among_so_many_trials_that_train_are_measured() -> None:
    """The second builds its graph while the first has the GPU for itself; an epoch of its then ends among both."""
    gpu, trials = Gpu({}), make_trials(9)
    sharing = gpu.sharing(trials)
    first, second = (trial.id for trial in trials[:2])

    def hear(trial_id: str, now: float, seconds: float) -> None:
        gpu.now = now
        sharing.hear(trial_id, {"epoch": 1, "seconds": seconds, MEMORY: gpu.peak})

    sharing.places([{"CPU": 8, "GPU": 1}], 9)
    sharing.begin(first)
    hear(first, 1.0, 1.0)
    hear(first, 2.0, 1.0)
    assert sharing.count == 2
    sharing.begin(second)
    hear(first, 3.0, 1.0)  # alone, in truth
    hear(first, 4.0, 1.0)
    hear(second, 6.0, 1.5)  # its first, after a graph
    hear(first, 6.5, 1.2)  # began before both trained
    assert sharing.count == 2
    hear(second, 8.0, 2.0)
    hear(first, 8.5, 2.0)
    assert sharing.measured[2] == pytest.approx(sharing.measured[1])
    (choice,) = gpu.settled
    assert choice.trials_per_gpu == 1


def test_trials_too_short_to_be_measured_run_one_after_the_other() -> None:
    gpu, trials = Gpu({1: 1.0, 2: 2.0}, epochs=1), make_trials(9)
    gpu.run(gpu.sharing(trials), trials)
    assert set(gpu.counts) == {1}
    assert [(choice.trials_per_gpu, choice.throughput) for choice in gpu.settled] == [(1, {})]
    assert gpu.settled[0].peak_bytes == gpu.peak


def test_the_first_trials_peak_decides_the_others_share() -> None:
    gpu, (first, *_) = Gpu({1: 1.0}), make_trials(3)
    sharing = gpu.sharing([first])
    need = MARGIN * (gpu.estimate + CONTEXT) / GPU["memory"]
    assert sharing.config(first)["gpus"] == pytest.approx(need, abs=1e-4)
    sharing.begin(first.id)
    sharing.hear(first.id, {"epoch": 1, "seconds": 1.0, MEMORY: 5 * 2**30})
    need = MARGIN * (5 * 2**30 + CONTEXT) / GPU["memory"]
    assert sharing.config(first)["gpus"] == pytest.approx(need, abs=1e-4)
    assert sharing.choice.peak_bytes == 5 * 2**30


def test_the_largest_trial_decides_by_what_it_is_estimated_to_take_more() -> None:
    small = make_trials(1)[0]
    sharing = Gpu({1: 1.0}).sharing([small], estimated_bytes=3 * estimate_memory(small).peak)
    sharing.begin(small.id)
    sharing.hear(small.id, {"epoch": 1, "seconds": 1.0, MEMORY: 2**30})
    assert sharing.choice.peak_bytes == 3 * 2**30


def test_what_a_trial_took_alone_decides_once_a_share_was_too_small() -> None:
    trials, nodes = make_trials(9), [{"CPU": 16, "GPU": 1}]
    sharing = Gpu({1: 1.0}).sharing(trials, peak_bytes=2**30, trials_per_gpu=8, throughput={1: 1.0, 2: 2.0, 8: 3.0})
    assert sharing.places(nodes, 9) == 8
    sharing.begin(trials[0].id)
    sharing.ran_out(trials[0])
    sharing.end(trials[0].id)
    assert sharing.retry() == trials[0]
    sharing.begin(trials[0].id)
    sharing.hear(trials[0].id, {"epoch": 1, "seconds": 1.0, MEMORY: 6 * 2**30})
    sharing.end(trials[0].id)
    assert sharing.config(trials[1])["gpus"] == pytest.approx(MARGIN * (6 * 2**30 + CONTEXT) / GPU["memory"], abs=1e-4)
    assert sharing.places(nodes, 8) == 2  # of what was measured, the fastest that fits


def test_a_number_that_has_no_room_any_more_is_not_waited_for() -> None:
    trials, nodes = make_trials(9), [{"CPU": 16, "GPU": 1}]
    gpu = Gpu({1: 1.0})
    sharing = gpu.sharing(trials)
    assert sharing.places(nodes, 9) == 1
    for trial, peak in zip(trials[:2], (2**30, 20 * 2**30), strict=True):
        sharing.begin(trial.id)
        for _ in range(2):
            gpu.now += 1.0
            sharing.alone.add(trial.id)  # as one that ran out of memory
            sharing.hear(trial.id, {"epoch": 1, "seconds": 1.0, MEMORY: peak})
        sharing.end(trial.id)
        assert sharing.count == 2  # is what is to be measured
    assert sharing.places(nodes, 7) == 1
    assert [choice.trials_per_gpu for choice in gpu.settled] == [1]


def test_a_choice_holds_for_the_next_process_and_all_gpus() -> None:
    trials = make_trials(20)
    gpu = Gpu({1: 1.0, 2: 2.0, 4: 3.0, 8: 2.0}, gpus=3)
    sharing = gpu.sharing(trials, peak_bytes=2**30, share=0.06, trials_per_gpu=4, throughput={1: 1.0, 4: 3.0})
    gpu.run(sharing, trials)
    assert gpu.counts[0] == 12  # at once
    assert sharing.resources.gpus == 0.25  # by which Ray puts no more than four on one
    assert gpu.settled == []


def test_a_choice_comes_back_as_it_was_written_and_only_for_the_same_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeDriver(name="A").install(monkeypatch)
    trials = make_trials(4)
    made = gpu_sharing.examine_gpu(trials)
    made.trials_per_gpu, made.throughput, made.peak_bytes = 4, {1: 1.0, 4: 2.5}, 2**30
    made.write(tmp_path)
    assert read_choice(tmp_path) == made
    assert isinstance(known := make_sharing(trials, {}, tmp_path), MeasuredSharing)
    assert (known.is_settled, known.count) == (True, 4)
    assert isinstance(left := make_sharing(trials[:1], {}, tmp_path), MeasuredSharing)
    assert left.is_settled  # what is left is no larger
    FakeDriver(name="B").install(monkeypatch)
    assert isinstance(other := make_sharing(trials, {}, tmp_path), MeasuredSharing)
    assert (other.is_settled, other.count) == (False, 1)
    for damaged in ("{", "[]", '{"gpu": {}, "context_bytes": "many", "estimated_bytes": 1}'):
        (tmp_path / "gpu_sharing.json").write_text(damaged)
        assert read_choice(tmp_path) is None


def test_what_cannot_be_measured_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"trials of a cluster run on others.*--set gpus=0.25"):
        make_sharing(make_trials(1), {}, tmp_path, address="auto")
    FakeDriver(failing="cuCtxCreate_v2").install(monkeypatch)
    with pytest.raises(TrainingError, match=r"does not tell it \(cuCtxCreate_v2 gave error 100\).*--set gpus=1"):
        make_sharing(make_trials(1), {}, tmp_path)


def test_on_a_cpu_there_is_nothing_to_share(tmp_path: Path) -> None:
    trial = replace(make_trials(1)[0], execution=Execution(device="cpu"))
    sharing = make_sharing([trial], {}, tmp_path)
    assert sharing.config(trial) == {}
    assert request_resources(sharing.resources, {"trial": trial.id}) == {"CPU": 1}


def test_a_trial_that_ran_out_of_memory_goes_on_alone_once() -> None:
    sharing, trials = Sharing(TrialResources(1, 0.25)), make_trials(3, gpus=0.25)
    nodes = [{"CPU": 8, "GPU": 1}]
    assert sharing.places(nodes, 3) == 4
    for trial in trials[:2]:
        sharing.begin(trial.id)
    sharing.ran_out(trials[0])
    sharing.end(trials[0].id)
    assert sharing.again
    assert sharing.places(nodes, 3) == 1  # nobody else starts before it, or beside it
    assert sharing.retry() == trials[0]
    config = sharing.config(trials[0])
    assert request_resources(sharing.resources, config) == {"CPU": 1, "GPU": 1.0}
    sharing.begin(trials[0].id)
    assert sharing.places(nodes, 2) == 1
    sharing.end(trials[0].id)
    assert sharing.places(nodes, 2) == 4
    assert sharing.config(trials[1]) == {"gpus": 0.25}


def _at_a_time(records: list[Record]) -> dict[str, int]:
    """How many trials ran, at most, while each did: by the times in their records."""
    spans = {record.id: record.provenance["span"] for record in records}

    def running(moment: float) -> int:
        return sum(start <= moment <= end for start, end in spans.values())

    return {
        one: max(running(begin) for begin, _ in spans.values() if start <= begin <= end)
        for one, (start, end) in spans.items()
    }


def test_trials_share_rays_logical_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two have room beside one another, and are faster together. One runs out of memory, and one does so twice."""
    real = ray_session.ray.init
    monkeypatch.setattr(ray_session.ray, "init", lambda **asked: real(num_gpus=1, **asked))
    monkeypatch.setattr(provenance, "count_processors", lambda: 8)
    FakeDriver(24 * 10**9, context=300 * MB).install(monkeypatch)
    (tmp_path / "running").mkdir()
    trials = make_trials(8)
    hungry = [trials[5].id, trials[6].id]
    records = execute.execute(
        RunPlace(tmp_path / "run", tmp_path / "state"),
        trials,
        {trial.id: tiny.prepare() for trial in trials},
        lambda progress: None,
        work=functools.partial(work.share_gpu, place=tmp_path / "running", hungry=hungry),
    )
    status = {record.id: record.status for record in records}
    assert status == {trial.id: "failed" if trial.id == hungry[1] else "completed" for trial in trials}
    choice = json.loads((tmp_path / "run" / "gpu_sharing.json").read_text())
    assert choice["trials_per_gpu"] == 2
    assert choice["throughput"].keys() == {"1", "2"}
    assert choice["throughput"]["2"] > choice["throughput"]["1"]
    assert choice["share"] == math.ceil(MARGIN * (8e9 + 300 * MB) / 24e9 * 1e4) / 1e4
    shares = {record.id: record.provenance["share"] for record in records}
    assert [shares[one] for one in hungry] == [1.0, 1.0]
    assert [record.reason for record in records if record.id == hungry[1]] == ["out of GPU memory with 1.0"]
    together = _at_a_time(records)
    assert [together[one] for one in hungry] == [1, 1]  # when they went on
    assert max(together.values()) == 2
    assert not list((tmp_path / "state" / "checkpoints").glob("*"))
