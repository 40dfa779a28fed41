"""The tables of a report as text, for HTML and Markdown alike: per cent and points, never fractions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resflow.analysis import seed_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.contrasts import contrasts
from resflow.analysis.degradation import epochs_to, steps
from resflow.analysis.design import BASE, OUTCOMES, Design
from resflow.analysis.effects import seed_differences
from resflow.analysis.verdicts import ABOVE, UNKNOWN
from resflow.report.answer import CHANGES
from resflow.report.formatting import count, duration, interval, known, level, level_interval, number, p_value
from resflow.study.contrast_families import BASELINE, TIMES

ERRORS = (0.5, 0.2, 0.05)  # training errors whose epoch is shown
MOST_SEEDS = 30  # that have a column each
WORDS = frozenset({"helps", "hurts", "equivalent", "undecided", "larger", "smaller", "equal", *OUTCOMES})


@dataclass(frozen=True)
class Table:
    """Header, rows of text and which columns are text (the rest is aligned as numbers)."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: frozenset[str]
    note: str = ""


def _table(title: str, rows: Iterable[dict[str, str]], text: Iterable[str], note: str = "") -> Table:
    """Columns in the order of the first row; one that is empty in every row is left out."""
    rows = list(rows)
    header = tuple(name for name in (rows[0] if rows else ()) if any(row[name] for row in rows))
    cells = tuple(tuple(row[name] for name in header) for row in rows)
    return Table(title, header, cells, frozenset(text), note)


def arms(analysis: Analysis) -> Table:
    """Tabulate arms, one a row: what completed, the metric, the effect against the baseline, and what it cost."""
    measure, table = analysis.design.metric, analysis.effects
    against = (
        table[table["contrast_group"] == BASELINE].set_index("arm") if len(table) else pd.DataFrame(columns=["verdict"])
    )
    rows = [_arm(analysis, arm, against) for _, arm in analysis.arms.iterrows()]
    notes = [f"Means over seeds with 95 % t intervals; {measure.label} of each trial is measured once."]
    if len(against):
        notes.append(
            f"Effects are paired differences from {_base(analysis.design)} over the seeds that both "
            f"completed, Holm-adjusted over the {_declared(analysis)} contrasts that the study declares."
        )
    return _table("Arms", rows, {"Arm", "Not completed", "Verdict", "Note"}, " ".join(notes))


def _arm(analysis: Analysis, arm: pd.Series, against: pd.DataFrame) -> dict[str, str]:
    metric = analysis.design.metric
    unit = f" ({metric.unit})" if metric.unit else ""
    gaps = [f"{arm[name.replace(' ', '_')]} {name}" for name in OUTCOMES[1:] if arm[name.replace(" ", "_")]]
    cells = {
        "Arm": analysis.design.display_name(arm["arm"]),
        "Seeds": f"{arm['completed']}/{arm['planned']}",
        "Not completed": ", ".join(gaps),
        metric.label.capitalize() + unit: level(metric, arm["mean"]),
        "95 % interval": level_interval(metric, arm["low"], arm["high"]),
    }
    if len(against):
        cells |= _effect_cells(analysis, against.loc[arm["arm"]] if arm["arm"] in against.index else None)
    notes = [arm["chance"] if arm["chance"] not in (ABOVE, UNKNOWN) else "", arm["note"]]
    return cells | {
        "Training top-1 (%)": level(metric, arm["train_top1"])
        if metric.unit == "%"
        else number(100 * arm["train_top1"]),
        "Parameters": f"{arm['parameters']:,}" if known(arm["parameters"]) else "–",  # to the digit: parity shows
        "Multiply-adds": count(arm["multiply_adds"]),
        "Time a trial": duration(arm["seconds"]),
        "Note": "; ".join(note for note in notes if note),
    }


def _effect_cells(analysis: Analysis, row: pd.Series | None) -> dict[str, str]:
    metric = analysis.design.metric
    name = f"Effect ({metric.difference_unit})" if metric.difference_unit else "Effect"
    if row is None:
        return {name: "baseline", "Its 95 % interval": "", "Holm p": "", "Verdict": ""}
    return {
        name: number(metric.scale * row["difference"], signed=True),
        "Its 95 % interval": interval(metric.scale * row["low"], metric.scale * row["high"], signed=True),
        "Holm p": p_value(row["p_holm"]),
        "Verdict": row["verdict"],
    }


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
        return f"{group}, the rest equal"
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
        cells = {"Contrast": pair(row, design)}
        if group != BASELINE:
            cells["At"] = row["context"]
        cells |= {"Pairs": f"{row['n']}/{row['n'] + row['missing']}"}
        cells |= _effect_cells(analysis, pd.Series(row))
        word = CHANGES[cells.pop("Verdict")] if row["less"] else cells.pop("Verdict")
        cells["g"] = number(row["g"], signed=True)
        if design.margin is not None:
            cells["TOST p"] = p_value(row["p_equivalence"])
        parity = f"unpaired: {row['unpaired']}" if row["unpaired"] else ""
        rows.append(cells | {"Verdict": word, "Note": "; ".join(filter(None, (row["note"], parity)))})
    note = (
        f"Paired differences over seeds; Holm over all {_declared(analysis)} contrasts that the study declares. "
        "g: the difference over its standard deviation between seeds, corrected for few seeds (Hedges)."
    )
    if (table["less"] != "").any():
        note += " A difference of differences: larger or smaller than at the level it is set against."
    if design.margin is not None:
        note += f" Equivalent: within ±{number(metric.scale * design.margin)} {metric.difference_unit} by TOST."
    return _table(title(group, design), rows, {"Contrast", "At", "Verdict", "Note"}, note)


def _declared(analysis: Analysis) -> int:
    return len(analysis.effects.drop_duplicates(["arm", "reference", "less"]))


def _once(analysis: Analysis) -> list[dict[Hashable, Any]]:
    """Every contrast, those of two groups once."""
    return analysis.effects.drop_duplicates(["arm", "reference", "less"]).to_dict("records")


def _label(row: Mapping[Hashable, Any], design: Design) -> str:
    return f"{pair(row, design)}, {row['context']}" if row["less"] else pair(row, design)


def robustness(analysis: Analysis) -> Table:
    """Tabulate what takes no part in each verdict: another test, the share of seeds, seeds needed."""
    metric, design, rows = analysis.design.metric, analysis.design, []
    for row in _once(analysis):
        smallest = f" (≥ {p_value(row['p_sign_flip_smallest'])})" if known(row["p_sign_flip_smallest"]) else ""
        better = interval(100 * row["better_low"], 100 * row["better_high"]) if known(row["better_low"]) else "–"
        rows.append(
            {
                "Contrast": _label(row, design),
                "t test p": p_value(row["p"]),
                "Sign-flip p": p_value(row["p_sign_flip"]) + smallest,
                "Better in": f"{row['seeds_better']} of {row['seeds_apart']}",
                "P(better) (%)": better,
                "Seeds to resolve it": _seeds(row["seeds_needed"]),
                "With missing at worst and best": _range(row["missing_low"], row["missing_high"], metric.scale),
                "Verdict then": row["missing_verdicts"],
                "Mixed model": number(metric.scale * row["mixed"], signed=True) if known(row["mixed"]) else "",
                "Its 95 % interval": _range(row["mixed_low"], row["mixed_high"], metric.scale) or row["mixed_note"],
            }
        )
    note = (
        "The verdicts do not use these. Sign-flip: exact, assumes symmetry only; in brackets the smallest p that so "
        "many seeds allow. P(better): Clopper and Pearson's 95 % interval from the signs. Seeds to resolve it: for a "
        f"power of {100 * seed_statistics.POWER:.0f} % at p < {seed_statistics.ALPHA:g}, unadjusted, were the "
        "difference and its spread as seen."
    )
    if (analysis.effects["missing"] > 0).any():
        note += (
            " Missing trials: once set to the lowest value of the study (or chance) and once to the highest, against "
            "the arm and for it. Mixed model: arm and a random seed, by REML, over all completed trials."
        )
    return _table("Sensitivity", rows, {"Contrast", "Verdict then"}, note)


def _seeds(needed: float) -> str:
    if not known(needed):
        return "–"
    return f"{needed:.0f}" if needed <= seed_statistics.MOST_SEEDS else f"over {seed_statistics.MOST_SEEDS:,}"


def _range(low: float, high: float, scale: float) -> str:
    return interval(scale * low, scale * high, signed=True) if known(low) else ""


def seeds(analysis: Analysis) -> Table | None:
    """Tabulate every contrast's difference seed by seed; None of more seeds than a page is wide."""
    design = analysis.design
    if analysis.trials["seed"].nunique() > MOST_SEEDS:
        return None
    once = list({contrast.key: contrast for contrast in contrasts(design)}.values())
    frame = seed_differences(analysis.trials, design, once)
    rows = []
    for row, values in zip(_once(analysis), frame.to_numpy(), strict=True):
        cells = {"Contrast": _label(row, design)}
        cells |= {
            f"seed {seed}": number(design.metric.scale * float(value), signed=True)
            for seed, value in zip(frame.columns, values, strict=True)
        }
        rows.append(
            cells | {"Mean": number(design.metric.scale * seed_statistics.mean_interval(values).mean, signed=True)}
        )
    unit = design.metric.difference_unit
    note = f"In {unit}. " if unit else ""
    return _table(
        "Paired differences by seed", rows, {"Contrast"}, f"{note}– where one of its trials did not complete."
    )


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
                "Deeper trains": "worse" if step.worse else "better" if step.better else "undecided",
                "Note": mean.note,
            }
        )
    if not rows:
        return None
    note = (
        "Paired differences over seeds in top-1 error on the clean training images, in inference mode; Holm over these "
        f"{len(rows)}. Degradation is a deeper net that trains worse."
    )
    return _table("Training error by depth", rows, {"Nets", "Depth", "Deeper trains", "Note"}, note)


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
    return _table("Epochs to a training error", rows, {"Arm"}, note)


def trials(analysis: Analysis) -> Table:
    """Tabulate every trial, run or not, with its reason where it did not complete."""
    metric, rows = analysis.design.metric, []
    extra = {"train_top1": "Training top-1 (%)", "validation_top1": "Validation top-1 (%)"}
    extra = {column: name for column, name in extra.items() if column != metric.column}
    for row in analysis.trials.to_dict("records"):
        cells = {
            "Arm": analysis.design.display_name(row["arm"]),
            "Seed": str(row["seed"]),
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
    return _table("Trials", rows, {"Arm", "Status", "Trial", "Reason"}, "Also in trials.csv, as fractions.")
