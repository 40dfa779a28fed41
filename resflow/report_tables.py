"""The tables of a report as text, for HTML and Markdown alike: per cent and points, never fractions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resflow import stats
from resflow.analysis import Analysis
from resflow.effects import ABOVE, BASELINE, UNKNOWN, contrasts, seed_differences
from resflow.metrics import metric
from resflow.report_words import count, duration, interval, known, level, level_interval, number, p_value
from resflow.results import OUTCOMES

MOST_SEEDS = 30  # that have a column each
WORDS = frozenset({"helps", "hurts", "equivalent", "undecided", *OUTCOMES})


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
    """An arm a row: what completed, the metric, the effect against the baseline, and what it cost."""
    measure, table = analysis.design.metric, analysis.effects
    against = table[table["family"] == BASELINE].set_index("arm") if len(table) else pd.DataFrame(columns=["verdict"])
    rows = [_arm(analysis, arm, against) for _, arm in analysis.arms.iterrows()]
    notes = [f"Means over seeds with 95 % t intervals; {measure.label} of each trial is measured once."]
    if len(against):
        notes.append(
            f"Effects are paired differences from {analysis.design.baseline} over the seeds that both "
            f"completed, Holm-adjusted over {len(against)} contrasts."
        )
    return _table("Arms", rows, {"Arm", "Not completed", "Verdict", "Note"}, " ".join(notes))


def _arm(analysis: Analysis, arm: pd.Series, against: pd.DataFrame) -> dict[str, str]:
    metric = analysis.design.metric
    unit = f" ({metric.unit})" if metric.unit else ""
    gaps = [f"{arm[name.replace(' ', '_')]} {name}" for name in OUTCOMES[1:] if arm[name.replace(" ", "_")]]
    cells = {
        "Arm": arm["arm"],
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
    """A table a family of contrasts: the baseline's, and one a factor at fixed levels of the others."""
    table = analysis.effects
    families = list(dict.fromkeys(table["family"])) if len(table) else []
    return [_family(analysis, family, table[table["family"] == family]) for family in families]


def _family(analysis: Analysis, family: str, mine: pd.DataFrame) -> Table:
    design, metric = analysis.design, analysis.design.metric
    rows = []
    for row in mine.to_dict("records"):
        cells = {"Contrast": f"{row['arm']} − {row['reference']}"}
        if family != BASELINE:
            cells["At"] = row["context"]
        cells |= {"Pairs": f"{row['n']}/{row['n'] + row['missing']}"}
        cells |= _effect_cells(analysis, pd.Series(row))
        word = cells.pop("Verdict")
        smallest = f" (≥ {p_value(row['p_sign_flip_smallest'])})" if known(row["p_sign_flip_smallest"]) else ""
        cells |= {"t test p": p_value(row["p"]), "Sign-flip p": p_value(row["p_sign_flip"]) + smallest}
        if design.margin is not None:
            cells["TOST p"] = p_value(row["p_equivalence"])
        parity = f"unpaired: {row['unpaired']}" if row["unpaired"] else ""
        rows.append(cells | {"Verdict": word, "Note": "; ".join(filter(None, (row["note"], parity)))})
    title = f"Against {design.baseline}" if family == BASELINE else f"{family}, the rest equal"
    note = (
        f"Holm over these {len(mine)} contrasts; one that also stands in another table takes the larger "
        "of its adjusted p. Sign-flip: exact, a sensitivity line; in brackets the smallest p that so "
        "many pairs allow."
    )
    if design.margin is not None:
        note += f" Equivalent: within ±{number(metric.scale * design.margin)} {metric.difference_unit} by TOST."
    return _table(title, rows, {"Contrast", "At", "Verdict", "Note"}, note)


def seeds(analysis: Analysis) -> Table | None:
    """Every contrast's difference seed by seed; None of more seeds than a page is wide."""
    design = analysis.design
    if analysis.trials["seed"].nunique() > MOST_SEEDS:
        return None
    pairs = {(c.arm, c.reference): c for c in contrasts(design)}
    frame = seed_differences(analysis.trials, design, pairs.values())
    rows = []
    for (arm, reference), values in zip(pairs, frame.to_numpy(), strict=True):
        cells = {"Contrast": f"{arm} − {reference}"}
        cells |= {
            f"seed {seed}": number(design.metric.scale * float(value), signed=True)
            for seed, value in zip(frame.columns, values, strict=True)
        }
        rows.append(cells | {"Mean": number(design.metric.scale * stats.mean_interval(values).mean, signed=True)})
    unit = design.metric.difference_unit
    note = f"In {unit}. " if unit else ""
    return _table("Paired differences by seed", rows, {"Contrast"}, f"{note}– where one of the two did not complete.")


def trials(analysis: Analysis) -> Table:
    """Every trial, run or not, with its reason where it did not complete."""
    metric, rows = analysis.design.metric, []
    extra = {"train_top1": "Training top-1 (%)", "validation_top1": "Validation top-1 (%)"}
    extra = {column: name for column, name in extra.items() if column != metric.column}
    for row in analysis.trials.to_dict("records"):
        cells = {
            "Arm": row["arm"],
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


def how(analysis: Analysis) -> list[tuple[str, str]]:
    """How it was run, key by key; values that differ between records stand side by side."""
    study, kept = analysis.run.study, analysis.records
    data, provenance = [r.data for r in kept], [r.provenance for r in kept]
    rows = [
        ("Data", _join(data, "source")),
        ("Images", _images(data)),
        ("Normalisation", _normalisations(data)),
        ("Weights", _weights([r.network for r in kept])),
        (
            "Split",
            f"{_join(data, 'split')}, split seed {_values(r.split_seed for r in kept)}" if kept else "",
        ),
        ("Split hash", _join(data, "split_hash")),
        ("Data fingerprint", _join(data, "fingerprint")),
        ("Chance", _chance(analysis)),
        ("Seeds", ", ".join(str(seed) for seed in sorted(analysis.trials["seed"].unique()))),
        ("Profile", str(study.get("profile") or "none")),
        (
            "Factors",
            "; ".join(f"{name}: {', '.join(labels)}" for name, labels in analysis.design.factors.items()),
        ),
    ]
    rows += [(f"{group.capitalize()} settings", _settings(analysis, group)) for group in ("network", "recipe", "data")]
    rows += [
        ("Execution", _mapping([r.execution for r in kept])),
        ("Stem", _join([r.network for r in kept], "stem")),
        ("Versions", _mapping([p.get("versions") or {} for p in provenance])),
        ("Python", _join(provenance, "python")),
        ("Hardware", _hardware(provenance)),
        ("Git commit", _join(provenance, "git_commit")),
        ("Ran", _span(provenance)),
        ("Time of all trials", duration(float(sum(r.seconds for r in kept))) if kept else ""),
        ("Command", command(analysis)),
    ]
    return [(key, value) for key, value in rows if value]


def _chance(analysis: Analysis) -> str:
    chance = analysis.chance
    if not known(chance.level):
        return chance.why
    judged = metric(chance.judged_by)
    return f"{judged.label} {level(judged, chance.level)} {judged.unit}: {chance.why}"


def command(analysis: Analysis) -> str:
    """What repeats the run: the command that study.yaml carries, or the study as it ran."""
    study = analysis.run.study
    if study.get("command"):
        return str(study["command"])
    if not study:
        return ""
    file = f"results/{analysis.run.folder.resolve().name}/study.yaml"
    return f"resflow study {shlex.quote(file)} --out NEW-FOLDER"


def _values(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(_plain(value) for value in values if value is not None and value != ""))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _join(mappings: list[dict[str, Any]], key: str) -> str:
    return _values(mapping.get(key) for mapping in mappings)


def _mapping(mappings: list[dict[str, Any]]) -> str:
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    return ", ".join(f"{key} {value}" for key in keys if (value := _join(mappings, key)))


def _images(data: list[dict[str, Any]]) -> str:
    size = _join(data, "image_size")
    parts = [f"{size} × {size} pixels"] if size else []
    parts += [f"{value} classes" for value in [_join(data, "classes")] if value]
    parts += [f"{_join(data, key)} {name}" for key, name in _SPLITS.items() if _join(data, key)]
    return ", ".join(parts)


def _normalisations(data: list[dict[str, Any]]) -> str:
    """Means and deviations of the pixels' normalisation, in 0..255; several where arms differ."""
    found = [d["normalisation"] for d in data if isinstance(d.get("normalisation"), dict)]
    return _values(
        f"(pixel − {_triple(one.get('mean'))}) / {_triple(one.get('deviation'))}, RGB in 0..255" for one in found
    )


def _triple(values: Any) -> str:
    return f"({', '.join(f'{value:.5g}' for value in values)})" if isinstance(values, list | tuple) else "?"


def _weights(networks: list[dict[str, Any]]) -> str:
    """Where pretrained weights came from, and the first digits of their files' sha256."""
    return _values(
        f"{one['weights']} (sha256 {str(one.get('weights_digest'))[:12]})" for one in networks if one.get("weights")
    )


_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


def _settings(analysis: Analysis, group: str) -> str:
    """The settings of one group that all trials share, from the records, or from study.yaml before any."""
    sections = [record.settings.get(group) or {} for record in analysis.records]
    if not sections:
        study = analysis.run.study
        sections = [dict(study.get(group) or (study.get("settings") or {}).get(group) or {})]
    keys = dict.fromkeys(key for section in sections for key in section)
    shown = []
    for key in keys:
        different = list(dict.fromkeys(_plain(section[key]) for section in sections if key in section))
        if key not in analysis.design.factors and different != ["null"]:
            shown.append(f"{key} {different[0]}" if len(different) == 1 else f"{key} by arm")
    return ", ".join(shown)


def _hardware(provenance: list[dict[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(text for p in provenance if (text := ", ".join(_machine(p)))))


def _machine(p: dict[str, Any]) -> Iterator[str]:
    for key, form in (("cpu", "{}"), ("cores", "{} cores"), ("memory_gb", "{} GB"), ("device", "device {}")):
        if p.get(key) is not None:
            yield form.format(p[key])


def _span(provenance: list[dict[str, Any]]) -> str:
    started = sorted(str(p["started"]) for p in provenance if p.get("started"))
    finished = sorted(str(p["finished"]) for p in provenance if p.get("finished"))
    return f"{started[0]} to {finished[-1]}" if started and finished else ""
