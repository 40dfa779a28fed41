"""Looks at a run before its last seed: after how many seeds, and how many comparisons were decided then."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from resflow import atomic, reading, workspace
from resflow.errors import RecordError


@dataclass(frozen=True)
class Look:
    """What was seen of a run after some of its seeds."""

    seeds: int
    comparisons: int
    decided: int


COLUMNS = tuple(field.name for field in fields(Look))


def read_looks(run: Path) -> list[Look]:
    """Read the looks at a run, the first one first. Raises RecordError where its file cannot be."""
    path = run / workspace.LOOKS
    if not path.is_file():
        return []
    try:
        table = pd.read_csv(io.BytesIO(reading.read(path)))[list(COLUMNS)].astype(int)
    except (ValueError, KeyError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise RecordError(
            f"{path} cannot be read ({str(error).strip()}): expected the columns {', '.join(COLUMNS)}, all whole "
            "numbers. Mend it; without it nobody sees whether seeds were added by what earlier ones showed."
        ) from error
    return [Look(*map(int, row)) for row in table.itertuples(index=False)]


def note_look(run: Path, look: Look) -> None:
    """Write a look at a run behind those that are there; one that finds what the last one found is none."""
    looks = read_looks(run)
    if looks[-1:] != [look]:
        table = pd.DataFrame([asdict(one) for one in (*looks, look)], columns=list(COLUMNS))
        atomic.write(run / workspace.LOOKS, atomic.csv(table))
