"""The one way to read a file that may come from elsewhere: a regular one, and no more of it than is expected.

A pipe would wait for ever, `/dev/zero` would fill the memory, and so would a file that somebody made for that. Whatever
a run, a cache, a study or a folder of photos holds is opened here.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MEGABYTE = 1_000_000
TEXT = 64 * MEGABYTE  # a study, a plan, a record, a history: the largest that resflow writes has some 2 MB


class UnusableFileError(OSError):
    """A file that is none, or has more in it than it may; `strerror` says which, its text names the file as well."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def open_regular(path: Path, limit: int | None = None) -> BufferedReader:
    """Open a regular file of at most `limit` bytes to read. Raises OSError, UnusableFileError for what is no such file.

    Links are followed: whether they may lead out of a folder is `workspace.refuse_links_out`'s to say.
    """
    # A pipe without a writer would block in open() itself.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise UnusableFileError(path, "it is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFileError(path, "it is no regular file but a pipe, a socket or a device")
        if limit is not None and status.st_size > limit:
            size, most = (f"{number / MEGABYTE:,.1f} MB" for number in (status.st_size, limit))
            raise UnusableFileError(path, f"it has {size}, and at most {most} are read")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read(path: Path, limit: int = TEXT) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes. Raises OSError, as `open_regular` does."""
    with open_regular(path, limit) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # not the limit, for which Python would make room
        if len(content) > size:  # a file may grow, and those of /proc say that they are empty
            content += file.read(limit + 1 - len(content))
    if len(content) > limit:
        raise UnusableFileError(path, f"it has more than the {limit / MEGABYTE:,.1f} MB that are read")
    return content
