"""One trial: repeatable to the bit, updated as the formulas say, tested once, and honest about how it ended."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import tiny

from resflow import provenance
from resflow.data import pipeline
from resflow.data.dataset import load_dataset
from resflow.errors import TrainingError
from resflow.records.record import HISTORY_COLUMNS, PREDICTION_COLUMNS, Outcome, Record, write_record
from resflow.records.run import load_run
from resflow.study.settings import Augmentation, Execution
from resflow.training import fit, optimizers, scoring, train
from resflow.training import learner as learners
from resflow.training.learner import Learner

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
EPOCH_LOSSES = [3.0, 1.0, 2.0, 2.5, 4.0, 5.0]  # the second epoch is the best one


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    return train.train_trial(tiny.trial(folder), folder)


def numbers(outcome: Outcome) -> pd.DataFrame:
    return outcome.history.drop(columns="seconds")


def learner(folder: Path, seed: int = 1, **settings: Any) -> Learner:
    learners.forget_graphs()
    return learners.prepare_learner(
        tiny.trial(folder, seed, **settings), *pipeline.channel_statistics(load_dataset(folder))
    )


def batch(folder: Path, size: int = 8) -> tuple[Any, Any]:
    data = load_dataset(folder)
    index = data.train[:size]
    return tf.constant(data.images[index]), tf.constant(data.labels[index])


def weights(of: Learner) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in of.model.trainable_variables}


def gradients(of: Learner, images: Any, labels: Any) -> dict[str, np.ndarray]:
    """Of the mean cross-entropy, without any decay."""
    variables = of.model.trainable_variables
    with tf.GradientTape() as tape:
        logits = of.model((tf.cast(images, tf.float32) - of.mean) / of.deviation, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    taken = tape.gradient(loss, [variable.value for variable in variables])
    return {variable.path: g.numpy() for variable, g in zip(variables, taken, strict=True)}


def close(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.allclose(first, second, rtol=1e-4, atol=1e-6))


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    learners.forget_graphs()


# Repeating


def test_a_trial_repeats_to_the_bit_in_another_process(folder: Path, outcome: Outcome, tmp_path: Path) -> None:
    """`outcome` came from a process that had other networks before; this one has none."""
    out = tmp_path / "outcome"
    subprocess.run([sys.executable, tiny.__file__, str(folder), str(out)], check=True, timeout=240)
    other: Outcome = pickle.loads(out.read_bytes())
    assert other.record.status == "completed"
    assert same_record(other, outcome)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"shortcut": "none"},
    "zero_pad": {},
    "projection": {"shortcut": "projection", "augmentation": Augmentation(flip=True, rotation=10)},
    "bottleneck": {"family": "imagenet", "depth": 50, "width": 0.0625, "shortcut": "projection_all"},
    "pre-activation": {"variant": "v2"},
    "zero_gamma": {"zero_gamma": True},
    "pooling": {"stem": "imagenet"},
    "adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 1e-3},
    "best weights": {"test_weights": "best", "early_stopping": 1, "epochs": 3},
    "bfloat16": {"execution": Execution(device="cpu", jit=False, precision="mixed_bfloat16")},
    "float16": {"execution": Execution(device="cpu", jit=False, precision="mixed_float16")},
    "xla": {"execution": Execution(device="cpu", jit=True), "stem": "imagenet"},
}
SLOW = ("adamw", "zero_gamma", "bottleneck", "projection", "pooling", "float16", "xla")
# Another trial on the same graph: all that may differ in numbers does.
NUMBERS = {"momentum": 0.5, "weight_decay": 0.01, "label_smoothing": 0.2, "learning_rate": 0.2, "batch_size": 4}


def same_record(one: Outcome, other: Outcome) -> bool:
    pd.testing.assert_frame_equal(numbers(one), numbers(other), check_exact=True)
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    return one.record.id == other.record.id and one.record.metrics == other.record.metrics


@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in SLOW)) for kind in KINDS])
def test_a_used_graph_gives_the_record_of_a_new_one(folder: Path, kind: str) -> None:
    settings = KINDS[kind]
    learners.forget_graphs()
    new = train.train_trial(tiny.trial(folder, **settings), folder)
    assert new.record.status == "completed", new.record.reason
    (graph,) = learners.graphs.values()
    between = train.train_trial(tiny.trial(folder, seed=2, **{**settings, **NUMBERS}), folder)
    assert between.record.metrics != new.record.metrics
    used = train.train_trial(tiny.trial(folder, **settings), folder)
    assert list(learners.graphs.values()) == [graph]  # one graph did all three
    assert same_record(used, new)


@pytest.mark.long
@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize("kind", KINDS)
def test_a_used_graph_gives_the_record_of_a_fresh_process(folder: Path, kind: str, tmp_path: Path) -> None:
    settings = KINDS[kind]
    train.train_trial(tiny.trial(folder, seed=2, **{**settings, **NUMBERS}), folder)
    used = train.train_trial(tiny.trial(folder, **settings), folder)
    asked, out = tmp_path / "settings", tmp_path / "outcome"
    asked.write_bytes(pickle.dumps(settings))
    subprocess.run([sys.executable, tiny.__file__, str(folder), str(out), str(asked)], check=True, timeout=240)
    assert same_record(used, pickle.loads(out.read_bytes()))


def test_what_makes_another_graph_is_built_anew(folder: Path) -> None:
    learners.forget_graphs()
    for settings in ({}, {"shortcut": "none"}, {"width": 0.25}, {"optimizer": "adam"}):
        before = list(learners.graphs.values())
        train.train_trial(tiny.trial(folder, epochs=1, **settings), folder)
        (kept,) = learners.graphs.values()  # never more than one: each holds its weights and buffers
        assert kept not in before


def test_a_fault_is_not_handed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train.train_trial(tiny.trial(folder, epochs=1), folder)
    with monkeypatch.context() as broken:
        broken.setattr(fit, "_train_epoch", lambda *_: 1 / 0)
        assert train.train_trial(tiny.trial(folder, epochs=1), folder).record.status == "failed"
    assert not learners.graphs


def test_another_seed_gives_another_trial(folder: Path, outcome: Outcome) -> None:
    other = train.train_trial(tiny.trial(folder, seed=2), folder)
    assert not np.array_equal(numbers(other)["batch_loss"], numbers(outcome)["batch_loss"])
    assert other.record.id != outcome.record.id


def test_each_stream_is_drawn_from_what_it_is_held_at(folder: Path, outcome: Outcome) -> None:
    settings: dict[str, Any] = {"augmentation": Augmentation(flip=True), "epochs": 1}

    def run(seed: int, **held: int) -> pd.DataFrame:
        return numbers(train.train_trial(replace(tiny.trial(folder, seed, **settings), held=held), folder))

    first, other, init, order = run(1), run(2), run(2, order=1), run(2, init=1)
    pd.testing.assert_frame_equal(run(2, init=1, order=1), first, check_exact=True)
    pd.testing.assert_frame_equal(run(1, init=2), init, check_exact=True)  # whatever seed it is called by
    losses = {frame["batch_loss"].iloc[0] for frame in (first, other, init, order)}
    assert len(losses) == 4


def test_arms_of_one_seed_are_fed_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: dict[str, list[bytes]] = {}
    real = pipeline.training_batches

    def spy(name: str) -> Callable[..., Iterator[Any]]:
        def batches(*args: Any) -> Iterator[Any]:
            for images, labels in real(*args):
                fed.setdefault(name, []).append(images.numpy().tobytes() + labels.numpy().tobytes())
                yield images, labels

        return batches

    augmentation = Augmentation(flip=True, rotation=10, crop_padding=2)
    for name in ("none", "zero_pad"):
        monkeypatch.setattr(pipeline, "training_batches", spy(name))
        train.train_trial(tiny.trial(folder, shortcut=name, augmentation=augmentation), folder)
    assert len(fed["none"]) == 2 * 3
    assert fed["none"] == fed["zero_pad"]


# The record


def test_a_record_tells_all_of_its_trial(folder: Path, outcome: Outcome) -> None:
    record, trial, data = outcome.record, tiny.trial(folder), load_dataset(folder)
    assert record.status == "completed"
    assert record.reason == ""
    for name in ("id", "study", "arm", "levels", "seed", "split_seed"):
        assert getattr(record, name) == getattr(trial, name)
    assert record.settings == trial.settings()
    assert record.execution == {
        "device": "cpu", "threads": 1, "precision": "float32", "jit": False, "lowering": "table", "features": True,
        "inputs": "auto",
    }  # fmt: skip
    mean, deviation = (values.tolist() for values in pipeline.channel_statistics(data))
    assert record.data == {
        "normalisation": {"mean": mean, "deviation": deviation},
        "source": "tiny", "fingerprint": trial.fingerprint, "split": tiny.SPLIT, "split_hash": data.split_hash,
        "image_size": 16, "classes": 3, "class_names": ["a", "b", "c"], "train": 28, "validation": 12, "test": 18,
        "originals": {"smallest": 16, "median": 16, "largest": 16},
    }  # fmt: skip
    assert record.network == {
        "parameters": trial.parameters, "multiply_adds": trial.multiply_adds, "stem": "low_resolution",
    }  # fmt: skip
    assert (record.epochs_run, record.best_epoch) == (2, 2)
    assert record.seconds >= outcome.history["seconds"].sum()
    assert record.provenance.keys() >= {"started", "finished", "host", "cpu", "cores", "python", "versions"}
    assert record.provenance.keys() >= {"load_at_start", "load_at_end"} or provenance.load_average() is None
    assert record.shared.keys() == {"graph"}
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_history_and_metrics_tell_one_story(folder: Path, outcome: Outcome) -> None:
    history, metrics = outcome.history, outcome.record.metrics
    assert tuple(history.columns) == HISTORY_COLUMNS
    assert history["epoch"].tolist() == [1, 2]
    cosine = [0.025 * (1 + np.cos(np.pi * step / 6)) for step in (2, 5)]  # the last step of an epoch of three
    assert history["learning_rate"].tolist() == pytest.approx(cosine)
    last = history.iloc[-1]
    for name in ("train_loss", "train_top1", "validation_loss", "validation_top1"):
        assert metrics[name] == last[name]
    predictions, data = outcome.predictions, load_dataset(folder)
    assert predictions is not None
    assert tuple(predictions.columns) == PREDICTION_COLUMNS
    assert predictions["image"].tolist() == [data.names[i] for i in data.test]
    assert np.array_equal(predictions["label"], data.labels[data.test])
    right = predictions["rank"] == 0
    assert metrics["test_top1"] == right.mean()
    assert metrics["test_top5"] == 1.0  # of three classes
    assert metrics["test_mean_class_accuracy"] == pytest.approx(right.groupby(predictions["label"]).mean().mean())
    assert metrics["test_loss"] == pytest.approx(-np.log(predictions["probability"]).mean(), rel=1e-6)
    assert np.array_equal(predictions["predicted"] == predictions["label"], right)


def test_a_final_model_trains_on_validation_images_and_reports_none_of_them(folder: Path, tmp_path: Path) -> None:
    trial = tiny.trial(folder, train="train+validation", epochs=2)
    outcome = train.train_trial(trial, folder)
    record, data = outcome.record, load_dataset(folder)
    assert record.status == "completed", record.reason
    assert (record.data["train"], record.data["validation"]) == (len(data.train) + len(data.validation), 0)
    assert record.data["test"] == len(data.test)
    assert not [name for name in record.metrics if name.startswith("validation")]
    assert outcome.history[["validation_loss", "validation_top1"]].isna().all(axis=None)
    assert outcome.history[["train_loss", "train_top1"]].notna().all(axis=None)
    assert outcome.diagnostics is not None
    write_record(tmp_path, outcome)
    assert load_run(tmp_path).records[0] == record
    (row,) = load_run(tmp_path).trials.to_dict("records")
    assert row["test_top1"] == record.metrics["test_top1"]


def test_a_tiny_net_learns_its_tiny_data(folder: Path) -> None:
    learned = train.train_trial(tiny.trial(folder, epochs=12, width=0.25), folder).record
    assert learned.metrics["train_top1"] > 0.8
    assert learned.metrics["test_top1"] > 0.6  # chance is a third


# Scores


def naive(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    n, right, near, loss = len(labels), [], [], 0.0
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        loss += -np.log(np.exp(row[label] - row.max()) / sum(np.exp(value - row.max()) for value in row))
        ahead = sum(value >= row[label] for index, value in enumerate(row) if index != label)
        right.append(ahead == 0)
        near.append(ahead < 5)
    classes = [[r for r, label in zip(right, labels, strict=True) if label == c] for c in sorted(set(labels))]
    per_class = [sum(answers) / len(answers) for answers in classes]
    return {
        "loss": loss / n,
        "top1": sum(right) / n,
        "top5": sum(near) / n,
        "mean_class_accuracy": sum(per_class) / len(per_class),
    }


@given(st.data())
def test_scores_equal_a_naive_count(draw: st.DataObject) -> None:
    n, classes = draw.draw(st.integers(1, 12)), draw.draw(st.integers(2, 9))
    few = st.sampled_from([-2.0, 0.0, 0.5, 3.0, 20.0])  # ties are frequent
    logits = draw.draw(hnp.arrays(np.float32, (n, classes), elements=few))
    labels = draw.draw(hnp.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    assert scoring.score(logits, labels) == pytest.approx(naive(logits, labels), rel=1e-9)


def test_a_constant_answer_is_never_right() -> None:
    scores = scoring.score(np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0]))
    assert scores["top1"] == scores["mean_class_accuracy"] == 0
    assert scores["loss"] == pytest.approx(np.log(3))


def test_huge_logits_keep_a_finite_loss() -> None:
    scores = scoring.score(np.array([[1e30, 0.0], [-1e4, 1e4]], np.float32), np.array([0, 0]))
    assert scores["loss"] == pytest.approx(1e4)


# Updates


def is_kernel(path: str) -> bool:
    return path.endswith("/kernel")


def test_weight_decay_of_sgd_is_an_l2_gradient_of_kernels_alone(folder: Path) -> None:
    rate, decay, momentum = 0.1, 0.5, 0.9
    net = learner(folder, optimizer="sgd", momentum=momentum, weight_decay=decay)
    images, labels = batch(folder)
    velocity = {path: np.zeros_like(value) for path, value in weights(net).items()}
    for _ in range(2):
        before, slope = weights(net), gradients(net, images, labels)
        net.step(images, labels, tf.constant(rate))
        for path, value in weights(net).items():
            total = slope[path] + (decay * before[path] if is_kernel(path) else 0)
            velocity[path] = momentum * velocity[path] - rate * total
            assert close(value, before[path] + velocity[path]), path
    assert {path.split("/")[-1] for path in before} == {"kernel", "gamma", "beta", "bias"}


def after_one_step(folder: Path, **settings: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    net = learner(folder, **settings)
    images, labels = batch(folder)
    for variable in net.model.trainable_variables:
        variable.assign_add(tf.fill(variable.shape, 0.3))  # decay of a beta or bias of zero would not be seen
    before = weights(net)
    net.step(images, labels, tf.constant(0.01))
    return before, weights(net)


def test_weight_decay_of_adamw_is_decoupled_and_of_kernels_alone(folder: Path) -> None:
    before, without = after_one_step(folder, optimizer="adamw", weight_decay=0.0)
    _, decayed = after_one_step(folder, optimizer="adamw", weight_decay=0.5)
    for path, value in decayed.items():
        assert close(value, without[path] - (0.01 * 0.5 * before[path] if is_kernel(path) else 0)), path


def test_adam_is_keras_own_to_rounding() -> None:
    """Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, with its bias correction folded into the rate."""
    draw = np.random.default_rng(0)
    start = draw.standard_normal((7, 5)).astype(np.float32)
    gradients = [draw.standard_normal((7, 5)).astype(np.float32) * 10.0**-k for k in range(6)]
    ends, share = [], tf.Variable(0.5, trainable=False)
    for optimizer, rate in (
        (optimizers.Adam(share, frozenset()), 0.01),
        (optimizers.Adam(share, frozenset({0})), 0.02),  # of which this variable takes half
        (keras.optimizers.Adam(0.01), 0.01),
    ):
        variable = keras.Variable(start)
        optimizer.build([variable])
        optimizer.learning_rate.assign(rate)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        ends.append(variable.numpy())
    assert not np.array_equal(ends[0], start)
    for end in ends[:2]:
        np.testing.assert_allclose(end, ends[2], rtol=0, atol=1e-6)


def test_weight_decay_of_adam_is_an_l2_gradient(folder: Path) -> None:
    """Adam's first step is rate * g / (|g| + epsilon'), Kingma and Ba 2015, algorithm 1."""
    net = learner(folder, optimizer="adam", weight_decay=0.5)
    images, labels = batch(folder)
    before, slope = weights(net), gradients(net, images, labels)
    net.step(images, labels, tf.constant(0.01))
    for path, value in weights(net).items():
        total = slope[path] + (0.5 * before[path] if is_kernel(path) else 0)
        clear = np.abs(total) > 1e-2  # elsewhere epsilon counts
        assert np.allclose(value[clear], (before[path] - 0.01 * np.sign(total))[clear], atol=1e-5), path


def test_label_smoothing_by_hand(folder: Path) -> None:
    """Szegedy et al. 2016, section 7: targets (1 - e) one_hot + e / classes."""
    images, labels = batch(folder)
    net = learner(folder, label_smoothing=0.3)
    logits = net.model(net.prepared(images), training=True).numpy()
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(3)[labels.numpy()] * 0.7 + 0.1
    loss = net.step(images, labels, tf.constant(0.1)).numpy()
    assert loss == pytest.approx(-(targets * log_probability).sum(axis=1).mean(), rel=1e-5)


def test_statistics_of_batch_norm_move_in_training_only(folder: Path) -> None:
    net, data = learner(folder), load_dataset(folder)
    moving = [v for v in net.model.non_trainable_variables if v.name in ("moving_mean", "moving_variance")]
    before = [v.numpy() for v in moving]
    net.predict(pipeline.evaluation_batches(data, data.validation), len(data.validation))
    assert all(np.array_equal(old, v.numpy()) for old, v in zip(before, moving, strict=True))
    net.step(*batch(folder), tf.constant(0.1))
    assert not any(np.array_equal(old, v.numpy()) for old, v in zip(before, moving, strict=True))


@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.long), "mixed_float16"])
def test_mixed_precision_takes_the_steps_of_float32(folder: Path, precision: str) -> None:
    """Variables stay float32; decay is not scaled with the loss."""
    settings = {"optimizer": "sgd", "weight_decay": 0.5, "momentum": 0.0}
    images, labels = batch(folder)
    full = learner(folder, **settings)
    expected = full.step(images, labels, tf.constant(0.1)).numpy()
    mixed = learner(folder, execution=Execution(device="cpu", precision=precision), **settings)
    assert mixed.model.get_layer("stem").compute_dtype == precision.removeprefix("mixed_")
    assert mixed.model.get_layer("head").compute_dtype == "float32"
    loss = mixed.step(images, labels, tf.constant(0.1)).numpy()
    assert loss == pytest.approx(expected, rel=0.05)
    for path, value in weights(mixed).items():
        assert value.dtype == np.float32
        assert np.abs(value - weights(full)[path]).max() < 0.03, path


@pytest.mark.usefixtures("float32_afterwards")
def test_a_trial_has_its_precision_whatever_ran_before_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras forgets its policy when a session is cleared: the second trial of a worker was float32 once."""
    seen: list[str] = []
    real = learners.build_network

    def build(*args: Any) -> keras.Model:
        seen.append(keras.mixed_precision.global_policy().name)
        return real(*args)

    learners.forget_graphs()
    monkeypatch.setattr(learners, "build_network", build)
    monkeypatch.setattr(fit, "_train_epoch", lambda *_: float("nan"))
    monkeypatch.setattr(fit, "_evaluate", lambda *_: {"train_loss": float("nan"), "validation_loss": float("nan")})
    for precision in ("mixed_bfloat16", "mixed_bfloat16", "float32"):
        train.train_trial(tiny.trial(folder, execution=Execution(device="cpu", precision=precision)), folder)
    assert seen == ["mixed_bfloat16", "float32"]  # the second one had the graph of the first


def test_xla_gives_the_same_losses(folder: Path) -> None:
    losses = []
    for jit in (False, True):
        net = learner(folder, execution=Execution(device="cpu", jit=jit))
        losses.append([net.step(*batch(folder), tf.constant(0.05)).numpy() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# Selection


@pytest.fixture
def prescribed(monkeypatch: pytest.MonkeyPatch) -> list[list[np.ndarray]]:
    """Validation losses by plan; returns the weights as they were after each epoch."""
    kept: list[list[np.ndarray]] = []
    real = fit._evaluate

    def evaluate(net: Learner, *args: Any) -> dict[str, float]:
        row = real(net, *args)
        kept.append(net.model.get_weights())
        return {**row, "validation_loss": EPOCH_LOSSES[len(kept) - 1]}

    monkeypatch.setattr(fit, "_evaluate", evaluate)
    return kept


@pytest.fixture
def tested(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[np.ndarray], dict[str, float]]]:
    """For each look at the test images: the weights then, and their validation scores."""
    looks: list[tuple[list[np.ndarray], dict[str, float]]] = []
    real, data = Learner.predict, load_dataset(folder)

    def predict(net: Learner, batches: Any, count: int) -> np.ndarray:
        assert len({*data.counts}) == 3  # a part is known by how many images it has
        if count == len(data.test):
            again = pipeline.evaluation_batches(data, data.validation)
            validation = scoring.score(real(net, again, len(data.validation)), data.labels[data.validation])
            looks.append((net.model.get_weights(), validation))
        return real(net, batches, count)

    monkeypatch.setattr(Learner, "predict", predict)
    return looks


@pytest.mark.parametrize(("choice", "patience", "epoch", "ran"), [("best", 2, 2, 4), ("last", None, 4, 4)])
def test_the_chosen_weights_are_tested_and_tested_once(
    folder: Path, prescribed: list[Any], tested: list[Any], choice: str, patience: int | None, epoch: int, ran: int
) -> None:
    """Training stops early where the recipe says so; elsewhere `plateau` below runs to its end."""
    epochs = 6 if patience else ran
    trial = tiny.trial(folder, epochs=epochs, early_stopping=patience, test_weights=choice)
    outcome = train.train_trial(trial, folder)
    assert outcome.record.status == "completed"
    assert outcome.record.best_epoch == epoch
    assert outcome.record.epochs_run == len(outcome.history) == ran
    assert len(tested) == 1
    held, validation = tested[0]
    assert all(np.array_equal(a, b) for a, b in zip(held, prescribed[epoch - 1], strict=True))
    metrics, row = outcome.record.metrics, outcome.history.iloc[epoch - 1]
    assert metrics["validation_top1"] == row["validation_top1"] == validation["top1"]
    assert metrics["validation_loss"] == EPOCH_LOSSES[epoch - 1]
    assert metrics["train_loss"] == row["train_loss"]


def test_metrics_of_the_best_weights_are_theirs(folder: Path, tested: list[Any]) -> None:
    outcome = train.train_trial(tiny.trial(folder, epochs=3, test_weights="best", learning_rate=0.5), folder)
    history, metrics = outcome.history, outcome.record.metrics
    assert metrics["validation_loss"] == history["validation_loss"].min() == tested[0][1]["loss"]
    assert outcome.record.best_epoch == history["validation_loss"].idxmin() + 1


def test_fewer_evaluations_change_no_step(folder: Path) -> None:
    """Epochs 2 and 4 are due, 5 is the last; a trial that is cut off is tested in the same way."""
    each, some = (train.train_trial(tiny.trial(folder, epochs=5, evaluate_every=every), folder) for every in (1, 2))
    assert some.record.status == "completed"
    assert some.record.id != each.record.id
    assert some.record.metrics == each.record.metrics
    pd.testing.assert_frame_equal(some.predictions, each.predictions)
    assert some.history["batch_loss"].tolist() == each.history["batch_loss"].tolist()
    for column in ("train_loss", "train_top1", "validation_loss", "validation_top1"):
        expected = each.history[column].where(each.history["epoch"].isin([2, 4, 5]))
        pd.testing.assert_series_equal(some.history[column], expected)


def test_plateau_drops_the_rate_after_its_patience(folder: Path, prescribed: list[Any]) -> None:
    """The loss is lowest in epoch 2, and the patience of 2 has run out after epochs 4 and 6."""
    trial = tiny.trial(folder, epochs=6, schedule="plateau", plateau_patience=2, decay_factor=0.5)
    rates = train.train_trial(trial, folder).history["learning_rate"]  # of six epochs: nothing stops it
    assert rates.tolist() == pytest.approx([0.05, 0.05, 0.05, 0.05, 0.025, 0.025])


# How trials end


def test_a_loss_that_is_no_number_makes_a_diverged_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 28 // 8
    monkeypatch.setattr(fit, "learning_rate", lambda recipe, step, *_: 0.01 if step < steps else 1e38)
    outcome = train.train_trial(tiny.trial(folder), folder)
    record = outcome.record
    assert record.status == "diverged"
    assert re.search("no number .*epoch 2", record.reason)
    assert record.epochs_run == len(outcome.history) >= 1
    assert np.isfinite(outcome.history.iloc[0]).all()
    assert record.metrics == {}
    assert outcome.predictions is None
    assert record.data["train"] == 28


def test_a_huge_learning_rate_diverges(folder: Path) -> None:
    record = train.train_trial(tiny.trial(folder, learning_rate=1e38), folder).record
    assert (record.status, record.metrics) == ("diverged", {})
    assert "epoch 1" in record.reason


def test_a_batch_larger_than_the_data_makes_a_failed_record(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = train.train_trial(tiny.trial(folder, batch_size=29), folder).record
    assert record.status == "failed"
    assert record.reason == ("TrainingError: batch_size 29 is more than the 28 training images: make it smaller.")
    assert "Traceback" in caplog.text
    assert record.provenance["finished"] >= record.provenance["started"]


def test_data_that_is_gone_makes_a_failed_record(folder: Path, tmp_path: Path) -> None:
    record = train.train_trial(tiny.trial(folder), tmp_path / "gone").record
    assert record.status == "failed"
    assert record.reason.startswith("DataError: ")


def test_a_fault_in_mid_training_keeps_the_history(folder: Path) -> None:
    rows: list[dict[str, float]] = []

    def fail(row: dict[str, float]) -> None:
        rows.append(row)
        if row["epoch"] == 2:
            raise RuntimeError("one line\nand the log's")

    outcome = train.train_trial(tiny.trial(folder, epochs=3), folder, fail)
    assert outcome.record.reason == "RuntimeError: one line"
    assert (outcome.record.status, outcome.record.epochs_run) == ("failed", 2)
    told = pd.DataFrame(rows).drop(columns="shared")
    pd.testing.assert_frame_equal(told, outcome.history)  # every epoch was told


def test_interruption_is_no_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "load_dataset", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.train_trial(tiny.trial(folder), folder)


# The process


def test_a_process_has_one_setting_of_threads() -> None:
    train.configure(Execution(device="cpu"))  # the same again is no fault
    with pytest.raises(TrainingError, match="in use before"):
        train.configure(Execution(device="cpu", threads=2))


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(TrainingError, match="--set device=cpu trains on the CPU"):
        train.configure(Execution(device="gpu"))
