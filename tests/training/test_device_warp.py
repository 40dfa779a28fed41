"""The views that a graph computes are those that the host makes, to a grey level in hardly any pixel."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from resflow.data import pipeline
from resflow.study.settings import Augmentation
from resflow.training.device_warp import warp

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
KINDS = {
    "flip": Augmentation(flip=True),
    "rotation": Augmentation(rotation=30),
    "shear": Augmentation(shear=0.2),
    "zoom": Augmentation(zoom=0.2),
    "crop_padding": Augmentation(crop_padding=4),
    "all": Augmentation(flip=True, rotation=30, shear=0.2, zoom=0.2, crop_padding=4),
    "wildest": Augmentation(flip=True, rotation=180, shear=0.9, zoom=0.9, crop_padding=64),
}
WHOLE_PIXELS = ("flip", "crop_padding")  # nothing lies between two pixels: not a bit may differ
compiled = {jit: tf.function(warp, jit_compile=jit) for jit in (False, True)}


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Images in which no pixel is like the next: nothing is harder to interpolate alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("size", [32, 64, 224])
def test_every_augmentation_is_the_hosts(size: int, jit: bool) -> None:
    images = noise(8, size)
    for kind, augmentation in KINDS.items():
        rows = pipeline.views(augmentation, 3, 1, len(images), size)
        expected, got = pipeline.transform(images, rows), compiled[jit](images, rows).numpy()
        assert got.dtype == np.float32
        away = np.abs(got - expected)
        assert np.mean(away <= 1) >= 0.999, kind
        assert np.mean(away == 0) >= (1 if kind in WHOLE_PIXELS else 0.999), kind


@given(st.integers(0, 2**32 - 1), st.integers(1, 99), st.sampled_from([16, 17, 33]), st.sampled_from(sorted(KINDS)))
@settings(max_examples=30, deadline=None)
def test_views_are_the_hosts_whatever_is_drawn(seed: int, epoch: int, size: int, kind: str) -> None:
    images = noise(4, size, seed)
    rows = pipeline.views(KINDS[kind], seed, epoch, len(images), size)
    away = np.abs(compiled[False](images, rows).numpy() - pipeline.transform(images, rows))
    assert np.mean(away <= 1) >= 0.999


def test_each_image_has_its_own_row() -> None:
    images = np.repeat(noise(1, 16), 5, axis=0)
    rows = pipeline.views(KINDS["all"], 1, 1, 5, 16)
    together = compiled[False](images, rows).numpy()
    alone = [compiled[False](images[i : i + 1], rows[i : i + 1]).numpy()[0] for i in range(5)]
    assert np.array_equal(together, alone)
    assert len({view.tobytes() for view in together}) == 5
