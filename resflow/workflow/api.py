"""resflow from Python: the same as on the command line, with frames and figures in place of files.

    study = resflow.load_study("depth", profile="cpu", seeds=3)
    plan = resflow.plan(study, data="oxford_flowers102")
    run = resflow.run(plan, options=resflow.RunOptions(time_budget="2h"))
    result = resflow.analyse(run)
    result.figure("accuracy")

In a notebook a plan, a run and a result show themselves as tables, and `run` shows its progress.
"""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from resflow import workspace
from resflow.analysis.analyse import Analysis
from resflow.analysis.analyse import analyse as analyse_folder
from resflow.analysis.labels import labels
from resflow.errors import RecordError, one_of
from resflow.records.run import Run, with_factor_values
from resflow.records.run import load_run as load_folder
from resflow.report import figure_list, write
from resflow.report.answer import answer
from resflow.report.headline import Headline, headline
from resflow.study.load import load_study
from resflow.workflow.plan import Plan
from resflow.workflow.plan import make_plan as plan
from resflow.workflow.run import run_plan
from resflow.workflow.run_contract import Reporter, RunOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Plan",
    "Reporter",
    "Result",
    "Run",
    "RunOptions",
    "analyse",
    "load_run",
    "load_study",
    "plan",
    "run",
    "write_report",
]


def load_run(run: str | os.PathLike[str]) -> Run:
    """Read a run by its name below results/ or by its folder: whole, partial, running or failed. Raises RecordError."""
    return load_folder(workspace.run_folder(os.fspath(run)))


def run(plan: Plan, reporter: Reporter | None = None, options: RunOptions | None = None) -> Run:
    """Train what a plan has no record of yet, write its report, and return the run.

    Ctrl-C once, a spent time budget or too many failures end it in good order: the run says which trials have not run,
    and the same call goes on with them. `reporter` hears of the progress; in a notebook it is shown without one.
    Raises as `workflow.run.run_plan`.
    """
    if reporter is None and "ipykernel" in sys.modules:
        from resflow.workflow.notebook import NotebookReporter

        reporter = NotebookReporter()
    return run_plan(plan, options, reporter).run


def write_report(run: Run | str | os.PathLike[str]) -> Path:
    """Write the report of a run into its folder and return the path of its page. Raises RecordError."""
    return write.write_report(_folder(run))


def analyse(run: Run | str | os.PathLike[str]) -> Result:
    """Analyse a run as it lies on disk now, finished or not. Raises RecordError where it holds no trial."""
    return Result(analyse_folder(_folder(run)))


class Result:
    """A run's analysis: frames for people, the answer in words, and its figures.

    Every frame that names an arm has a column for each factor; an effect has one for each of its two arms. Fractions
    are 0..1, differences of accuracy too.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial, planned or recorded."""
        return self.analysis.run.trials

    @cached_property
    def arms(self) -> pd.DataFrame:
        """A row an arm: counts of its trials, the metric's mean over seeds with its 95 % t interval, costs."""
        return with_factor_values(self.analysis.arms, self.analysis.run.factors)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """A row a contrast: the paired difference over seeds, its 95 % t interval, p values and the verdict.

        The levels of its two arms are `arm_FACTOR` and `reference_FACTOR`.
        """
        table = self.analysis.effects.copy()
        for side in ("arm", "reference"):
            values = {f"{side}_{factor}": levels for factor, levels in self.analysis.run.factors.items()}
            columns = [name for name in values if name in table.columns]
            table[columns] = with_factor_values(table, values)[columns]
        return table

    @cached_property
    def labels(self) -> list[str]:
        """Everything that a reader could mistake for more than it is, by rule, a sentence or two each."""
        return [f"{label.word}: {label.text}" for label in labels(self.analysis)]

    @cached_property
    def headline(self) -> Headline:
        """The answer in five seconds: `word` on the study's `claim`, one `sentence`, and the `scope` of both."""
        return headline(self.analysis)

    @cached_property
    def answer(self) -> str:
        """The answer to the study's question, a sentence or a few for each comparison that it declares."""
        return "\n".join(answer(self.analysis))

    @cached_property
    def figures(self) -> list[str]:
        """The names that `figure` takes, in the order of the report."""
        return list(self._drawings)

    def figure(self, name: str, width: float = figure_list.WIDE) -> Figure:
        """Draw one of the report's figures, so many inches wide. Raises RecordError for a name it does not have."""
        if name not in self._drawings:
            raise RecordError(one_of(name, self.figures, "figure of this run"))
        return self._drawings[name](width=width)

    @cached_property
    def _drawings(self) -> dict[str, Callable[..., Figure]]:
        return {entry.name: entry.draw for _, entry in figure_list.list_figures(self.analysis)}

    def _repr_html_(self) -> str:
        """Show the result in a notebook: the answer, its labels, and the arms."""
        notes = "".join(f"<li>{html.escape(label)}</li>" for label in self.labels)
        table = self.arms.to_html(max_rows=40, index=False, border=0, float_format="{:.4g}".format)
        head, lines = self.headline, html.escape(self.answer).replace("\n", "<br>")
        told = f"<strong>{html.escape(head.word)}.</strong> {html.escape(head.sentence)}"
        return f"<p>{told}<br><em>{html.escape(head.scope)}</em></p><p>{lines}</p><ul>{notes}</ul>{table}"


def _folder(run: Run | str | os.PathLike[str]) -> Path:
    return run.folder if isinstance(run, Run) else workspace.run_folder(os.fspath(run))
