"""Costs before anything runs: features that trials share are counted once, and their disk space is what files take."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from resflow import architectures
from resflow.study import costs
from resflow.study.pretrained import Normalisation, Pretrained
from resflow.study.settings import Augmentation, Execution, Head
from resflow.study.trial import Trial
from resflow.training import feature_cache, train

AUGMENTED = Augmentation(flip=True)
GIVEN = Pretrained(Path("x"), "a" * 64, "x", Normalisation((0, 0, 0), (1, 1, 1)), "both", None)


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


def trial(folder: Path, **changed: Any) -> Trial:
    return tiny.trial(folder, pretrained=GIVEN, **{"finetune": "frozen", **changed})


def backbone(one: Trial) -> int:
    return architectures.multiply_adds(one.architecture, one.data.image_size, 0)


def test_a_whole_network_trains_for_three_passes_and_is_evaluated(folder: Path) -> None:
    one = tiny.trial(folder, epochs=5)
    train_, validation, test = one.counts
    layers = 5 * (train_ // one.recipe.batch_size) * one.architecture.depth * costs.LAYER
    assert costs.estimate_work([one])[one.id] == one.multiply_adds * (5 * (4 * train_ + validation) + test) + layers
    slow = trial(folder, epochs=5, execution=Execution(device="cpu", jit=False, features=False))
    passes = 5 * (2 * train_ + validation) + test
    assert costs.estimate_work([slow])[slow.id] == slow.multiply_adds * passes + layers


def test_a_graph_is_built_once_an_arm_and_none_for_heads_on_features(folder: Path) -> None:
    whole = [tiny.trial(folder, seed=seed) for seed in (1, 2)]
    assert costs.estimate_graph_seconds(whole) == costs.GRAPH_SECONDS * whole[0].architecture.depth
    assert costs.estimate_graph_seconds([trial(folder)]) == 0


def test_seeds_that_share_their_order_share_views(folder: Path) -> None:
    one = trial(folder, epochs=5, augmentation=AUGMENTED)
    init, order = (replace(one, seed=2, held={held: 1}) for held in ("order", "init"))
    assert costs.feature_group(init) == costs.feature_group(one) != costs.feature_group(order)
    assert costs.feature_bytes([one, init]) == costs.feature_bytes([one]) < costs.feature_bytes([one, order])


def test_shared_features_are_counted_for_the_first_trial_alone(folder: Path) -> None:
    heads = [trial(folder, epochs=5, augmentation=AUGMENTED, head=Head(hidden=(n,))) for n in (4, 5, 6)]
    alone = [costs.estimate_work([one])[one.id] for one in heads]
    together = costs.estimate_work(heads)
    images = sum(heads[0].counts) + 5 * heads[0].counts[0]
    assert together[heads[0].id] == alone[0]
    for one, cost in zip(heads[1:], alone[1:], strict=True):
        assert cost - together[one.id] == pytest.approx(images * backbone(one))


def test_clean_views_are_shared_by_seeds_and_augmented_ones_are_not(folder: Path) -> None:
    clean = costs.estimate_work([trial(folder, seed=1), trial(folder, seed=2)])
    first, second = clean.values()
    assert second < first
    one, two = (trial(folder, seed=seed, augmentation=AUGMENTED, epochs=3) for seed in (1, 2))
    both = costs.estimate_work([one, two])
    assert both[one.id] - both[two.id] == pytest.approx(sum(one.counts) * backbone(one))  # the clean parts


def test_trials_of_one_backbone_and_seed_start_together(folder: Path) -> None:
    arms = [{"normalisation": how, "head": Head(hidden=(n,))} for how in ("raw", "dataset") for n in (4, 8)]
    trials = [trial(folder, seed=s, augmentation=AUGMENTED, **arm) for s in (1, 2) for arm in arms]
    trials.append(tiny.trial(folder))
    ordered = costs.sort_trials(trials)
    assert ordered[0] is trials[-1]  # what shares nothing goes first
    groups = [costs.feature_group(one) for one in ordered[1:]]
    assert sum(a != b for a, b in pairwise(groups)) == 3
    assert {one.id for one in ordered} == {one.id for one in trials}


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_bytes_are_those_of_the_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_weights = tiny.pretrained(tmp_path / "net.safetensors")
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path))
    feature_cache._backbones.clear()
    seldom = {"validation_views": "augmented", "evaluate_every": 2}  # views of epochs 2 and 3, and none of 1
    asked = [
        tiny.trial(folder, pretrained=given_weights, finetune="frozen", epochs=3, augmentation=AUGMENTED, **more)
        for more in ({"head": Head(pooling="flatten", hidden=(4,))}, seldom)
    ]
    for one in asked:
        assert train.train_trial(one, folder).record.status == "completed"
    stored = sum(np.load(path).nbytes for path in feature_cache.root().rglob("*.npy"))
    assert costs.feature_bytes(asked) == stored
    assert len(list(feature_cache.root().rglob("validation-*epoch*.pooled.npy"))) == 2
    feature_cache._backbones.clear()


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["raw", "dataset"]), st.integers(1, 9)), max_size=12),
    st.randoms(),
)
@settings(max_examples=25)
def test_the_sum_of_work_depends_on_no_order(drawn: list[tuple[int, str, int]], random: Any) -> None:
    folder = tiny.prepare()
    unique = dict.fromkeys(drawn)
    trials = [
        trial(folder, seed=seed, normalisation=how, head=Head(hidden=(width,)), augmentation=AUGMENTED)
        for seed, how, width in unique
    ]
    total = sum(costs.estimate_work(trials).values())
    random.shuffle(trials)
    assert sum(costs.estimate_work(trials).values()) == pytest.approx(total)
