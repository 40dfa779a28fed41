"""Epochs in one call take the steps of epochs step by step, and whole trials of them repeat to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from support import tiny

from resflow.data import pipeline
from resflow.data.dataset import load_dataset
from resflow.records.record import Outcome
from resflow.study.settings import Augmentation, Execution, Head
from resflow.study.trial import Trial
from resflow.training import checkpoints, train
from resflow.training.checkpoints import Storage
from resflow.training.learner import HEAD, Learner, forget_graphs, prepare_learner
from resflow.training.whole_epochs import Batches

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
VIEWS = Augmentation(flip=True, rotation=20, crop_padding=2)
WHOLE = Execution(device="cpu", jit=False, inputs="device")
COMPILED = Execution(device="cpu", jit=True, inputs="device")
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {"label_smoothing": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 1e-3, "variant": "v2"},
    "dropout": {"head": Head(hidden=(8,), dropout=0.4), "optimizer": "adam", "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(autouse=True)
def no_graph_is_left() -> Iterator[None]:
    yield
    forget_graphs()


def learner(trial: Trial, folder: Path) -> Learner:
    forget_graphs()
    return prepare_learner(trial, *pipeline.channel_statistics(load_dataset(folder)))


def batches_of(folder: Path, steps: int, size: int = 8) -> tuple[Batches, np.ndarray]:
    """Batches of the first training images as the host has augmented them, and their labels."""
    data = load_dataset(folder)
    index = data.train[: steps * size]
    images = pipeline.transform(data.images[index], pipeline.views(VIEWS, 1, 1, len(index), 16))
    places = np.arange(len(index)).reshape(steps, size)
    return Batches(tf.constant(images), places), data.labels[index].reshape(steps, size)


def numbers(outcome: Outcome) -> pd.DataFrame:
    assert outcome.record.status == "completed", outcome.record.reason
    return outcome.history.drop(columns="seconds")


def assert_same(one: Outcome, other: Outcome) -> None:
    pd.testing.assert_frame_equal(numbers(one), numbers(other), check_exact=True)
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    pd.testing.assert_frame_equal(one.diagnostics, other.diagnostics, check_exact=True)
    assert one.record.metrics == other.record.metrics


@pytest.mark.parametrize(
    ("kind", "execution"),
    [
        pytest.param(
            kind, execution, id=f"{kind}-{name}", marks=() if (kind, name) == ("dropout", "graph") else pytest.mark.long
        )
        for kind in KINDS
        for name, execution in (("graph", WHOLE), ("xla", COMPILED))
    ],
)
def test_a_step_of_a_whole_epoch_is_the_step_by_itself(folder: Path, kind: str, execution: Execution) -> None:
    trial = tiny.trial(folder, execution=execution, **KINDS[kind])
    net = learner(trial, folder)
    batches, labels = batches_of(folder, 1)
    start = net.state()
    losses, norms = net.whole.train(batches, labels, [0.05], np.array([True]))
    whole = net.state()
    net.restore(start)
    loss = net.step(batches.inputs, tf.constant(labels[0]), tf.constant(0.05), watched=True).numpy()
    assert losses == pytest.approx([loss], abs=1e-5)
    np.testing.assert_allclose(norms[0], net.norms.numpy(), rtol=1e-4)
    moved = 0
    for name, value in net.state().items():
        np.testing.assert_allclose(whole[name], value, rtol=0, atol=1e-5, err_msg=name)
        moved += not np.array_equal(value, start[name])
    assert moved > len(start) / 2


def test_steps_follow_one_another_under_their_own_rates(folder: Path) -> None:
    """The first call of a kind, which takes no step, is work that trials share; none of the steps is."""
    net = learner(tiny.trial(folder, execution=WHOLE), folder)
    batches, labels = batches_of(folder, 3)
    start, rates, nowhere = net.state(), [0.05, 0.0, 0.01], np.array([False] * 3)
    built = net.work.computed
    net.whole.train(batches, labels, [0.1] * 3, nowhere)
    assert net.work.computed > built
    built = net.work.computed
    net.restore(start)
    losses, _ = net.whole.train(batches, labels, rates, nowhere)
    assert net.work.computed == built
    whole = net.state()
    net.restore(start)
    alone = [
        net.step(tf.gather(batches.inputs, batches.places[i]), tf.constant(labels[i]), tf.constant(rates[i])).numpy()
        for i in range(3)
    ]
    np.testing.assert_allclose(losses, alone, atol=1e-5)
    for name, value in net.state().items():
        np.testing.assert_allclose(whole[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("execution", [WHOLE, pytest.param(COMPILED, marks=pytest.mark.long)], ids=["graph", "xla"])
def test_a_whole_evaluation_gives_the_logits_of_its_batches(
    folder: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "EVALUATION_BATCH", 5)
    data = load_dataset(folder)
    net = learner(tiny.trial(folder, execution=execution), folder)
    table = pipeline.views(VIEWS, 1, 1, len(data.validation), 16)
    positions = pipeline.padded(len(data.validation))
    for rows in (None, table):
        views = None if rows is None else rows[positions]
        batches = Batches(tf.constant(data.images), data.validation[positions], views)
        whole = net.whole.predict(batches, len(data.validation))
        alone = net.predict(pipeline.evaluation_batches(data, data.validation, rows), len(data.validation))
        assert whole.shape == (len(data.validation), data.classes)
        np.testing.assert_allclose(whole, alone, atol=1e-5 if rows is None else 1e-2)


@pytest.mark.parametrize(
    "settings",
    [pytest.param({}, marks=pytest.mark.long), {"augmentation": VIEWS, "validation_views": "augmented"}],
    ids=["clean", "views"],
)
def test_a_trial_trains_as_it_does_step_by_step(folder: Path, settings: dict[str, Any]) -> None:
    """The same images in the same order under the same labels and rates: only rounding sets the two apart."""
    rows = []
    for execution in (Execution(device="cpu", jit=False), WHOLE):
        outcome = train.train_trial(tiny.trial(folder, execution=execution, **settings), folder)
        norms = outcome.diagnostics.query("kind == 'gradient_norm'")
        rows.append((numbers(outcome), norms.set_index(["layer", "epoch"])["value"]))
    (host, host_norms), (whole, norms) = rows
    assert host["batch_loss"].nunique() == len(host)
    pd.testing.assert_frame_equal(whole, host, rtol=0.01)
    pd.testing.assert_series_equal(norms, host_norms, rtol=0.05)


def test_a_used_graph_gives_the_record_of_a_new_one(folder: Path) -> None:
    trial = tiny.trial(folder, execution=WHOLE, augmentation=VIEWS, head_epochs=1)
    new = train.train_trial(trial, folder)
    plain = tiny.trial(folder, seed=2, execution=WHOLE, batch_size=4, validation_views="augmented")
    between = train.train_trial(plain, folder)
    used = train.train_trial(trial, folder)
    assert used.record.shared["graph"].computed_seconds < new.record.shared["graph"].computed_seconds / 2
    assert between.record.metrics != used.record.metrics
    assert_same(used, new)


class Cut(BaseException):
    """What ends a process from outside: nothing in `train` catches it."""


@pytest.mark.parametrize(
    ("finetune", "execution"),
    [("full", WHOLE), ("frozen", WHOLE), pytest.param("full", COMPILED, marks=pytest.mark.long)],
    ids=["graph", "head", "xla"],
)
def test_a_trial_that_was_cut_off_ends_with_the_same_record(
    folder: Path, finetune: str, execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    settings = {"augmentation": VIEWS, "head": Head(hidden=(8,), dropout=0.4), "test_weights": "best"}
    if finetune == "frozen":
        settings |= {"pretrained": tiny.pretrained(tmp_path / "net.safetensors"), "finetune": finetune}
    trial = tiny.trial(folder, execution=execution, epochs=3, **settings)
    whole, storage = train.train_trial(trial, folder), Storage(str(tmp_path))

    def cut(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Cut

    with pytest.raises(Cut):
        train.train_trial(trial, folder, cut, storage=storage)
    forget_graphs()  # what the interrupted process had in memory is lost
    assert storage.read(trial.id) is not None
    assert_same(train.train_trial(trial, folder, storage=storage), whole)


def test_a_loss_that_is_no_number_ends_a_trial_after_its_epoch(folder: Path) -> None:
    outcome = train.train_trial(tiny.trial(folder, execution=WHOLE, learning_rate=1e30, epochs=5), folder)
    assert outcome.record.status == "diverged"
    assert len(outcome.history) == 0


def test_where_inputs_lie_is_a_part_of_the_id_and_the_host_is_as_it_was(folder: Path) -> None:
    trial = tiny.trial(folder)
    by_inputs = {
        inputs: tiny.trial(folder, execution=Execution(device="cpu", jit=False, inputs=inputs)).id
        for inputs in ("auto", "host", "device")
    }
    assert by_inputs["auto"] == by_inputs["host"] == trial.id != by_inputs["device"]


FROZEN: dict[str, dict[str, Any]] = {
    "clean": {"head": Head(pooling="flatten"), "epochs": 3},
    "views": {"head": Head(hidden=(8,), dropout=0.4), "augmentation": VIEWS, "validation_views": "augmented"},
}


@pytest.mark.parametrize("kind", [pytest.param("clean", marks=pytest.mark.long), "views"])
def test_heads_on_shared_features_train_as_they_do_step_by_step(folder: Path, kind: str, tmp_path: Path) -> None:
    settings = FROZEN[kind] | {"pretrained": tiny.pretrained(tmp_path / "net.safetensors"), "finetune": "frozen"}
    host = train.train_trial(tiny.trial(folder, **settings), folder)
    device = train.train_trial(tiny.trial(folder, execution=WHOLE, **settings), folder)
    assert device.record.shared["features"].key == host.record.shared["features"].key  # made once
    pd.testing.assert_frame_equal(numbers(device), numbers(host), rtol=1e-4)


def test_a_head_that_trains_alone_leaves_the_backbone_alone(folder: Path) -> None:
    net = learner(tiny.trial(folder, execution=WHOLE, head_epochs=1), folder)
    assert net.phase == HEAD
    batches, labels = batches_of(folder, 2)
    before = {v.path: v.numpy() for v in net.model.trainable_variables}
    net.whole.train(batches, labels, [0.1, 0.1], np.array([False] * 2))
    moved = {v.path for v in net.model.trainable_variables if not np.array_equal(v.numpy(), before[v.path])}
    assert moved == {"head/kernel", "head/bias"}
