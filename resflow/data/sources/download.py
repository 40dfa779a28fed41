"""Downloads that survive a bad line: resumed, retried, checked, and explained when they fail.

pooch keeps the files and checks their md5; the downloader that it is given here adds what it has not:
a `.part` file that is continued with an HTTP Range, retries with growing pauses, and a progress bar.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from resflow import atomic
from resflow.data import cache
from resflow.errors import DataError
from resflow.reading import MEGABYTE

CHUNK = 1 << 14  # bytes; a cut loses at most one chunk
MOST_BYTES = 512 * MEGABYTE  # of a file; the largest official one has 345
TRANSIENT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)  # and every 5xx
COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    DownloadColumn(),
    TransferSpeedColumn(),
    TimeRemainingColumn(),
)


class _Interrupted(Exception):  # noqa: N818 -- retried, then told as a DataError
    """A failure that may pass: the transfer is tried again."""


@dataclass(frozen=True)
class Downloader:
    """A downloader for pooch. `timeout` is (connecting, waiting for bytes) in seconds.

    `tries` counts failures in a row: one that came after new bytes does not count, so that a long
    download outlives many cuts, and a stuck one ends. A file of more than `limit` bytes is not the one
    that is expected.
    """

    tries: int = 5
    pause: float = 1.0  # seconds before the second try; doubles with each
    timeout: tuple[float, float] = (10.0, 30.0)
    progress: bool = True
    limit: int = MOST_BYTES

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Fetch `url` into `output_file`, by way of a `.part` file beside it. Raises DataError."""
        part = Path(output_file).parent / f"{Path(urlsplit(url).path).name}.part"
        with (
            Progress(*COLUMNS, console=Console(stderr=True), disable=not self.progress) as bar,
            requests.Session() as session,
        ):
            task = bar.add_task(part.stem, total=None)
            self._persist(session, url, part, partial(bar.update, task))
        atomic.sync(part)
        part.replace(output_file)

    def _persist(self, session: requests.Session, url: str, part: Path, show: Callable) -> None:
        failures, reached = 0, _size(part)
        while True:
            try:
                return self._transfer(session, url, part, show)
            except _Interrupted as error:
                failures = 0 if _size(part) > reached else failures + 1
                reached = max(reached, _size(part))
                if failures >= self.tries:
                    raise DataError(
                        _failure(url, f"{error}; tried {failures} times without getting further")
                    ) from error
                pause = self.pause * 2 ** max(failures - 1, 0)
                show(description=f"{part.stem}: {error}; again in {pause:g} s")
                time.sleep(pause)
                show(description=part.stem)

    def _transfer(self, session: requests.Session, url: str, part: Path, show: Callable) -> None:
        """Make one request, which continues `part` where the server can, and return when the file is whole."""
        size = _size(part)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
        try:
            with session.get(url, headers=headers, stream=True, timeout=self.timeout) as answer:
                start = _start(answer, url, part, size)
                length = answer.headers.get("Content-Length")
                total = start + int(length) if length and length.isdigit() else None
                self._check_size(url, part, total or 0)
                with part.open("r+b" if start else "wb") as file:
                    file.seek(start)
                    done = start
                    for chunk in answer.iter_content(CHUNK):
                        self._check_size(url, part, done + len(chunk))
                        file.write(chunk)
                        done += len(chunk)
                        show(completed=done, total=total)
                    file.truncate()
        except requests.exceptions.ProxyError as error:
            raise _Interrupted(f"the proxy does not answer ({_cause(error)})") from error
        except requests.exceptions.SSLError as error:
            raise DataError(_failure(url, f"the secure connection was refused ({_cause(error)})")) from error
        except requests.exceptions.Timeout as error:
            raise _Interrupted(f"no answer within {max(self.timeout):g} seconds") from error
        except requests.exceptions.InvalidURL as error:
            raise DataError(_failure(url, "that is no http address")) from error
        except requests.exceptions.ConnectionError as error:
            raise _Interrupted(_no_connection(error)) from error
        except requests.exceptions.RequestException as error:
            raise _Interrupted(f"the transfer was cut off ({_cause(error)})") from error
        if total is not None and done < total:
            raise _Interrupted(f"the transfer was cut off after {done:,} of {total:,} bytes")

    def _check_size(self, url: str, part: Path, size: int) -> None:
        if size > self.limit:
            part.unlink(missing_ok=True)
            raise DataError(
                f"{_without_password(url)} is not the expected file: it has more than {self.limit / 1e6:,.0f} MB. It "
                "was not kept. A wrong mirror does this: open the address in a browser, or use --data-dir."
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _start(answer: requests.Response, url: str, part: Path, size: int) -> int:
    """Return the position at which the answer's body begins. Raises for an answer that is no body."""
    status = answer.status_code
    if status == HTTPStatus.PARTIAL_CONTENT and answer.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
        return size
    if status == HTTPStatus.OK:
        return 0  # a whole file, or a server without Range: from the start
    if status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        part.unlink(missing_ok=True)
        raise _Interrupted("the server could not continue the partial file")
    reason = f"the server answered {status} {answer.reason}"
    if status in TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _Interrupted(reason)
    raise DataError(_failure(url, reason))


def _no_connection(error: Exception) -> str:
    text = str(error)
    if "timed out" in text:  # requests wraps a pause in the body so
        return "the server stopped sending"
    unresolved = any(sign in text for sign in ("NameResolution", "Name or service", "getaddrinfo"))
    return (
        "the host's name is not known here: is there a network?" if unresolved else f"no connection ({_cause(error)})"
    )


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a requests error, without addresses that may hold a password."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or type(error).__name__


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _failure(url: str, reason: str) -> str:
    return (
        f"cannot download {_without_password(url)}: {reason}. What has arrived is kept, and the same command "
        "goes on from there. Behind a proxy set HTTPS_PROXY; with a mirror set RESFLOW_OXFORD_URL or "
        "RESFLOW_CIFAR10_URL to its folder; or put the files in a folder and name it with --data-dir."
    )


def fetch_files(
    url: str,
    url_variable: str,
    registry: Mapping[str, str],
    folder: Path,
    downloader: Downloader | None = None,
    *,
    progress: bool = True,
) -> None:
    """Bring every file of `registry` (name -> md5) into `folder`; whole files are not fetched again.

    The environment's `url_variable` replaces `url`. Raises DataError.
    """
    base = _http_address(os.environ.get(url_variable) or url, url_variable)
    downloader = downloader or Downloader(progress=progress)
    with cache.writing(folder, "downloads"), cache.locked(folder / "downloads.lock"):
        for name, md5 in registry.items():
            _fetch(f"{base.rstrip('/')}/{name}", folder / name, md5, downloader)


def _http_address(url: str, variable: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataError(f"{variable} is no http address: expected one such as https://mirror.example/flowers/.")
    return url


def _fetch(url: str, path: Path, md5: str, downloader: Downloader) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # the bar says it
    part = path.with_name(f"{path.name}.part")
    resumed = _size(part) > 0
    try:
        pooch.retrieve(url, f"md5:{md5}", fname=path.name, path=path.parent, downloader=downloader)
    except ValueError as error:  # pooch's word for a wrong checksum; it has removed the file
        if resumed:  # the old part may have been of another file
            return _fetch(url, path, md5, downloader)
        raise DataError(
            f"{_without_password(url)} is not the expected file: its md5 is not {md5}. It was not kept. "
            "A proxy's error page, a changed file or a wrong mirror does this: open the address in a "
            "browser, or use --data-dir."
        ) from error
