"""What the command line writes to: a terminal or a pipe that is no longer there ends no run."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # whoever read a pipe, a terminal


class _Output(io.FileIO):
    """Output that goes nowhere once nobody reads it: a run goes on to its report."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def make_robust() -> None:
    """Have no write to the standard streams fail for a letter that an encoding lacks, or for a reader that has gone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="replace")
        with suppress(io.UnsupportedOperation):  # of a caller who keeps what is written
            raw = _Output(stream.fileno(), "w", closefd=False)
            stream.flush()
            lines = stream.line_buffering or name == "stderr"
            robust = io.TextIOWrapper(
                io.BufferedWriter(raw), encoding=stream.encoding, errors="replace", line_buffering=lines
            )
            setattr(sys, name, robust)
