"""landscape.csv: what `resflow landscape` measured, as somebody may have edited or damaged it."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from resflow import reading
from resflow.errors import RecordError

COLUMNS = ("arm", "seed", "x", "y", "loss")
MOST_STEPS = 1_000  # along one direction: a figure of more would be of pixels


def read(path: Path, arms: Collection[str]) -> pd.DataFrame | None:
    """Return the rows of some arms: COLUMNS, `y` NaN on the line; None where there are none.

    Raises RecordError, with the row, for what cannot be. A loss may be no number: far out that of a deep net is none.
    """
    try:
        table = pd.read_csv(io.BytesIO(reading.read(path)), dtype=str, keep_default_na=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise _damaged(path, f"it lacks the columns {', '.join(missing)}")
    rows = table.loc[table["arm"].isin(list(arms)), list(COLUMNS)].copy()
    for name in COLUMNS[1:]:
        rows[name] = _numbers(path, rows[name], empty=name in ("y", "loss"), finite=name != "loss")
    if not np.array_equal(rows["seed"], rows["seed"].round()):
        raise _damaged(path, "it has a seed that is no whole number")
    if max(rows["x"].nunique(), rows["y"].nunique()) > MOST_STEPS:
        raise _damaged(path, f"it has more than {MOST_STEPS:,} steps along a direction")
    if problem := _gap(rows[rows["y"].isna()], rows[rows["y"].notna()]):
        raise _damaged(path, problem)
    return rows.astype({"seed": int}) if len(rows) else None


def _gap(line: pd.DataFrame, plane: pd.DataFrame) -> str:
    """Say what is missing for a figure."""
    if unset := sorted(set(line["arm"]) - set(line.loc[line["x"] == 0, "arm"])):
        return f"it lacks the network itself, x 0, of {unset[0]}"
    flat = plane.groupby("arm")[["x", "y"]].nunique().lt(2).any(axis=None)
    return "its plane is no grid" if flat else ""


def _numbers(path: Path, column: pd.Series, *, empty: bool, finite: bool) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce")
    blank = column.str.lower().isin(("", "nan"))
    wrong = column[(values.isna() & ~(blank & empty)) | (finite & ~(values.abs() < 2**53) & ~blank)]
    if len(wrong):
        raise _damaged(
            path, f"row {wrong.index[0] + 2} has {wrong.iloc[0][:40]!r} for {column.name}, expected a number"
        )
    return values.astype(float)


def _damaged(path: Path, reason: str) -> RecordError:
    return RecordError(f"{path} is damaged: {reason}. Remove it, or run `resflow landscape` again.")
