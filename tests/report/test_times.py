"""A report tells a trial's own time from that of what trials share, and does not guess where records do not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.fake_run import rewrite, write_run

from resflow.analysis.analyse import Analysis, analyse
from resflow.figures import costs
from resflow.report import run_details, tables, times

SEEDS = (1, 2, 3, 4, 5)
OWN = {"small": 7.0, "large": 17.0}
FEATURES, GRAPH = 600.0, 1.0


def run(place: Path, shared: bool) -> Path:
    """Two heads on one backbone, the better one larger: the small head's first trial computed the features of all."""
    folder = write_run(
        place, {"head": {"small": 1, "large": 2}}, lambda levels: (0.7 + 0.1 * (levels["head"] == "large"), 0.9),
        seeds=SEEDS, epochs=2,
    )  # fmt: skip
    for head, own in OWN.items():
        for seed in SEEDS:
            computed = FEATURES * ((head, seed) == ("small", 1))
            built = GRAPH * (seed == 1)
            told: dict[str, Any] = {
                "features": {"seconds": FEATURES, "computed_seconds": computed, "key": "abc"},
                "graph": {"seconds": GRAPH, "computed_seconds": built},
            }
            changes = {"seconds": own, "shared": told} if shared else {"seconds": own + computed + built}
            rewrite(folder, head, seed, network={"shared_features": True}, **changes)
    return folder


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(run(tmp_path_factory.mktemp("new"), shared=True))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(run(tmp_path_factory.mktemp("old"), shared=False))


def cells(analysis: Analysis, *columns: str) -> list[list[str]]:
    table = tables.arms(analysis)
    return [[row[table.header.index(name)] for name in columns] for row in table.rows]


def test_the_table_of_arms_has_both_times_and_their_sum(new: Analysis) -> None:
    said = cells(new, "Arm", "Time a trial", "Shared work", "One trial alone")
    assert said == [["small", "7 s", "10.0 min", "10.1 min"], ["large", "17 s", "10.0 min", "10.3 min"]]
    note = tables.arms(new).note
    assert "Time a trial is its own" in note
    assert times.UNTOLD not in note


def test_records_that_do_not_tell_give_a_median_and_say_so(old: Analysis) -> None:
    said = cells(old, "Arm", "Time a trial", "Shared work")
    assert said == [["small", "7 s", "unknown"], ["large", "17 s", "unknown"]]
    assert "One trial alone" not in tables.arms(old).header
    assert times.UNTOLD in tables.arms(old).note
    assert times.UNTOLD in times.caption(old)


def test_records_of_trials_that_shared_nothing_have_one_time(tmp_path: Path) -> None:
    plain = analyse(write_run(tmp_path, {"head": {"small": 1, "large": 2}}, lambda _: (0.7, 0.9), epochs=2))
    assert not {"Shared work", "One trial alone"} & set(tables.arms(plain).header)
    assert "alone" not in tables.arms(plain).note


def fronts(figure: Figure) -> dict[str, list[list[float]]]:
    """The places of each panel's front, by the label of its axis."""
    steps = {axes.get_xlabel(): [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
             for axes in figure.axes}  # fmt: skip
    return {label: [list(np.asarray(line.get_xdata(), float)) for line in lines] for label, lines in steps.items()}


def test_the_front_of_time_is_of_one_trial_alone(new: Analysis, old: Analysis) -> None:
    drawn = fronts(costs.cost(new.trials, new.arms, new.design))
    alone = [(own + FEATURES + GRAPH) / 60 for own in OWN.values()]
    assert drawn["minutes of a trial alone"] == [pytest.approx(alone)]
    untold = fronts(costs.cost(old.trials, old.arms, old.design))
    assert untold.pop("seconds a trial") == []  # which of them is dearer nobody knows
    assert all(len(lines) == 1 for lines in untold.values())


def test_the_time_of_all_trials_counts_shared_work_once(new: Analysis, old: Analysis) -> None:
    spent = len(SEEDS) * sum(OWN.values()) + FEATURES + 2 * GRAPH
    minutes, shared = f"{spent / 60:.1f} min", f"{(FEATURES + 2 * GRAPH) / 60:.1f} min"
    said = {name: dict(run_details.how(each))["Time of all trials"] for name, each in (("old", old), ("new", new))}
    assert said == {"old": minutes, "new": f"{minutes}, of it {shared} of work that they share"}


def test_the_caption_counts_the_completed_trials_of_a_busy_machine(tmp_path: Path) -> None:
    folder = run(tmp_path, shared=True)
    assert "busy" not in times.caption(analyse(folder))
    for seed in (1, 2):
        rewrite(folder, "large", seed, provenance={"load_at_end": 40.0})
    assert "2 of the 10 trials ran on a busy machine" in times.caption(analyse(folder))


def test_the_trial_that_waited_longest_for_input_is_told_where_that_is_long(tmp_path: Path, old: Analysis) -> None:
    row = "Waited for input"
    assert row not in dict(run_details.how(old))  # its records do not know
    folder = run(tmp_path, shared=True)
    rewrite(folder, "large", 1, provenance={"input_wait": 0.1})
    assert row not in dict(run_details.how(analyse(folder)))
    rewrite(folder, "large", 2, provenance={"input_wait": 0.234})
    assert dict(run_details.how(analyse(folder)))[row] == "23% of a trial's epochs, at most"
