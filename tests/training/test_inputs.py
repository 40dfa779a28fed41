"""What a device waits for is measured, told and shortened by threads; it changes no number."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow.data import pipeline
from resflow.records.facts import TOLERATED_WAIT
from resflow.study.settings import Augmentation, Execution, Resources
from resflow.training import checkpoints, inputs, train
from resflow.training.checkpoints import Storage
from resflow.training.trial_clock import InputWait

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
FLIP = Augmentation(flip=True)
shares = st.floats(0, 1)


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture
def slow_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every augmented batch takes a tenth of a second to make, which is far longer than its step."""
    real = pipeline.transform

    def transform(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        time.sleep(0.1)
        return real(images, rows)

    monkeypatch.setattr(pipeline, "transform", transform)


@pytest.mark.usefixtures("slow_source")
def test_a_slow_source_is_measured_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "resflow.train"):
        record = train.train_trial(tiny.trial(folder, augmentation=FLIP, epochs=3), folder).record
    waited = record.provenance["input_wait"]
    assert 0.3 < waited <= 1
    assert f"the CPU waited for input {100 * waited:.0f} % of the time" in caplog.text
    assert "give trials more threads, or keep all inputs in its memory (inputs=device)" in caplog.text


@pytest.mark.usefixtures("slow_source")
def test_images_on_the_device_are_not_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    execution = Execution(device="cpu", jit=False, inputs="device")
    record = train.train_trial(tiny.trial(folder, augmentation=FLIP, execution=execution, epochs=3), folder).record
    assert 0 < record.provenance["input_wait"] < 0.3
    assert "threads, or" not in caplog.text


class Cut(BaseException):
    """What ends a process from outside."""


@pytest.mark.usefixtures("slow_source")
def test_what_an_interrupted_process_waited_counts_as_well(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    trial, storage = tiny.trial(folder, augmentation=FLIP, epochs=3), Storage(str(tmp_path))

    def cut(row: dict[str, Any]) -> None:
        if row["epoch"] == 3:
            raise Cut

    with pytest.raises(Cut):
        train.train_trial(trial, folder, cut, storage=storage)
    monkeypatch.undo()  # the second process waits for hardly anything
    outcome = train.train_trial(trial, folder, storage=storage)
    before = outcome.history["seconds"][:2].sum()
    assert outcome.record.provenance["input_wait"] * outcome.history["seconds"].sum() > 0.3 * before


def test_waiting_begins_when_the_device_has_done_its_work() -> None:
    class Result:
        def numpy(self) -> None:
            time.sleep(0.2)

    wait = InputWait()
    wait.last = Result()
    with wait():
        time.sleep(0.01)
    assert 0.01 <= wait.seconds < 0.2


@given(st.integers(1, 4), st.integers(1, 64), st.lists(shares, max_size=12))
def test_threads_are_doubled_within_their_bound_while_that_helps(start: int, more: int, waits: list[float]) -> None:
    threads = inputs.InputThreads(start, start + more)
    counts = [start]
    for waited in waits:
        threads.adjust(waited)
        counts.append(threads.count)
        if waited <= TOLERATED_WAIT:
            assert counts[-1] == counts[-2]
    assert all(now <= later <= min(2 * now, start + more) for now, later in pairwise(counts))


def test_threads_that_do_not_help_are_the_last() -> None:
    threads = inputs.InputThreads(1, 64)
    for waited, expected in ((0.8, 2), (0.5, 4), (0.49, 4), (0.9, 4)):
        threads.adjust(waited)
        assert threads.count == expected


def test_a_trial_on_a_cpu_keeps_its_threads_and_one_beside_a_gpu_has_its_share(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resflow.provenance.count_processors", lambda: 16)
    cpu, gpu = (tiny.trial(folder, execution=Execution(device=device, threads=2)) for device in ("cpu", "gpu"))
    assert inputs.most_input_threads(cpu) == 2
    for resources, most in ((Resources(), 16), (Resources(gpus=0.25), 4), (Resources(gpus=0.1), 2)):
        assert inputs.most_input_threads(replace(gpu, resources=resources)) == most
    assert inputs.most_input_threads(replace(gpu, resources=Resources(cpus=6.0))) == 6


def test_more_threads_change_no_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = train.train_trial(tiny.trial(folder, augmentation=FLIP, epochs=3), folder)
    monkeypatch.setattr(inputs, "most_input_threads", lambda trial: 8)
    monkeypatch.setattr(inputs, "TOLERATED_WAIT", -1.0)
    counts: list[int] = []
    real = inputs.InputThreads.adjust
    monkeypatch.setattr(inputs.InputThreads, "adjust", lambda self, _: (real(self, 0.0), counts.append(self.count)))
    more = train.train_trial(tiny.trial(folder, augmentation=FLIP, epochs=3), folder)
    assert counts == [2, 4, 8]
    assert more.record.metrics == one.record.metrics
    assert more.history["batch_loss"].tolist() == one.history["batch_loss"].tolist()
