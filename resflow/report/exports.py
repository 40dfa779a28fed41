"""A run's tables and figures in the forms that papers and programs take."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from resflow import atomic, workspace
from resflow.analysis.analyse import Analysis, analyse
from resflow.errors import RecordError, one_of
from resflow.figures.style import drawn_for, to_file
from resflow.report import markdown, tables, test_images, variance_parts
from resflow.report.figure_list import list_figures
from resflow.report.latex import latex
from resflow.report.presets import PAPER, Preset
from resflow.report.tables import Table
from resflow.study.level_columns import column_names

FRAMES = ("csv", "json", "parquet")  # every number, as fractions
PRINTED = ("md", "latex")  # what the report prints, as per cent
PICTURES = ("svg", "png", "pdf")
FORMATS = (*PRINTED, *FRAMES, *PICTURES)
SUFFIXES = {"latex": "tex"}


def write_exports(
    run: Path | Analysis,
    formats: Sequence[str],
    out: Path | None = None,
    force: bool = False,
    preset: Preset = PAPER,
) -> list[Path]:
    """Write a run in each of the `formats` into `out` (by default its folder exports/); returns the files.

    Figures and LaTeX tables fit the `preset`. Raises RecordError for an unknown format, or where nothing can be
    written, and ResflowError where files of `out` would be replaced without `force`: exports carry no mark of resflow.
    """
    for name in formats:
        if name not in FORMATS:
            raise RecordError(f"--format: {one_of(name, FORMATS, 'format')}")
    analysis = run if isinstance(run, Analysis) else analyse(run)
    folder = out or analysis.run.folder / workspace.EXPORTS
    contents = {name: content for kind in formats for name, content in _files(analysis, kind, preset)}
    if out is not None:
        others = (folder / name for name, content in contents.items() if not atomic.holds(folder / name, content))
        atomic.refuse_to_replace(others, force)
    try:
        for name, content in contents.items():
            atomic.write(folder / name, content)
    except OSError as error:
        raise RecordError(f"cannot write into {folder}: {error}. Choose another folder with --out.") from error
    return [folder / name for name in contents]


def _files(analysis: Analysis, kind: str, preset: Preset) -> Iterator[tuple[str, bytes]]:
    if kind in FRAMES:
        for name, frame in frames(analysis).items():
            yield f"{name}.{kind}", _frame(frame, kind)
    elif kind in PRINTED:
        named: dict[str, Table] = {}
        for table in printed(analysis):
            name = _slug(table.title)
            named[f"{name}-{len(named) + 1}" if name in named else name] = table
        for name, table in named.items():
            text = markdown.section(table) if kind == "md" else latex(table, preset, name)
            yield f"{name}.{SUFFIXES.get(kind, kind)}", text.encode()
    else:
        with drawn_for(preset.page):
            entries = [entry for _, entry in list_figures(analysis)]
            figures = [(entry.name, to_file(entry.draw(width=preset.page.width), kind)) for entry in entries]
        yield from ((f"{name}.{kind}", data) for name, data in figures)


def frames(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Return the frames that are exported, by the name of their file."""
    return {
        "trials": analysis.every_trial,
        "arms": analysis.arms,
        "effects": analysis.effects,
        "epochs": analysis.histories,
        **({"spread": analysis.parts} if len(analysis.parts) else {}),
    }


def printed(analysis: Analysis) -> list[Table]:
    """Return the tables of the report that are exported."""
    contrasts = tables.effects(analysis) if len(analysis.effects) else []
    hardest = test_images.hardest(analysis)
    parts = variance_parts.table(analysis)
    return [_arms(analysis), *(table for table in (parts, *contrasts, hardest) if table)]


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


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "table"
