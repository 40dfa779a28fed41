"""What the seeds of a study can resolve, comparison by comparison, by the spread that a prior run shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from resflow.analysis import holm, power, sequential_power
from resflow.analysis.contrasts import Contrast, contrasts
from resflow.analysis.design import Design
from resflow.analysis.effects import seed_differences
from resflow.analysis.predictions import Predictions


def compared(design: Design) -> list[Contrast]:
    """Return the declared contrasts; one that several groups ask for once."""
    return list({pair.key: pair for pair in contrasts(design)}.values())


def smallest_effect_of(design: Design) -> Callable[[int, float, power.Variation], float]:
    """Return the function that tells the smallest difference which a design finds with so many seeds."""
    return sequential_power.smallest_effect if design.sequential else power.smallest_effect


def resolution(design: Design, seeds: int, trials: pd.DataFrame, answers: Predictions | None) -> pd.DataFrame:
    """Return a row a declared contrast: what `seeds` resolve of it, of a sequential design at most so many.

    `trials` and `answers` are a prior run's. `prior_seeds` of it have the contrast, `sd` is its spread over them and
    `sd_upper` the upper confidence limit of that, by which all else goes: `smallest` is the smallest difference found
    with power.POWER after Holm, `margin_found` and `margin_equivalent` are the seeds that find a difference as large as
    the margin, and that show none to lie within it, chosen beforehand. NaN where the prior run says nothing.
    """
    declared = compared(design)
    alpha, rows = holm.first_level(len(declared)), []
    smallest = smallest_effect_of(design)
    differences = seed_differences(trials, design, declared).to_numpy(dtype=float)
    for pair, values in zip(declared, differences, strict=True):
        seen = values[np.isfinite(values)]
        sd = float(seen.std(ddof=1)) if len(seen) > 1 else np.nan
        images = answers.image_variance(pair.terms, design.metric.column) if answers else np.nan
        variation = power.Variation(sd, float(np.nan_to_num(images))).upper(max(len(seen), 2))
        told = sd > power.SAME
        margin = design.margin if told else None
        rows.append(
            {
                "contrast_group": pair.group,
                "context": ", ".join(f"{factor} {label}" for factor, label in pair.context.items()),
                "arm": pair.arm,
                "reference": pair.reference,
                "less": f"{pair.less[0]} − {pair.less[1]}" if pair.less else "",
                "prior_seeds": len(seen),
                "sd": sd,
                "sd_upper": variation.sd if told else np.nan,
                "smallest": smallest(seeds, alpha, variation) if told else np.nan,
                "margin_found": power.seeds_to_find(margin, variation, alpha) if margin else np.nan,
                "margin_equivalent": power.seeds_to_equate(margin, variation, alpha) if margin else np.nan,
            }
        )
    return pd.DataFrame(rows)
