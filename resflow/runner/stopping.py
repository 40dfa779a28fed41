"""The end of a run before its last trial, by Ctrl-C, a time budget or too many failures; one process a run."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from resflow import interruption, provenance, reading, workspace
from resflow.errors import RecordError, StudyError
from resflow.runner.progress import is_alive, read_progress

STOPPING = "Stopping: what is being written is finished. Ctrl-C again stops now."
UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Read a time such as 90, 30m, 1.5h or 2d. Raises StudyError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in UNITS or not float(match[1]):
        raise StudyError(
            f"'{text}' is no time budget: expected seconds, or a number with its unit such as 30m, 1.5h, 2d."
        )
    return float(match[1]) * UNITS[match[2]]


@dataclass
class Stop:
    """The moment to stop, and its reason. `reason` is empty for as long as trials may go on."""

    time_budget: float | None = None  # seconds
    max_failures: int | None = None  # trials that failed or diverged, after which no other starts
    started: float = field(default_factory=time.monotonic)
    failures: int = 0
    reason: str = ""

    def count(self, status: str) -> None:
        """Take note of a trial's end."""
        self.failures += status in ("failed", "diverged")

    def due(self) -> bool:
        """Say whether no more is to run."""
        if not self.reason:
            spent = time.monotonic() - self.started
            if self.max_failures is not None and self.failures >= self.max_failures:
                self.reason = f"{self.failures} trials failed or diverged, which --max-failures allows"
            elif self.time_budget is not None and spent >= self.time_budget:
                self.reason = f"the time budget of {self.time_budget:.0f} s is spent"
        return bool(self.reason)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Stop in order at the first Ctrl-C, SIGTERM or SIGHUP; the next one is not waited for.

        Raises KeyboardInterrupt where the program was asked to end before.
        """
        with interruption.listening(self._hear):
            yield

    def _hear(self, number: signal.Signals) -> None:
        self.reason = f"interrupted by {number.name}"
        interruption.tell(STOPPING)


@contextmanager
def exclusive_run(run: Path) -> Iterator[None]:
    """Hold a run for this process. Raises RecordError where another one has it; a dead one's hold ends with it."""
    lock, note = FileLock(run / workspace.LOCK), run / workspace.DRIVER
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        owner = {"host": provenance.environment()["host"], "pid": os.getpid(), "since": provenance.now()}
        note.write_text(json.dumps(owner) + "\n", encoding="utf-8")
    except Timeout as error:
        raise RecordError(
            f"{run} is being run by {_driver(note)}. Wait for it, stop it, or choose another --out."
        ) from error
    except OSError as error:
        raise RecordError(
            f"cannot write into {run}: {error}. Make it writable, or choose another folder with --out."
        ) from error
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def is_driven(run: Path) -> bool:
    """Tell whether a process runs a run: on this machine by its number, on another by its signs of life."""
    owner = _read_note(run / workspace.DRIVER)
    if owner is None or owner["host"] != provenance.environment()["host"]:
        return owner is not None and read_progress(workspace.state_folder(run)) is not None
    return is_alive(int(owner["pid"]))


def _driver(note: Path) -> str:
    owner = _read_note(note)
    return f"process {owner['pid']} on {owner['host']} since {owner['since']}" if owner else "another process"


def _read_note(note: Path) -> dict[str, Any] | None:
    """Return who runs a run; None where nobody does, or between its lock and its note."""
    try:
        owner = json.loads(reading.read(note))
        return {"host": str(owner["host"]), "pid": int(owner["pid"]), "since": str(owner["since"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
