"""Columns for factors: every table that names an arm has one for each of them, and this is how it is called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

OPTIONAL = "optional"  # the column of plan.csv that marks the seeds which a sequential design may do without
VARIES = "varies"  # the column that names the stream which alone varies, of trials beside the study's own seeds
TAKEN = "factor_"  # begins the column of a factor that is called like another column of its table


def column_names(factors: Iterable[str], taken: Collection[str], prefix: str = "") -> dict[str, str]:
    """Return factor -> its column beside the columns `taken`: `prefix` and its name, after TAKEN if that is taken."""
    factors = list(factors)
    plain = {factor: f"{prefix}{factor}" for factor in factors}
    names: dict[str, str] = {}
    for factor in factors:
        name = plain[factor]
        used = {*taken, *names.values(), *(plain[other] for other in factors if other != factor)}
        while name in used:
            name = f"{TAKEN}{name}"
        names[factor] = name
    return names


def with_levels(
    table: pd.DataFrame, levels: Mapping[str, Mapping[str, str]], arm: str = "arm", prefix: str = ""
) -> pd.DataFrame:
    """Return a table with the label of each factor beside the column `arm`, as `column_names` calls it.

    `levels` maps arm to factor to label; a label is text as the study writes it, "" where an arm has none.
    """
    factors = list(dict.fromkeys(factor for labels in levels.values() for factor in labels))
    names, place = column_names(factors, list(table.columns), prefix), list(table.columns).index(arm) + 1
    table = table.copy()
    for offset, (factor, name) in enumerate(names.items()):
        labels = {one: known.get(factor, "") for one, known in levels.items()}
        table.insert(place + offset, name, table[arm].map(labels).fillna("").astype(str))
    return table
