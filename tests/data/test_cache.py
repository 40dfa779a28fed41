"""The decoded cache: whole or not at all, built once, and plain about what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oxford_layout import drawn

from resflow import workspace
from resflow.data import cache
from resflow.data.dataset import data_fingerprint, load_dataset
from resflow.data.decode import Decoded
from resflow.errors import DataError

SIZE, COUNT = 8, 12
NAMES = [f"{i}.png" for i in range(COUNT)]
PARTS = ["train", "validation", "test"] * 4


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def contents(order: list[int] | None = None, before: Callable[[int], None] = lambda i: None) -> cache.Contents:
    def images() -> Iterator[Decoded]:
        for i in order or range(COUNT):
            before(i)
            yield Decoded.drawn(NAMES[i], drawn(i, SIZE, SIZE))

    labels = [i % 2 for i in range(COUNT)]
    return cache.Contents(NAMES, labels, ("a", "b"), images(), {"given": PARTS}, ["LICENSE.txt"])


def build(make: Callable[[], cache.Contents] = contents, identity: str = "1") -> Path:
    return cache.build("drawn", identity, SIZE, make, progress=False)


def leftovers(own_cache: Path) -> list[str]:
    own = (".lock", ".TAG")
    return [path.name for path in (own_cache / "data").iterdir() if path.suffix not in own]


def test_what_has_no_groups_is_written_as_before_there_were_any_and_groups_come_back() -> None:
    assert "groups" not in json.loads((build() / "meta.json").read_text())
    grouped = replace(contents(), groups=["plant"] * COUNT)
    folder = build(lambda: grouped, "2")
    assert cache.is_whole(folder)
    assert cache.read_meta(folder).groups == ["plant"] * COUNT


@given(st.integers(0, COUNT + 2))
def test_decoding_ends_when_its_time_is_spent_and_leaves_nothing(tmp_path_factory: Any, allowed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        asked = iter(range(10 * COUNT))

        def spent() -> str:
            return "the time is spent" if next(asked) >= allowed else ""

        make = partial(cache.build, "drawn", "1", SIZE, contents, progress=False)
        if allowed >= COUNT:
            assert load_dataset(make(spent=spent)).images.shape[0] == COUNT
        else:
            with pytest.raises(
                DataError, match=rf"the time is spent, and {allowed} of {COUNT} photos .*--image-size 8"
            ):
                make(spent=spent)
            assert leftovers(workspace.cache()) == []
        assert cache.is_whole(make())
        assert cache.is_whole(make(spent=lambda: "no time at all"))  # what is decoded takes none


@pytest.mark.parametrize("order", [None, list(reversed(range(COUNT)))])
def test_images_come_back_whatever_their_order(order: list[int] | None) -> None:
    data = load_dataset(build(lambda: contents(order)))
    assert np.array_equal(data.images, np.stack([drawn(i, SIZE, SIZE) for i in range(COUNT)]))
    assert isinstance(data.images, np.memmap)
    assert not data.images.flags.writeable
    assert data.labels.dtype == data.train.dtype == np.int64
    assert data.labels.tolist() == [i % 2 for i in range(COUNT)]
    assert (data.names, data.class_names, data.classes) == (tuple(NAMES), ("a", "b"), 2)
    assert (data.train % 3 == 0).all()
    assert (data.test % 3 == 2).all()
    assert len(data.train) + len(data.validation) + len(data.test) == COUNT


def test_key_changes_with_identity_size_and_source() -> None:
    folders = {
        cache.folder_of("a", "1", 8), cache.folder_of("a", "2", 8),
        cache.folder_of("a", "1", 9), cache.folder_of("b", "1", 8),
    }  # fmt: skip
    assert len(folders) == 4
    assert cache.folder_of("folder:../x y", "1", 8).parent == workspace.cache(workspace.IMAGES)


def test_built_once_by_many() -> None:
    calls = []

    def slow() -> cache.Contents:
        calls.append(1)
        time.sleep(0.2)
        return contents()

    threads = [threading.Thread(target=build, args=(slow,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    build(slow)
    assert calls == [1]


def test_nothing_stays_of_a_build_that_failed(own_cache: Path) -> None:
    def fail(i: int) -> None:
        if i == 5:
            raise DataError("bad photo")

    with pytest.raises(DataError, match="bad photo"):
        build(lambda: contents(before=fail))
    assert leftovers(own_cache) == []
    assert load_dataset(build()).classes == 2


def test_draft_of_a_killed_process_is_swept_away(own_cache: Path) -> None:
    final = cache.folder_of("drawn", "1", SIZE)
    (final.parent / f".{final.name}.deadbeef").mkdir(parents=True)
    build()
    assert leftovers(own_cache) == [final.name]


def test_full_disk_is_one_clear_message(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full"):
        build()
    assert leftovers(own_cache) == []


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="RESFLOW_CACHE"):
        build()


def test_incomplete_source_is_a_bug_not_a_cache() -> None:
    with pytest.raises(ValueError, match="1 images"):
        build(lambda: contents(list(range(COUNT - 1))))


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "meta.json"])
def test_damaged_cache_says_which_folder_to_remove(file: str) -> None:
    folder = build()
    content = (folder / file).read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"{}"):
        (folder / file).write_bytes(damaged)
        with pytest.raises(DataError, match="Remove that folder"):
            load_dataset(folder)
    (folder / file).unlink()
    with pytest.raises(DataError, match="Remove that folder"):
        load_dataset(folder)


def test_unknown_split_names_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'given'"):
        load_dataset(build(), "givn")


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_meta(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        fields = json.loads((folder / "meta.json").read_text())
        change(fields)
        (folder / "meta.json").write_text(json.dumps(fields))

    return edit


def flip(name: str, place: float) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        (folder / name).write_bytes(content)

    return damage


def swap_labels(folder: Path) -> None:
    np.save(folder / "labels.npy", 1 - np.load(folder / "labels.npy"))


def another_folder(folder: Path) -> None:
    """A folder of other images of the same size, whole in itself, in the place of this one."""
    other = build(lambda: contents(), "2")
    for name in ("images.npy", "labels.npy", "meta.json", "digest.json"):
        (folder / name).write_bytes((other / name).read_bytes())


def link_out(folder: Path) -> None:
    (folder / "images.npy").rename(folder.parent / "elsewhere.npy")
    (folder / "images.npy").symlink_to(folder.parent / "elsewhere.npy")


def pipe(name: str) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return put


def rotate(values: list) -> None:
    values.append(values.pop(0))


DAMAGES = {
    **{f"a bit of {name} at {place}": flip(name, place) for name in ("images.npy", "labels.npy", "meta.json")
       for place in (0.1, 0.5, 1)},
    "labels swapped": swap_labels,
    "a name": edit_meta(lambda fields: fields["names"].__setitem__(0, "x.png")),
    "names in another order": edit_meta(lambda fields: rotate(fields["names"])),
    "class names in another order": edit_meta(lambda fields: rotate(fields["class_names"])),
    "a digest": edit_meta(lambda fields: fields["digests"].__setitem__(0, fields["digests"][1])),
    "a membership": edit_meta(lambda fields: rotate(fields["memberships"]["given"])),
    "a split's name": edit_meta(lambda fields: fields.update(splits=["x"], memberships={"x": PARTS})),
    "an original size": edit_meta(lambda fields: fields["originals"].__setitem__(0, [9, 9])),
    "no original sizes": edit_meta(lambda fields: fields.pop("originals")),
    "another folder": another_folder,
    "a link out": link_out,
    "no digest, as before there was one": lambda folder: (folder / "digest.json").unlink(),
    "a digest that is none": lambda folder: (folder / "digest.json").write_text('{"version": 1}'),
    **{f"a pipe for {name}": pipe(name) for name in ("images.npy", "labels.npy", "meta.json", "digest.json")},
    **{f"no {name}": lambda folder, name=name: (folder / name).unlink() for name in ("images.npy", "meta.json")},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_cache_that_is_not_what_was_written_is_made_anew_and_told_once(
    damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    folder = build()
    whole = state_of(folder)
    damage(folder)
    assert build() == folder
    assert state_of(folder) == whole
    (told,) = {record.getMessage() for record in caplog.records}
    assert "drawn" in told
    assert "made anew" in told


def test_whole_cache_is_read_once_a_process_and_never_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build()
    asked: list[str] = []
    find = cache.find_problem
    monkeypatch.setattr(cache, "find_problem", lambda *found: asked.append("x") or find(*found))
    for _ in range(3):
        build(lambda: pytest.fail("decoded again"))
    assert asked == ["x"]
    edit_meta(lambda fields: None)(folder)  # other spaces, the same meaning
    build(lambda: pytest.fail("decoded again"))
    assert asked == ["x", "x"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_meta_that_says_anything_is_read_or_one_message(data: st.DataObject) -> None:
    folder = build()
    whole = (folder / "meta.json").read_bytes()
    fields = json.loads(whole)
    try:
        for key in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)):
            if data.draw(st.booleans()):
                fields[key] = data.draw(json_values)
            elif isinstance(fields[key], list):
                fields[key] = fields[key][data.draw(st.integers(0, 3)) :]
            else:
                fields.pop(key)
        (folder / "meta.json").write_text(json.dumps(data.draw(st.sampled_from([fields, [fields], None, 5]))))
        with suppress(DataError):
            load_dataset(folder)
    finally:
        (folder / "meta.json").write_bytes(whole)


@given(st.sampled_from(["images.npy", "labels.npy"]), st.integers(0, 127), st.binary(min_size=1, max_size=9))
def test_array_whose_header_says_anything_is_read_or_one_message(name: str, where: int, damage: bytes) -> None:
    folder = build()
    whole = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(whole[:where] + damage + whole[where + len(damage) :])
        with suppress(DataError):
            load_dataset(folder)
    finally:
        (folder / name).write_bytes(whole)


class Drawn:
    name = "drawn"

    def __init__(self, identity: str, splits: tuple[str, ...]) -> None:
        self.splits, self._identity = splits, identity

    def identity(self) -> str:
        return self._identity

    def prepare(self, image_size: int, *, progress: bool = True) -> Path:
        raise AssertionError("a fingerprint decodes nothing")


def test_fingerprint_changes_with_what_a_trial_sees_and_with_nothing_else() -> None:
    given, drawn_split = Drawn("1", ("given", "stratified")), Drawn("1", ("stratified",))
    base = data_fingerprint(given, 8, "given", 0)
    assert len(base) == 64
    assert base == data_fingerprint(given, 8, "auto", 0) == data_fingerprint(given, 8, "given", 7)
    others = [
        data_fingerprint(Drawn("2", ("given",)), 8, "given", 0),
        data_fingerprint(given, 9, "given", 0),
        data_fingerprint(drawn_split, 8, "auto", 0),
        data_fingerprint(drawn_split, 8, "auto", 1),
    ]
    assert len({base, *others}) == 5
    with pytest.raises(DataError, match="split"):
        data_fingerprint(given, 8, "official", 0)
