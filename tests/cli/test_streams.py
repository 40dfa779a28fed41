"""What the command line writes to may go away: nothing ends for it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

LIST = [sys.executable, "-m", "resflow", "list"]
GOES_ON = """
import os, sys
from resflow.cli import streams
streams.make_robust()
for _ in range(3):
    print("a line", flush=True)
    print("another", file=sys.stderr)
os.write(int(sys.argv[1]), b"went on")
"""


def test_a_pipe_that_nobody_reads_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(LIST, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell a closed terminal's writer otherwise")
def test_a_terminal_that_was_closed_is_no_error() -> None:
    terminal, theirs = pty.openpty()
    reader, writer = os.pipe()
    os.close(terminal)
    command = [sys.executable, "-c", GOES_ON, str(writer)]
    done = subprocess.run(command, stdout=theirs, stderr=theirs, pass_fds=[writer], timeout=60, check=False)
    assert done.returncode == 0
    assert os.read(reader, 100) == b"went on"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_file_that_takes_no_more_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(LIST, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode != 0  # what was asked for is not there
