"""Ctrl-C, SIGTERM and SIGHUP: the first ends what runs in good order, the second ends the process at once.

Signals belong to a process, and so does what is remembered of them here. A program (`program`) raises
KeyboardInterrupt at the first one, wherever it stands, unless somebody listens who can end the work at a better moment
(`listening`). A library leaves signals alone until it listens.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.5  # after which an interrupt that somebody has swallowed is raised again
Listener = Callable[[signal.Signals], None]


@dataclass
class _State:
    received: signal.Signals | None = None
    listener: Listener | None = None
    is_program: bool = False
    told: bool = False  # the command to go on with
    on_screen: bool = False  # a screen tells of what was received


_state = _State()


def received() -> signal.Signals | None:
    """Return the signal that asked this process to end; None for as long as none did."""
    return _state.received


@contextmanager
def on_screen() -> Iterator[None]:
    """Leave it to a screen that is drawn anew to tell of a signal: a line in its midst would not go away again."""
    _state.on_screen = True
    try:
        yield
    finally:
        _state.on_screen = False


def tell(text: str) -> None:
    """Write a message, from within a signal's handler, unless a screen tells of the signal."""
    if not _state.on_screen:
        with suppress(OSError):  # the terminal may be closed
            os.write(2, f"\n{text}\n".encode())


def command_to_go_on() -> str:
    """Return the command that goes on with what this one has begun, for whoever tells it to the user."""
    _state.told = True
    words = [word for word in sys.argv[1:] if word != "--fresh"]  # what is done is not to be done again
    return shlex.join(["resflow", *words])


@contextmanager
def program(*, is_all: bool = False) -> Iterator[None]:
    """Have signals end this program with the exit code that shells give: 130 for Ctrl-C, 143, 129.

    It ends without the interpreter's own farewell: threads of TensorFlow, Ray and Arrow that still run then crash it.
    Signals are whose they were after it, unless it `is_all` that the process does: they are then heard to its end.
    """
    before: dict[signal.Signals, Any] = {}
    is_outermost = not _state.is_program
    if is_outermost:
        before = {**_install(), signal.SIGALRM: signal.signal(signal.SIGALRM, _insist)}
        _state.is_program = True
    try:
        yield
    except BaseException as error:
        if _state.received is None or (not _is_interrupt(error) and not isinstance(error, SystemExit)):
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if is_outermost and not is_all and _state.received is None:
            _state.is_program = False
            for number, handler in before.items():
                signal.signal(number, handler)
    if _state.received is not None:
        _leave(f"Stopped by {_state.received.name}.")


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a function hear of the first signal, which then interrupts nothing.

    The second one raises KeyboardInterrupt, or ends a program. In another thread than the main one, as in a notebook's
    executor, nothing is heard and nothing changes. Raises KeyboardInterrupt where a program was asked to end before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outer = _state.listener
    if _state.received is not None and outer is None:
        raise KeyboardInterrupt
    before = {} if _state.is_program or outer is not None else _install()
    _state.listener = listener
    try:
        yield
    finally:
        _state.listener = outer
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _state.received = None


def _install() -> dict[signal.Signals, Any]:
    """Take the signals over and return who had them. What nohup or a shell has had ignored stays ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _handle)
    return before


def _handle(number: int, frame: FrameType | None) -> None:
    if _state.received is not None:
        if _state.is_program:
            _leave(f"Stopped at once by {signal.Signals(number).name}.")
        raise KeyboardInterrupt
    _state.received = signal.Signals(number)
    if _state.listener is not None:
        _state.listener(_state.received)
        return
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
    raise KeyboardInterrupt


def _insist(number: int, frame: FrameType | None) -> None:
    """Raise the interrupt again unless it is on its way out: a callback, say, cannot hand on what it meets."""
    if not _is_interrupt(sys.exception()):
        raise KeyboardInterrupt


def _is_interrupt(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leave(words: str) -> None:
    assert _state.received is not None
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: the signal came while it was written to
            stream.flush()
    if not _state.told:
        with suppress(OSError):
            os.write(2, f"{words} Go on with: {command_to_go_on()}\n".encode(errors="replace"))
    os._exit(128 + _state.received)
