"""What the seeds of a plan can resolve, before it runs: by theory alone, or by the spread of a prior run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from resflow import workspace
from resflow.analysis import analyse
from resflow.analysis.design import Design, design
from resflow.analysis.resolution import resolution
from resflow.errors import RecordError
from resflow.records.run import Run
from resflow.report import resolution as told
from resflow.report.tables import Table
from resflow.study.trial import plan_rows
from resflow.study.variation import name_streams
from resflow.workflow.plan import Plan


def design_of(plan: Plan) -> Design:
    """Return the design of a plan's study as its run will be read; its arms are those that have trials."""
    written = plan.searches.study if plan.searches else plan.study
    return design(Run(plan.run, (), {}, pd.DataFrame(plan_rows(plan.trials)), written.resolved()))


def tell_resolution(plan: Plan) -> str:
    """Say in standard deviations what the seeds of a plan can resolve; empty where nothing is compared yet."""
    return told.tell_standardised(design_of(plan), len(plan.study.seeds)) if plan.trials else ""


def resolution_table(plan: Plan, prior: str | Path) -> Table:
    """Tabulate what the seeds of a plan can resolve by the spread of a prior run, given by its name or path.

    Raises RecordError where that run has none of the plan's comparisons over two seeds.
    """
    if not plan.trials:
        raise RecordError(
            f"the arms of {plan.study.name} are not known before its search is complete: expected a study whose "
            "trials can be planned. Run it first, `resflow tune`, then plan with --prior."
        )
    folder = workspace.run_folder(prior)
    before, wanted = analyse.analyse(folder), design_of(plan)
    if wanted.metric.column not in before.trials:
        raise RecordError(
            f"--prior {prior}: no trial of it has {wanted.metric.column}, the metric of {plan.study.name}. Name a run "
            "that has, or set another metric."
        )
    seeds = len(plan.study.seeds)
    rows = resolution(wanted, seeds, before.trials, before.predictions)
    if rows.empty or rows["sd_upper"].isna().all():
        raise RecordError(
            f"--prior {prior}: none of the comparisons of {plan.study.name} has a spread there: expected two completed "
            f"seeds at least of arms that are called as here ({', '.join(list(wanted.arms)[:6])}), got "
            f"{', '.join(list(before.design.arms)[:6])}. Name a run of this study."
        )
    theirs = {record.data.get("fingerprint") for record in before.records}
    other = "" if theirs & {trial.fingerprint for trial in plan.trials} else ", which ran on other data"
    if before.design.follows != wanted.follows:
        other += f", whose seeds vary {name_streams(before.design.follows)}"
    return told.table(rows, wanted, seeds, f"{folder.name}{other}")
