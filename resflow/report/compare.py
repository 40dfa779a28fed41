"""Two runs side by side: their studies, circumstances and effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resflow.analysis import devices, seed_statistics
from resflow.analysis.analyse import Analysis
from resflow.report.formatting import interval, level, number
from resflow.report.tables import Table

ALONE = "–"
SKIPPED = ("command", "profiles")  # of study.yaml: how it was typed
FACTS = ("source", "split", "split_hash", "fingerprint", "image_size")


def compare(first: Analysis, second: Analysis) -> list[Table]:
    """Return tables of what differs in study and circumstances, of arms in both, and of contrasts in both."""
    names = tuple(f"{word} ({run.run.folder.resolve().name})" for word, run in (("A", first), ("B", second)))
    tables = [_settings(first, second, names), _arms(first, second), _effects(first, second)]
    return [table for table in tables if table is not None]


def _settings(first: Analysis, second: Analysis, names: tuple[str, ...]) -> Table:
    one, other = _facts(first), _facts(second)
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    rows = tuple((key, one.get(key, ALONE), other.get(key, ALONE)) for key in keys)
    note = "" if rows else "The two studies, their data and their versions are the same."
    return Table("What differs", ("Setting", *names), rows, frozenset({"Setting", *names}), note)


def _facts(analysis: Analysis) -> dict[str, str]:
    study = {key: value for key, value in analysis.run.study.items() if key not in SKIPPED}
    facts = dict(_flat(study))
    for key in FACTS:
        facts[f"data as run: {key}"] = _several(record.data.get(key) for record in analysis.records)
    for key in ("python", "git_commit", "cpu", "device"):
        facts[f"ran with: {key}"] = _several(record.provenance.get(key) for record in analysis.records)
    if any(record.execution.get("device") == "gpu" for record in analysis.records):
        facts["ran on"] = _several(devices.kind(record) for record in analysis.records)
    versions = [record.provenance.get("versions") or {} for record in analysis.records]
    for package in dict.fromkeys(name for one in versions for name in one):
        facts[f"ran with: {package}"] = _several(one.get(package) for one in versions)
    facts["trials completed"] = "{} of {}".format(*analysis.progress)
    return facts


def _several(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or ALONE


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += _flat(value, f"{path}{key}.")
        else:
            pairs.append((f"{path}{key}", str(value)))
    return pairs


def _arms(first: Analysis, second: Analysis) -> Table | None:
    """Compare arms of one name: their means, and the difference B − A by Welch's interval, as runs are not paired."""
    metric = first.design.metric
    shared = [arm for arm in first.design.arms if arm in second.design.arms]
    if not shared or second.design.metric != metric:
        return None
    rows = []
    for arm in shared:
        values = [run.trials.loc[run.trials["arm"] == arm, metric.column].dropna() for run in (first, second)]
        means = [seed_statistics.mean_interval(one) for one in values]
        apart = seed_statistics.welch(values[1], values[0])
        rows.append(
            (
                first.design.display_name(arm),
                *(text for mean in means for text in (str(mean.n), level(metric, mean.mean))),
                number(metric.scale * apart.mean, signed=True),
                interval(metric.scale * apart.low, metric.scale * apart.high, signed=True),
            )
        )
    unit = f" ({metric.unit})" if metric.unit else ""
    header = ("Arm", "Seeds of A", f"A{unit}", "Seeds of B", f"B{unit}", "B − A", "95 % interval")
    note = f"{metric.label}. The interval is Welch's, unpaired: the runs may differ in more than their seeds."
    return Table("Arms of both", header, tuple(rows), frozenset({"Arm"}), note)


def _effects(first: Analysis, second: Analysis) -> Table | None:
    if first.effects.empty or second.effects.empty or first.design.metric != second.design.metric:
        return None
    metric, keys = first.design.metric, ["arm", "reference", "less"]
    one, other = (run.effects.drop_duplicates(keys).set_index(keys) for run in (first, second))
    rows = []
    for key in one.index.intersection(other.index, sort=False):
        cells = []
        for row in (one.loc[key], other.loc[key]):
            limits = interval(metric.scale * row["low"], metric.scale * row["high"], signed=True)
            cells += [f"{number(metric.scale * row['difference'], signed=True)} ({limits})", str(row["verdict"])]
        arm, reference, less = key
        rows.append((f"{arm} − {reference}" + (f", less {less}" if less else ""), *cells))
    if not rows:
        return None
    header = ("Contrast", "A", "Verdict of A", "B", "Verdict of B")
    note = f"Paired differences in {metric.label} ({metric.difference_unit or 'raw'}) with 95 % intervals."
    return Table("Effects of both", header, tuple(rows), frozenset({"Contrast", "Verdict of A", "Verdict of B"}), note)
