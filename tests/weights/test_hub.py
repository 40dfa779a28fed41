"""Weights from a loopback server that speaks the Hugging Face hub's protocol and fails on demand."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.public_nets import FIXTURES

from resflow.errors import MissingExtraError, WeightsError
from resflow.weights import load

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install '.[train]'")
constants = importlib.import_module("huggingface_hub.constants")

FIRST, SECOND = "1" * 40, "2" * 40
CONTENT = (FIXTURES / "thin_resnet18.safetensors").read_bytes()  # the hub's file is the same net, 32 times as wide
OTHER = (FIXTURES / "thin_resnet34.safetensors").read_bytes()
PREFIX = "/timm/resnet18.tv_in1k/resolve/"


class Hub(ThreadingHTTPServer):
    """One repository: `commits` maps a revision to the file's content; `main` is the newest.

    A large file is, as on the hub, a redirect to another host that carries all that is said of the file.
    `faults` change the answers: a status for the first request, `digest`, `short`, `cut`, `plain`, `foreign`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits, self.main = {FIRST: CONTENT, SECOND: OTHER}, FIRST
        self.faults: set[str] = set()
        self.asked: list[tuple[str, str]] = []  # method and revision of each request to the hub itself
        self.sent = 0  # bytes without an end
        self.served: list[str] = []  # the Range of each request for the content
        self.agents: set[str] = set()
        self.tokens: dict[str, set[str]] = {"hub": set(), "elsewhere": set()}  # that came, by the host that was asked

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.agents.add(self.headers.get("User-Agent", ""))
        host = "elsewhere" if self.path.startswith("/cdn/") else "hub"
        self.server.tokens[host].add(self.headers.get("Authorization", ""))
        if self.path.startswith("/cdn/"):
            return self._content(self.server.commits[self.path.split("/")[2]])
        revision = self.path.removeprefix(PREFIX).partition("/")[0]
        self.server.asked.append((self.command, revision))
        status = next((fault for fault in self.server.faults if fault.isdigit()), None)
        commit = self.server.main if revision == "main" else revision
        if status or not self.path.startswith(PREFIX) or commit not in self.server.commits:
            return self._head(int(status or 404), {"Content-Length": "0"})
        content = self.server.commits[commit]
        said = {} if "foreign" in self.server.faults else {"X-Repo-Commit": commit}
        if "plain" in self.server.faults:  # no LFS file: no redirect, and an ETag that is no sha256
            return self._content(content, {**said, "ETag": '"abc"'})
        named = OTHER if "digest" in self.server.faults else content
        said |= {
            "X-Linked-Etag": f'"{hashlib.sha256(named).hexdigest()}"',
            "X-Linked-Size": str(2**40 if "huge" in self.server.faults else len(content)),
            "ETag": '"of the redirect"',
            "Location": f"http://localhost:{self.server.server_port}/cdn/{commit}/",
            "Content-Length": "0",
        }
        return self._head(302, said)

    def _content(self, content: bytes, said: dict[str, str] | None = None) -> None:
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
        if self.command == "GET":
            self.server.served.append(wanted)
            if "endless" in self.server.faults:
                self._go_on_for_ever()
                return
        if "short" in self.server.faults:
            content = content[: len(content) // 2]
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self._head(206 if start else 200, {**(said or {}), **span, "Content-Length": str(len(content) - start)})
        if self.command == "GET":
            cut = "cut" in self.server.faults and not start
            self.wfile.write(content[start : len(content) // 2 if cut else None])
            self.close_connection = cut

    def _go_on_for_ever(self) -> None:
        self._head(200, {"Connection": "close"})
        with suppress(OSError):  # the other end has had enough
            while True:
                self.wfile.write(bytes(2**20))
                self.server.sent += 2**20

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    _endpoint(monkeypatch, server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """HF_ENDPOINT is read when huggingface_hub is imported, which was before the server was there."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def find() -> load.Pretrained:
    return load.find_weights("imagenet", "imagenet", 18)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights" / "timm--resnet18.tv_in1k"


# --- the first time, and ever after


def test_the_first_download_is_checked_noted_and_described(served: Hub, folder: Path) -> None:
    found = find()
    assert found.path == folder / "model.safetensors"
    assert found.path.read_bytes() == CONTENT
    assert found.origin == f"timm/resnet18.tv_in1k@{FIRST}"
    assert found.digest == hashlib.sha256(CONTENT).hexdigest()
    assert found.normalisation is not None
    assert found.normalisation.mean == pytest.approx((123.675, 116.28, 103.53))
    assert found.normalisation.deviation == pytest.approx((58.395, 57.12, 57.375))
    assert (found.stem_pool, found.variant) == ("both", "v1.5")
    assert json.loads((folder / "origin.json").read_bytes()) == {
        "repository": "timm/resnet18.tv_in1k",
        "revision": FIRST,
        "sha256": found.digest,
        "size": len(CONTENT),
    }
    assert len(served.served) == 1


def test_once_there_the_network_is_not_asked(served: Hub) -> None:
    first = find()
    served.asked.clear()
    assert find() == first
    assert served.asked == []


def test_offline_after_the_first_time(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find() == first


def test_a_repository_that_moved_on_is_asked_for_the_noted_commit(served: Hub) -> None:
    first = find()
    served.main = SECOND
    assert find() == first
    first.path.unlink()
    served.asked.clear()
    assert find() == first
    assert {revision for _, revision in served.asked} == {FIRST}


def test_a_noted_commit_is_held_to_its_digest(served: Hub) -> None:
    first = find()
    first.path.unlink()
    served.commits[FIRST] = OTHER
    with pytest.raises(WeightsError, match=r"what arrived for .*@1{40} is not the announced file: expected 32,"):
        find()
    assert not first.path.exists()


def test_many_at_a_time_download_once(served: Hub) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find(), range(4)))
    assert len(set(found)) == 1
    assert len(served.served) == 1


def test_a_hub_without_a_digest_is_told_and_none_is_invented(
    served: Hub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served.faults = {"plain"}
    with caplog.at_level(logging.WARNING, "resflow.weights"):
        first = find()
    assert f"the hub gives no sha256 for timm/resnet18.tv_in1k@{FIRST}" in caplog.text
    assert json.loads((folder / "origin.json").read_bytes())["sha256"] is None
    assert first.digest == hashlib.sha256(CONTENT).hexdigest()
    assert find() == first
    first.path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="Remove it and run the same command again"):
        find()


@pytest.mark.parametrize("damaged", [CONTENT[:-1], bytes(len(CONTENT)), OTHER], ids=["short", "zeros", "other"])
def test_a_file_that_was_changed_on_disk_is_told_until_it_is_removed(served: Hub, damaged: bytes) -> None:
    first = find()
    first.path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"is no longer the file timm/resnet18\.tv_in1k@1{40} .*Remove it"):
        find()
    first.path.unlink()
    assert find() == first


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"repository": 1, "revision": 2, "sha256": 3, "size": 4}'])
def test_a_damaged_note_is_told(note: str, served: Hub, folder: Path) -> None:
    find()
    (folder / "origin.json").write_text(note)
    with pytest.raises(WeightsError, match=r"origin\.json does not say .*Remove the folder"):
        find()


# --- what can go wrong


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("digest", "is not the announced file: expected sha256 .*It was not kept"),
        ("short", r"cannot fetch .*should be of size [0-9]+ but has size [0-9]+"),
        ("404", "cannot fetch .*it answered 404"),
        ("401", "cannot fetch .*it answered 401"),
        ("500", "cannot fetch .*it answered 500"),
        ("foreign", "cannot fetch .*it names no commit"),
        ("huge", "cannot fetch .*it announces 1,099,511,627,776 bytes, and at most 1,073,741,824 are taken"),
        ("endless", "cannot fetch .*it sends more than the 1,.* bytes that are expected"),
    ],
)
def test_a_failed_download_is_told_and_leaves_nothing_behind(fault: str, said: str, served: Hub, folder: Path) -> None:
    served.faults = {fault}
    with pytest.raises(WeightsError, match=f"{said}.*weights: FILE.*HF_ENDPOINT"):
        find()
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left <= {"download.lock"}
    served.faults = set()
    assert find().digest == hashlib.sha256(CONTENT).hexdigest()


def test_a_transfer_without_an_end_is_ended(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**18)
    served.faults = {"endless"}
    with pytest.raises(WeightsError, match="more than"):
        find()
    assert served.sent < 32 * 2**20  # what was announced, a megabyte, and what lies in sockets' buffers


def _with_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)


def test_a_token_is_not_sent_to_another_endpoint(
    served: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _with_token(monkeypatch)
    with caplog.at_level(logging.DEBUG):
        find()
    assert served.tokens == {"hub": {""}, "elsewhere": {""}}
    assert "hf_secret" not in caplog.text


def test_a_token_is_sent_to_the_hub_and_to_no_host_that_it_redirects_to(
    served: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _with_token(monkeypatch)
    monkeypatch.setattr("resflow.weights.hub.OFFICIAL", served.url)
    with caplog.at_level(logging.DEBUG):
        find()
    assert served.tokens == {"hub": {"Bearer hf_secret"}, "elsewhere": {""}}
    assert "hf_secret" not in caplog.text


def test_a_connection_that_is_cut_goes_on_where_it_stopped(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what a cut may lose
    served.faults = {"cut"}
    assert find().digest == hashlib.sha256(CONTENT).hexdigest()
    assert served.served == ["", f"bytes={len(CONTENT) // 2 // 1000 * 1000}-"]


def test_a_server_that_is_down_is_told(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    _endpoint(monkeypatch, f"http://someone:secret@127.0.0.1:{port}")
    with pytest.raises(WeightsError, match=r"Connection refused.*weights: FILE.*HF_ENDPOINT") as raised:
        find()
    assert "secret" not in str(raised.value)


def test_a_host_without_a_name_is_told(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    _endpoint(monkeypatch, "http://hub.invalid")
    with pytest.raises(WeightsError, match="Name or service not known"):
        find()


def test_offline_the_first_time(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE forbids it.*download model\.safetensors of timm/resnet18"):
        find()
    assert served.asked == []


def test_a_full_disk_is_told(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "hf_hub_download", full)
    with pytest.raises(WeightsError, match=r"the disk is full.*RESFLOW_CACHE"):
        find()


def test_a_cache_that_cannot_be_made_is_told(served: Hub, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    with pytest.raises(WeightsError, match="cannot store the weights"):
        find()


@pytest.mark.parametrize(("family", "depth"), [("imagenet", 152), ("cifar", 20), ("cifar", 18)])
def test_networks_without_such_weights_are_told(family: str, depth: int, served: Hub) -> None:
    with pytest.raises(WeightsError, match=rf"no ImageNet weights for {family} {depth}: .* 18, 34, 50, 101.*FILE"):
        load.find_weights("imagenet", family, depth)
    assert served.asked == []


def test_without_the_hubs_library_it_is_named(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"needs huggingface_hub.*resflow\[train\]"):
        find()


# --- in a process of its own, as users have it


def test_the_environments_settings_hold_and_no_training_stack_is_needed(served: Hub, tmp_path: Path) -> None:
    code = """
import sys
from resflow.weights import load as weights
print(weights.find_weights("imagenet", "imagenet", 18).origin)
assert not {"tensorflow", "keras", "torch", "ray"} & set(sys.modules)
"""
    origin = f"timm/resnet18.tv_in1k@{FIRST}"
    assert origin in _python(code, HF_ENDPOINT=served.url, HF_HOME=str(tmp_path / "home"))
    assert served.agents
    assert not any(word in agent for agent in served.agents for word in ("torch/", "tensorflow/", "agent/"))
    served.asked.clear()
    assert origin in _python(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert served.asked == []


def _python(code: str, **environment: str) -> Any:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment})
    assert asked.returncode == 0, asked.stderr
    return asked.stdout
