"""The tables of a report as text, for HTML and Markdown alike: per cent and points, never fractions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resflow.analysis.analyse import Analysis
from resflow.analysis.chance import ABOVE, UNKNOWN
from resflow.analysis.degradation import epochs_to, steps
from resflow.analysis.design import BASE, OUTCOMES, Design
from resflow.analysis.verdicts import BOTH, SEEDS
from resflow.report import times
from resflow.report.answer import CHANGES, VERDICTS
from resflow.report.formatting import (
    count,
    duration,
    interval,
    known,
    level,
    level_interval,
    number,
    one_unit,
    p_value,
    signed_interval,
)
from resflow.study.contrast_families import BASELINE, TIMES
from resflow.study.level_columns import VARIES
from resflow.study.variation import name_seed

ERRORS = (0.5, 0.2, 0.05)  # training errors whose epoch is shown
WORDS = frozenset({*VERDICTS, *CHANGES, *OUTCOMES})


@dataclass(frozen=True)
class Table:
    """Header, rows of text and which columns are text (the rest is aligned as numbers)."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: frozenset[str]
    note: str = ""


def make_table(title: str, rows: Iterable[dict[str, str]], text: Iterable[str], note: str = "") -> Table:
    """Return a table with the columns of the first row in their order; one that is empty in every row is left out.

    Quantities of a column are in one unit.
    """
    rows = list(rows)
    header = tuple(name for name in (rows[0] if rows else ()) if any(row[name] for row in rows))
    columns = [one_unit([row[name] for row in rows]) for name in header]
    return Table(title, header, tuple(zip(*columns, strict=True)), frozenset(text), note)


def arms(analysis: Analysis) -> Table:
    """Tabulate arms, one a row: what completed, the metric, the effect against the baseline, and what it cost."""
    measure, table = analysis.design.metric, analysis.effects
    against = (
        table[table["contrast_group"] == BASELINE].set_index("arm") if len(table) else pd.DataFrame(columns=["verdict"])
    )
    rows = [_arm(analysis, arm, against) for _, arm in analysis.arms.iterrows()]
    kind = "sequential" if analysis.design.sequential else "t"
    notes = [
        f"Means over seeds with 95 % {kind} intervals over seeds{analysis.design.seeds_of}, on a scale that keeps them "
        "within what can be; "
        f"{measure.label} of each trial is measured once."
    ]
    if (analysis.arms["failure_rate"] > 0).any():
        notes.append("Failed: the share of trials that failed or diverged, with Clopper and Pearson's 95 % interval.")
    if len(against):
        notes.append(
            f"Effects are paired differences from {_base(analysis.design)} over the seeds that both "
            f"completed, with intervals over {tell_over(against, analysis.design)}; p is {_adjusted(analysis)}, and "
            "intervals are not."
        )
    notes += times.table_notes(analysis)
    return make_table("Arms", rows, {"Arm", "Not completed", "Verdict", "Note"}, " ".join(notes))


def _arm(analysis: Analysis, arm: pd.Series, against: pd.DataFrame) -> dict[str, str]:
    metric = analysis.design.metric
    unit = f" ({metric.unit})" if metric.unit else ""
    gaps = [f"{arm[name.replace(' ', '_')]} {name}" for name in OUTCOMES[1:] if arm[name.replace(" ", "_")]]
    cells = {
        "Arm": analysis.design.display_name(arm["arm"]),
        "Seeds": f"{arm['completed']}/{arm['planned']}",
        **({"Verdict": ""} if len(against) else {}),  # in sight on a phone
        "Not completed": ", ".join(gaps),
        "Failed (%)": _failures(arm) if (analysis.arms["failure_rate"] > 0).any() else "",
        metric.label.capitalize() + unit: level(metric, arm["mean"]),
        "95 % interval": level_interval(metric, arm["low"], arm["high"]),
    }
    if len(against):
        cells |= _effect_cells(analysis, against.loc[arm["arm"]] if arm["arm"] in against.index else None)
    collapsed = f"{arm['collapsed']} of {arm['n']} collapsed" if arm["collapsed"] else ""
    notes = [arm["chance"] if arm["chance"] not in (ABOVE, UNKNOWN) else "", collapsed, arm["note"]]
    return cells | {
        "Training top-1 (%)": level(metric, arm["train_top1"])
        if metric.unit == "%"
        else number(100 * arm["train_top1"]),
        "Parameters": f"{arm['parameters']:,}" if known(arm["parameters"]) else "–",  # to the digit: parity shows
        "Multiply-adds": count(arm["multiply_adds"]),
        **times.cells(arm),
        "Note": "; ".join(note for note in notes if note),
    }


def _failures(arm: pd.Series) -> str:
    return f"{number(100 * arm['failure_rate'])} ({interval(100 * arm['failure_low'], 100 * arm['failure_high'])})"


def _effect_cells(analysis: Analysis, row: pd.Series | None) -> dict[str, str]:
    metric = analysis.design.metric
    name = f"Effect ({metric.difference_unit})" if metric.difference_unit else "Effect"
    if row is None:
        return {"Verdict": "", name: "baseline", "Its 95 % interval": "", "Holm p": ""}
    return {
        "Verdict": row["verdict"],
        name: number(metric.scale * row["difference"], signed=True),
        "Its 95 % interval": interval(metric.scale * row["low"], metric.scale * row["high"], signed=True),
        "Holm p": p_value(row["p_holm"]),
    }


def tell_over(table: pd.DataFrame, design: Design) -> str:
    """Say what the intervals of some contrasts are over, and what seeds vary where that is not what is usual."""
    return " or ".join(over.replace(SEEDS, f"{SEEDS}{design.seeds_of}") for over in dict.fromkeys(table["over"]))


def effects(analysis: Analysis) -> list[Table]:
    """Return a table a contrast group: the baseline's, one a factor at fixed levels of the others, interactions."""
    table = analysis.effects
    groups = list(dict.fromkeys(table["contrast_group"])) if len(table) else []
    return [_group(analysis, group, table[table["contrast_group"] == group]) for group in groups]


def _base(design: Design) -> str:
    """The baseline, with its whole name where it is not called by it."""
    name = design.display_name(design.baseline or "")
    return f"{name} ({design.baseline})" if name == BASE else name


def title(group: str, design: Design) -> str:
    """Return the title of a contrast group's table."""
    if group == BASELINE:
        return f"Against {_base(design)}"
    if group in design.varied:
        return f"Effects of {group}"
    factor, by = group.split(TIMES)
    return f"How the difference in {factor} changes with {by}"


def pair(row: Mapping[Hashable, Any], design: Design) -> str:
    """Name a contrast in short: of an interaction the levels, since four arms are too many for a cell."""
    if not row["less"]:
        return f"{design.display_name(row['arm'])} − {design.display_name(row['reference'])}"
    factor = str(row["contrast_group"]).split(TIMES)[0]
    return " − ".join(design.arms[str(row[side])][factor] for side in ("arm", "reference"))


def _group(analysis: Analysis, group: str, table: pd.DataFrame) -> Table:
    design, metric = analysis.design, analysis.design.metric
    rows = []
    for row in table.to_dict("records"):
        cells = {"Contrast": pair(row, design), "Verdict": ""}  # second, likewise
        if group != BASELINE:
            cells["At"] = row["context"]
        cells |= _effect_cells(analysis, pd.Series(row))
        cells["Verdict"] = row["change"] or row["verdict"]
        cells["Pairs"] = f"{row['n']}/{row['n'] + row['missing']}"
        for name, side in (("Over seeds", "seeds"), ("Over images", "images")):
            shown = row["over"] == BOTH
            cells[name] = signed_interval(row[f"{side}_low"], row[f"{side}_high"], metric.scale) if shown else ""
        cells["g"] = number(row["g"], signed=True)
        if design.margin is not None:
            cells["Equivalence p" if design.sequential else "TOST p"] = p_value(row["p_equivalence_holm"])
        parity = f"unpaired: {row['unpaired']}" if row["unpaired"] else ""
        notes = filter(None, (row["note"], _welch(row, metric.scale), parity))
        rows.append(cells | {"Note": "; ".join(notes)})
    note = (
        f"Paired differences. Each 95 % interval is over {tell_over(table, design)}, and for itself: of many some "
        f"miss. p is {_adjusted(analysis)}. "
        "g: the difference over its standard deviation between seeds, corrected for few seeds (Hedges)."
    )
    if (table["less"] != "").any():
        note += (
            " A difference of differences: a gain, or a loss, that is larger or smaller than at the level it is set "
            "against."
        )
    if design.margin is not None:
        note += (
            f" Equivalent: within ±{number(metric.scale * design.margin)} {metric.difference_unit} by "
            f"{'the sequential interval' if design.sequential else 'TOST'}, Holm-adjusted as well."
        )
    return make_table(title(group, design), rows, {"Contrast", "At", "Verdict", "Note"}, note)


def _welch(row: Mapping[Hashable, Any], scale: float) -> str:
    """Tell the unpaired estimate of two arms that ran on different seeds."""
    if not known(row["welch"]):
        return ""
    limits = signed_interval(row["welch_low"], row["welch_high"], scale)
    return f"not paired, by other seeds: {number(scale * row['welch'], signed=True)} (Welch, {limits})"


def _adjusted(analysis: Analysis) -> str:
    """Say what Holm's correction is over."""
    declared = len(analysis.effects.drop_duplicates(["arm", "reference", "less"]))
    contrasts = "the one contrast" if declared == 1 else f"all {declared} contrasts"
    return f"Holm-adjusted over {contrasts} that the study declares"


def degradation(analysis: Analysis) -> Table | None:
    """Tabulate each net's training error against the next shallower one's; None where depth does not vary."""
    rows = []
    for step in steps(analysis.trials, analysis.design):
        mean = step.difference
        rows.append(
            {
                "Nets": step.series or "all",
                "Depth": f"{step.depth} − {step.shallower}",
                "Training error (points)": number(100 * mean.mean, signed=True),
                "95 % interval": interval(100 * mean.low, 100 * mean.high, signed=True),
                "Holm p": p_value(step.p_holm),
                "Deeper trains": step.word,
                "Note": step.note,
            }
        )
    if not rows:
        return None
    note = (
        "Paired differences over seeds in top-1 error on the clean training images, in inference mode; Holm over these "
        f"{len(rows)}. Degradation is a deeper net that trains worse."
    )
    return make_table("Training error by depth", rows, {"Nets", "Depth", "Deeper trains", "Note"}, note)


def convergence(analysis: Analysis) -> Table | None:
    """Tabulate epochs to the training errors ERRORS: the mean over the seeds that came there, and how many did."""
    if analysis.histories.empty or "train_top1" not in analysis.histories:
        return None
    epochs = {error: epochs_to(analysis.histories, error) for error in ERRORS}
    rows = []
    for arm in analysis.design.arms:
        cells = {"Arm": analysis.design.display_name(arm)}
        for error, frame in epochs.items():
            values = frame.loc[frame["arm"] == arm, "epochs"]
            reached = values.dropna()
            text = f"{reached.mean():.1f}" if len(reached) else "–"
            cells[f"To {100 * error:.0f} % error"] = text + (
                f" ({len(reached)} of {len(values)})" if len(reached) < len(values) else ""
            )
        rows.append(cells)
    note = "Epochs, the mean over seeds; in brackets how many seeds came there, where not all did."
    if analysis.histories["train_top1"].isna().any():
        note += " Training error was not measured in every epoch: it may have come there earlier."
    return make_table("Epochs to a training error", rows, {"Arm"}, note)


def trials(analysis: Analysis) -> Table:
    """Tabulate every trial, run or not, with its reason where it did not complete."""
    metric, rows = analysis.design.metric, []
    extra = {"train_top1": "Training top-1 (%)", "validation_top1": "Validation top-1 (%)"}
    extra = {column: name for column, name in extra.items() if column != metric.column}
    for row in analysis.every_trial.to_dict("records"):
        cells = {
            "Arm": analysis.design.display_name(row["arm"]),
            "Seed": name_seed(row["seed"], row.get(VARIES, "")),
            "Status": row["status"],
            metric.axis_label[:1].upper() + metric.axis_label[1:]: level(metric, row[metric.column]),
        }
        for column, name in extra.items():
            cells[name] = f"{100 * row[column]:.1f}" if known(row.get(column)) else "–"
        best = f" (best {row['best_epoch']})" if known(row["best_epoch"]) else ""
        cells |= {
            "Epochs": f"{count(row['epochs_run'])}{best}",
            "Time": duration(row["seconds"]),
            "Trial": row["id"],
            "Reason": row["reason"],
        }
        rows.append(cells)
    return make_table("Trials", rows, {"Arm", "Status", "Trial", "Reason"}, "Also in trials.csv, as fractions.")
