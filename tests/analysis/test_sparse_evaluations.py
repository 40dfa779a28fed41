"""Trials that were not evaluated after every epoch: what is said of them is said of the epochs that were."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.fake_run import write_run

from resflow.analysis import budget
from resflow.analysis.analyse import Analysis, analyse
from resflow.figures import curves
from resflow.records import packing
from resflow.report.tables import convergence
from resflow.report.write import write_report

EVALUATED = [5, 10, 12]  # of twelve epochs: every fifth, and the last


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, Analysis]:
    """The same trials, evaluated after every epoch and after every fifth."""
    folder = tmp_path_factory.mktemp("runs")
    each, some = (analyse(write_run(folder / str(every), evaluate_every=every)) for every in (1, 5))
    return each, some


def test_what_they_end_with_is_the_same(runs: tuple[Analysis, Analysis]) -> None:
    each, some = runs
    pd.testing.assert_frame_equal(each.effects, some.effects)
    assert set(each.trials.loc[each.trials["collapsed"] != "", "arm"]) == {"plain-101"}
    assert list(each.trials["collapsed"]) == list(some.trials["collapsed"])


def test_what_the_last_quarter_gained_is_told_between_evaluations(runs: tuple[Analysis, Analysis]) -> None:
    """The last quarter of twelve epochs begins after the ninth: four fifths of the way from the fifth to the tenth."""
    each, some = runs
    known = some.histories.dropna(subset="train_top1")
    assert sorted(set(known["epoch"])) == EVALUATED
    at = each.histories.pivot_table(index="arm", columns="epoch", values="train_top1")
    expected = at[12] - (at[5] + (at[10] - at[5]) * 4 / 5)
    pd.testing.assert_series_equal(budget.gains(some.histories).sort_index(), expected.sort_index(), check_names=False)


def test_curves_have_a_point_where_there_was_an_evaluation(runs: tuple[Analysis, Analysis]) -> None:
    figure = curves.curves(runs[1].histories, runs[1].design, "train_top1", panel_by_scale=True)
    assert all(list(line.get_xdata()) == EVALUATED for axes in figure.axes for line in axes.lines)


def test_the_epoch_of_an_error_is_told_to_be_no_exact_one(runs: tuple[Analysis, Analysis]) -> None:
    notes = [table.note for one in runs if (table := convergence(one)) is not None]
    assert ["not measured in every epoch" in note for note in notes] == [False, True]


def test_a_packed_run_keeps_them(runs: tuple[Analysis, Analysis], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", evaluate_every=5)
    packing.pack(run)
    packed = analyse(run)
    pd.testing.assert_frame_equal(packed.histories, runs[1].histories)
    assert "Training error" in write_report(run).read_text(encoding="utf-8")
