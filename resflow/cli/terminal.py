"""What reaches a terminal is text. Names of photos, classes, arms and files come from strangers: what is in them steers
no terminal, reorders no line and begins none.

`guard` stands before both streams of a process, for whatever is printed there: messages, logs, warnings, tracebacks.
Rich writes past it, since its colours are such sequences, and lets nothing through but what `printable` gives
(`console.SafeConsole`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast

REPLACED = "\N{REPLACEMENT CHARACTER}"
# C0 but tab and line feed, DEL, C1, line and paragraph separators, and what overrides the order of letters.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return text with a replacement character for each that would steer a terminal."""
    return _CONTROL.sub(REPLACED, text.replace("\r\n", "\n"))


def one_line(value: object) -> str:
    """Return a value as printable text without line breaks and tabs, to stand in a line of others."""
    return printable(re.sub(r"[\t\r\n]+", " ", str(value)))


def hanging(text: str) -> str:
    """Return a message with its further lines indented: a name with a line feed in it looks like none of resflow's."""
    return re.sub(r"\n(?=\S)", "\n  ", printable(text))


def fill(text: str, width: int) -> str:
    """Break the lines of a message at spaces alone, so that names, paths and ids stay whole; further ones are indented.

    A word that is longer than a line has one to itself.
    """
    return "\n".join(part for line in text.split("\n") for part in _filled(line, width))


def _filled(line: str, width: int) -> Iterator[str]:
    from rich.cells import cell_len

    begin = re.match(" *", line)[0]  # type: ignore[index]  # it matches any text
    row, *words = line[len(begin) :].split(" ")
    row, further = begin + row, begin if begin else "  "
    for word in words:
        if cell_len(row) + 1 + cell_len(word) > width:
            yield row
            row = further + word
        else:
            row = f"{row} {word}"
    yield row


class PrintableStream:
    """A text stream that writes what is printable, and is otherwise the stream behind it."""

    def __init__(self, stream: Any) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        self.unguarded.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def guard() -> None:
    """Put a PrintableStream before stdout and stderr."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, PrintableStream):
            setattr(sys, name, cast("Any", PrintableStream(stream)))


def unguarded(stream: Any) -> Any:
    """Return the stream behind a PrintableStream."""
    return stream.unguarded if isinstance(stream, PrintableStream) else stream
