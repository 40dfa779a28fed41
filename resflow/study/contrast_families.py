"""Names of contrast groups, as study files and effects.csv have them, and the factor that a tuning phase adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

BASELINE = "baseline"  # every arm against the baseline; other groups are named after a factor, or after two
TIMES = ":"  # between the factors of an interaction
TUNING = "tuning"  # the factor that a tuning phase adds, where its arms also run untuned
UNTUNED, TUNED = TUNING_LEVELS = ("untuned", "tuned")


def group_names(factors: Sequence[str]) -> list[str]:
    """Return the names of all contrast groups that a study of these factors may declare."""
    return [BASELINE, *factors, *(TIMES.join(pair) for pair in permutations(factors, 2))]


def arm_name(arm: str, level: str) -> str:
    """Return the name of an arm at a level of the factor TUNING."""
    return f"{arm}-{level}"


def with_tuning(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study as its run's trials have it: where arms run tuned and untuned, that is a factor, the last one.

    The untuned baseline is the baseline, so that effects are of tuning. Without declared contrasts they are within
    each factor, and how each factor's effects change by tuning.
    """
    tune, factors, arms = study.get("tune"), study.get("factors"), study.get("arms")
    if not isinstance(tune, Mapping) or not tune.get("untuned", True) or not isinstance(factors, Mapping):
        return dict(study)
    varied = [name for name, levels in factors.items() if isinstance(levels, Mapping | list) and len(levels) > 1]
    changed: dict[str, Any] = {
        "factors": {**factors, TUNING: {level: level for level in TUNING_LEVELS}},
        "contrasts": study.get("contrasts") or [*varied, TUNING, *(f"{name}{TIMES}{TUNING}" for name in varied)],
    }
    if isinstance(arms, list):
        changed["arms"] = [arm_name(str(arm), level) for arm in arms for level in TUNING_LEVELS]
    if study.get("baseline") is not None:
        changed["baseline"] = arm_name(str(study["baseline"]), UNTUNED)
    return {**study, **changed}
