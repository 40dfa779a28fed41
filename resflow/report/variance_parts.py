"""The parts of a spread as a table: initialisation, order and split, each alone and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from resflow.analysis.analyse import Analysis
from resflow.analysis.design import Design
from resflow.analysis.variance_parts import ALL
from resflow.report.formatting import interval, known, number
from resflow.report.tables import Table, make_table
from resflow.study.level_columns import VARIES
from resflow.study.variation import NAMES


def table(analysis: Analysis) -> Table | None:
    """Tabulate the standard deviations of the study's metric by part; None of a study without parts."""
    design, parts = analysis.design, analysis.parts
    rows: dict[tuple[str, ...], dict[str, dict[Any, Any]]] = {}
    for row in parts[parts["metric"] == design.metric.column].to_dict("records"):
        rows.setdefault((row["arm"], row["reference"], row["less"]), {})[row[VARIES]] = row
    if not rows:
        return None
    unit = f", in {design.metric.difference_unit}" if design.metric.difference_unit else ""
    note = (
        f"Standard deviations over seeds of {design.metric.label}{unit}, of arms and of paired differences, with 95 % "
        "chi-squared intervals, which cover too seldom where values are skewed or have outliers. Where one part varies "
        "the others are those of the first seed. Added up: the root of the parts' summed squares, which is the spread "
        "of all together where parts do not interact; where they do, an interaction is in several parts, and they come "
        "to more. Of few seeds all of this is rough, as the intervals say."
    )
    if "split" in design.parts:
        note += " The split decides which images are tested on as well."
    return make_table("Parts of the spread", [_cells(*row, design) for row in rows.items()], {"Of"}, note)


def _cells(what: tuple[str, ...], parts: Mapping[str, Mapping[Any, Any]], design: Design) -> dict[str, str]:
    """Return a row: an arm or a contrast, each part, all together, and the parts added up."""
    (arm, reference, less), scale = what, design.metric.scale
    name = design.display_name(arm) + (f" − {design.display_name(reference)}" if reference else "")

    def shown(row: Mapping[Any, Any]) -> str:
        limits = interval(scale * row["low"], scale * row["high"]) if known(row["low"]) else row["note"]
        return f"{number(scale * row['sd'])} ({limits})"

    added = math.sqrt(sum(parts[part]["sd"] ** 2 for part in design.parts))
    return {
        "Of": f"{name}, less {less}" if less else name,
        **{NAMES[part].removeprefix("the ").capitalize(): shown(parts[part]) for part in design.parts},
        "All together": shown(parts[ALL]),
        "Parts added up": number(scale * added),
    }
