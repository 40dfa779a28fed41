"""Tables of arms and of contrasts: pure functions from a frame of trials to frames. Fractions throughout."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resflow import architectures
from resflow.analysis import image_statistics, missing, mixed_model, seed_statistics
from resflow.analysis.contrasts import Contrast, contrasts
from resflow.analysis.design import NOT_RUN, OUTCOMES, Chance, Design, by_seed
from resflow.analysis.verdicts import ABOVE, AT, UNKNOWN, UNRESOLVED, Verdicts
from resflow.study.contrast_families import TUNING

BUDGET_LIMIT = 0.5  # training top-1 below which a residual arm was not trained to the end


def arm_table(trials: pd.DataFrame, design: Design, chance: Chance) -> pd.DataFrame:
    """Return a row an arm: counts by outcome, the metric's mean over seeds with its t interval, costs, chance."""
    return pd.DataFrame([_arm(trials[trials["arm"] == arm], arm, design, chance) for arm in design.arms])


def _arm(rows: pd.DataFrame, arm: str, design: Design, chance: Chance) -> dict[str, object]:
    done = rows[rows["status"] == "completed"]
    mean = seed_statistics.mean_interval(done[design.metric.column])
    judged = seed_statistics.mean_interval(done[chance.judged_by]) if chance.judged_by in done else mean
    train = done["train_top1"].mean() if "train_top1" in done else np.nan
    return {
        "arm": arm,
        "planned": len(rows),
        **{outcome.replace(" ", "_"): int((rows["status"] == outcome).sum()) for outcome in OUTCOMES},
        "n": mean.n,
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "sd": mean.sd,
        "note": mean.note,
        "chance": beside_chance(judged, chance),
        "train_top1": float(train),
        "parameters": _first(rows["parameters"]),
        "multiply_adds": _first(rows["multiply_adds"]),
        "seconds": float(done["seconds"].mean()),
    }


def _first(values: pd.Series) -> object:
    present = values.dropna()
    return int(present.iloc[0]) if len(present) else pd.NA


def beside_chance(mean: seed_statistics.Mean, chance: Chance) -> str:
    """Tell how an arm stands to chance. ABOVE needs a mean above it and an interval that excludes it.

    With one seed, or no spread between seeds, the interval is Wilson's, of the test images. An arm that
    fails is AT chance where its mean is no more than chance or Wilson's interval of the mean reaches it,
    and UNRESOLVED where only the interval over seeds does.
    """
    if mean.n == 0 or not np.isfinite(chance.level):
        return UNKNOWN
    if mean.mean <= chance.level:
        return AT
    if chance.images and image_statistics.wilson(mean.mean, chance.images)[0] <= chance.level:
        return AT
    return UNRESOLVED if mean.includes(chance.level) else ABOVE


def seed_differences(trials: pd.DataFrame, design: Design, pairs: Iterable[Contrast]) -> pd.DataFrame:
    """Return differences, a row a contrast, a column a seed; NaN where one of its trials did not complete."""
    wide = by_seed(trials, design, design.metric.column)
    return pd.DataFrame([_combined(wide, pair) for pair in pairs], columns=wide.columns)


def _combined(wide: pd.DataFrame, pair: Contrast) -> NDArray[np.float64]:
    values = sum(coefficient * wide.loc[arm].to_numpy(dtype=float) for arm, coefficient in pair.terms.items())
    return np.asarray(values, dtype=float)


def effect_table(
    trials: pd.DataFrame, arms: pd.DataFrame, design: Design, chance: Chance, twins: Collection[tuple[str, str]] = ()
) -> pd.DataFrame:
    """Return a row a declared contrast: paired difference, interval, tests, verdict and its reason.

    `arms` is `arm_table`. Holm runs over all that the study declares; what stands in two groups counts once.
    `unpaired` says by how much the parameters of `twins` (pairs of a plain and a residual arm that are equal
    otherwise) differ; it is empty where they do not, and for all other pairs.
    """
    declared = contrasts(design)
    if not declared:
        return pd.DataFrame()
    arms = arms.set_index("arm")
    judge = Verdicts(declared, arms, design)
    wide = by_seed(trials, design, design.metric.column)
    results = [judge.test(_combined(wide, pair)) for pair in declared]
    adjusted = judge.holm([result.p for result in results])
    gaps = missing.Gaps(trials, wide, judge, chance, [result.p for result in results])
    mixed_rows = mixed_model.estimates(trials, design, declared)
    rows = []
    for place, (pair, result, p) in enumerate(zip(declared, results, adjusted, strict=True)):
        twin = (pair.arm, pair.reference) in twins and pair.less is None
        row = _effect(pair, result, p, judge) | gaps.row(place, pair) | mixed_rows[place]
        row |= _withheld(row, trials, pair) | {"unpaired": _unpaired(pair, arms) if twin else ""}
        rows.append(row)
    return pd.DataFrame(rows)


def _withheld(row: dict[str, object], trials: pd.DataFrame, pair: Contrast) -> dict[str, object]:
    """Return the verdict and note of a contrast that must not be decided, an empty mapping where it may.

    A run that is not finished decides nothing: whoever stops when the figures please decides too often. Trials that
    did not complete leave a verdict standing where it would be the same with them at their worst and at their best.
    """
    if row["verdict"] == "undecided":
        return {}
    if waiting := unfinished(trials):
        return {"verdict": "undecided", "note": f"{waiting} of {len(trials)} trials have not run yet"}
    if not row["missing"] or row["missing_verdicts"] == row["verdict"]:
        return {}
    own = trials[trials["arm"].isin(list(pair.terms))]
    counts = own.loc[own["status"] != "completed", "status"].value_counts()
    told = " and ".join(f"{count} {status}" for status, count in counts.items())
    return {"verdict": "undecided", "note": f"{told} of {len(own)} trials could change it"}


def _unpaired(pair: Contrast, arms: pd.DataFrame) -> str:
    sizes = arms.loc[[pair.arm, pair.reference], "parameters"]
    return "" if sizes.isna().any() else architectures.unpaired(*(int(size) for size in sizes))


def _effect(pair: Contrast, result: seed_statistics.Paired, p_holm: float, judge: Verdicts) -> dict[str, object]:
    difference, design = result.difference, judge.design
    word = judge.verdict(pair, result, p_holm)
    return {
        "contrast_group": pair.group,
        "context": ", ".join(
            label if factor == TUNING else f"{factor} {label}" for factor, label in pair.context.items()
        ),
        "arm": pair.arm,
        "reference": pair.reference,
        "less": f"{pair.less[0]} − {pair.less[1]}" if pair.less else "",
        "metric": design.metric.column,
        "n": difference.n,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "sd": difference.sd,
        "g": result.g,
        "p": result.p,
        "p_holm": p_holm,
        "p_sign_flip": result.p_sign_flip,
        "p_sign_flip_smallest": result.p_sign_flip_smallest,
        "seeds_better": result.signs.better,
        "seeds_apart": result.signs.n,
        "better_low": result.signs.low,
        "better_high": result.signs.high,
        "seeds_needed": result.seeds_needed,
        "margin": np.nan if design.margin is None else design.margin,
        "p_equivalence": result.p_equivalence,
        "verdict": word,
        "note": judge.why(pair, difference, word),
    }


def budget_limited(arms: pd.DataFrame, residual: set[str]) -> list[str]:
    """Name the arms with shortcuts whose mean training top-1 ends below BUDGET_LIMIT: trained too briefly."""
    low = arms["arm"].isin(list(residual)) & (arms["train_top1"] < BUDGET_LIMIT)
    return list(arms.loc[low, "arm"])


def unfinished(trials: pd.DataFrame) -> int:
    """Count the trials that may still run: planned ones without a record."""
    return int((trials["status"] == NOT_RUN).sum())
