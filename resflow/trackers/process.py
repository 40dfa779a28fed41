"""A tracker in a process of its own: what it imports, raises or waits for is no trial's business.

The driver hands messages to a thread, which passes them on one by one. An answer that says what went wrong, that does
not come within LIMIT_S, or that cannot come any more is the tracker's `problem`; then it is given up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from resflow import workspace
from resflow.trackers.known import Known
from resflow.trackers.trial_log import TrialLog

LIMIT_S = 60.0  # that a tracker may take to start, and for each message
NICE = 10  # trials come first
LONGEST_REASON = 300
PROGRAM = (  # the driver's own places for modules: an installation, a clone, a test's folder
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from resflow.trackers.process import serve; serve()"
)


class TrackerProcess:
    """A tracker, as its driver sees it. Only `finish` waits.

    `problem` says why it was given up, and is empty for as long as it was not. `destination` is what it writes to, once
    it has started. Its client's own messages go into `log`.
    """

    def __init__(self, name: str, known: Known, state: Path) -> None:
        """Start the process. Raises OSError where its log cannot be written."""
        self.name, self.problem, self.destination = name, "", ""
        self.log = workspace.log_path(state, name)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.connection, theirs = Pipe()
        command = [sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno())]
        command += [known.package, known.module, known.name, str(state.absolute()), json.dumps(sys.path)]
        with self.log.open("ab") as log, theirs:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,  # nobody is asked for a password
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the driver's
                env={**known.variables, **os.environ},
            )
        self.messages: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.thread = Thread(target=self._pass_on, daemon=True)
        self.thread.start()

    def send(self, *message: Any) -> None:
        """Hand over the name of a method of TrialLog and its arguments."""
        if not self.problem:
            self.messages.put(message)

    def finish(self, wait: bool = True) -> None:
        """Have the tracker end what is open, and wait until it has, or was given up.

        Without waiting it does as much as it can before this process ends.
        """
        self.send("close")
        if wait:
            self.thread.join()

    def _pass_on(self) -> None:
        try:
            self.destination = self._hear()
            message: tuple[Any, ...] = ()
            while message[:1] != ("close",):
                message = self.messages.get()
                self.connection.send(message)
                self._hear()
            self.process.wait(LIMIT_S)
        except _GivenUpError as error:
            self.problem = str(error)
        except subprocess.TimeoutExpired:
            self.problem = f"it did not end within {LIMIT_S:g} s"
        except (OSError, EOFError):
            self.problem = f"its process has ended: {self.log} may say why"
        finally:
            self._kill()

    def _hear(self) -> str:
        """Return an answer. Raises _GivenUpError, or OSError and EOFError where none can come."""
        if not self.connection.poll(LIMIT_S):
            raise _GivenUpError(f"no answer within {LIMIT_S:g} s")
        problem, answer = self.connection.recv()
        if problem:
            raise _GivenUpError(problem)
        return str(answer)

    def _kill(self) -> None:
        """End the process and those that its client has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()


class _GivenUpError(Exception):
    """The reason why a tracker is given up."""


def serve() -> None:
    """Do in this process what its driver's messages say, until it says `close` or is gone.

    Each answer is a problem, empty for none, and what is there to tell.
    """
    _, number, package, module, name, state = sys.argv
    os.nice(NICE)
    driver = Connection(int(number))
    try:
        tracker = Known(package, module, name).make(Path(state))
        log, answer, method = TrialLog(tracker), tracker.destination, ""
        while method != "close":
            method, *arguments = _next_message(driver, answer)
            getattr(log, method)(*arguments)
            answer = ""
        _answer(driver, "")
    except Exception as error:
        _answer(driver, "", _reason(error))
        raise  # the traceback goes into the log


def _next_message(driver: Connection, answer: str) -> tuple[Any, ...]:
    """Answer the message before, and wait for the next one; a driver that is gone has nothing more to say."""
    try:
        driver.send(("", answer))
        message: tuple[Any, ...] = driver.recv()
        return message
    except (EOFError, OSError):
        signal.alarm(int(LIMIT_S))  # a client that hangs has nobody else to end it
        return ("close",)


def _answer(driver: Connection, answer: str, problem: str = "") -> None:
    with suppress(OSError):
        driver.send((problem, answer))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:LONGEST_REASON]
