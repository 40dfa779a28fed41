"""plan.csv and study.yaml of a run, as somebody may have edited or damaged them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resflow import reading
from resflow.errors import RecordError, StudyError
from resflow.study.level_columns import OPTIONAL, VARIES
from resflow.study.variation import STREAMS
from resflow.study.yaml_source import parse_document

PLAN_KEYS = ("id", "arm", "seed")
PLAN_NUMBERS = ("seed", "parameters", "multiply_adds", "epochs")
PLAN_COLUMNS = frozenset({*PLAN_KEYS, *PLAN_NUMBERS, OPTIONAL, VARIES})  # all others are of factors
LARGEST_STUDY = reading.MEGABYTE  # bytes: a thousand arms have 30,000
MOST = 2**53  # a number that a float holds whole
_PLAN_AGAIN = "Remove it and run the study again: finished trials are kept."


def read_plan(path: Path) -> pd.DataFrame:
    """Read plan.csv. Raises RecordError with the row of what cannot be."""
    try:
        # Labels are text: '1e-4' is no 0.0001, and an arm may be called 'none' or 'NA'.
        plan = pd.read_csv(io.BytesIO(reading.read(path)), dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise RecordError(f"{path} cannot be read as a table ({str(error).strip()}). {_PLAN_AGAIN}") from error
    missing = [name for name in PLAN_KEYS if name not in plan.columns]
    if missing:
        raise RecordError(f"{path} lacks the columns {', '.join(missing)}. {_PLAN_AGAIN}")
    for name in PLAN_NUMBERS:
        if name in plan.columns:
            plan[name] = _whole_numbers(path, plan[name])
    if len(twice := plan.loc[plan["id"].duplicated(), "id"]):
        raise RecordError(f"{path} has the trial {twice.iloc[0]!r} twice, in row {twice.index[0] + 2}. {_PLAN_AGAIN}")
    return plan.astype({"seed": int})


def expected_rows(plan: pd.DataFrame, begun: Collection[str]) -> pd.DataFrame:
    """Return the rows of a plan but those of optional seeds of which no trial has `begun`, by its id.

    Seeds that a sequential design did not need are not missing; one that has begun is to be whole.
    """
    if OPTIONAL not in plan:
        return plan
    seeds = plan.loc[plan["id"].isin(list(begun)), "seed"]
    return plan[(plan[OPTIONAL] == "") | plan["seed"].isin(seeds)].reset_index(drop=True)


def _whole_numbers(path: Path, column: pd.Series) -> pd.Series:
    """Return a column of plan.csv as numbers; where it may be empty, NaN says so."""
    values = pd.to_numeric(column.where(column != ""), errors="coerce")
    wrong = column[((column != "") | (column.name == "seed")) & ~(values.abs() <= MOST)]
    wrong = wrong if len(wrong) else column[values.notna() & (values != np.floor(values))]
    if len(wrong):
        place = f"in row {wrong.index[0] + 2}: {wrong.iloc[0][:40]!r}, expected a whole number"
        raise RecordError(f"{path} has a {column.name} that is no number, {place}. {_PLAN_AGAIN}")
    return values


def read_study(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a run's study.yaml; return it without the keys that cannot be what they stand for, and a message for each.

    Raises RecordError where it is no mapping at all.
    """
    try:
        document = parse_document(reading.read(path, LARGEST_STUDY).decode("utf-8"), str(path))
    except (StudyError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise RecordError(f"{path} is no readable study: {error}") from error
    study, faults = dict(document.values), []
    for key, (fits, expected) in _KEYS.items():
        if study.get(key) is not None and not fits(study[key]):
            faults.append(
                f"{document.origin((key,))}: {key} is {str(study.pop(key))[:60]!r}, expected {expected}. The rest is "
                "used without it; mend the file."
            )
    return study, faults


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_scalar, value))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_margin(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _are_factors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(levels, dict | list) and levels for levels in value.values())


def _are_streams(value: Any) -> bool:
    named = value.get("parts") if isinstance(value, dict) else value
    return isinstance(named, list) and bool(named) and all(stream in STREAMS for stream in named)


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("name", "question", "profile", "command", "metric", "baseline"), (_is_scalar, "text")),
    **dict.fromkeys(("arms", "contrasts"), (_is_list_of_names, "a list of names")),
    **dict.fromkeys(
        ("settings", "network", "recipe", "data", "execution", "tune", "published", "claim", "titles"),
        (_is_mapping, "a mapping"),
    ),
    "margin": (_is_margin, "a number from 0 on"),
    "factors": (_are_factors, "a mapping from factor to its levels"),
    "vary": (_are_streams, f"a list of {', '.join(STREAMS)}, or a mapping `parts` to one"),
}
