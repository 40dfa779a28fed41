"""Write the pages and tables of a run: report.html, README.md, trials.csv, effects.csv and figures/.

Everything is computed from the folder's records; the same records give the same bytes. Each file is
replaced whole, so that a reader of a running study never meets half of one.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resflow import atomic, reading, workspace
from resflow.analysis.analyse import Analysis, analyse
from resflow.analysis.design import Design
from resflow.analysis.labels import DEMONSTRATION, labels
from resflow.errors import RecordError
from resflow.report import (
    answer,
    headline,
    markdown,
    paper_claims,
    published,
    run_details,
    sensitivity,
    tables,
    test_images,
    tuning,
    variance_parts,
)
from resflow.report.figure_list import SECTIONS, RenderedFigure, draw_figures, is_figure_file

SCRIPT = (Path(__file__).parent / "templates" / "page.js").read_text(encoding="utf-8")
MARKS = (
    b"resflow report</title>",
    b"<title>resflow reports</title>",
    b"The whole report is [report.html](report.html)",
)
MARKED_WITHIN = 4000  # bytes
DATA_BEHIND = {  # the file or folder that a section's figures are drawn from
    "answer": workspace.TRIALS_TABLE,
    "effects": workspace.EFFECTS,
    "curves": f"{workspace.TRIALS}/",
    "inside": f"{workspace.TRIALS}/",
    "tuning": workspace.LEDGER,
    "costs": workspace.TRIALS_TABLE,
    "classes": f"{workspace.TRIALS}/",
}
GALLERY_BEGIN, GALLERY_END = "<!-- resflow report writes this table -->", "<!-- end of the table -->"
LIMITS = (
    "The interval over seeds assumes roughly normal differences; with few seeds it is wide: undecided is not equal.",
    "Test is evaluated once, at the end of a trial; validation alone selects.",
)
TESTS = {  # by whether the design is sequential: of a difference, of equivalence
    False: ("paired t test is", "two one-sided tests hold"),
    True: ("sequential test, which holds at every look, is", "its sequential interval lies"),
}


def write_report(run_folder: Path, force: bool = False) -> Path:
    """Write the report of one results folder, finished or not, and return the path of its report.html.

    Raises RecordError where the folder holds no run or cannot be written, ResflowError where it holds files of a
    report's names and no report: they are replaced with `force`.
    """
    return write_analysis(analyse(run_folder), force)


def write_analysis(analysis: Analysis, force: bool = False) -> Path:
    """Write the report of a run that was analysed. Returns and raises as `write_report`."""
    run_folder = analysis.run.folder
    figures = draw_figures(analysis)
    page = _page(analysis, figures)
    contents = {
        workspace.REPORT: _render("report.html.j2", **page),  # first: it marks the others as a report's
        **{f"figures/{figure.name}.{kind}": data for figure in figures for kind, data in figure.files.items()},
        workspace.TRIALS_TABLE: atomic.csv(analysis.every_trial),
        workspace.EFFECTS: atomic.csv(analysis.effects),
        **({workspace.SPREAD: atomic.csv(analysis.parts)} if len(analysis.parts) else {}),
        **({workspace.LEDGER: atomic.csv(analysis.ledger)} if analysis.ledger is not None else {}),
        workspace.README: _render("README.md.j2", **page),
    }
    if not any(map(_is_ours, (run_folder / workspace.REPORT, run_folder / workspace.README))):  # the first report
        atomic.refuse_to_replace((run_folder / name for name in contents if name != workspace.LEDGER), force)
    try:
        for name, content in contents.items():
            atomic.write(run_folder / name, content)
        for path in (run_folder / workspace.FIGURES).glob("*"):  # of an earlier report, when other arms had completed
            if is_figure_file(path.name) and f"figures/{path.name}" not in contents:
                path.unlink()
    except OSError as error:
        raise RecordError(
            f"cannot write the report into {run_folder}: {error}. Free space or make the folder writable, "
            "then run `resflow report` again."
        ) from error
    return run_folder / workspace.REPORT


def _is_ours(path: Path) -> bool:
    """Tell whether resflow wrote a page: a report, a run's README, or the index of some."""
    try:
        with reading.open_regular(path) as file:
            head = file.read(MARKED_WITHIN)
    except OSError:
        return False
    return any(mark in head for mark in MARKS)


def write_index(run_folders: Sequence[Path], root: Path | None = None, force: bool = False) -> Path:
    """Write index.html over several reported runs, by default into the folder that holds them all.

    A page of that name which is no index of reports is replaced with `force` alone. Raises RecordError, ResflowError.
    """
    if not run_folders:
        raise RecordError("no run to list: expected at least one results folder.")
    paths = [folder.resolve() for folder in run_folders]
    root = root.resolve() if root else Path(os.path.commonpath([path.parent for path in paths]))
    runs = []
    for path in paths:
        link = os.path.relpath(path / workspace.REPORT, root).replace(os.sep, "/")
        thumbnail = _thumbnail(path)
        runs.append({**_head(analyse(path)), "folder": path.name, "link": quote(link), "thumbnail": ""})
        if thumbnail is not None:
            runs[-1]["thumbnail"] = quote(os.path.relpath(thumbnail, root).replace(os.sep, "/"))
    atomic.refuse_to_replace([root / workspace.INDEX], force, ours=_is_ours)
    try:
        atomic.write(root / workspace.INDEX, _render("index.html.j2", runs=runs))
        _write_gallery(root / workspace.README, runs)
    except OSError as error:
        raise RecordError(f"cannot write {root / 'index.html'}: {error}. Make the folder writable.") from error
    return root / workspace.INDEX


def _thumbnail(run_folder: Path) -> Path | None:
    """Return the first figure of a reported run as a picture, None where it has none."""
    picture = run_folder / workspace.FIGURES / "accuracy.png"
    return picture if picture.is_file() else None


def _write_gallery(readme: Path, runs: list[dict[str, Any]]) -> None:
    """Show the runs as a table between the two marks of a README that has them; no other README is touched."""
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(GALLERY_BEGIN)
    _, end, after = rest.partition(GALLERY_END)
    if begin and end:
        table = _render("gallery.md.j2", runs=runs).decode()
        atomic.write(readme, f"{before}{begin}\n{table}{end}{after}")


def _head(analysis: Analysis) -> dict[str, Any]:
    study, told = analysis.run.study, labels(analysis)
    return {
        "name": str(study.get("name") or analysis.run.folder.resolve().name),
        "question": str(study.get("question") or ""),
        "headline": headline.headline(analysis),
        "answer": [*published.answer(analysis), *answer.answer(analysis)],
        "demo": any(label.word == DEMONSTRATION for label in told),
        "labels": told,
        "completed": analysis.progress[0],
        "total": analysis.progress[1],
    }


def _page(analysis: Analysis, figures: list[RenderedFigure]) -> dict[str, Any]:
    design = analysis.design
    compared = len(analysis.effects) > 0 and bool(analysis.effects["n"].any())
    return {
        **_head(analysis),
        "figures": {name: [one for one in figures if one.section == name] for name in SECTIONS},
        "data_behind": DATA_BEHIND,
        "folder": analysis.run.folder.resolve().name,
        "training": [t for t in (tables.degradation(analysis), tables.convergence(analysis)) if t],
        "claims": paper_claims.table(analysis) if analysis.completed else None,
        "tuned": tuning.tables(analysis.tuning, analysis.space) if analysis.tuning else [],
        "arms": tables.arms(analysis),
        "published": published.table(analysis),
        "spread": variance_parts.table(analysis),
        "effects": tables.effects(analysis) if compared else [],
        "beside": [table for table in _beside(analysis) if table] if compared else [],
        "hardest": test_images.hardest(analysis),
        "trials": tables.trials(analysis),
        "how": run_details.how(analysis),
        "limits": (_of_data(design), *LIMITS),
        "tests": TESTS[design.sequential],
        "words": tables.WORDS,
        "levels": {design.display_name(arm): switches(analysis, arm) for arm in design.arms},
        "script": SCRIPT,
        "script_hash": f"sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}",
    }


def _of_data(design: Design) -> str:
    """Say what data intervals and tests are about."""
    what = "drawn splits" if "split" in design.follows else "one split"
    return (
        f"Intervals and tests are over seeds{design.seeds_of} on {what} of one data source: they say nothing about "
        "other data."
    )


def switches(analysis: Analysis, arm: str) -> dict[str, str]:
    """Return what of an arm a reader may switch off: its levels, or itself where arms differ in one factor each."""
    design = analysis.design
    if design.one_at_a_time:
        return {"arm": design.display_name(arm)}
    return {name: design.arms[arm][name] for name in design.varied}


def _beside(analysis: Analysis) -> list[tables.Table | None]:
    """Return the tables beside the verdicts, which take no part in them."""
    return [
        sensitivity.robustness(analysis),
        test_images.sampled(analysis),
        sensitivity.seeds(analysis),
        sensitivity.looks(analysis),
    ]


def _render(template: str, **values: Any) -> bytes:
    environment = Environment(
        loader=PackageLoader("resflow.report"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # our own figures; matplotlib has escaped their text
    environment.filters["md"] = markdown.escaped
    environment.filters["table"] = markdown.table
    return environment.get_template(template).render(values).encode()
