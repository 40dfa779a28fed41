"""A results folder as a reader needs it: the design, every trial whether it ran or not, chance, and labels.

Nothing is dropped in silence: a planned trial without a record is a row too, and what had to be left out
of the statistics is a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, get_args

import numpy as np
import pandas as pd

from resflow.errors import RecordError
from resflow.records.metrics import Metric, metric
from resflow.records.record import Status
from resflow.records.run import Run
from resflow.records.run_files import PLAN_COLUMNS, PLAN_KEYS
from resflow.study import contrast_families
from resflow.study.level_columns import VARIES
from resflow.study.variation import STREAMS, USUAL, name_streams

NOT_RUN, UNREADABLE = "not run", "unreadable"
OUTCOMES: tuple[str, ...] = (*get_args(Status), UNREADABLE, NOT_RUN)
BASE = "baseline"  # what the baseline is called where others are called by their change
SHORTCUT, NO_SHORTCUT = "shortcut", "none"
TRIAL_COLUMNS = ("id", "arm", "seed", "status", "reason", "parameters", "multiply_adds", "epochs_run")
MEASURED = ("best_epoch", "seconds", "shared_seconds")


@dataclass(frozen=True)
class Design:
    """Arms in order with their levels, and what they are compared on. The baseline may be undeclared."""

    factors: dict[str, tuple[str, ...]]  # factor -> labels in order
    arms: dict[str, dict[str, str]]  # arm -> factor -> label
    baseline: str | None
    metric: Metric
    margin: float | None = None
    contrasts: tuple[str, ...] | None = None  # groups that the study declares; None means all
    sequential: bool = False  # whether seeds are added until all is decided
    follows: tuple[str, ...] = USUAL  # what varies with a seed, in the order of STREAMS
    parts: tuple[str, ...] = ()  # what varies alone on seeds of its own
    first_seed: int = 1  # what does not follow a seed is as under this one

    @property
    def seeds_of(self) -> str:
        """What seeds vary, to be said after the word: ` (initialisation alone)`; empty where it is what is usual."""
        return "" if self.follows == USUAL else f" ({name_streams(self.follows)})"

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Factors with at least two levels among the arms."""
        return tuple(name for name, labels in self.factors.items() if len(labels) > 1)

    @property
    def scale(self) -> str | None:
        """The first varied factor whose labels are all numbers, such as depth: the x axis of figures."""
        if self.one_at_a_time:
            return None
        return next((f for f in self.varied if all(_number(x) is not None for x in self.factors[f])), None)

    @property
    def main(self) -> str | None:
        """The factor that figures are laid out by: the scale, else the first; None where arms are changes."""
        return None if self.one_at_a_time else self.scale or next(iter(self.varied), None)

    def others(self, factor: str | None) -> tuple[str, ...]:
        """The varied factors beside one."""
        return tuple(name for name in self.varied if name != factor)

    def display_name(self, arm: str) -> str:
        """An arm's name for readers: without the levels that never vary, and by what was changed where that is little.

        Where at least three factors vary and each arm differs from the baseline in one alone, the arm is that change.
        """
        if arm not in self.arms:
            return arm
        if not self.one_at_a_time:
            return self.label(arm, self.varied) if self.varied else arm
        changed = self.changed(arm)
        return ", ".join(f"{factor} {self.arms[arm][factor]}" for factor in changed) or BASE

    def changed(self, arm: str) -> list[str]:
        """Name the varied factors in which an arm differs from the baseline."""
        base = self.arms[self.baseline or ""]
        return [factor for factor in self.varied if self.arms[arm].get(factor) != base.get(factor)]

    @cached_property
    def one_at_a_time(self) -> bool:
        """Whether at least three factors vary and each arm differs from the baseline in one alone."""
        several = self.baseline is not None and len(self.varied) > 2
        return several and all(len(self.changed(arm)) <= 1 for arm in self.arms)

    def label(self, arm: str, factors: tuple[str, ...]) -> str:
        """An arm's labels of some factors, joined as in its name."""
        return "-".join(self.arms[arm].get(name, "?") for name in factors)


def design(run: Run) -> Design:
    """Read the design from study.yaml, the plan and the records, in that order of trust."""
    study, plan = contrast_families.with_tuning(run.study), run.plan
    declared = study.get("factors") or {}
    names = [str(name) for name in declared] if isinstance(declared, Mapping) else []
    names = names or [name for name in plan.columns if name not in PLAN_COLUMNS]
    names = names or list(dict.fromkeys(f for record in run.records for f in record.levels))
    levels = _levels(run, names, declared)
    arms = [str(arm) for arm in study.get("arms") or [] if str(arm) in levels]
    arms += [arm for arm in (levels if len(plan) else sorted(levels, key=_natural)) if arm not in arms]
    if len({tuple(levels[arm].items()) for arm in arms}) < len(arms):  # arms that factors do not tell apart
        names, levels = ["arm"], {arm: {"arm": arm} for arm in arms}
    baseline = str(study["baseline"]) if study.get("baseline") is not None else None
    if baseline is not None and arms and baseline not in levels:
        raise RecordError(
            f"the baseline '{baseline}' of {run.folder / 'study.yaml'} is no arm of this run: "
            f"expected one of {', '.join(arms)}. Mend study.yaml."
        )
    vary = study.get("vary") or list(USUAL)
    parts = vary["parts"] if isinstance(vary, Mapping) else []
    return Design(
        factors={name: _labels(name, declared, arms, levels) for name in names},
        arms={arm: levels[arm] for arm in arms},
        baseline=baseline,
        metric=metric(str(study.get("metric") or "test_top1")),
        margin=float(study["margin"]) if study.get("margin") else None,
        contrasts=tuple(map(str, listed)) if isinstance(listed := study.get("contrasts"), list) else None,
        sequential=isinstance(study.get("seeds"), Mapping),
        follows=_in_order(parts or vary),
        parts=_in_order(parts),
        first_seed=_first_seed(study.get("seeds")),
    )


def _first_seed(seeds: Any) -> int:
    """Return the first of the seeds that a study lists; those that it counts begin with 1."""
    return int(seeds[0]) if isinstance(seeds, list) and seeds and isinstance(seeds[0], int) else 1


def _in_order(streams: list[str]) -> tuple[str, ...]:
    return tuple(stream for stream in STREAMS if stream in streams)


def written_arms(run: Run) -> dict[str, dict[str, str]]:
    """Return arm -> factor -> label of the arms that study.yaml lists, as it writes them: those that a search tunes."""
    arms, declared = run.study.get("arms"), _combinations(run.study.get("factors"))
    return {str(arm): declared[str(arm)] for arm in arms if str(arm) in declared} if isinstance(arms, list) else {}


def _combinations(declared: Any) -> dict[str, dict[str, str]]:
    """Arm -> factor -> label, for every combination of the levels that are declared."""
    if not isinstance(declared, Mapping) or not all(isinstance(labels, Mapping) for labels in declared.values()):
        return {}
    rows = product(*([str(label) for label in labels] for labels in declared.values())) if declared else ()
    return {"-".join(labels): dict(zip(map(str, declared), labels, strict=True)) for labels in rows}


def _levels(run: Run, names: list[str], declared: Any) -> dict[str, dict[str, str]]:
    """Arm -> factor -> label, for every arm of the plan, or of the records where there is no plan."""
    by_arm = _combinations(declared) | {record.arm: dict(record.levels) for record in run.records}
    if run.plan.empty:
        return {record.arm: by_arm[record.arm] for record in run.records}
    rows = run.plan.drop_duplicates("arm").to_dict("records")
    from_plan = {row["arm"]: {name: str(row[name]) for name in names if name in row} for row in rows}
    return {arm: by_arm.get(arm, levels) for arm, levels in from_plan.items()}


def _labels(name: str, declared: Any, arms: list[str], levels: dict[str, dict[str, str]]) -> tuple[str, ...]:
    used = dict.fromkeys(levels[arm][name] for arm in arms if name in levels[arm])
    order = [str(label) for label in declared.get(name) or []] if isinstance(declared, Mapping) else []
    return tuple([x for x in order if x in used] + [x for x in used if x not in order])


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def trials(run: Run, plan: Design) -> tuple[pd.DataFrame, list[str]]:
    """Return a row a trial in the order of the plan, run or not, and a message for whatever was left out.

    Optional seeds that nothing has begun have no rows.

    Columns: TRIAL_COLUMNS, VARIES (empty of the study's own seeds), MEASURED, and every metric of the records (NaN
    unless completed). Without plan.csv the trials are those that have a record.
    """
    left_out: list[str] = []
    records = run.frame()
    if records.empty:
        records = pd.DataFrame(columns=[*TRIAL_COLUMNS, *MEASURED])
    metrics = sorted({name for record in run.records for name in record.metrics})
    records = records[[*TRIAL_COLUMNS, *MEASURED, *metrics]]
    if run.plan.empty:
        records, doubles = _latest(run, records)
        if doubles:
            left_out.append(
                f"{doubles} older record(s) of an arm and seed that ran more than once: the latest is used."
            )
        table = records
    else:
        strangers = records[~records["id"].isin(run.plan["id"])]
        if len(strangers):
            names = ", ".join(sorted(strangers["id"]))
            left_out.append(f"{len(strangers)} record(s) that plan.csv does not list: {names}.")
        own = [name for name in (*PLAN_KEYS, "parameters", "multiply_adds") if name in run.plan.columns]
        table = run.expected[own].merge(
            records.drop(columns=["arm", "seed"]), on="id", how="left", suffixes=("_planned", "")
        )
        for name in ("parameters", "multiply_adds"):
            if f"{name}_planned" in table:
                table[name] = table[name].fillna(table.pop(f"{name}_planned"))
        absent = table["status"].isna()
        broken = table["id"].isin(list(run.broken))
        table.loc[absent, "status"] = np.where(broken[absent], UNREADABLE, NOT_RUN)
        table.loc[absent & broken, "reason"] = "its record cannot be read"
        table["reason"] = table["reason"].fillna("")
    left_out += [f"unreadable record: {message}" for message in run.broken.values()]
    table = table.assign(**{VARIES: [run.varies.get(trial, "") for trial in table["id"]]})
    return _typed(table, plan), left_out


def set_apart(every: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the trials of a study's own seeds, without VARIES, and those that vary one stream alone."""
    beside = every[VARIES] != ""
    return every[~beside].drop(columns=VARIES).reset_index(drop=True), every[beside].reset_index(drop=True)


def unfinished(trials: pd.DataFrame) -> int:
    """Count the trials that may still run: planned ones without a record."""
    return int((trials["status"] == NOT_RUN).sum())


def by_seed(trials: pd.DataFrame, design: Design, column: str) -> pd.DataFrame:
    """Spread a column of completed trials: a row an arm, a column a seed; NaN where one did not complete."""
    wide = trials.pivot_table(index="arm", columns="seed", values=column, aggfunc="first")
    return wide.reindex(index=list(design.arms), columns=sorted(trials["seed"].unique()))


def _latest(run: Run, records: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    finished = {record.id: str(record.provenance.get("finished", "")) for record in run.records}
    newest = records.assign(_at=records["id"].map(finished)).sort_values(["_at", "id"], kind="stable")
    newest = newest.assign(_varies=[run.varies.get(trial, "") for trial in newest["id"]])
    latest = newest.drop_duplicates(["arm", "seed", "_varies"], keep="last").drop(columns=["_at", "_varies"])
    return latest, len(records) - len(latest)


def _typed(table: pd.DataFrame, plan: Design) -> pd.DataFrame:
    table = table.copy()
    for name in (*TRIAL_COLUMNS, *MEASURED):
        if name not in table:
            table[name] = pd.NA
    for name in ("parameters", "multiply_adds", "epochs_run", "best_epoch"):
        table[name] = pd.to_numeric(table[name], errors="coerce").round().astype("Int64")
    if plan.metric.column not in table:
        table[plan.metric.column] = np.nan
    fixed = [*TRIAL_COLUMNS, VARIES, *MEASURED]
    metrics = [name for name in table.columns if name not in fixed]
    numbers = [*MEASURED[1:], *metrics]
    table[numbers] = table[numbers].astype(float)
    table.loc[table["status"] != "completed", metrics] = np.nan
    order = {arm: index for index, arm in enumerate(plan.arms)}
    table = table.assign(_arm=table["arm"].map(order)).sort_values(["_arm", VARIES, "seed"], kind="stable")
    return table[[*fixed, *metrics]].reset_index(drop=True)


def residual_arms(run: Run) -> set[str]:
    """Return the arms whose networks have shortcuts."""
    return {arm for arm, shortcut in shortcuts(run).items() if shortcut != NO_SHORTCUT}


def twins(run: Run, plan: Design) -> set[tuple[str, str]]:
    """Return pairs of arms, in either order, of which one is plain, the other is residual, and all else is equal."""
    kinds = shortcuts(run)
    others = plan.others(SHORTCUT)
    return {
        (one, other)
        for one, other in product(plan.arms, repeat=2)
        if {one, other} <= kinds.keys()
        and (kinds[one] == NO_SHORTCUT) != (kinds[other] == NO_SHORTCUT)
        and SHORTCUT in plan.factors
        and plan.label(one, others) == plan.label(other, others)
    }


def shortcuts(run: Run) -> dict[str, str]:
    """Return arm -> its network's shortcut, of arms that have a record."""
    networks = {record.arm: record.settings.get("network", {}) for record in run.records}
    return {arm: str(network.get(SHORTCUT, NO_SHORTCUT)) for arm, network in networks.items()}
