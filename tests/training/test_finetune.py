"""Fine-tuning: which weights move and which do not, whose rate is whose, and features that equal the slow way."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from support import tiny

from resflow.data import cache, pipeline
from resflow.data.dataset import load_dataset
from resflow.errors import StudyError
from resflow.models.build import build_backbone, build_head, build_network, initialise, stage_of
from resflow.models.layers import Dropout
from resflow.records.record import Outcome
from resflow.study.load import resolve_study
from resflow.study.pretrained import RAW, Notes, Pretrained
from resflow.study.settings import Augmentation, Execution, Head
from resflow.study.yaml_source import parse_document
from resflow.training import checkpoints, feature_cache, learner, scoring, train
from resflow.training.learner import ALL, HEAD, Learner, forget_graphs, prepare_learner
from resflow.weights.load import load_weights

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
SLOW = Execution(device="cpu", jit=False, features=False)
AUGMENTED = Augmentation(flip=True, rotation=20, zoom=0.1)


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return tiny.pretrained(tmp_path_factory.mktemp("weights") / "net.safetensors")


@pytest.fixture
def own_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of this test alone; the images stay where they are."""
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path))
    feature_cache._backbones.clear()
    return tmp_path / "features"


def values(net: Learner) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{w.name}": w.numpy() for layer in net.model.layers for w in layer.weights}


def moved(folder: Path, given: Pretrained | None, steps: int = 2, **settings: Any) -> set[str]:
    """Names of the weights that some optimiser steps change, moving statistics among them."""
    net = started(folder, given, **settings)
    before = values(net)
    step(net, folder, steps)
    after = values(net)
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_a_record_tells_what_is_known_of_its_weights(folder: Path, given: Pretrained) -> None:
    notes = Notes("a server", altered="stored in 8 bits")
    for noted, expected in (
        (given, {}),
        (replace(given, notes=notes), {"weights_origin": "a server", "weights_altered": "stored in 8 bits"}),
    ):
        ended_at_once = tiny.trial(folder, pretrained=noted, batch_size=29)
        network = train.train_trial(ended_at_once, folder).record.network
        told = {key: value for key, value in network.items() if key.startswith("weights")}
        assert told == {"weights": given.origin, "weights_digest": given.digest, **expected}


def started(folder: Path, given: Pretrained | None, **settings: Any) -> Learner:
    forget_graphs()
    data = load_dataset(folder)
    return prepare_learner(tiny.trial(folder, pretrained=given, **settings), *pipeline.channel_statistics(data))


def step(net: Learner, folder: Path, steps: int = 1) -> None:
    data = load_dataset(folder)
    images, labels = data.images[data.train[:8]], data.labels[data.train[:8]]
    for _ in range(steps):
        net.step(tf.constant(images), tf.constant(labels), tf.constant(0.05))


def everything(folder: Path, **settings: Any) -> set[str]:
    return set(values(started(folder, None, **settings)))


def of_stages(names: set[str], first: int) -> set[str]:
    """The names from a stage on, the head included."""
    return {name for name in names if (stage := stage_of(name)) is None or stage >= first}


def moving(names: set[str]) -> set[str]:
    return {name for name in names if "/moving_" in name}


# Which weights move


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_frozen_moves_the_head_and_nothing_else(folder: Path, given: Pretrained, optimizer: str) -> None:
    assert moved(folder, given, finetune="frozen", optimizer=optimizer) == {"head/kernel", "head/bias"}


@pytest.mark.long
def test_the_last_normalisation_of_v2_is_the_last_stages(folder: Path, tmp_path: Path) -> None:
    v2 = tiny.pretrained(tmp_path / "v2.safetensors", variant="v2")
    assert moved(folder, v2, finetune="frozen", variant="v2") == {"head/kernel", "head/bias"}
    partial = moved(folder, v2, finetune="partial", variant="v2")
    assert {name for name in partial if name.startswith("last_bn/")} == {
        f"last_bn/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    assert not any(name.startswith("stage2") for name in partial)


@pytest.mark.parametrize("stages", [1, 2])
def test_partial_moves_the_last_stages_and_the_head(folder: Path, given: Pretrained, stages: int) -> None:
    expected = of_stages(everything(folder), 3 + 1 - stages)
    assert moved(folder, given, finetune="partial", unfrozen_stages=stages) == expected
    assert moving(expected)  # the statistics of what trains move with it


@pytest.mark.parametrize("finetune", ["full", "scratch"])
def test_full_and_scratch_move_everything(folder: Path, given: Pretrained, finetune: str) -> None:
    loaded = given if finetune == "full" else None
    assert moved(folder, loaded, finetune=finetune) == everything(folder)


def test_batch_norm_of_frozen_parts_learns_where_it_is_asked_to(folder: Path, given: Pretrained) -> None:
    """Its statistics move, its scale and shift do not."""
    names = everything(folder)
    assert moved(folder, given, finetune="frozen", bn="train") == {"head/kernel", "head/bias"} | moving(names)


def test_batch_norm_of_frozen_parts_is_as_in_inference(folder: Path, given: Pretrained) -> None:
    """A frozen backbone gives in training what it gives in inference; with `bn: train` it does not."""
    data = load_dataset(folder)
    images = tf.constant(data.images[data.train[:8]])
    losses: dict[str, tuple[float, float]] = {}
    for bn in ("inference", "train"):
        net = started(folder, given, finetune="frozen", bn=bn)
        clean = scoring.score(net.logits(images).numpy(), data.labels[data.train[:8]])["loss"]
        losses[bn] = float(net.step(images, tf.constant(data.labels[data.train[:8]]), tf.constant(0.0))), clean
    assert losses["inference"][0] == pytest.approx(losses["inference"][1], rel=1e-6)
    assert losses["train"][0] != pytest.approx(losses["train"][1], rel=1e-3)


def test_the_head_trains_first_and_then_what_is_unfrozen(folder: Path, given: Pretrained) -> None:
    net = started(folder, given, finetune="full", head_epochs=1)
    before = values(net)
    step(net, folder, 2)
    alone = values(net)
    assert {n for n in before if not np.array_equal(before[n], alone[n])} == {"head/kernel", "head/bias"}
    net.begin(ALL)
    step(net, folder)
    together = values(net)
    assert {n for n in before if not np.array_equal(alone[n], together[n])} == set(before)


def test_a_trial_switches_after_its_head_epochs(
    folder: Path, given: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = Learner.begin
    monkeypatch.setattr(Learner, "begin", lambda net, phase: (seen.append(phase), real(net, phase))[1])
    asked = tiny.trial(folder, pretrained=given, finetune="full", head_epochs=2, epochs=4)
    outcome = train.train_trial(asked, folder)
    assert outcome.record.status == "completed", outcome.record.reason
    assert seen == [HEAD, ALL]


@pytest.mark.parametrize(
    "optimizer", ["sgd", *(pytest.param(one, marks=pytest.mark.long) for one in ("adam", "adamw"))]
)
def test_a_backbone_has_a_rate_of_its_own(folder: Path, given: Pretrained, optimizer: str) -> None:
    """A tenth of the rate is a tenth of the first step, for the backbone alone."""
    steps = {}
    for share in (1.0, 0.1):
        settings = {"optimizer": optimizer, "learning_rate": 0.05, "backbone_learning_rate": 0.05 * share}
        net = started(folder, given, finetune="full", **settings)
        before = values(net)
        step(net, folder)
        steps[share] = {name: value - before[name] for name, value in values(net).items()}
    for name, full in steps[1.0].items():
        if "/moving_" not in name:
            wanted = full if name.startswith("head/") else 0.1 * full
            np.testing.assert_allclose(steps[0.1][name], wanted, rtol=2e-3, atol=2e-7, err_msg=name)


def test_weights_are_loaded_and_the_head_is_the_seeds(folder: Path, given: Pretrained) -> None:
    loaded, fresh = values(started(folder, given, finetune="frozen")), values(started(folder, None))
    assert np.array_equal(loaded["head/kernel"], fresh["head/kernel"])
    assert not any(np.array_equal(loaded[n], fresh[n]) for n in fresh if n.endswith(("kernel", "moving_mean"))
                   and not n.startswith("head"))  # fmt: skip


def test_a_used_graph_starts_from_the_weights_again(folder: Path, given: Pretrained) -> None:
    asked = tiny.trial(folder, pretrained=given, finetune="full")
    forget_graphs()
    new, used = train.train_trial(asked, folder), train.train_trial(asked, folder)
    pd.testing.assert_frame_equal(numbers(new), numbers(used), check_exact=True)


# Heads


def test_a_head_has_the_layers_that_its_table_counts(folder: Path) -> None:
    head = Head(pooling="flatten", hidden=(6, 4), activation="elu", dropout=0.4)
    asked = tiny.trial(folder, head=head)
    net = build_network(asked.architecture, 16, 3, head=head)
    names = [layer.name for layer in net.layers if stage_of(layer.name) is None][1:]
    assert names == [
        "flatten",
        "head_dropout1",
        "head_hidden1",
        "head_dropout2",
        "head_hidden2",
        "head_dropout3",
        "head",
    ]
    from resflow import architectures

    size = architectures.map_size(asked.architecture, 16)
    inputs = architectures.feature_channels(asked.architecture) * size**2
    assert net.get_layer("head_hidden1").kernel.shape == (inputs, 6)
    counted = architectures.parameters(asked.architecture, 3, head.hidden, inputs)
    assert counted == sum(int(np.prod(w.shape)) for w in net.trainable_weights)
    backbone = architectures.multiply_adds(asked.architecture, 16, 0)
    both = architectures.multiply_adds(asked.architecture, 16, 3, head.hidden, inputs)
    assert both - backbone == inputs * 6 + 6 * 4 + 4 * 3


def test_a_head_alone_is_the_head_of_the_network(folder: Path, given: Pretrained) -> None:
    for head in (Head(), Head(pooling="flatten", hidden=(5,), activation="gelu")):
        asked = tiny.trial(folder, head=head)
        whole = build_network(asked.architecture, 16, 3, head=head)
        initialise(whole, 3)
        backbone = build_backbone(asked.architecture, 16)
        load_weights(whole, given)
        load_weights(backbone, given)
        images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
        maps, pooled = backbone(images)
        inputs = maps if head.pooling == "flatten" else pooled
        alone = build_head(tuple(inputs.shape[1:]), 3, head)
        initialise(alone, 3)
        np.testing.assert_allclose(alone(inputs), whole(images), rtol=1e-5, atol=1e-6)


def test_dropout_is_keyed_by_seed_and_step(folder: Path) -> None:
    layer, inputs = Dropout(0.4, 2), tf.ones((50, 40))

    def masked(seed: int, step: int) -> np.ndarray:
        layer.drawn_from(tf.constant(seed, tf.int64), tf.constant(step, tf.int64))
        return layer(inputs, training=True).numpy()

    first = masked(1, 5)
    assert np.array_equal(first, masked(1, 5))
    assert not np.array_equal(first, masked(1, 6))
    assert not np.array_equal(first, masked(2, 5))
    assert set(np.unique(first)) == {np.float32(0), np.float32(1) / np.float32(0.6)}
    assert np.mean(first == 0) == pytest.approx(0.4, abs=0.05)
    assert np.array_equal(layer(inputs, training=False), inputs)


# Features once


def numbers(outcome: Outcome) -> pd.DataFrame:
    return outcome.history.drop(columns="seconds")


HEADS = {
    "linear": Head(),
    "dropout": Head(hidden=(8,), dropout=0.4),
    "flatten": Head(pooling="flatten", hidden=(8, 4), activation="elu", dropout=0.2),
}
VIEWS: dict[str, dict[str, Any]] = {
    "clean": {},
    "augmented": {"augmentation": AUGMENTED},
    "validation too": {"augmentation": AUGMENTED, "validation_views": "augmented"},
    "validation seldom": {"augmentation": AUGMENTED, "validation_views": "augmented", "evaluate_every": 2},
    "early stopping": {"augmentation": AUGMENTED, "early_stopping": 1, "test_weights": "best", "learning_rate": 2.0},
    "raw": {"normalisation": "raw", "learning_rate": 1e-4},
    "plateau": {"schedule": "plateau", "plateau_patience": 1, "optimizer": "adam"},
}


PAIRS = list(itertools.product(VIEWS, HEADS))
QUICK = [("clean", "linear"), ("augmented", "dropout"), ("validation too", "flatten"), ("early stopping", "dropout")]


@pytest.mark.parametrize(("view", "head"), QUICK)
def test_shared_features_give_the_records_of_the_slow_way(
    folder: Path, given: Pretrained, own_cache: Path, head: str, view: str
) -> None:
    equals_the_slow_way(folder, given, own_cache, head, view)


@pytest.mark.long
@pytest.mark.parametrize(("view", "head"), [pair for pair in PAIRS if pair not in QUICK])
def test_every_head_on_every_view_gives_the_records_of_the_slow_way(
    folder: Path, given: Pretrained, own_cache: Path, head: str, view: str
) -> None:
    equals_the_slow_way(folder, given, own_cache, head, view)


def equals_the_slow_way(folder: Path, given: Pretrained, own_cache: Path, head: str, view: str) -> None:
    settings = {"finetune": "frozen", "epochs": 6, "head": HEADS[head], **VIEWS[view]}
    shared = train.train_trial(tiny.trial(folder, pretrained=given, **settings), folder)
    assert shared.record.status == "completed", shared.record.reason
    assert list(own_cache.rglob("*.npy"))
    slow = train.train_trial(tiny.trial(folder, pretrained=given, execution=SLOW, **settings), folder)
    assert len(shared.history) == len(slow.history)
    if view == "early stopping":
        assert len(slow.history) < 6
    np.testing.assert_allclose(numbers(shared), numbers(slow), rtol=1e-5, atol=1e-5)
    for column in ("image", "label", "predicted", "rank"):
        assert shared.predictions[column].tolist() == slow.predictions[column].tolist()
    np.testing.assert_allclose(shared.predictions["probability"], slow.predictions["probability"], atol=1e-5)


def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """Which views were computed, in order."""
    seen: list[tuple[str, int | None]] = []
    real = feature_cache.Features._compute

    def counting(self: feature_cache.Features, part: str, epoch: int | None) -> dict[str, np.ndarray]:
        seen.append((part, epoch))
        return real(self, part, epoch)

    monkeypatch.setattr(feature_cache.Features, "_compute", counting)
    return seen


def test_a_view_is_computed_once_for_all_heads(
    folder: Path, given: Pretrained, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = computed(monkeypatch)
    settings = {"finetune": "frozen", "epochs": 5, "augmentation": AUGMENTED}
    flat = tiny.trial(folder, pretrained=given, head=HEADS["flatten"], **settings)
    first = train.train_trial(flat, folder)
    clean = [(part, None) for part in feature_cache.PARTS]
    assert seen == [*clean, *(("train", epoch) for epoch in range(1, 6))]
    for other in ({"head": HEADS["linear"]}, {"learning_rate": 0.3}, {"batch_size": 4}):  # pooled: made beside the maps
        train.train_trial(tiny.trial(folder, pretrained=given, **{**settings, **other}), folder)
    assert len(seen) == 8
    again = train.train_trial(flat, folder)
    pd.testing.assert_frame_equal(numbers(first), numbers(again), check_exact=True)
    train.train_trial(replace(flat, seed=2, held={"order": 1}), folder)
    assert len(seen) == 8  # the same order, the same views
    train.train_trial(tiny.trial(folder, seed=2, pretrained=given, **settings), folder)
    assert len(seen) > 8
    assert [view for view in seen[8:] if view[1] is None] == []  # clean views are no seed's


def test_what_changes_features_changes_their_key(folder: Path, given: Pretrained) -> None:
    base = tiny.trial(folder, pretrained=given, finetune="frozen")
    key = feature_cache._key(base, RAW)
    assert feature_cache._key(base, given.normalisation) != key  # type: ignore[arg-type]
    assert feature_cache._key(replace(base, pretrained=replace(given, digest="0" * 64)), RAW) != key
    assert feature_cache._key(replace(base, facts=replace(base.facts, fingerprint="0" * 64)), RAW) != key
    assert feature_cache._key(replace(base, execution=base.execution.model_copy(update={"threads": 2})), RAW) != key
    assert feature_cache._key(replace(base, seed=5, arm="other"), RAW) == key


def test_two_workers_share_the_views(folder: Path, given: Pretrained, own_cache: Path, monkeypatch: Any) -> None:
    """What one is at, the other leaves to it, and goes on with the next one."""
    asked = tiny.trial(folder, pretrained=given, finetune="frozen", epochs=4, augmentation=AUGMENTED)
    data = load_dataset(folder)
    lookers = [feature_cache.Features(asked, data, RAW) for _ in range(2)]
    lookers[0]._make("test", None, wait=True)  # the graph is built
    seen = computed(monkeypatch)
    threads = [threading.Thread(target=one.prepare, args=(1,)) for one in lookers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, seen)) == sorted(map(str, set(seen)))  # none twice
    assert len(seen) == 2 + 4


def test_the_oldest_features_go_first_and_are_made_again(
    folder: Path, given: Pretrained, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"finetune": "frozen", "epochs": 4, "augmentation": AUGMENTED}
    asked = tiny.trial(folder, pretrained=given, **settings)
    whole = train.train_trial(asked, folder)
    size = sum(path.stat().st_size for path in own_cache.rglob("*.npy"))
    monkeypatch.setenv("RESFLOW_FEATURES_GB", str(size / 2 / 1e9))
    feature_cache.evict()
    assert sum(path.stat().st_size for path in own_cache.rglob("*.npy")) <= size / 2
    again = train.train_trial(asked, folder)
    pd.testing.assert_frame_equal(numbers(whole), numbers(again), check_exact=True)
    assert sum(path.stat().st_size for path in own_cache.rglob("*.npy")) <= size / 2


@pytest.mark.parametrize(
    "damage", ["a bit of an array", "a bit of a header", "cut", "of an older resflow", "a pipe", "none"]
)
def test_features_that_are_not_what_was_written_are_made_anew(
    folder: Path, given: Pretrained, own_cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    asked = tiny.trial(folder, pretrained=given, finetune="frozen")
    whole = train.train_trial(asked, folder)
    files = {path: path.read_bytes() for path in own_cache.rglob("*.npy")}
    assert len(files) == len(feature_cache.PARTS)
    for path, content in files.items():
        changed = bytearray(content)
        if damage.startswith("a bit"):
            changed[200 if "array" in damage else 20] ^= 0x40
        elif damage != "none":
            del changed[-feature_cache.SEAL - (damage == "cut") :]
        path.write_bytes(changed)
        if damage == "a pipe":
            path.unlink()
            os.mkfifo(path)
    seen = computed(monkeypatch)
    again = train.train_trial(asked, folder)
    pd.testing.assert_frame_equal(numbers(whole), numbers(again), check_exact=True)
    assert len(seen) == (0 if damage == "none" else len(feature_cache.PARTS))
    assert {path: path.read_bytes() for path in own_cache.rglob("*.npy")} == files


def test_features_are_compared_once_a_process(
    folder: Path, given: Pretrained, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tiny.trial(folder, pretrained=given, finetune="frozen", epochs=3)
    train.train_trial(asked, folder)
    monkeypatch.setattr(feature_cache, "_fits", lambda *_: pytest.fail("compared again"))
    train.train_trial(asked, folder)


def test_a_full_disk_is_a_failed_record_with_advice(
    folder: Path, given: Pretrained, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "_write", full)
    record = train.train_trial(tiny.trial(folder, pretrained=given, finetune="frozen"), folder).record
    assert record.status == "failed"
    assert re.search("No space left.*RESFLOW_FEATURES_GB", record.reason)


class Clock:
    """A clock that stands still but for what is told to take time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slow(self, function: Any, seconds: float) -> Any:
        def slower(*arguments: Any, **named: Any) -> Any:
            self.now += seconds
            return function(*arguments, **named)

        return slower


OWN, WAIT, GRAPH, VIEW = 1.0, 16.0, 64.0, 1024.0  # seconds by the clock


@pytest.fixture
def clock(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time passes where a trial starts, waits for a lock, builds its graph, and computes a view."""
    still = Clock()
    for place, name, seconds in (
        (Learner, "reset", OWN),
        (feature_cache.FileLock, "acquire", WAIT),
        (learner, "build_head", GRAPH),
        (feature_cache.Features, "_compute", VIEW),
    ):
        monkeypatch.setattr(place, name, still.slow(getattr(place, name), seconds))
    monkeypatch.setattr(time, "perf_counter", still)
    forget_graphs()
    return still


def as_another_process() -> None:
    """Forget what this one has in memory."""
    forget_graphs()
    feature_cache._backbones.clear()
    feature_cache._believed.clear()


AUGMENTED_EPOCHS = {"finetune": "frozen", "epochs": 5, "augmentation": AUGMENTED}
VIEWS_OF_A_SEED = 3 + 5  # the parts, and the training images in each epoch


def test_no_trial_is_charged_for_what_others_use(folder: Path, given: Pretrained, clock: Clock) -> None:
    rates: list[dict[str, Any]] = [{}, {"learning_rate": 0.3}, {"learning_rate": 0.2}, {"seed": 2}]
    outcomes = []
    for place, changed in enumerate(rates):
        if place == 2:
            as_another_process()
        outcomes.append(train.train_trial(tiny.trial(folder, pretrained=given, **AUGMENTED_EPOCHS, **changed), folder))
    records = [outcome.record for outcome in outcomes]
    assert [record.seconds for record in records] == [OWN] * 4
    assert all((outcome.history["seconds"] == 0).all() for outcome in outcomes)
    features, graphs = ([record.shared[kind] for record in records] for kind in ("features", "graph"))
    assert [cost.seconds for cost in features] == [VIEWS_OF_A_SEED * VIEW] * 4
    computed = [VIEWS_OF_A_SEED * VIEW, 0, 0, 5 * VIEW]  # clean ones are no seed's
    assert [cost.computed_seconds for cost in features] == computed
    assert [cost.seconds for cost in graphs] == [GRAPH] * 4
    assert [cost.computed_seconds for cost in graphs] == [GRAPH, 0, GRAPH, 0]
    assert len({cost.key for cost in features}) == 1
    assert records[1].shared_seconds == VIEWS_OF_A_SEED * VIEW + GRAPH
    assert sum(record.spent_seconds for record in records) == 4 * OWN + 2 * GRAPH + (VIEWS_OF_A_SEED + 5) * VIEW


def test_features_whose_cost_nobody_noted_have_an_unknown_one(
    folder: Path, given: Pretrained, own_cache: Path, clock: Clock
) -> None:
    asked = tiny.trial(folder, pretrained=given, finetune="frozen")
    train.train_trial(asked, folder)
    (noted,) = own_cache.rglob("validation.seconds")
    for content in (None, b"", b"soon", b"nan", b"-1", b"inf"):
        noted.unlink()
        if content is not None:
            noted.write_bytes(content)
        record = train.train_trial(asked, folder).record
        assert (record.shared["features"].seconds, record.seconds) == (None, OWN)
        assert np.isnan(record.shared_seconds)
        assert record.spent_seconds == OWN
        noted.touch()


@pytest.mark.parametrize("epoch", [2, 5])
def test_a_trial_that_goes_on_keeps_its_account(
    folder: Path, given: Pretrained, own_cache: Path, clock: Clock, tmp_path: Path, epoch: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)  # one every epoch
    asked = tiny.trial(folder, pretrained=given, **AUGMENTED_EPOCHS)
    storage = checkpoints.Storage(str(tmp_path / "checkpoints"))
    real = checkpoints.Checkpoints.save

    def save_and_die(self: Any, state: Any, arrays: Any) -> None:
        real(self, state, arrays)
        if state.last_epoch == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train_trial(asked, folder, storage=storage)
    as_another_process()
    record = train.train_trial(asked, folder, storage=storage).record
    assert record.seconds == 2 * OWN
    assert record.shared["graph"].computed_seconds == 2 * GRAPH
    features = record.shared["features"]
    assert features.seconds == features.computed_seconds == VIEWS_OF_A_SEED * VIEW


@pytest.fixture(autouse=True)
def images_where_they_are(folder: Path) -> Iterator[None]:
    assert cache.read_meta(folder)
    yield
    feature_cache._backbones.clear()


# What does not go together is told


TEXT = """\
name: mine
question: q
baseline: frozen
factors: {finetune: [scratch, frozen, full]}
network: {weights: net.safetensors}
"""


FOUR_OF_THREE = "recipe: {unfrozen_stages: 4}\nnetwork: {family: cifar, depth: 20, "


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network: {weights: net.safetensors}": ""}, "arm frozen: finetune frozen .*needs pretrained weights"),
        ({"[scratch, frozen, full]": "[frozen, partial]", "weights: net.safetensors": "depth: 18"}, "needs pretrained"),
        ({"network:": "data: {normalisation: weights}\nnetwork:"}, "arm scratch: normalisation weights .*loads none"),
        ({"network:": "recipe: {head_epochs: 90}\nnetwork:"}, "head_epochs 90 must be fewer than epochs 90"),
        ({"[scratch": "[partial, scratch", "network: {": FOUR_OF_THREE}, "unfrozen_stages 4: the cifar family has 3"),
    ],
)  # fmt: skip
def test_settings_that_contradict_are_told(changed: dict[str, str], message: str) -> None:
    text = TEXT
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(StudyError, match=message):
        resolve_study(parse_document(text, "mine.yaml"))


def test_scratch_beside_no_weights_is_no_other_arm() -> None:
    text = TEXT.replace("[scratch, frozen, full]", "[scratch, full]").replace("baseline: frozen", "baseline: full")
    resolve_study(parse_document(text, "mine.yaml"))
    with pytest.raises(StudyError, match="are the same trial"):
        resolve_study(parse_document(text.replace("network: {weights: net.safetensors}", ""), "mine.yaml"))
