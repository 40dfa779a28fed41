"""The one way to read a file that may come from elsewhere: a regular one, and no more of it than is expected.

A pipe would wait for ever, `/dev/zero` would fill the memory, and so would a file that somebody made for that. Whatever
a run, a cache, a study or a folder of photos holds is opened here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

MEGABYTE = 1_000_000
TEXT = 64 * MEGABYTE  # a study, a plan, a record, a history: the largest that resflow writes has some 2 MB


class UnusableFileError(OSError):
    """A file that is none, or has more in it than it may; its text says which, and names the file."""


def open_regular(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file of at most `limit` bytes to read. Raises OSError, UnusableFileError for what is no such file.

    Links are followed: whether they may lead out of a folder is `workspace.refuse_links_out`'s to say.
    """
    # A pipe without a writer would block in open() itself.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise UnusableFileError(f"{path} is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFileError(f"{path} is no regular file but a pipe, a socket or a device")
        if limit is not None and status.st_size > limit:
            raise UnusableFileError(
                f"{path} has {status.st_size / MEGABYTE:,.1f} MB, and at most {limit / MEGABYTE:,.1f} MB are read"
            )
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
        raise UnusableFileError(f"{path} has more than the {limit / MEGABYTE:,.1f} MB that are read")
    return content
