"""What the seeds of a study can resolve, in a sentence and as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from resflow.analysis import holm, power
from resflow.analysis.design import Design
from resflow.analysis.resolution import compared, smallest_effect_of
from resflow.report.formatting import known, number
from resflow.report.tables import Table, make_table, pair

PROMISE = f"with {100 * power.POWER:.0f} % power at p < {holm.ALPHA:g} after Holm"


def tell_standardised(design: Design, seeds: int) -> str:
    """Say what so many seeds resolve where no spread is known, in standard deviations; empty without a comparison."""
    if not (declared := len(compared(design))):
        return ""
    if seeds < 2:
        return "One seed decides nothing: no interval and no test can be given."
    smallest = smallest_effect_of(design)(seeds, holm.first_level(declared), power.Variation())
    what = f"{_at_most(design)}{seeds} seeds and {declared} comparison{'s' if declared > 1 else ''}"
    return (
        f"{what}: a difference of {number(smallest)} standard deviations over seeds is found {PROMISE}; --prior RUN "
        f"tells it in {design.metric.difference_unit or 'its own unit'}, by that run's spread."
    )


def table(rows: pd.DataFrame, design: Design, seeds: int, prior: str) -> Table:
    """Tabulate `analysis.resolution`, in the metric's own unit."""
    scale, margin, cells = design.metric.scale, design.margin, []
    number_of_seeds = f"{_at_most(design).lower()}{seeds} seed{'s' if seeds > 1 else ''}"
    for row in rows.to_dict("records"):
        at = f", {row['context']}" if row["less"] else ""
        cells.append(
            {
                "Comparison": pair(row, design) + at,
                "Its seeds": str(row["prior_seeds"]),
                "Spread": number(scale * row["sd"]),
                "At most": number(scale * row["sd_upper"]),
                "Found from": number(scale * row["smallest"]),
                "Margin found with": seed_count(row["margin_found"]) if margin else "",
                "Equivalent with": seed_count(row["margin_equivalent"]) if margin else "",
            }
        )
    unit = f", in {design.metric.difference_unit}" if design.metric.difference_unit else ""
    note = (
        f"By {prior}: the spread of its paired differences over seeds{unit}, and the upper "
        f"{100 * power.ASSURANCE:.0f} % confidence limit of that, by which all else goes. Found from: the smallest "
        f"difference that {number_of_seeds} find {PROMISE}."
    )
    if margin:
        most = float(np.nanmax(rows[["margin_found", "margin_equivalent"]].to_numpy(dtype=float)))
        note += (
            f" Margin: ± {number(scale * margin)}; so many seeds, chosen beforehand, find a difference as large, "
            "and show that arms without one are equivalent, as often: all of it needs "
            f"{seed_count(most)}."
        )
    return make_table(f"What {number_of_seeds} can resolve", cells, {"Comparison"}, note)


def _at_most(design: Design) -> str:
    return "At most " if design.sequential else ""


def seed_count(needed: float) -> str:
    """Format how many seeds are needed."""
    if not known(needed):
        return "–"
    return f"{needed:.0f}" if needed <= power.MOST_SEEDS else f"over {power.MOST_SEEDS:,}"
