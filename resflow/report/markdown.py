"""Tables and text as GitHub's Markdown, for a run's README.md and for exports."""

from __future__ import annotations

import re
from collections.abc import Sequence

from resflow.report.tables import Table


def escaped(text: str) -> str:
    """Escape text so that Markdown shows it as it is: no markup, no HTML, no table cell of its own."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$!&])", r"\\\1", one_line)


def table(source: Table) -> str:
    """Return a table and its note; empty where it has no rows."""
    if not source.rows:
        return ""
    marks = [":--" if name in source.text or place == 0 else "--:" for place, name in enumerate(source.header)]
    lines = [_row(source.header), f"| {' | '.join(marks)} |", *map(_row, source.rows)]
    return "\n".join(lines) + ("\n\n" + escaped(source.note) if source.note else "") + "\n"


def section(source: Table) -> str:
    """Return a table under its title."""
    return f"### {escaped(source.title)}\n\n{table(source)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"
