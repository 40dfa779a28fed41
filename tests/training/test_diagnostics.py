"""Looking inside changes nothing, and what is seen is what the formulas say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow.data import pipeline
from resflow.data.dataset import Dataset, load_dataset
from resflow.models.layers import BatchNorm
from resflow.records.record import DIAGNOSTIC_COLUMNS, Outcome, make_record, write_record
from resflow.records.run import load_run
from resflow.training import diagnostics, train
from resflow.training.learner import Learner, forget_graphs, prepare_learner

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    return train.train_trial(tiny.trial(folder), folder)


def net_of(folder: Path, **settings: Any) -> Learner:
    forget_graphs()
    return prepare_learner(tiny.trial(folder, **settings), *pipeline.channel_statistics(load_dataset(folder)))


def seen(net: Learner, data: Dataset) -> pd.DataFrame:
    trial = tiny.trial(tiny.prepare())  # of any: there are no gradients to be placed
    return diagnostics.diagnose(net, trial, data, [], 1).set_index(["kind", "layer"])["value"]


def test_looking_inside_changes_no_number(folder: Path, outcome: Outcome) -> None:
    blind = train.train_trial(replace(tiny.trial(folder), diagnostics=False), folder)
    assert blind.diagnostics is None
    assert blind.record.metrics == outcome.record.metrics
    assert blind.record.id == outcome.record.id
    pd.testing.assert_frame_equal(
        blind.history.drop(columns="seconds"), outcome.history.drop(columns="seconds"), check_exact=True
    )
    pd.testing.assert_frame_equal(blind.predictions, outcome.predictions, check_exact=True)


def test_the_same_trial_sees_the_same_to_the_bit(folder: Path, outcome: Outcome) -> None:
    again = train.train_trial(tiny.trial(folder), folder)
    pd.testing.assert_frame_equal(again.diagnostics, outcome.diagnostics, check_exact=True)


def test_every_kind_is_there_for_every_layer_of_it(outcome: Outcome) -> None:
    table = outcome.diagnostics
    assert tuple(table.columns) == DIAGNOSTIC_COLUMNS
    layers = table.groupby("kind")["layer"].nunique()
    assert layers.to_dict() == {  # a CIFAR net of depth 8: a stem, six convolutions, three blocks, a head
        "bn_scale": 7,
        "dead_units": 7,
        "gradient_norm": 8,
        "response_sd": 7,
        "shortcut_share": 3,
    }
    assert set(table.loc[table["kind"] == "gradient_norm", "epoch"]) == {0, 1, 2}
    assert table["value"].notna().all()
    assert table.loc[table["kind"].isin(("dead_units", "shortcut_share")), "value"].between(0, 1).all()


def test_a_plain_net_has_no_shortcut_to_share(folder: Path) -> None:
    found = seen(net_of(folder, shortcut="none"), load_dataset(folder))
    assert "shortcut_share" not in found.index.get_level_values("kind")
    assert len(found["response_sd"]) == 7


def test_gradients_are_those_of_the_first_step(folder: Path) -> None:
    net = net_of(folder, weight_decay=0.0)
    data = load_dataset(folder)
    images, labels = tf.constant(data.images[data.train[:8]]), tf.constant(data.labels[data.train[:8]])
    kernels = [kernel for _, kernel in net.kernels]
    with tf.GradientTape() as tape:
        logits = net.model(net.prepared(images), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    expected = [float(tf.norm(g)) for g in tape.gradient(loss, [kernel.value for kernel in kernels])]
    net.reset(tiny.trial(folder, weight_decay=0.0), *pipeline.channel_statistics(data))
    net.step(images, labels, tf.constant(0.1))
    assert not net.norms.numpy().any()  # nobody asked
    net.reset(tiny.trial(folder, weight_decay=0.0), *pipeline.channel_statistics(data))
    net.step(images, labels, tf.constant(0.1), watched=True)
    assert net.norms.numpy() == pytest.approx(expected, rel=1e-4)


def test_responses_are_those_of_numpy(folder: Path) -> None:
    net, data = net_of(folder), load_dataset(folder)
    first = next(layer for layer in net.model.layers if isinstance(layer, BatchNorm))
    images = data.images[np.sort(data.validation[: diagnostics.PROBE])]
    convolved = net.model.get_layer(first.name.removesuffix("_bn"))(net.prepared(images))
    x = convolved.numpy() / np.sqrt(1 + 1e-5)  # as initialised: mean 0, variance 1, gamma 1, beta 0
    found = seen(net, data)
    assert found["response_sd", first.name] == pytest.approx(x.std(), rel=1e-4)
    assert found["bn_scale", first.name] == 1
    assert found["dead_units", "stem_relu"] == pytest.approx(np.mean((x <= 0).all(axis=0)))


def test_a_dead_layer_and_a_silent_branch_are_seen(folder: Path) -> None:
    net, data = net_of(folder), load_dataset(folder)
    net.model.get_layer("stem_bn").beta.assign(-1e4 * np.ones(net.model.get_layer("stem_bn").beta.shape))
    found = seen(net, data)
    assert found["dead_units", "stem_relu"] == 1
    net = net_of(folder, zero_gamma=True)  # a block that starts as its shortcut alone
    found = seen(net, data)
    assert found["shortcut_share"].to_numpy() == pytest.approx(1)
    last = [name for name in found["bn_scale"].index if found["bn_scale", name] == 0]
    assert len(last) == 3


def test_probing_in_parts_is_probing_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = net_of(folder), load_dataset(folder)
    whole = seen(net, data)
    monkeypatch.setattr(diagnostics, "PIXELS", 3 * 16 * 16)
    parts = seen(net, data)
    assert parts.to_numpy() == pytest.approx(whole.to_numpy(), rel=1e-5)


@given(st.integers(1, 400), st.integers(1, 50))
def test_the_first_step_and_the_last_epoch_are_always_watched_and_never_too_many(epochs: int, steps: int) -> None:
    watched = [diagnostics.steps_watched(epoch, epochs, steps) for epoch in range(1, epochs + 1)]
    kept = [at for one in watched for at in one.values()]
    assert epochs in watched[-1].values()
    assert len(kept) <= diagnostics.WATCHED + 2
    assert all(0 <= place < steps for one in watched for place in one)
    if steps > 1:
        assert kept[0] == 0
    assert kept == sorted(set(kept))


@pytest.mark.parametrize(("finetune", "first"), [("full", 0), ("partial", 6), ("frozen", 9)])
def test_gradients_of_a_part_of_a_network_stand_where_its_layers_do(
    folder: Path, tmp_path: Path, finetune: str, first: int
) -> None:
    """A stem, six convolutions, a projection in each of the last two blocks, two layers of a head."""
    trial = tiny.trial(folder, shortcut="projection", finetune=finetune, head={"hidden": (4,)})
    net = net_of(folder, shortcut="projection", finetune=finetune, head={"hidden": (4,)})
    norms = [1.0] * len(net.kernels)
    table = diagnostics.diagnose(net, trial, load_dataset(folder), [(1, norms)], 1)
    places = table.loc[table["kind"] == "gradient_norm", "place"]
    assert list(places) == list(range(first, 11))
    older = table.assign(place=table["place"].where(table["kind"] != "gradient_norm", table["place"] - places.min()))
    for run, written in (("now", table), ("older", older)):
        write_record(tmp_path / run, Outcome(make_record(trial, status="completed"), diagnostics=written))
        read = load_run(tmp_path / run).diagnostics_of([trial.id])
        pd.testing.assert_frame_equal(read[list(DIAGNOSTIC_COLUMNS)], table)


def test_they_are_written_and_read_with_the_record(tmp_path: Path, outcome: Outcome) -> None:
    write_record(tmp_path, outcome)
    read = load_run(tmp_path).diagnostics_of([outcome.record.id, "gone"])
    assert list(read.columns) == ["id", "arm", "seed", *DIAGNOSTIC_COLUMNS]
    pd.testing.assert_frame_equal(read[list(DIAGNOSTIC_COLUMNS)], outcome.diagnostics, check_exact=True)
    path = tmp_path / "trials" / outcome.record.id / "diagnostics.parquet"
    path.write_bytes(path.read_bytes()[:-3])
    assert "Parquet" in next(iter(load_run(tmp_path).broken.values()))
