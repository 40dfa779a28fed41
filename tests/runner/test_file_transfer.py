"""Images and weights reach a machine that lacks them, whole or not at all. Ray's calls are made in this process."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import tiny

from resflow import workspace
from resflow.data.dataset import load_dataset
from resflow.errors import DataError
from resflow.runner import file_transfer
from resflow.weights import files
from resflow.weights import load as weights

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")


class Here:
    """An actor whose methods run at once."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return getattr(self.actor, name)(*arguments)

        return SimpleNamespace(remote=remote)


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_transfer.ray, "get", lambda result: result)


@pytest.fixture
def folder() -> Path:
    return tiny.prepare()


def elsewhere(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    """Another machine: its cache has nothing."""
    monkeypatch.setenv("RESFLOW_CACHE", str(place))
    return place


def test_images_and_weights_are_fetched_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny.pretrained(tmp_path / "backbone.safetensors").path
    file.with_name(f"{file.name}.json").write_text('{"bn_eps": 1e-5}')
    given = weights.find_weights(str(file), "cifar", 8)
    trial = tiny.trial(folder, pretrained=given, finetune="frozen")
    actor = Here(file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder})))
    before = load_dataset(folder)
    monkeypatch.setattr(file_transfer, "CHUNK", 1000)
    monkeypatch.setattr(file_transfer, "_is_here", lambda weights: False)
    elsewhere(monkeypatch, tmp_path / "node")
    there, images = file_transfer.fetch_files(trial, folder, actor)
    after = load_dataset(images)
    assert images.is_relative_to(tmp_path / "node")
    assert (after.images == before.images).all()
    assert after.split_hash == before.split_hash
    assert there.pretrained is not None
    assert there.pretrained.path.is_relative_to(tmp_path / "node")
    assert files.digest(there.pretrained.path) == given.digest  # the text beside it came along
    assert (there.id, there.pretrained.origin) == (trial.id, given.origin)
    assert any(call[0] == "read_chunk" and call[-1] > 0 for call in actor.calls)
    actor.calls.clear()
    assert file_transfer.fetch_files(trial, folder, actor) == (there, images)
    assert actor.calls == []


def test_what_is_here_is_not_fetched(folder: Path, tmp_path: Path) -> None:
    given = tiny.pretrained(tmp_path / "backbone.safetensors")
    trial = tiny.trial(folder, pretrained=given, finetune="frozen")
    actor = Here(file_transfer.FileServer({}))
    assert file_transfer.fetch_files(trial, folder, actor) == (trial, folder)
    assert file_transfer.fetch_files(trial, folder, None) == (trial, folder)
    assert actor.calls == []


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json", "digest.json"])
def test_what_a_node_has_and_is_damaged_is_fetched_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trial = tiny.trial(folder)
    actor = Here(file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder})))
    elsewhere(monkeypatch, tmp_path / "node")
    _, images = file_transfer.fetch_files(trial, folder, actor)
    content = bytearray((images / name).read_bytes())
    content[len(content) // 2] ^= 1
    (images / name).write_bytes(content)
    assert file_transfer.fetch_files(trial, folder, actor) == (trial, images)
    assert (images / name).read_bytes() == (folder / name).read_bytes()


def test_weights_that_a_node_has_and_are_damaged_are_fetched_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny.pretrained(tmp_path / "backbone.safetensors").path
    given = weights.find_weights(str(file), "cifar", 8)
    trial = tiny.trial(folder, pretrained=given, finetune="frozen")
    actor = Here(file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder})))
    content = file.read_bytes()
    elsewhere(monkeypatch, tmp_path / "node")
    monkeypatch.setattr(file_transfer, "_is_here", lambda weights: False)  # a node does not see the driver's files
    there, _ = file_transfer.fetch_files(trial, folder, actor)
    assert there.pretrained is not None
    there.pretrained.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    file_transfer.fetch_files(trial, folder, actor)
    assert there.pretrained.path.read_bytes() == content


def test_no_other_file_is_sent(folder: Path) -> None:
    trial = tiny.trial(folder)
    actor = file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder}))
    (parcel,) = actor.parcels
    for request in ((parcel, "../../secret"), ("data/other", "images.npy")):
        with pytest.raises(KeyError):
            actor.read_chunk(*request, 0)


def test_a_file_that_changes_on_its_way_is_told_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = tiny.trial(folder)
    actor = file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder}))
    actor.digests = dict.fromkeys(next(iter(actor.parcels.values())).values(), "0" * 64)
    node = elsewhere(monkeypatch, tmp_path / "node")
    with pytest.raises(DataError, match="changed while it was sent"):
        file_transfer.fetch_files(trial, folder, Here(actor))
    own = (".lock", workspace.CACHE_TAG)
    assert [path.name for path in (node / "data").iterdir() if not path.name.endswith(own)] == []


def test_two_processes_of_a_node_fetch_it_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tiny.trial(folder)
    actor = Here(file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder})))
    elsewhere(monkeypatch, tmp_path / "node")
    both = [threading.Thread(target=file_transfer.fetch_files, args=(trial, folder, actor)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sum(call[0] == "list_digests" for call in actor.calls) == 1


def test_a_full_disk_of_a_node_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tiny.trial(folder)
    actor = Here(file_transfer.FileServer(file_transfer.list_parcels([trial], {trial.id: folder})))
    (tmp_path / "node").write_text("no folder can be made of this")
    elsewhere(monkeypatch, tmp_path / "node")
    with pytest.raises(DataError, match="cannot store what the driver sends of data/"):
        file_transfer.fetch_files(trial, folder, actor)
    assert workspace.cache() == tmp_path / "node"
