"""Whether the compressed data of a JPEG hang together, by OpenCV in a process of its own.

A JPEG has no checksum, and Pillow passes over what libjpeg warns of: data that end before the picture does, or go on
after it, or hold what no code stands for. The picture that comes out is shifted, grey or striped from there on.
libjpeg tells it on the standard error of its process alone. So this file is also a program: it decodes the photos that
come on its standard input, at an eighth of their size, and answers with what libjpeg said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from queue import Empty, LifoQueue
from types import TracebackType
from typing import IO

LENGTH = 8  # bytes that say how long a message is
CORRUPT = b"Corrupt JPEG data: "  # how libjpeg begins what it says of compressed data, and of nothing else


def available() -> bool:
    """Tell whether OpenCV is installed: it is of the extra `train`."""
    return find_spec("cv2") is not None


class Checker:
    """Processes that check JPEGs, one for each thread that asks at a time; they end with the `with` block."""

    def __init__(self) -> None:
        self._idle: LifoQueue[subprocess.Popen[bytes]] = LifoQueue()
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Checker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()  # it holds nothing
            process.wait()
            for pipe in _pipes(process):
                with suppress(BrokenPipeError):  # a photo that it never read
                    pipe.close()

    def problem(self, jpeg: bytes) -> str:
        """Return what is wrong with the compressed data of a JPEG; nothing where it hangs together."""
        try:
            process = self._idle.get_nowait()
        except Empty:
            process = self._start()
        questions, answers = _pipes(process)
        try:
            _send(questions, jpeg)
            answer = _receive(answers)
        except (BrokenPipeError, EOFError):
            return "OpenCV ends without an answer when it decodes it"
        self._idle.put(process)
        return answer.decode("utf-8", "replace")

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: no file beside this one, and none in the working folder, stands for a module.
        command = [sys.executable, "-P", __file__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._started.append(process)
        return process


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _send(file: IO[bytes], message: bytes) -> None:
    file.write(len(message).to_bytes(LENGTH, "little") + message)
    file.flush()


def _receive(file: IO[bytes]) -> bytes:
    head = file.read(LENGTH)
    if len(head) < LENGTH:
        raise EOFError
    return file.read(int.from_bytes(head, "little"))


def main() -> None:
    """Answer each photo of the standard input with what libjpeg says of its compressed data."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to whoever asks
    import cv2
    import numpy as np

    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
        while True:
            try:
                jpeg = _receive(sys.stdin.buffer)
            except EOFError:
                return
            said.truncate(0)
            said.seek(0)
            with suppress(cv2.error):  # of what OpenCV cannot decode at all it says nothing
                cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
            said.seek(0)
            _send(sys.stdout.buffer, said.read().partition(CORRUPT)[2].partition(b"\n")[0].strip())


if __name__ == "__main__":
    main()
