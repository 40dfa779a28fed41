"""Tables of arms and of contrasts: pure functions from a frame of trials to frames. Fractions throughout."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resflow import architectures
from resflow.analysis import image_statistics, missing, mixed_model, seed_statistics, times
from resflow.analysis.chance import Chance, beside_chance
from resflow.analysis.contrasts import Contrast, contrasts
from resflow.analysis.design import NOT_RUN, OUTCOMES, UNREADABLE, Design, by_seed, unfinished
from resflow.analysis.predictions import Predictions
from resflow.analysis.verdicts import Verdicts
from resflow.records.metrics import Metric, metric
from resflow.study.contrast_families import TUNING

FAILURES = ("failed", "diverged", UNREADABLE)


def arm_table(trials: pd.DataFrame, design: Design, chance: Chance) -> pd.DataFrame:
    """Return a row an arm: counts by outcome, the metric's mean over seeds with its interval, costs, chance.

    `failure_rate` is the share of trials that failed or diverged among those that ended, with Clopper and Pearson's
    interval. The metric's interval is t, on a scale on which it stays within what can be.
    """
    return pd.DataFrame([_arm(trials[trials["arm"] == arm], arm, design, chance) for arm in design.arms])


def _arm(rows: pd.DataFrame, arm: str, design: Design, chance: Chance) -> dict[str, object]:
    done = rows[rows["status"] == "completed"]
    mean = _level(done[design.metric.column], design.metric, design)
    judged = _level(done[chance.judged_by], metric(chance.judged_by), design) if chance.judged_by in done else mean
    failed = int(rows["status"].isin(FAILURES).sum())
    ended = len(rows) - int(rows["status"].isin((NOT_RUN, "pruned")).sum())
    failure_low, failure_high = image_statistics.clopper_pearson(failed, ended) if ended else (np.nan, np.nan)
    train = done["train_top1"].mean() if "train_top1" in done else np.nan
    return {
        "arm": arm,
        "planned": len(rows),
        **{outcome.replace(" ", "_"): int((rows["status"] == outcome).sum()) for outcome in OUTCOMES},
        "collapsed": int((done["collapsed"] != "").sum()),
        "failure_rate": failed / ended if ended else np.nan,
        "failure_low": failure_low,
        "failure_high": failure_high,
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
        **times.of_arm(done),
    }


def _level(values: pd.Series, measure: Metric, design: Design) -> seed_statistics.Mean:
    return seed_statistics.level_interval(values, measure.low, measure.high, sequential=design.sequential)


def _first(values: pd.Series) -> object:
    present = values.dropna()
    return int(present.iloc[0]) if len(present) else pd.NA


def seed_differences(trials: pd.DataFrame, design: Design, pairs: Iterable[Contrast]) -> pd.DataFrame:
    """Return differences, a row a contrast, a column a seed; NaN where one of its trials did not complete."""
    wide = by_seed(trials, design, design.metric.column)
    return pd.DataFrame([_combined(wide, pair) for pair in pairs], columns=wide.columns)


def _combined(wide: pd.DataFrame, pair: Contrast) -> NDArray[np.float64]:
    values = sum(coefficient * wide.loc[arm].to_numpy(dtype=float) for arm, coefficient in pair.terms.items())
    return np.asarray(values, dtype=float)


def effect_table(
    trials: pd.DataFrame,
    arms: pd.DataFrame,
    design: Design,
    chance: Chance,
    twins: Collection[tuple[str, str]] = (),
    answers: Predictions | None = None,
) -> pd.DataFrame:
    """Return a row a declared contrast: paired difference, intervals, tests, verdict and its reason.

    `arms` is `arm_table`; with `answers` intervals and tests are over seeds and test images. Holm runs over all that
    the study declares; what stands in two groups counts once. `unpaired` says by how much the parameters of `twins`
    (pairs of a plain and a residual arm that are equal otherwise) differ; it is empty where they do not, and for all
    other pairs.
    """
    declared = contrasts(design)
    if not declared:
        return pd.DataFrame()
    arms = arms.set_index("arm")
    judge = Verdicts(declared, arms, design, answers)
    wide = by_seed(trials, design, design.metric.column)
    differences = [_combined(wide, pair) for pair in declared]
    results = [judge.test(pair, values) for pair, values in zip(declared, differences, strict=True)]
    words = judge.verdicts(results)
    p = judge.holm([result.p for result in results])
    equivalence = [result.p_equivalence for result in results]
    p_equivalence, levels = judge.holm(equivalence), judge.holm_levels(equivalence)
    gaps = missing.Gaps(trials, wide, judge, chance, results)
    mixed_rows = mixed_model.estimates(trials, design, declared)
    rows = []
    for place, (pair, result, word) in enumerate(zip(declared, results, words, strict=True)):
        twin = (pair.arm, pair.reference) in twins and pair.less is None
        zone = judge.equivalence_zone(pair, differences[place], levels[place]) if levels[place] > 0 else None
        row = _effect(pair, result, judge) | {
            "p_holm": p[place],
            "p_equivalence_holm": p_equivalence[place],
            "equivalence_low": zone.low if zone else np.nan,
            "equivalence_high": zone.high if zone else np.nan,
            "verdict": word,
            "note": judge.why(pair, result.difference, word),
            "correlation": _correlation(wide, pair),
        }
        row |= _over_images(pair, answers) | _unpaired_seeds(wide, pair, design)
        row |= gaps.row(place, pair) | mixed_rows[place]
        row |= _collapsed(row, trials, pair, design)
        row |= _withheld(row, trials, pair) | {"unpaired": _unpaired(pair, arms) if twin else ""}
        rows.append(row | _two_seeds(row) | {"change": _change(row, wide, pair, design)})
    return pd.DataFrame(rows)


def _collapsed(row: dict[str, object], trials: pd.DataFrame, pair: Contrast, design: Design) -> dict[str, object]:
    """Say of a verdict that an arm of it collapsed in every seed: it stands, and tells of that."""
    done = trials[(trials["status"] == "completed") & trials["arm"].isin(list(pair.terms))]
    everywhere = (done["collapsed"] != "").groupby(done["arm"], sort=False).all()
    names = " and ".join(design.display_name(str(arm)) for arm in everywhere.index[everywhere])
    return {} if row["note"] or not names else {"note": f"{names} collapsed in every seed"}


def _withheld(row: dict[str, object], trials: pd.DataFrame, pair: Contrast) -> dict[str, object]:
    """Return the verdict and note of a contrast that must not be decided, an empty mapping where it may.

    A run that is not finished decides nothing: whoever stops when the figures please decides too often. Trials that
    did not complete, or collapsed, leave a verdict standing where it would be the same with them at their worst and at
    their best.
    """
    if row["verdict"] == "undecided":
        return {}
    if waiting := unfinished(trials):
        return {"verdict": "undecided", "note": f"{waiting} of {len(trials)} trials have not run yet"}
    if not row["doubtful"] or row["missing_verdicts"] == row["verdict"]:
        return {}
    own = trials[trials["arm"].isin(list(pair.terms))]
    status = own["status"].where((own["status"] != "completed") | (own["collapsed"] == ""), "collapsed")
    counts = status[status != "completed"].value_counts()
    told = " and ".join(f"{count} {name}" for name, count in counts.items())
    return {"verdict": "undecided", "note": f"{told} of {len(own)} trials could change it"}


def _two_seeds(row: dict[str, object]) -> dict[str, object]:
    """Take the interval of two seeds away where no verdict rests on it: with one degree of freedom it says nothing."""
    if row["n"] != 2 or row["verdict"] != "undecided":
        return {}
    note = seed_statistics.TWO_VALUES if row["note"] == "" else row["note"]
    limits = ("low", "high", "seeds_low", "seeds_high", "equivalence_low", "equivalence_high")
    return {**dict.fromkeys(limits, np.nan), "note": note}


def _change(row: dict[str, object], wide: pd.DataFrame, pair: Contrast, design: Design) -> str:
    """Say of an interaction what becomes of the difference that it begins with; empty of two arms.

    `larger` and `smaller` are of a gain. A harm becomes a `larger loss` or a `smaller loss`, and what was one and is
    the other is `reversed`.
    """
    if pair.less is None or row["verdict"] == "undecided":
        return "" if pair.less is None else "undecided"
    if row["verdict"] == "equivalent":
        return "equal"
    there = wide.loc[list(pair.terms)].dropna(axis="columns").mean(axis="columns")
    sign = 1 if design.metric.higher_is_better else -1
    now, before = (sign * (there[one] - there[other]) for one, other in ((pair.arm, pair.reference), pair.less))
    if now * before < 0:
        return "reversed"
    return ("larger" if abs(now) > abs(before) else "smaller") + (" loss" if now < 0 or before < 0 else "")


def _correlation(wide: pd.DataFrame, pair: Contrast) -> float:
    """Return how two arms' values correlate over seeds, the gain of pairing; NaN of fewer than three, or four arms."""
    both = wide.loc[[pair.arm, pair.reference]].dropna(axis="columns").to_numpy(dtype=float)
    if pair.less is not None or both.shape[1] < 3 or (np.ptp(both, axis=1) <= seed_statistics.SAME).any():
        return np.nan
    return float(np.corrcoef(both)[0, 1])


def _over_images(pair: Contrast, answers: Predictions | None) -> dict[str, object]:
    """Return the interval of top-1 over images alone, NaN of an interaction."""
    alone = answers.pair(pair.arm, pair.reference) if answers is not None and pair.less is None else None
    low, high = (alone.low, alone.high) if alone is not None else (np.nan, np.nan)
    return {"images_low": low, "images_high": high}


def _unpaired_seeds(wide: pd.DataFrame, pair: Contrast, design: Design) -> dict[str, object]:
    """Return Welch's estimate of two arms that share fewer than two seeds; NaN of all others, and of looks."""
    first, second = (wide.loc[arm].dropna().to_numpy(dtype=float) for arm in (pair.arm, pair.reference))
    shared = int(wide.loc[[pair.arm, pair.reference]].notna().all().sum())
    if design.sequential or pair.less is not None or shared > 1 or min(len(first), len(second)) < 2:
        return {"welch": np.nan, "welch_low": np.nan, "welch_high": np.nan}
    apart = seed_statistics.welch(first, second)
    return {"welch": apart.mean, "welch_low": apart.low, "welch_high": apart.high}


def _unpaired(pair: Contrast, arms: pd.DataFrame) -> str:
    sizes = arms.loc[[pair.arm, pair.reference], "parameters"]
    return "" if sizes.isna().any() else architectures.unpaired(*(int(size) for size in sizes))


def _effect(pair: Contrast, result: seed_statistics.Paired, judge: Verdicts) -> dict[str, object]:
    difference, design = result.difference, judge.design
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
        "over": judge.over(pair),
        "low": difference.low,
        "high": difference.high,
        "seeds_low": result.over_seeds.low,
        "seeds_high": result.over_seeds.high,
        "sd": difference.sd,
        "g": result.g,
        "p": result.p,
        "p_seeds": result.p_seeds,
        "p_sign_flip": result.p_sign_flip,
        "p_sign_flip_smallest": result.p_sign_flip_smallest,
        "seeds_better": result.signs.better,
        "seeds_apart": result.signs.n,
        "better_low": result.signs.low,
        "better_high": result.signs.high,
        "seeds_needed": judge.seeds_needed(pair, difference),
        "margin": np.nan if design.margin is None else design.margin,
        "p_equivalence": result.p_equivalence,
    }
