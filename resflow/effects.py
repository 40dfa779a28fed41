"""Tables of arms and of contrasts: pure functions from a frame of trials to frames. Fractions throughout."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resflow import architectures, stats
from resflow.results import NOT_RUN, OUTCOMES, Chance, Design

BASELINE = "baseline"  # the family of contrasts with the baseline arm; other families are named after a factor
BUDGET_LIMIT = 0.5  # training top-1 below which a residual arm was not trained to the end
ABOVE, AT, UNRESOLVED, UNKNOWN = "above chance", "at chance", "interval includes chance", "chance unknown"


@dataclass(frozen=True)
class Contrast:
    """One comparison, `arm` minus `reference`; within a factor `context` holds the levels they share."""

    family: str
    arm: str
    reference: str
    context: dict[str, str]


def contrasts(design: Design) -> list[Contrast]:
    """All declared contrasts: every arm against the baseline, then each factor within the others' levels."""
    found = []
    if design.baseline is not None:
        found = [Contrast(BASELINE, arm, design.baseline, {}) for arm in design.arms if arm != design.baseline]
    if len(design.varied) > 1 or design.baseline is None:
        for factor in design.varied:
            found += within(design, factor)
    return found


def within(design: Design, factor: str) -> list[Contrast]:
    """Contrasts between the levels of one factor at fixed levels of all others.

    The reference is the baseline's level where a group has it, else the group's first level.
    """
    others = design.others(factor)
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm, levels in design.arms.items():
        groups.setdefault(tuple(levels.get(name, "") for name in others), []).append(arm)
    order = {label: place for place, label in enumerate(design.factors[factor])}
    preferred = design.arms[design.baseline].get(factor) if design.baseline else None
    found = []
    for shared, arms in groups.items():
        arms = sorted(arms, key=lambda arm: order[design.arms[arm][factor]])
        reference = next((arm for arm in arms if design.arms[arm][factor] == preferred), arms[0])
        context = dict(zip(others, shared, strict=True))
        found += [Contrast(factor, arm, reference, context) for arm in arms if arm != reference]
    return found


def arm_table(trials: pd.DataFrame, design: Design, chance: Chance) -> pd.DataFrame:
    """A row an arm: counts by outcome, the metric's mean over seeds with its t interval, costs, chance."""
    return pd.DataFrame([_arm(trials[trials["arm"] == arm], arm, design, chance) for arm in design.arms])


def _arm(mine: pd.DataFrame, arm: str, design: Design, chance: Chance) -> dict[str, object]:
    done = mine[mine["status"] == "completed"]
    mean = stats.mean_interval(done[design.metric.column])
    judged = stats.mean_interval(done[chance.judged_by]) if chance.judged_by in done else mean
    train = done["train_top1"].mean() if "train_top1" in done else np.nan
    return {
        "arm": arm,
        "planned": len(mine),
        **{outcome.replace(" ", "_"): int((mine["status"] == outcome).sum()) for outcome in OUTCOMES},
        "n": mean.n,
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "sd": mean.sd,
        "note": mean.note,
        "chance": beside_chance(judged, chance),
        "train_top1": float(train),
        "parameters": _first(mine["parameters"]),
        "multiply_adds": _first(mine["multiply_adds"]),
        "seconds": float(done["seconds"].mean()),
    }


def _first(values: pd.Series) -> object:
    known = values.dropna()
    return int(known.iloc[0]) if len(known) else pd.NA


def beside_chance(mean: stats.Mean, chance: Chance) -> str:
    """Is an arm above chance? ABOVE needs a mean above it and an interval that excludes it.

    With one seed, or no spread between seeds, the interval is Wilson's, of the test images. An arm that
    fails is AT chance where its mean is no more than chance or Wilson's interval of the mean reaches it,
    and UNRESOLVED where only the interval over seeds does.
    """
    if mean.n == 0 or not np.isfinite(chance.level):
        return UNKNOWN
    if mean.mean <= chance.level:
        return AT
    if chance.images and stats.wilson(mean.mean, chance.images)[0] <= chance.level:
        return AT
    return UNRESOLVED if mean.includes(chance.level) else ABOVE


def seed_differences(trials: pd.DataFrame, design: Design, pairs: Iterable[Contrast]) -> pd.DataFrame:
    """Differences arm minus reference: a row a contrast, a column a seed; NaN where one did not complete."""
    wide = trials.pivot_table(index="arm", columns="seed", values=design.metric.column, aggfunc="first")
    seeds = sorted(trials["seed"].unique())
    wide = wide.reindex(index=list(design.arms), columns=seeds)
    rows = [(wide.loc[pair.arm] - wide.loc[pair.reference]).to_numpy(dtype=float) for pair in pairs]
    return pd.DataFrame(rows, columns=seeds)


def effect_table(
    trials: pd.DataFrame, design: Design, chance: Chance, twins: Collection[tuple[str, str]] = ()
) -> pd.DataFrame:
    """A row a declared contrast: paired difference, interval, tests, verdict and its reason.

    Holm runs over each family. A contrast that stands in two families has one verdict: it takes the larger
    of its adjusted p. `unpaired` says by how much the parameters of `twins` (pairs of a plain and a residual
    arm that are equal otherwise) differ; it is empty where they do not, and for all other pairs.
    """
    declared = contrasts(design)
    if not declared:
        return pd.DataFrame()
    arms = arm_table(trials, design, chance).set_index("arm")
    differences = seed_differences(trials, design, declared).to_numpy()
    results = [stats.paired(row, design.margin) for row in differences]
    adjusted = _holm_by_family(declared, [result.p for result in results])
    rows = [
        _effect(pair, result, p, trials, design, arms) | {"unpaired": _unpaired(pair, arms) if twin else ""}
        for pair, result, p in zip(declared, results, adjusted, strict=True)
        for twin in [(pair.arm, pair.reference) in twins]
    ]
    return pd.DataFrame(rows)


def _unpaired(pair: Contrast, arms: pd.DataFrame) -> str:
    sizes = arms.loc[[pair.arm, pair.reference], "parameters"]
    return "" if sizes.isna().any() else architectures.unpaired(*(int(size) for size in sizes))


def _holm_by_family(declared: list[Contrast], p: list[float]) -> list[float]:
    table = pd.DataFrame(
        {"family": [c.family for c in declared], "pair": [(c.arm, c.reference) for c in declared], "p": p}
    )
    table["holm"] = np.nan
    for _, rows in table.groupby("family"):
        table.loc[rows.index, "holm"] = stats.holm(rows["p"])
    return [float(value) for value in table.groupby("pair")["holm"].transform("max")]


def _effect(
    pair: Contrast,
    result: stats.Paired,
    p_holm: float,
    trials: pd.DataFrame,
    design: Design,
    arms: pd.DataFrame,
) -> dict[str, object]:
    difference = result.difference
    improves = (difference.mean > 0) == design.metric.higher_is_better
    better = pair.arm if improves else pair.reference
    above = {arm: arms.loc[arm, "chance"] in (ABOVE, UNKNOWN) for arm in (pair.arm, pair.reference)}
    word = stats.verdict(
        difference,
        p_holm,
        result.p_equivalence,
        higher_is_better=design.metric.higher_is_better,
        better_above_chance=above[better],
        both_above_chance=all(above.values()),
    )
    planned = trials.loc[trials["arm"].isin([pair.arm, pair.reference]), "seed"].nunique()
    return {
        "family": pair.family,
        "context": ", ".join(f"{factor} {label}" for factor, label in pair.context.items()),
        "arm": pair.arm,
        "reference": pair.reference,
        "metric": design.metric.column,
        "n": difference.n,
        "missing": planned - difference.n,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "sd": difference.sd,
        "p": result.p,
        "p_holm": p_holm,
        "p_sign_flip": result.p_sign_flip,
        "p_sign_flip_smallest": result.p_sign_flip_smallest,
        "margin": np.nan if design.margin is None else design.margin,
        "p_equivalence": result.p_equivalence,
        "verdict": word,
        "note": _why(difference, word, better, above),
    }


def _why(difference: stats.Mean, word: str, better: str, above: dict[str, bool]) -> str:
    if difference.n == 0:
        return "no seed completed in both arms"
    if difference.n > 1 and difference.note:
        return "the same difference in every seed: no interval"
    if word == "undecided" and not any(above.values()):
        return "neither arm is above chance"
    if word == "undecided" and not above[better]:
        return f"{better} is not above chance"
    return difference.note


def budget_limited(arms: pd.DataFrame, residual: set[str]) -> list[str]:
    """Arms with shortcuts whose mean training top-1 ends below BUDGET_LIMIT: trained too briefly."""
    low = arms["arm"].isin(list(residual)) & (arms["train_top1"] < BUDGET_LIMIT)
    return list(arms.loc[low, "arm"])


def unfinished(trials: pd.DataFrame) -> int:
    """Trials that may still run: planned ones without a record."""
    return int((trials["status"] == NOT_RUN).sum())
