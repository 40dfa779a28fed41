"""What trials took: their own seconds, those of what they share, one trial alone; and trials on a busy machine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pandas as pd

from resflow.records.record import Record

# A load of so many times the cores leaves a trial two thirds of its speed. What a run itself does beside its trials'
# threads (one that makes batches, Ray, the driver) stays below it; on two cores that trials fill, one more busy program
# goes beyond it.
BUSY = 1.5


def of_arm(done: pd.DataFrame) -> dict[str, float]:
    """Return what a trial of an arm takes by itself, its share of shared work, and one trial alone: means over `done`.

    Where a record does not tell what shared work cost, a trial that came first may have all of it in its own seconds:
    then these are the median, which one such trial among several hardly moves, and the rest is NaN.
    """
    told = bool(done["shared_seconds"].notna().all())
    own = done["seconds"].mean() if told else done["seconds"].median()
    shared = done["shared_seconds"].mean() if told else np.nan
    return {"seconds": float(own), "shared_seconds": float(shared), "alone_seconds": float(own + shared)}


def untold(arms: pd.DataFrame) -> bool:
    """Tell whether an arm has completed trials whose records do not say what their shared work cost."""
    return bool((arms["shared_seconds"].isna() & (arms["completed"] > 0)).any())


def busy(records: Sequence[Record]) -> list[Record]:
    """Return the records of trials at whose start or end the load was above BUSY times what the machine can do.

    That is its cores, or the threads of the run's own trials where these are more: a run that asks for more than there
    is has itself as its burden, in all of its trials alike. Records without a load are passed over.
    """
    own = _most_threads(records)
    return [record for record in records if _load(record) > BUSY * max(_cores(record), own.get(_host(record), 0))]


def _load(record: Record) -> float:
    loads = (record.provenance.get(f"load_at_{moment}") for moment in ("start", "end"))
    return max((load for load in loads if load is not None), default=0.0)


def _cores(record: Record) -> float:
    return record.provenance.get("cores") or np.inf


def _host(record: Record) -> str:
    return str(record.provenance.get("host"))


def _most_threads(records: Sequence[Record]) -> dict[str, int]:
    """Return by machine the most threads that these trials have had at a time."""
    changes: dict[str, list[tuple[str, int]]] = {}
    for record in records:
        span, threads = [record.provenance.get(end) for end in ("started", "finished")], record.execution.get("threads")
        if all(span) and isinstance(threads, int):
            changes.setdefault(_host(record), []).extend([(str(span[0]), threads), (str(span[1]), -threads)])
    # One after the other, as text: times are in UTC, and of one moment's changes those that end come first.
    return {host: max(accumulate(change for _, change in sorted(of_host))) for host, of_host in changes.items()}
