"""A trial that was cut off goes on at its last epoch, and ends with the record of one that never was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow import atomic
from resflow.errors import TrainingError
from resflow.records.record import Outcome
from resflow.study.settings import Augmentation, Head, Recipe
from resflow.study.trial import Trial
from resflow.training import checkpoints, fit, train
from resflow.training.checkpoints import Checkpoints, Storage, TrainingState
from resflow.training.learner import forget_graphs
from resflow.workspace import network_path

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
VIEWS = Augmentation(flip=True, rotation=20, crop_padding=2)
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "views": {"augmentation": VIEWS, "label_smoothing": 0.1},
    "adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 1e-3},
    "best": {"test_weights": "best", "learning_rate": 0.4},
    "dropout": {"head": Head(hidden=(8,), dropout=0.4)},
    "plateau": {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 0.4},
    "stopping": {"early_stopping": 1, "test_weights": "best", "learning_rate": 0.4},
}
PRETRAINED: dict[str, dict[str, Any]] = {
    "frozen": {"finetune": "frozen", "augmentation": VIEWS, "head": Head(hidden=(8,), dropout=0.3)},
    "head first": {"finetune": "full", "head_epochs": 2, "backbone_learning_rate": 0.01},
}
# What another kind has as well is cut in the long tests.
LONG = ("sgd", "adam", "adamw", "best", "plateau", "views", "head first")
EVERY = [pytest.param(kind, marks=pytest.mark.long if kind in LONG else ()) for kind in (*KINDS, *PRETRAINED)]
EPOCHS = 4


class Cut(BaseException):
    """What ends a process from outside: nothing in `train` catches it."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(scope="module", autouse=True)
def a_checkpoint_every_epoch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "SHARE", 1e9)
        yield


def cut_after(epoch: int) -> fit.OnEpoch:
    def on_epoch(row: dict[str, float]) -> None:
        if row["epoch"] == epoch + 1:  # its checkpoint is not written: that of the epoch before is the last
            raise Cut

    return on_epoch


def assert_same(one: Outcome, other: Outcome) -> None:
    changing = {"seconds", "shared", "provenance"}
    assert one.record.model_dump(exclude=changing) == other.record.model_dump(exclude=changing)
    pd.testing.assert_frame_equal(
        one.history.drop(columns="seconds"), other.history.drop(columns="seconds"), check_exact=True
    )
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    assert one.diagnostics is not None
    pd.testing.assert_frame_equal(one.diagnostics, other.diagnostics, check_exact=True)


def kind_of(name: str, folder: Path, weights: Path) -> Trial:
    if name in KINDS:
        return tiny.trial(folder, epochs=EPOCHS, **KINDS[name])
    return tiny.trial(folder, epochs=EPOCHS, pretrained=tiny.pretrained(weights), **PRETRAINED[name])


@pytest.mark.parametrize("name", EVERY)
def test_a_trial_that_was_cut_off_ends_with_the_same_record(name: str, folder: Path, tmp_path: Path) -> None:
    trial = kind_of(name, folder, tmp_path / "backbone.safetensors")
    storage = Storage(str(tmp_path / "checkpoints"))
    whole = train.train_trial(trial, folder)
    assert whole.record.status == "completed", whole.record.reason
    ran = whole.record.epochs_run
    for epoch in {1, ran - 1}:
        storage.remove(trial.id)
        with pytest.raises(Cut):
            train.train_trial(trial, folder, cut_after(epoch), storage=storage)
        forget_graphs()  # what the interrupted process had in memory is lost
        again = train.train_trial(trial, folder, storage=storage)
        assert_same(again, whole)
        assert again.history["epoch"].tolist() == list(range(1, ran + 1))


def test_a_trial_that_was_cut_off_while_it_was_tested_trains_no_more(folder: Path, tmp_path: Path) -> None:
    trial, storage = tiny.trial(folder, early_stopping=1, learning_rate=0.4, epochs=8), Storage(str(tmp_path))
    whole = train.train_trial(trial, folder, storage=storage)
    assert whole.record.epochs_run < 8
    seen: list[Any] = []
    assert_same(train.train_trial(trial, folder, seen.append, storage=storage), whole)
    assert seen == []


def test_the_kept_network_is_that_of_an_uncut_trial(folder: Path, tmp_path: Path) -> None:
    asked = tiny.trial(folder, epochs=EPOCHS, learning_rate=0.4)
    trial = replace(asked, keep_weights="best")
    storage, paths = Storage(str(tmp_path / "checkpoints")), [tmp_path / name for name in ("a", "b")]
    train.train_trial(trial, folder, keep=network_path(paths[0], trial.id))
    with pytest.raises(Cut):
        train.train_trial(trial, folder, cut_after(3), keep=network_path(paths[1], trial.id), storage=storage)
    train.train_trial(trial, folder, keep=network_path(paths[1], trial.id), storage=storage)
    one, other = (safetensors.numpy.load_file(network_path(path, trial.id)) for path in paths)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_checkpoint_without_the_network_that_is_to_be_kept_is_not_used(folder: Path, tmp_path: Path) -> None:
    asked = tiny.trial(folder, epochs=EPOCHS)
    storage, seen = Storage(str(tmp_path)), []
    with pytest.raises(Cut):
        train.train_trial(asked, folder, cut_after(2), storage=storage)
    trial = replace(asked, keep_weights="best")
    train.train_trial(trial, folder, lambda row: seen.append(row["epoch"]), network_path(tmp_path, trial.id), storage)
    assert seen == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, bytes]:
    trial, storage = tiny.trial(folder, epochs=EPOCHS), Storage(str(tmp_path_factory.mktemp("written")))
    with pytest.raises(Cut):
        train.train_trial(trial, folder, cut_after(2), storage=storage)
    content = storage.read(trial.id)
    assert content is not None
    return trial, content


def loaded(trial: Trial, content: bytes, folder: Path, **numerics: str) -> Any:
    storage = Storage(str(folder))
    storage.write(trial.id, content)
    return Checkpoints(storage, trial.id, {**train._numerics(trial, None), **numerics}).load(trial.recipe)


def test_a_checkpoint_says_where_the_trial_stands(written: tuple[Trial, bytes], tmp_path: Path) -> None:
    state, arrays = loaded(*written, tmp_path)
    assert [row["epoch"] for row in state.history] == [1, 2]
    assert state.seconds >= sum(row["seconds"] for row in state.history)
    assert any(name.startswith("optimizer/") for name in arrays)


@given(damage=st.data())
def test_a_damaged_checkpoint_is_none(
    written: tuple[Trial, bytes], tmp_path_factory: pytest.TempPathFactory, damage: st.DataObject
) -> None:
    trial, content = written
    place = damage.draw(st.integers(0, len(content) - 1))
    if damage.draw(st.booleans()):
        broken = content[:place]
    else:
        broken = content[:place] + bytes([content[place] ^ damage.draw(st.integers(1, 255))]) + content[place + 1 :]
    found = loaded(trial, broken, tmp_path_factory.getbasetemp() / "damaged")
    if found is not None:  # one white space of the header for another
        assert place < int.from_bytes(content[:8], "little") + 8
        (state, arrays), (whole, values) = found, loaded(trial, content, tmp_path_factory.getbasetemp() / "whole")
        assert state.as_json() == whole.as_json()
        assert all(np.array_equal(arrays[name], values[name]) for name in values)


def test_another_tensorflow_starts_anew(written: tuple[Trial, bytes], tmp_path: Path) -> None:
    assert loaded(*written, tmp_path, tensorflow="0.1") is None


def test_a_state_comes_back_from_json() -> None:
    recipe = Recipe(early_stopping=3, schedule="plateau")
    state = TrainingState.from_recipe(recipe)
    state.history.append({"epoch": 1, "train_loss": 0.1 + 0.2})
    state.stopping.update(2.5)
    state.stopping.update(3.0)
    state.best_epoch, state.last_epoch = 1, 2
    state.seconds, state.computed, state.waited = 12.5, {"graph": 3.25}, 1.5
    again = TrainingState.from_json(recipe, state.as_json())
    assert (again.history, again.lowest) == (state.history, float("inf"))
    assert (again.seconds, again.computed, again.waited) == (12.5, {"graph": 3.25}, 1.5)
    assert (again.best_epoch, again.last_epoch) == (1, 2)
    assert (again.stopping.best, again.stopping.waited, again.stopping.epochs) == (2.5, 1, 3)
    written = json.loads(state.as_json())
    assert written["plateau"] == [float("inf"), 0]
    assert written["epochs"] == {"best": 1, "last": 2}  # as ever: a checkpoint outlives an upgrade
    assert written.keys() == {"history", "drops", "lowest", "epochs", "stopped", "gradients", "stopping", "plateau",
                              "seconds", "computed", "waited"}  # fmt: skip
    del written["computed"], written["waited"]  # as an older resflow leaves it
    older = TrainingState.from_json(recipe, json.dumps(written))
    assert (older.computed, older.waited) == ({}, 0.0)


@pytest.mark.parametrize("place", ["{folder}", "file://{folder}", "memory://run/checkpoints"])
def test_storage_is_a_folder_or_a_url(place: str, tmp_path: Path) -> None:
    storage = Storage(place.format(folder=tmp_path / "deep" / "place"))
    assert storage.read("one") is None
    storage.remove("one")
    storage.sweep(set())
    for content in (b"first", b"second"):
        storage.write("one", content)
        assert storage.read("one") == content
    storage.write("two", b"third")
    storage.files.pipe_file(f"{storage.root}/.three.0123", b"a draft")
    storage.sweep({"two"})
    assert [str(path).rsplit("/", 1)[-1] for path in storage.files.ls(storage.root, detail=False)] == [
        "one.safetensors"
    ]


def test_a_storage_that_cannot_be_is_told() -> None:
    with pytest.raises(TrainingError, match="checkpoints cannot be kept at nonsense://x"):
        Storage("nonsense://x")


class Refusing(Storage):
    def write(self, trial_id: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_costs_checkpoints_and_no_trial(folder: Path, tmp_path: Path) -> None:
    trial = tiny.trial(folder)
    assert_same(train.train_trial(trial, folder, storage=Refusing(str(tmp_path))), train.train_trial(trial, folder))


def test_writing_takes_a_bounded_share_of_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoints, "SHARE", 0.05)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    class Slow(Storage):
        written = 0

        def write(self, trial_id: str, content: bytes) -> None:
            now[0] += 1.0
            self.written += 1

    storage = Slow(str(tmp_path))
    kept_here = Checkpoints(storage, "trial", {})
    for _ in range(400):
        now[0] += 1.0
        kept_here.save(TrainingState.from_recipe(Recipe()), lambda: {"x": np.zeros(3)})
    assert 0.8 * checkpoints.SHARE < storage.written / now[0] <= checkpoints.SHARE


def test_a_checkpoint_that_is_a_pipe_or_a_folder_is_none(folder: Path, tmp_path: Path) -> None:
    trial = tiny.trial(folder, epochs=EPOCHS)
    storage = Storage(str(tmp_path))
    os.mkfifo(storage.path(trial.id))
    assert Checkpoints(storage, trial.id, {}).load(trial.recipe) is None
    Path(storage.path(trial.id)).unlink()
    Path(storage.path(trial.id)).mkdir()
    assert Checkpoints(storage, trial.id, {}).load(trial.recipe) is None


def test_a_checkpoint_is_on_the_disk_when_it_is_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    sync = atomic.sync
    monkeypatch.setattr(atomic, "sync", lambda path: synced.append(path.read_bytes()) or sync(path))
    storage = Storage(str(tmp_path))
    storage.write("one", b"first")
    storage.write("one", b"second")
    assert synced == [b"first", b"second"]
    assert storage.read("one") == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]
