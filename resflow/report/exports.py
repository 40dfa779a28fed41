"""A run's tables and figures in the forms that papers and programs take."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from resflow import atomic, workspace
from resflow.analysis.analyse import Analysis, analyse
from resflow.errors import RecordError, one_of
from resflow.report import markdown, tables, test_images
from resflow.report.figure_list import export_figures
from resflow.report.tables import Table
from resflow.study.level_columns import column_names

FRAMES = ("csv", "json", "parquet")  # every number, as fractions
PRINTED = ("md", "latex")  # what the report prints, as per cent
PICTURES = ("svg", "png", "pdf")
FORMATS = (*PRINTED, *FRAMES, *PICTURES)
COLUMN = 3.4  # inches: one column of a two-column paper
SUFFIXES = {"latex": "tex"}
LATIN = "\u024f"  # the last letter of the Latin alphabets, as Unicode has them
LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=')(?=')|(?<=,)(?=,)")  # where two letters would become another one


def write_exports(
    run: Path | Analysis, formats: Sequence[str], out: Path | None = None, width: float = COLUMN, force: bool = False
) -> list[Path]:
    """Write a run in each of the `formats` into `out` (by default its folder exports/); returns the files.

    `width` is of figures, in inches. Raises RecordError for an unknown format, or where nothing can be written, and
    ResflowError where files of `out` would be replaced without `force`: exports carry no mark of resflow.
    """
    for name in formats:
        if name not in FORMATS:
            raise RecordError(f"--format: {one_of(name, FORMATS, 'format')}")
    analysis = run if isinstance(run, Analysis) else analyse(run)
    folder = out or analysis.run.folder / workspace.EXPORTS
    contents = {name: content for kind in formats for name, content in _files(analysis, kind, width)}
    if out is not None:
        others = (folder / name for name, content in contents.items() if not atomic.holds(folder / name, content))
        atomic.refuse_to_replace(others, force)
    try:
        for name, content in contents.items():
            atomic.write(folder / name, content)
    except OSError as error:
        raise RecordError(f"cannot write into {folder}: {error}. Choose another folder with --out.") from error
    return [folder / name for name in contents]


def _files(analysis: Analysis, kind: str, width: float) -> Iterator[tuple[str, bytes]]:
    if kind in FRAMES:
        for name, frame in frames(analysis).items():
            yield f"{name}.{kind}", _frame(frame, kind)
    elif kind in PRINTED:
        named: dict[str, Table] = {}
        for table in printed(analysis):
            name = _slug(table.title)
            named[f"{name}-{len(named) + 1}" if name in named else name] = table
        for name, table in named.items():
            text = markdown.section(table) if kind == "md" else latex(table)
            yield f"{name}.{SUFFIXES.get(kind, kind)}", text.encode()
    else:
        for name, data in export_figures(analysis, kind, width):
            yield f"{name}.{kind}", data


def frames(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Return the frames that are exported, by the name of their file."""
    return {
        "trials": analysis.trials,
        "arms": analysis.arms,
        "effects": analysis.effects,
        "epochs": analysis.histories,
    }


def printed(analysis: Analysis) -> list[Table]:
    """Return the tables of the report that are exported."""
    contrasts = tables.effects(analysis) if len(analysis.effects) else []
    hardest = test_images.hardest(analysis)
    return [_arms(analysis), *contrasts, *([hardest] if hardest else [])]


def _arms(analysis: Analysis) -> Table:
    """The report's table of arms, with a column for each factor that varies."""
    table, design = tables.arms(analysis), analysis.design
    names = column_names(design.varied, table.header)
    header = (table.header[0], *names.values(), *table.header[1:])
    rows = tuple(
        (row[0], *(design.arms[arm].get(factor, "") for factor in names), *row[1:])
        for arm, row in zip(analysis.arms["arm"], table.rows, strict=True)
    )
    return replace(table, header=header, rows=rows, text=table.text | set(names.values()))


def _frame(frame: pd.DataFrame, kind: str) -> bytes:
    if kind == "parquet":
        return frame.to_parquet(index=False)
    if kind == "csv":
        return atomic.csv(frame)
    rows = json.loads(frame.to_json(orient="records"))  # NaN becomes null, which JSON has
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()


def latex(table: Table) -> str:
    """Return a booktabs table; the note stands below as its caption's second part."""
    columns = "".join("l" if name in table.text or place == 0 else "r" for place, name in enumerate(table.header))
    lines = [_tex(cells) + r" \\" for cells in (table.header, *table.rows)]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    caption = _escape(f"{table.title}. {table.note}".strip())
    foreign = any(letter > LATIN for letter in caption + body)
    return (
        ("% has letters that pdfLaTeX lacks: use lualatex or xelatex\n" if foreign else "")
        + "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n\\caption{"
        + caption
        + "}\n"
        "\\begin{tabular}{" + columns + "}\n" + body + "\n\\end{tabular}\n\\end{table}\n"
    )


def _tex(cells: Sequence[str]) -> str:
    return " & ".join(map(_cell, cells))


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
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def _escape(text: str) -> str:
    """Escape text, in composed letters, which LaTeX knows more of."""
    one_line = " ".join(unicodedata.normalize("NFC", text).split())
    return LIGATURES.sub("{}", "".join(_TEX.get(letter, letter) for letter in one_line if letter.isprintable()))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "table"
