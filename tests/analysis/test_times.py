"""Which trials ran on a busy machine, and what an arm's time is where its records tell shared work apart or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_run import rewrite, write_run

from resflow.analysis import times
from resflow.analysis.analyse import analyse
from resflow.analysis.labels import labels
from resflow.records.record import Record

CORES = 4


def record(begin: int, end: int, threads: Any = 1, **provenance: Any) -> Record:
    span = {"started": f"2026-01-01T00:00:{begin:02d}+00:00", "finished": f"2026-01-01T00:00:{end:02d}+00:00"}
    facts: dict[str, Any] = {"id": "a", "study": "s", "arm": "a", "levels": {}, "seed": 1, "split_seed": 0}
    facts |= {"status": "completed", "settings": {}, "execution": {"threads": threads}}
    return Record(**facts, provenance={"host": "here", "cores": CORES, **span, **provenance})


LIMIT = times.BUSY * CORES


@given(st.floats(0, 3 * LIMIT), st.floats(0, 3 * LIMIT))
def test_a_load_beyond_the_cores_at_either_end_is_a_busy_machine(start: float, end: float) -> None:
    one = record(0, 9, load_at_start=start, load_at_end=end)
    assert (times.busy([one]) == [one]) == (start > LIMIT or end > LIMIT)


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 29), st.integers(1, 5)), min_size=1, max_size=12))
def test_a_run_is_not_its_own_burden(spans: list[tuple[int, int, int]]) -> None:
    """The threads that its own trials have at a time are no other work, even where they are more than the cores."""
    most = max(sum(n for begin, length, n in spans if begin <= at < begin + length) for at in range(60))
    limit = times.BUSY * max(CORES, most)
    ran = [record(begin, begin + length, n, load_at_start=limit) for begin, length, n in spans]
    assert times.busy(ran) == []
    beyond = [one.model_copy(update={"provenance": {**one.provenance, "load_at_end": limit + 0.01}}) for one in ran]
    assert times.busy(beyond) == beyond
    elsewhere = record(0, 59, 100, host="there")
    assert times.busy([*beyond, elsewhere]) == beyond


@pytest.mark.parametrize(
    "provenance", [{}, {"load_at_start": 99.0, "cores": None}, {"load_at_end": None, "started": None}]
)
def test_what_does_not_tell_its_load_or_cores_is_not_called_busy(provenance: dict[str, Any]) -> None:
    assert times.busy([record(0, 9, **provenance), record(0, 9, threads=None)]) == []


def test_a_label_counts_the_trials_on_a_busy_machine(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"head": {"linear": 1, "wide": 2}}, lambda _: (0.8, 0.9), seeds=(1, 2), epochs=2)
    assert "busy machine" not in {label.word for label in labels(analyse(run))}
    rewrite(run, "wide", 2, provenance={"load_at_start": 0.5, "load_at_end": 7.5})
    (label,) = (label for label in labels(analyse(run)) if label.word == "busy machine")
    assert label.text.startswith("1 of 4 trials")


seconds = st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), min_size=1, max_size=6)


@given(seconds, st.booleans())
def test_an_arm_alone_is_its_own_time_and_all_that_it_shares(drawn: list[tuple[float, float]], told: bool) -> None:
    done = pd.DataFrame(drawn, columns=["seconds", "shared_seconds"])
    if not told:
        done.loc[0, "shared_seconds"] = np.nan
    arm = times.of_arm(done)
    assert arm["seconds"] == pytest.approx(done["seconds"].mean() if told else done["seconds"].median())
    assert np.isnan(arm["shared_seconds"]) == np.isnan(arm["alone_seconds"]) == (not told)
    if told:
        assert arm["alone_seconds"] == pytest.approx(done.sum(axis="columns").mean())


def test_an_arm_without_a_completed_trial_has_no_time() -> None:
    arm = times.of_arm(pd.DataFrame({"seconds": [], "shared_seconds": []}, dtype=float))
    assert all(np.isnan(value) for value in arm.values())
