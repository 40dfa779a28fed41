"""Order, views and batches: all a function of (seed, epoch, image), exact where they can be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support import tiny

from resflow.data import pipeline
from resflow.data.dataset import Dataset
from resflow.study.settings import Augmentation

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
EVERYTHING = Augmentation(flip=True, rotation=30, shear=0.2, zoom=0.2, crop_padding=4)
NEUTRAL = {"flip": False, "rotation": 0.0, "shear": 0.0, "zoom": 0.0, "crop_padding": 0}
seeds, epochs = st.integers(0, 2**32 - 1), st.integers(0, 1000)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tiny.dataset()


def batches(data: Dataset, augmentation: Augmentation, seed: int, epoch: int, **more: Any) -> list[tuple[Any, Any]]:
    asked = {"batch_size": 8, **more}
    return [(x.numpy(), y.numpy()) for x, y in pipeline.training_batches(data, augmentation, seed, epoch, **asked)]


def same(first: list[tuple[Any, Any]], second: list[tuple[Any, Any]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in pairs)


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_draws_change_with_seed_epoch_and_purpose() -> None:
    keys = [(1, 1, "order"), (2, 1, "order"), (1, 2, "order"), (1, 1, "views"), (2**32 - 1, 1, "order")]
    drawn = {key: pipeline.generator(*key).random(4).tobytes() for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert all(drawn[key] == pipeline.generator(*key).random(4).tobytes() for key in keys)


@given(seeds, epochs, st.integers(1, 300))
def test_order_is_a_permutation_of_seed_and_epoch(seed: int, epoch: int, images: int) -> None:
    order = pipeline.order(seed, epoch, images)
    assert sorted(order) == list(range(images))
    assert np.array_equal(order, pipeline.order(seed, epoch, images))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(pipeline.order(seed, epoch, 100)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def parts(rows: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Take views apart again: the mirror's sign, degrees, shear, scale and the shift in pixels."""
    a, b, e, c, d, f = rows.astype(np.float64).T[:6]
    mirror = np.sign(a * d - b * c)
    angle = np.arctan2(c * mirror, a * mirror)
    scale, centre = np.hypot(a, c), (size - 1) / 2
    return {
        "flip": mirror,
        "rotation": np.rad2deg(angle),
        "shear": (b * np.cos(angle) + d * np.sin(angle)) / scale,
        "zoom": scale,
        "crop_padding": np.stack([e - centre + (a + b) * centre, f - centre + (c + d) * centre]),
    }


@given(seeds, epochs, st.sets(st.sampled_from(sorted(NEUTRAL))), st.integers(16, 128))
@settings(max_examples=50)
def test_switching_one_transformation_leaves_the_draws_of_the_others(
    seed: int, epoch: int, switched_on: set[str], size: int
) -> None:
    some = EVERYTHING.model_copy(update={key: value for key, value in NEUTRAL.items() if key not in switched_on})
    every = parts(pipeline.views(EVERYTHING, seed, epoch, 50, size), size)
    rows = pipeline.views(some, seed, epoch, 50, size)
    if not switched_on:
        assert rows is None
        return
    here = parts(rows, size)
    for name, neutral in {"flip": 1, "rotation": 0, "shear": 0, "zoom": 1, "crop_padding": 0}.items():
        expected = every[name] if name in switched_on else np.full_like(every[name], neutral)
        np.testing.assert_allclose(here[name], expected, atol=2e-3)
    assert (np.abs(here["rotation"]) <= 30.001).all()
    assert (np.abs(here["shear"]) <= 0.2001).all()
    assert ((here["zoom"] > 1 / 1.2001) & (here["zoom"] < 1 / 0.7999)).all()
    assert (np.abs(here["crop_padding"]) < 4.01).all()


def test_flip_alone_mirrors_those_drawn_and_touches_no_other() -> None:
    images = pictures(400, 9)
    rows = pipeline.views(Augmentation(flip=True), 1, 2, 400, 9)
    mirrored = rows[:, 0] < 0
    assert 150 < mirrored.sum() < 250  # half of 400, five standard deviations
    expected = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    assert np.array_equal(pipeline.transform(images, rows), expected)


@pytest.mark.parametrize("size", [16, 17])
def test_crop_is_a_whole_shift_with_edges_repeated(size: int) -> None:
    images, padding = pictures(300, size), 3
    rows = pipeline.views(Augmentation(crop_padding=padding), 5, 1, 300, size)
    shifts = rows[:, [2, 5]]
    assert set(shifts.ravel()) == set(range(-padding, padding + 1))
    assert len({tuple(shift) for shift in shifts}) == (2 * padding + 1) ** 2  # x and y are drawn apart
    got = pipeline.transform(images, rows)
    for image, result, (x, y) in zip(images, got, shifts.astype(int) + padding, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="edge")
        assert np.array_equal(result, padded[y : y + size, x : x + size])


@pytest.mark.parametrize("augmentation", [Augmentation(rotation=25), EVERYTHING])
def test_views_equal_scipys_affine_transform(augmentation: Augmentation) -> None:
    """Rounded to the nearest grey level, and a little for float32 coordinates."""
    size = 33
    images = pictures(12, size)
    rows = pipeline.views(augmentation, 3, 1, 12, size)
    got = pipeline.transform(images, rows).astype(float)
    for image, result, (a, b, e, c, d, f) in zip(images, got, rows.astype(np.float64), strict=True):
        channels = [
            ndimage.affine_transform(image[..., k].astype(float), [[d, c], [b, a]], [f, e], order=1, mode="nearest")
            for k in range(3)
        ]
        difference = (np.stack(channels, axis=-1) - result)[4:-4, 4:-4]
        assert np.abs(difference).max() < 0.55
        assert abs(difference.mean()) < 0.05  # rounded, not cut off


def test_a_rotation_keeps_the_centre_and_turns_about_it() -> None:
    image = np.zeros((1, 33, 33, 3), np.uint8)
    image[0, 16, 16] = image[0, 16, 26] = 255
    for seed in range(50):  # a seed whose draw is close to a right angle
        rows = pipeline.views(Augmentation(rotation=180), seed, 1, 1, 33)
        degrees = parts(rows, 33)["rotation"][0]
        if abs(abs(degrees) - 90) < 3:
            break
    angle = np.deg2rad(degrees)
    got = pipeline.transform(image, rows)[0, ..., 0]
    assert got[16, 16] > 200
    y, x = round(16 - 10 * np.sin(angle)), round(16 + 10 * np.cos(angle))  # output -> input is the inverse turn
    assert got[y - 1 : y + 2, x - 1 : x + 2].max() > 60


def test_no_augmentation_leaves_the_bytes_alone(data: Dataset) -> None:
    assert pipeline.views(Augmentation(), 1, 1, 10, 16) is None
    order = data.train[pipeline.order(4, 2, len(data.train))]
    images, labels = (np.concatenate(part) for part in zip(*batches(data, Augmentation(), 4, 2), strict=True))
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.array_equal(images, data.images[order[: len(images)]])
    assert np.array_equal(labels, data.labels[order[: len(images)]])


def test_batches_have_one_size_and_hold_training_images_once(data: Dataset) -> None:
    got = batches(data, Augmentation(), 1, 1)
    assert [len(labels) for _, labels in got] == [8] * (len(data.train) // 8)
    place = {data.images[i].tobytes(): i for i in range(len(data.images))}
    seen = [place[image.tobytes()] for images, _ in got for image in images]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(data.train)


def test_an_image_keeps_its_view_whatever_the_batch_size(data: Dataset) -> None:
    order = pipeline.order(1, 3, len(data.train))
    rows = pipeline.views(EVERYTHING, 1, 3, len(data.train), 16)
    expected = pipeline.transform(np.asarray(data.images[data.train[order]]), rows[order])
    for size in (4, 7):
        images = np.concatenate([images for images, _ in batches(data, EVERYTHING, 1, 3, batch_size=size)])
        assert np.array_equal(images, expected[: len(images)])


@pytest.mark.parametrize("augmentation", [Augmentation(), EVERYTHING])
def test_batches_are_a_function_of_seed_and_epoch(data: Dataset, augmentation: Augmentation) -> None:
    third = batches(data, augmentation, 1, 3)
    for epoch in (1, 2):
        assert not same(batches(data, augmentation, 1, epoch), third)
    assert same(batches(data, augmentation, 1, 3), third)  # after other epochs, as for another arm
    assert not same(batches(data, augmentation, 2, 3), third)


def test_threads_do_not_change_a_byte(data: Dataset) -> None:
    for augmentation in (Augmentation(), EVERYTHING):
        one, *others = (batches(data, augmentation, 1, 1, threads=threads) for threads in (1, 2, 5))
        assert all(same(one, other) for other in others)


def test_batches_made_ahead_keep_their_order_and_stop_with_their_reader() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step

    assert list(pipeline.ahead(make, 11)) == list(range(11))
    assert list(pipeline.ahead(make, 0)) == []
    made.clear()
    some = pipeline.ahead(make, 1000)
    assert next(some) == 0
    some.close()
    assert len(made) <= 1 + pipeline.PREFETCH
    threads = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("resflow-input") for name in threads)


def test_a_batch_is_waited_for_only_where_it_is_not_ready() -> None:
    released, all_made, waits = threading.Event(), threading.Event(), []

    @contextmanager
    def waiting() -> Iterator[None]:
        waits.append(released.is_set())
        released.set()
        yield

    def make(step: int) -> int:
        assert released.wait(60)
        if step == pipeline.PREFETCH - 1:
            all_made.set()
        return step

    some = pipeline.ahead(make, pipeline.PREFETCH, waiting=waiting)
    assert next(some) == 0
    assert waits == [False]
    assert all_made.wait(60)
    assert [next(some), next(some)] == [1, 2]  # the thread may still be handing over the last one
    assert waits == [False]
    some.close()


def test_a_fault_of_the_input_reaches_its_reader() -> None:
    def make(step: int) -> int:
        return 1 // (2 - step)

    with pytest.raises(ZeroDivisionError):
        list(pipeline.ahead(make, 5))


def test_evaluation_keeps_the_order_and_pads_one_batch(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "EVALUATION_BATCH", 5)
    for part in (data.test, data.test[:5], data.test[::-1][:7]):
        got = [batch.numpy() for batch in pipeline.evaluation_batches(data, part)]
        assert {len(batch) for batch in got} == {5}
        assert len(got) == -(-len(part) // 5)
        assert np.array_equal(np.concatenate(got)[: len(part)], data.images[part])


def test_channel_statistics_are_numpys_over_the_training_images(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "EVALUATION_BATCH", 5)
    mean, deviation = pipeline.channel_statistics(data)
    train = data.images[data.train].astype(np.float64)
    assert mean.dtype == deviation.dtype == np.float32
    np.testing.assert_allclose(mean, train.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation, train.std((0, 1, 2)), rtol=1e-6)
    changed = np.array(data.images)
    changed[np.concatenate([data.validation, data.test])] = 0  # no leak from what is held out
    again = pipeline.channel_statistics(replace(data, images=changed))
    assert np.array_equal(again, (mean, deviation))


def test_a_channel_without_contrast_stays_finite(data: Dataset) -> None:
    images = np.array(data.images)
    images[..., 1] = 77
    mean, deviation = pipeline.channel_statistics(replace(data, images=images))
    assert mean[1] == 77
    assert deviation[1] == 1
