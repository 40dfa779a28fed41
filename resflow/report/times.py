"""The words of a report about time: a trial's own, that of what trials share, one trial alone."""

from __future__ import annotations

import pandas as pd

from resflow.analysis import times
from resflow.analysis.analyse import Analysis
from resflow.report.formatting import duration, known

UNTOLD = "records do not say what shared features cost: a trial that computed them may have that in its own time"


def cells(arm: pd.Series) -> dict[str, str]:
    """Return an arm's cells about time in the table of arms; of shared work none where no record tells any apart."""
    told, shared = known(arm["shared_seconds"]), arm["shared_seconds"]
    return {
        "Time a trial": duration(arm["seconds"]),
        "Shared work": (duration(shared) if shared else "") if told or not arm["completed"] else "unknown",
        "One trial alone": duration(arm["alone_seconds"]) if told and shared else "",
    }


def table_notes(analysis: Analysis) -> list[str]:
    """Return what the columns of `cells` mean, as far as they are there."""
    arms, notes = analysis.arms, []
    if (arms["shared_seconds"] > 0).any():
        notes.append(
            "Time a trial is its own, the mean. Shared work, which the first trials that need it do for the others, is "
            "a network's graph and the features of a frozen backbone; one trial alone takes both."
        )
    if times.untold(arms):
        notes.append(f"Where shared work is unknown, {UNTOLD}, and the time is the median over the seeds.")
    return notes


def caption(analysis: Analysis) -> str:
    """Return what the figure of costs says about its times."""
    if times.untold(analysis.arms):
        text = f"a trial's own. Of some arms {UNTOLD}. Theirs is the median, without small marks; no front in time"
    else:
        text = "of one trial alone: its own, and that of the work that trials share"
    text = f"Time is wall time on the hardware named below, with evaluation, {text}."
    number = len(times.busy([record for record in analysis.records if record.status == "completed"]))
    return text + (f" {number} of the {analysis.completed} trials ran on a busy machine." if number else "")
