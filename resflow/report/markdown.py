"""Tables and text as GitHub's Markdown, for a run's README.md and for exports."""

from __future__ import annotations

import re
from collections.abc import Sequence

from resflow.report.tables import Table


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table cell of its own."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$!&])", r"\\\1", one_line)


def table(made: Table) -> str:
    """A table and its note; empty where it has no rows."""
    if not made.rows:
        return ""
    marks = [":--" if name in made.text or place == 0 else "--:" for place, name in enumerate(made.header)]
    lines = [_row(made.header), f"| {' | '.join(marks)} |", *map(_row, made.rows)]
    return "\n".join(lines) + ("\n\n" + escaped(made.note) if made.note else "") + "\n"


def section(made: Table) -> str:
    return f"### {escaped(made.title)}\n\n{table(made)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"
