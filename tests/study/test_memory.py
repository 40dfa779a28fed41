"""Estimates of device memory: held against what Keras' networks and optimisers hold, and against common sense."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow.models.build import build_network
from resflow.quiet_tensorflow import tf
from resflow.study.memory import EVALUATION_BATCH, FLOAT, HALF, estimate_memory
from resflow.study.settings import Augmentation, Execution
from resflow.study.trial import Trial
from resflow.training.optimizers import make_optimizer

NETS = [
    {"family": "cifar", "depth": 20, "shortcut": "zero_pad", "variant": "v1.5", "image_size": 32},
    {"family": "cifar", "depth": 20, "shortcut": "none", "variant": "v2", "image_size": 32},
    {"family": "imagenet", "depth": 18, "shortcut": "projection", "variant": "v1.5", "image_size": 64},
    {"family": "imagenet", "depth": 50, "shortcut": "projection", "variant": "v1.5", "image_size": 96},
    {"family": "imagenet", "depth": 50, "shortcut": "projection_all", "variant": "v2", "image_size": 64},
]


@cache
def _folder() -> Path:
    return tiny.prepare()


def make(precision: Any = "float32", **settings: Any) -> Trial:
    return tiny.trial(_folder(), execution=Execution(device="gpu", precision=precision), **settings)


def _network(trial: Trial) -> Any:
    return build_network(trial.architecture, trial.data.image_size, trial.classes)


def _kept_for_the_way_back(trial: Trial) -> int:
    """The bytes of maps that TensorFlow's forward pass hands to its backward pass."""
    model, size, batch = _network(trial), trial.data.image_size, trial.recipe.batch_size
    forward = tf.function(lambda images: model(images, training=True))
    concrete = forward.get_concrete_function(tf.TensorSpec((batch, size, size, 3)))
    concrete._delayed_rewrite_functions.forward_backward()  # no public name for it
    ((there, _),) = concrete._delayed_rewrite_functions._cached_function_pairs.values()
    tensors = {id(tensor): tensor for tensor in there.graph.outputs}.values()
    return sum(math.prod(t.shape) * t.dtype.size for t in tensors if t.shape.rank == 4 and t.shape[0] == batch)


@pytest.mark.parametrize("net", NETS)
def test_activations_are_what_tensorflow_keeps_within_a_twentieth(net: dict[str, Any]) -> None:
    trial = make(width=0.25, batch_size=8, **net)
    assert estimate_memory(trial).activations == pytest.approx(_kept_for_the_way_back(trial), rel=0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_weights_and_slots_are_those_of_keras(optimizer: str) -> None:
    trial = make(optimizer=optimizer, **NETS[2])
    model = _network(trial)
    keras_optimizer = make_optimizer(optimizer, 0.9, 1.0, frozenset())
    keras_optimizer.build(model.trainable_variables)
    slots = sum(v.shape.num_elements() for v in keras_optimizer.variables if len(v.shape))
    memory = estimate_memory(trial)
    assert memory.weights == FLOAT * sum(v.shape.num_elements() for v in model.variables)
    assert memory.gradients == FLOAT * sum(v.shape.num_elements() for v in model.trainable_variables)
    assert memory.slots == FLOAT * slots


def test_the_largest_map_is_the_networks() -> None:
    for net in NETS:
        trial = make(**net)
        largest = max(s[1] * s[2] * s[3] for layer in _network(trial).layers[1:] if len(s := layer.output.shape) == 4)
        memory = estimate_memory(trial)
        assert memory.transient == 2 * FLOAT * trial.recipe.batch_size * largest
        assert memory.evaluation > 3 * FLOAT * EVALUATION_BATCH * largest


SIZES = st.sampled_from([32, 64, 96, 224])
WIDTHS = st.sampled_from([0.25, 0.5, 1.0, 2.0])


@given(
    net=st.sampled_from(NETS),
    batch=st.tuples(st.integers(1, 512), st.integers(1, 512)),
    width=st.tuples(WIDTHS, WIDTHS),
    size=st.tuples(SIZES, SIZES),
)
def test_more_of_anything_takes_no_less(net: dict[str, Any], batch: Any, width: Any, size: Any) -> None:
    def peak(pick: Any) -> int:
        settings = {"batch_size": pick(batch), "width": pick(width), "image_size": pick(size), "stem": "imagenet"}
        return estimate_memory(make(**{**net, **settings})).peak

    assert peak(min) <= peak(max)


@given(net=st.sampled_from(NETS), stages=st.integers(1, 3), batch=st.integers(1, 256))
def test_what_is_frozen_keeps_nothing(net: dict[str, Any], stages: int, batch: int) -> None:
    trial = make(batch_size=batch, **net)

    def memory(**recipe: Any) -> Any:
        return estimate_memory(replace(trial, recipe=trial.recipe.model_copy(update=recipe)))

    full, partial, frozen = (
        memory(),
        memory(finetune="partial", unfrozen_stages=stages),
        memory(finetune="frozen"),
    )
    for part in ("activations", "gradients", "slots"):
        assert getattr(frozen, part) < getattr(partial, part) < getattr(full, part)
    assert frozen.weights == partial.weights == full.weights
    assert frozen.peak <= partial.peak <= full.peak


def test_half_precision_halves_maps_and_no_gradient() -> None:
    whole, half = (estimate_memory(make(precision, **NETS[2])) for precision in ("float32", "mixed_bfloat16"))
    assert half.transient == whole.transient // 2
    assert half.gradients == whole.gradients
    assert half.weights - whole.weights == HALF * make(**NETS[2]).parameters


def test_images_that_stay_on_the_device_are_counted() -> None:
    host = make(**NETS[0])
    device = replace(host, execution=host.execution.model_copy(update={"inputs": "device"}))
    memory = estimate_memory(device)
    assert memory.data == sum(host.counts) * 32 * 32 * 3
    assert memory.peak - estimate_memory(host).peak == memory.data
    flipped = device.recipe.model_copy(update={"augmentation": Augmentation(flip=True)})
    warped = estimate_memory(replace(device, recipe=flipped)).data - memory.data
    assert warped == 28 * host.recipe.batch_size * 32 * 32 * 3
