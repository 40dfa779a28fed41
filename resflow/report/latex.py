"""A table as LaTeX with booktabs alone, as wide as the column that it is made for.

Columns that no room is left for are left out, the least telling first, and named in a comment; what rows have as a note
stands in the caption, by a letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_lowercase

from resflow.figures.labels import text_width
from resflow.report.presets import PAPER, POINTS, Preset
from resflow.report.tables import Table

LATIN = "\u024f"  # the last letter of the Latin alphabets, as Unicode has them
LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=')(?=')|(?<=,)(?=,)")  # where two letters would become another one
SIZE, GAP = 8.0, 4.0  # points, of letters and of \tabcolsep
METRICS = "cmr10"  # Computer Modern, wider than Times
SPARE = 1.09  # its letters cut for 8 points are so much wider than those for 10
NOTE = "Note"
LEFT_OUT = (  # in this order, as far as a table has them
    "Trial",
    "Reason",
    "Over images",
    "Over seeds",
    "Not completed",
    "One trial alone",
    "Shared work",
    "g",
    "Training top-1 (%)",
    "TOST p",
    "Equivalence p",
    "Multiply-adds",
    "Time a trial",
    "Seeds",
    "Pairs",
    "Parameters",
    "Holm p",
    "Failed (%)",
    "95 % interval",
    "Its 95 % interval",
)


def latex(table: Table, preset: Preset = PAPER, label: str = "table") -> str:
    """Return a table for LaTeX: across the text (`table*`) where a column has no room, with fewer columns at need."""
    marked, notes = _lettered(table)
    kept = marked
    texts = [name for name in marked.header[1:] if name in marked.text and name not in (*LEFT_OUT, "Verdict")]
    for name in (name for name in (*LEFT_OUT, *texts) if name in marked.header):
        if _width(kept) <= preset.text * POINTS:
            break
        kept = _without(kept, name)
    left_out = [name for name in marked.header if name not in kept.header]
    wide = _width(kept) > preset.page.width * POINTS and preset.text > preset.page.width
    body = _tabular(kept, POINTS * (preset.text if wide else preset.page.width))
    caption = _escape(f"{table.title}. {table.note}".strip()) + "".join(
        f" \\textsuperscript{{{letter}}}{_escape(note)}." for note, letter in notes.items()
    )
    environment = "table*" if wide else "table"
    comments = ["% needs \\usepackage{booktabs}"]
    if any(letter > LATIN for letter in caption + body):
        comments.insert(0, "% has letters that pdfLaTeX lacks: use lualatex or xelatex")
    if left_out:
        comments.append(f"% no room for: {_one_line(', '.join(left_out))}; `--format csv` has every number")
    return "\n".join(
        [
            *comments,
            f"\\begin{{{environment}}}",
            "\\centering",
            f"\\caption{{{caption}}}",
            f"\\label{{tab:{label}}}",
            f"\\fontsize{{{SIZE:g}}}{{{1.2 * SIZE:g}}}\\selectfont\\setlength{{\\tabcolsep}}{{{GAP:g}pt}}",
            body,
            f"\\end{{{environment}}}\n",
        ]
    )


def _lettered(table: Table) -> tuple[Table, dict[str, str]]:
    """Return a table without its notes but with a letter at the rows that have one, and note -> letter."""
    if NOTE not in table.header:
        return table, {}
    at = table.header.index(NOTE)
    notes = {note: _letter(place) for place, note in enumerate(dict.fromkeys(row[at] for row in table.rows if row[at]))}
    rows = tuple((_Noted(row[0], notes.get(row[at], "")), *row[1:]) for row in table.rows)
    return _without(replace(table, rows=rows), NOTE), notes


class _Noted(str):
    """A cell with the letter of a note behind it."""

    letter: str

    def __new__(cls, text: str, letter: str) -> _Noted:
        cell = super().__new__(cls, text)
        cell.letter = letter
        return cell


def _letter(place: int) -> str:
    """Return a, b, …, z, aa, ab, …"""
    more, last = divmod(place, len(ascii_lowercase))
    return (_letter(more - 1) if more else "") + ascii_lowercase[last]


def _without(table: Table, name: str) -> Table:
    at = table.header.index(name)
    rows = tuple(row[:at] + row[at + 1 :] for row in table.rows)
    return replace(table, header=table.header[:at] + table.header[at + 1 :], rows=rows)


def _width(table: Table) -> float:
    return sum(_widths(table)) + 2 * GAP * (len(table.header) - 1)


def _widths(table: Table) -> list[float]:
    """Return how wide each column is in TeX's points, its name in two lines."""
    columns = zip(*(_two_lines(name) for name in table.header), strict=True) if table.header else ()
    texts = [*columns, *table.rows]
    return [max(map(_measure, cells)) for cells in zip(*texts, strict=True)]


def _measure(text: str) -> float:
    letter = text.letter if isinstance(text, _Noted) else ""
    return SPARE * POINTS * text_width(_one_line(text) + letter, SIZE, METRICS)


def _two_lines(name: str) -> tuple[str, str]:
    """Break a column's name where its two lines are shortest; one of a single word stands in the second."""
    words = name.split()
    ways = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    return min(ways, key=lambda lines: max(map(_measure, lines)), default=("", name))


def _tabular(table: Table, room: float) -> str:
    """Return the tabular; where it has no room even so, its first column is a paragraph, as narrow as it must be."""
    widths = _widths(table)
    kinds = ["l" if name in table.text or place == 0 else "r" for place, name in enumerate(table.header)]
    over = _width(table) - room
    if over > 0 and len(widths) > 1:
        kinds[0] = f"p{{{max(widths[0] - over, SIZE * 4):.0f}pt}}"
    begin = r"\raggedright " if kinds and kinds[0].startswith("p") else ""
    names = [_two_lines(name) for name in table.header]
    header = [line for line in zip(*names, strict=True) if any(line)] or [()]
    lines = [_row(cells, begin) for cells in (*header, *table.rows)]
    rules = [r"\toprule", *lines[: len(header)], r"\midrule", *lines[len(header) :], r"\bottomrule"]
    return "\n".join([f"\\begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}", *rules, r"\end{tabular}"])


def _row(cells: Sequence[str], begin: str) -> str:
    return begin + " & ".join(map(_cell, cells)) + r" \\"


_TEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "−": "$-$",
        "–": r"\textendash{}",
        "≥": r"$\geq$",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "…": r"\dots{}",
    },
    **{"′": "'", "·": r"$\cdot$", "|": r"\textbar{}", "`": r"\textasciigrave{}"},
}


def _cell(text: str) -> str:
    """Escape a cell. One that begins a row with [ or * would be an option of the line break before it."""
    escaped = _escape(text)
    if isinstance(text, _Noted) and text.letter:
        escaped += f"\\textsuperscript{{{text.letter}}}"
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def _escape(text: str) -> str:
    """Escape text, in composed letters, which LaTeX knows more of."""
    return LIGATURES.sub("{}", "".join(_TEX.get(letter, letter) for letter in _one_line(text)))


def _one_line(text: str) -> str:
    one_line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter for letter in one_line if letter.isprintable())
