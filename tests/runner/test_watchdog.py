"""The silence after which a worker is taken to hang."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import tiny

from resflow.errors import TrainingError
from resflow.runner.watchdog import PATIENCE, TIMES, Watchdog
from resflow.study import costs
from resflow.study.trial import Trial

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def trial() -> Trial:
    return tiny.trial(tiny.prepare(), epochs=3)


def test_a_silent_worker_is_overdue_until_it_is_heard_or_has_ended(trial: Trial) -> None:
    clock = Clock()
    dog = Watchdog({trial.id: trial}, clock)
    clock.now += 10 * PATIENCE
    assert dog.find_overdue() == {}  # it waits for a place
    dog.watch(trial.id)
    clock.now += PATIENCE
    assert dog.find_overdue() == {}
    clock.now += 1
    assert dog.find_overdue() == {trial.id: PATIENCE + 1}
    dog.forget(trial.id)
    assert dog.find_overdue() == {}


def test_it_may_be_silent_for_many_times_what_its_arm_usually_is(trial: Trial) -> None:
    clock = Clock()
    dog = Watchdog({trial.id: trial}, clock)
    dog.watch(trial.id)
    clock.now += 300
    dog.reset(trial.id)
    clock.now += 10
    dog.reset(trial.id)
    assert dog.allowed_silence(trial.id) == TIMES * 300
    clock.now += TIMES * 300
    assert dog.find_overdue() == {}
    clock.now += 1
    assert dog.find_overdue().keys() == {trial.id}


def test_before_the_first_epoch_the_estimate_counts(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "longest_silence", lambda trial: 1000 * costs.ASSUMED_RATE["cpu"])
    assert Watchdog({trial.id: trial}).allowed_silence(trial.id) == TIMES * 1000


def test_the_environment_says_how_patient_it_is(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_PATIENCE_S", "5")
    assert Watchdog({trial.id: trial}).patience == 5
    for nonsense in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("RESFLOW_PATIENCE_S", nonsense)
        with pytest.raises(TrainingError, match=f"RESFLOW_PATIENCE_S is '{nonsense}': expected seconds"):
            Watchdog({trial.id: trial})


def test_the_longest_silence_is_that_of_an_epoch_of_the_test_or_of_features(trial: Trial, tmp_path: Path) -> None:
    train, validation, test = trial.counts
    assert costs.longest_silence(trial) == max(4 * train + validation, test) * trial.multiply_adds
    weights = tiny.pretrained(tmp_path / "backbone.safetensors")
    frozen = tiny.trial(tiny.prepare(), pretrained=weights, finetune="frozen")
    images = train + validation + test + costs.AHEAD * (train + validation)
    assert costs.longest_silence(frozen) == images * frozen.multiply_adds
