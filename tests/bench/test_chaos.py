"""A disturbed run ends with the records of an undisturbed one; and the tally of trouble can count."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import tiny

from resflow import provenance
from resflow.bench import chaos, disturbances, stand_ins
from resflow.bench.chaos import Tally
from resflow.records.record import PREDICTION_COLUMNS, read_record, write_record

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.long  # a minute and a half; `make chaos` disturbs a run fifty times
@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes are found by Linux' /proc")
def test_a_run_that_is_disturbed_ends_as_one_that_is_not() -> None:
    kinds = {kind: disturbances.KINDS[kind] for kind in ("record cut",)}  # kills the driver, and spoils what it left
    one_at_a_time = (
        f"threads={min(2, provenance.count_processors())}"  # a worker takes longer to start than both trials
    )
    small = ['arms=["residual-0.05"]', "seeds=2", "epochs=8", "diagnostics=false", one_at_a_time]
    result = chaos.run(1, 21, kinds, lambda text: None, small)  # of seed 21 the first moments are in the middle
    assert result["trouble"] == []
    assert result["interruptions"] == 1
    assert result["trials"] == 2 * result["runs"]  # more runs than one where the first ended before its moment


@pytest.mark.long
def test_workers_too() -> None:
    kinds = {
        kind: disturbances.KINDS[kind] for kind in ("worker killed", "checkpoint cut", "worker hangs", "disk full")
    }
    result = chaos.run(4, 1, kinds, lambda text: None)
    assert result["trouble"] == []
    assert result["interruptions"] + len(result["not_tried"]) >= 3  # a run may end before its moment comes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    trials = [replace(tiny.trial(tiny.prepare(), seed), id=f"trial{seed}") for seed in (1, 2, 3)]
    run = tmp_path / "results" / "run"
    stand_ins.write_records(run, trials, 3)
    logs = tmp_path / ".resflow" / "run" / "logs"
    logs.mkdir(parents=True)
    for trial in trials:
        (logs / f"{trial.id}.log").write_text("worker process 1\n")
    return run


def tally_of(run: Path, reference: dict[str, Any], finished: dict[str, int], kind: str = "driver killed") -> Tally:
    tally = Tally()
    chaos.compare(run, kind, reference, finished, tally)
    return tally


def test_what_is_as_it_was_is_no_trouble(run: Path) -> None:
    reference, finished = chaos.read_results(run), dict[str, int]()
    assert tally_of(run, reference, finished) == Tally()
    assert tally_of(run, reference, finished) == Tally()
    assert finished.keys() == {"trial1", "trial2", "trial3"}


def test_a_record_that_is_lost_is_counted(run: Path) -> None:
    reference, finished = chaos.read_results(run), dict[str, int]()
    tally_of(run, reference, finished)
    (run / "trials" / "trial2" / "record.json").unlink()
    assert tally_of(run, reference, finished).lost == ["run/trial2 by driver killed"]


def test_a_record_that_the_disturbance_spoiled_is_not(run: Path) -> None:
    reference, finished = chaos.read_results(run), dict[str, int]()
    tally_of(run, reference, finished)
    (run / "trials" / "trial2" / "record.json").write_text("{")
    assert tally_of(run, reference, finished, "record cut") == Tally()


def test_a_trial_that_runs_though_it_has_a_record_is_counted(run: Path) -> None:
    reference, finished = chaos.read_results(run), dict[str, int]()
    tally_of(run, reference, finished)
    with (run.parents[1] / ".resflow" / "run" / "logs" / "trial3.log").open("a") as log:
        log.write("worker process 2\n")
    assert tally_of(run, reference, finished).duplicated == ["run/trial3 after driver killed"]


@pytest.mark.parametrize("what", ["metrics", "history", "predictions", "diagnostics"])
def test_a_last_bit_that_differs_is_counted(run: Path, what: str) -> None:
    reference = chaos.read_results(run)
    whole = reference["trial1"]
    if what == "metrics":
        metrics = {**whole.record.metrics, "test_loss": whole.record.metrics["test_loss"] + 1e-16 + 1e-15}
        reference["trial1"] = whole._replace(record=whole.record.model_copy(update={"metrics": metrics}))
    elif what == "history":
        reference["trial1"] = whole._replace(
            history=whole.history.assign(train_loss=whole.history["train_loss"] * (1 + 1e-15))
        )
    elif what == "predictions":
        assert whole.predictions is not None
        reference["trial1"] = whole._replace(predictions=whole.predictions.assign(rank=whole.predictions["rank"] + 1))
    else:  # the stand-in keeps none
        reference["trial1"] = whole._replace(diagnostics=pd.DataFrame({"value": [1.0]}))
    assert tally_of(run, reference, {}).differing == ["run/trial1 after driver killed"]


def test_a_time_or_a_machine_that_differs_is_no_trouble(run: Path) -> None:
    reference = chaos.read_results(run)
    other = reference["trial1"].record.model_copy(update={"seconds": 99.0, "provenance": provenance.environment()})
    reference["trial1"] = reference["trial1"]._replace(record=other)
    assert tally_of(run, reference, {}) == Tally()


def test_failed_trials_are_to_run_again(run: Path) -> None:
    path = run / "trials" / "trial1" / "record.json"
    path.write_text(path.read_text().replace('"completed"', '"failed"'))
    assert chaos.read_results(run).keys() == {"trial2", "trial3"}


def test_every_kind_comes_as_often_as_any_other() -> None:
    order = chaos._draw_order(list(disturbances.KINDS), 50, random.Random(1))
    counts = Counter(order)
    assert len(order) == 50
    assert counts.keys() == disturbances.KINDS.keys()
    assert max(counts.values()) - min(counts.values()) <= 1


def test_stand_ins_are_what_records_write(tmp_path: Path) -> None:
    """Thousands are written without the disk's leave: byte by byte what `write_record` writes."""
    trials = [replace(tiny.trial(tiny.prepare(), seed), id=f"trial{seed}") for seed in (1, 2)]
    stand_ins.write_records(tmp_path / "fast", trials, 3)
    outcome = stand_ins.make_outcome(trials[1], 3)
    fast = read_record(tmp_path / "fast" / "trials" / "trial2")
    safe = write_record(tmp_path / "safe", outcome)
    assert read_record(safe).model_copy(update={"provenance": fast.provenance}) == fast
    assert (safe / "history.csv").read_bytes() == (tmp_path / "fast" / "trials" / "trial2" / "history.csv").read_bytes()
    first = pd.read_parquet(tmp_path / "fast" / "trials" / "trial2" / "predictions.parquet")
    assert list(first.columns) == list(PREDICTION_COLUMNS)
