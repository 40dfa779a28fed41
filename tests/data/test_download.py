"""Downloads from a loopback server that serves the official layout and fails on demand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.oxford_layout import COUNT, make_layout

from resflow.data.dataset import load_dataset
from resflow.data.sources.download import CHUNK, Downloader
from resflow.data.sources.oxford import Oxford
from resflow.errors import DataError

ARCHIVE = "102flowers.tgz"
QUICK = Downloader(tries=3, pause=0.01, timeout=(0.5, 0.3), progress=False)


class Server(ThreadingHTTPServer):
    """Serves `files`; each request for the archive first takes its fault from `faults`, if one is left."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.ranges = files, [], True
        self.requests: list[tuple[str, str | None]] = []  # (file, Range) of each request
        self.stop = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/flowers"

    def asked(self, name: str) -> list[str | None]:
        return [wanted for file, wanted in self.requests if file == name]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        wanted = self.headers.get("Range")
        self.server.requests.append((name, wanted))
        fault = self.server.faults.pop(0) if name == ARCHIVE and self.server.faults else ""
        if fault.isdigit() or name not in self.server.files:
            self.send_response(int(fault or 404))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.server.files[name]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        if fault == "wrong":
            body = bytes(len(body))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in ("cut", "hang"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "hang":
                self.server.stop.wait(5)
            self.close_connection = True
            return
        self.wfile.write(body)


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, str]]:
    folder = tmp_path_factory.mktemp("served")
    registry = make_layout(folder)
    return {name: (folder / name).read_bytes() for name in registry}, registry


@pytest.fixture
def server(layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(dict(layout[0]))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RESFLOW_OXFORD_URL", server.url)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def source(layout, server: Server) -> Oxford:
    return Oxford("oxford_flowers102", registry=layout[1], downloader=QUICK)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "downloads" / "oxford_flowers102"


def whole(source: Oxford, server: Server, downloads: Path) -> bool:
    """Everything arrived as served, and nothing else is left in the folder of downloads."""
    source.fetch(progress=False)
    left = {path.name for path in downloads.iterdir()} - {"downloads.lock"}
    return left == set(server.files) and all((downloads / n).read_bytes() == c for n, c in server.files.items())


def test_download_decode_and_load(source: Oxford, server: Server, capsys: pytest.CaptureFixture) -> None:
    data = load_dataset(source.prepare(8, progress=False))
    assert (len(data.images), data.classes) == (COUNT, 102)
    before = len(server.requests)
    source.prepare(8)
    source.prepare(16, progress=False)
    assert len(server.requests) == before
    assert capsys.readouterr().out == ""


def test_nothing_is_asked_of_the_network_before_it_is_needed(source: Oxford, server: Server) -> None:
    assert len(source.identity()) == 64
    assert server.requests == []


def test_cut_connection_goes_on_where_it_stopped(source: Oxford, server: Server, downloads: Path) -> None:
    server.faults = ["cut", "cut"]
    assert whole(source, server, downloads)
    first, *continued = server.asked(ARCHIVE)
    assert first is None
    starts = [int(wanted.strip("bytes=-")) for wanted in continued if wanted]
    half = len(server.files[ARCHIVE]) // 2
    assert half - CHUNK < starts[0] <= half < starts[1]


def test_many_cuts_that_each_bring_bytes_are_outlived(source: Oxford, server: Server, downloads: Path) -> None:
    server.faults = ["cut"] * 6  # more than the tries
    assert whole(source, server, downloads)


def test_second_run_goes_on_from_the_first(source: Oxford, server: Server, downloads: Path) -> None:
    server.faults = ["cut", "500", "500", "500"]
    with pytest.raises(DataError, match=r"500 .* tried 3 times"):
        source.fetch(progress=False)
    arrived = (downloads / f"{ARCHIVE}.part").stat().st_size
    assert arrived > 0
    server.requests.clear()
    assert whole(source, server, downloads)
    assert server.asked(ARCHIVE) == [f"bytes={arrived}-"]


def test_server_without_range_starts_over(source: Oxford, server: Server, downloads: Path) -> None:
    server.faults, server.ranges = ["cut"], False
    assert whole(source, server, downloads)
    assert len(server.asked(ARCHIVE)) == 2


def test_server_without_range_that_always_cuts_is_given_up(source: Oxford, server: Server) -> None:
    server.faults, server.ranges = ["cut"] * 20, False
    with pytest.raises(DataError, match="cut off"):
        source.fetch(progress=False)
    assert len(server.asked(ARCHIVE)) == 4  # the first brought bytes, three more did not


@pytest.mark.parametrize("fault", ["503", "500", "429"])
def test_passing_server_trouble_is_waited_for(source: Oxford, server: Server, downloads: Path, fault: str) -> None:
    server.faults = [fault, fault]
    assert whole(source, server, downloads)


@pytest.mark.parametrize("fault", ["404", "403", "407"])
def test_lasting_refusal_is_told_at_once(source: Oxford, server: Server, fault: str) -> None:
    server.faults = [fault]
    with pytest.raises(DataError, match=f"answered {fault}.*--data-dir"):
        source.fetch(progress=False)
    assert len(server.asked(ARCHIVE)) == 1


def test_wrong_bytes_are_not_kept(source: Oxford, server: Server, downloads: Path) -> None:
    server.faults = ["wrong"]
    with pytest.raises(DataError, match="md5 is not"):
        source.fetch(progress=False)
    assert not (downloads / ARCHIVE).exists()
    assert whole(source, server, downloads)


@pytest.mark.parametrize("extra", [-10, 0, 10])
def test_stale_part_of_another_file_is_fetched_again(
    source: Oxford, server: Server, downloads: Path, extra: int
) -> None:
    downloads.mkdir(parents=True)
    (downloads / f"{ARCHIVE}.part").write_bytes(bytes(len(server.files[ARCHIVE]) + extra))
    assert whole(source, server, downloads)


def test_file_that_was_damaged_on_disk_is_fetched_again(source: Oxford, server: Server, downloads: Path) -> None:
    assert whole(source, server, downloads)
    (downloads / ARCHIVE).write_bytes(b"damaged")
    assert whole(source, server, downloads)
    assert len(server.asked("setid.mat")) == 1


def test_server_that_hangs_is_left_and_continued(source: Oxford, server: Server, downloads: Path) -> None:
    server.faults = ["hang"]
    start = time.monotonic()
    assert whole(source, server, downloads)
    assert time.monotonic() - start < 3


def test_server_that_never_answers(layout, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RESFLOW_OXFORD_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DataError, match="no answer within"):
            Oxford("oxford_flowers102", registry=layout[1], downloader=QUICK).fetch(progress=False)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_no_connection(source: Oxford, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_OXFORD_URL", f"http://someone:secret@127.0.0.1:{closed_port}")
    with pytest.raises(DataError, match=r"no connection.*--data-dir") as raised:
        source.fetch(progress=False)
    assert "secret" not in str(raised.value)


def test_no_name_service(source: Oxford, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("RESFLOW_OXFORD_URL", "http://flowers.invalid/")
    with pytest.raises(DataError, match="is there a network"):
        source.fetch(progress=False)


def test_proxy_that_does_not_answer(source: Oxford, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://someone:secret@127.0.0.1:{closed_port}")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(DataError, match="the proxy does not answer") as raised:
        source.fetch(progress=False)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["flowers", "file:///tmp", "http://[bad"])
def test_mirror_that_is_no_http_address(source: Oxford, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RESFLOW_OXFORD_URL", url)
    with pytest.raises(DataError, match="no http address"):
        source.fetch(progress=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_full_disk(source: Oxford, downloads: Path) -> None:
    downloads.mkdir(parents=True)
    (downloads / f"{ARCHIVE}.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="the disk is full"):
        source.fetch(progress=False)


def test_mirror_without_the_files(source: Oxford, server: Server) -> None:
    del server.files["setid.mat"]
    with pytest.raises(DataError, match=r"setid\.mat: the server answered 404"):
        source.fetch(progress=False)


def test_progress_goes_to_standard_error(layout, server: Server, capsys: pytest.CaptureFixture) -> None:
    Oxford("oxford_flowers102", registry=layout[1]).fetch(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "102flowers.tgz" in shown.err


def test_a_mirror_that_never_ends_is_left_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    class Endless(Handler):
        def do_GET(self) -> None:
            nonlocal sent
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(OSError):  # the other end has had enough
                while True:
                    self.wfile.write(bytes(2**16))
                    sent += 2**16

    class Announced(Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(2**40))
            self.end_headers()

    for handler in (Endless, Announced):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("RESFLOW_OXFORD_URL", f"http://127.0.0.1:{server.server_port}/flowers")
        monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
        source = Oxford("oxford_flowers102", downloader=replace(QUICK, limit=10**6))
        with pytest.raises(DataError, match=r"not the expected file: it has more than 1 MB. It was not kept"):
            source.fetch(progress=False)
        assert list((tmp_path / "cache").rglob("*.part")) == []
        server.shutdown()
        server.server_close()
    assert sent < 32 * 2**20  # the limit, and what lies in sockets' buffers
