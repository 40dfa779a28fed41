"""A small program beside the driver that leaves nothing behind, however the driver ends.

    python janitor.py SESSION FOLDER …

It waits until the driver closes its standard input, or is gone, and then ends whatever was started with SESSION as its
RESFLOW_SESSION, and removes that folder and the others. Ray's processes watch one another, but one that is stopped,
that starts or that computes outlives the others. Python's own modules are all that it needs, so it starts at once.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

SESSION = "RESFLOW_SESSION"
LONGEST_S = 5.0  # a process that is killed may be in the kernel for a while


def list_processes(folder: str) -> list[int]:
    """Return the ids of the living processes that were started with a folder as their session."""
    mark, pids = f"{SESSION}={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                pids.append(int(entry.name))
        except OSError:  # it has ended, or is another user's
            continue
    return pids


def end_processes(folder: str) -> None:
    """Kill the processes of a session, and those that they start meanwhile."""
    deadline = time.monotonic() + LONGEST_S
    while (pids := list_processes(folder)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def main(session: str, *others: str) -> None:
    """Wait for the driver's end, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which a terminal sends to all
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_processes(session)
    for folder in (session, *others):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
