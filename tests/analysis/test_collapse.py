"""Networks that collapsed are marked by what they end with; their accuracies stay, their insides are left out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.fake_run import write_run

from resflow.analysis import collapse
from resflow.analysis.analyse import Analysis, analyse
from resflow.analysis.labels import labels
from resflow.records.run import load_run
from resflow.report.figure_list import list_figures

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
COMMITTED = Path(__file__).parents[2] / "results" / "depth-cpu-oxford_flowers102"


@pytest.fixture(scope="module")
def committed() -> Analysis:
    return analyse(COMMITTED)


def test_of_the_committed_networks_those_of_plain_101_alone_collapsed(committed: Analysis) -> None:
    marked = committed.trials[committed.trials["collapsed"] != ""]
    assert set(marked["arm"]) == {"plain-101"}
    assert len(marked) == 5
    assert set(marked["status"]) == {"completed"}
    assert marked["collapsed"].str.contains("no skill").all()
    assert marked["collapsed"].str.contains("mean response outside").all()


def test_a_high_loss_on_the_way_is_no_collapse(committed: Analysis) -> None:
    """residual-101 seed 3 comes to a loss of 12 after its warm-up, and ends at 83 % of its training images."""
    rows = committed.histories[(committed.histories["arm"] == "residual-101") & (committed.histories["seed"] == 3)]
    assert rows["train_loss"].max() > 10
    assert set(committed.trials.set_index("id").loc[rows["id"], "collapsed"]) == {""}


def test_accuracies_of_collapsed_networks_stay_in_effects(committed: Analysis) -> None:
    row = committed.effects.set_index(["contrast_group", "arm"]).loc[("depth", "plain-101")]
    assert (row["n"], row["verdict"], row["note"]) == (5, "hurts", "plain-101 collapsed in every seed")


def test_claims_about_the_inside_leave_them_out_and_say_at_which_depth_they_hold(committed: Analysis) -> None:
    from resflow.report.paper_claims import table

    found = table(committed)
    assert found is not None
    rows = {row[0]: row for row in found.rows}
    responses = rows["Residual nets respond less, at 101 layers"]
    assert responses[-1] == "undecided"
    assert "5 collapsed networks left out" in responses[2]
    text = "Gradients keep healthy norms in deep plain nets, at the"
    first, last = rows[f"{text} first step"], rows[f"{text} end"]
    assert first[2].startswith("plain 101")
    assert first[3] == "+4.7 decades"
    assert last[2].startswith("plain 50")
    assert "every plain net of 101 layers collapsed" in last[2]


def test_figures_of_the_inside_leave_them_out_and_say_so(committed: Analysis) -> None:
    entries = {entry.name: entry for section, entry in list_figures(committed) if section == "inside"}
    assert "Without 5 collapsed networks (plain-101)" in entries["inside_response_sd"].caption
    assert "Without" not in entries["inside_gradient_norm"].caption  # of the first step, when none had


@pytest.mark.parametrize(("training", "marked"), [(0.1, True), (0.25, False)])
def test_no_skill_on_training_images_is_a_collapse(tmp_path: Path, training: float, marked: bool) -> None:
    found = analyse(write_run(tmp_path, HEADS, lambda levels: (0.5, training), epochs=8))
    assert (found.trials["collapsed"] != "").all() == marked
    assert ("collapsed" in {label.word for label in labels(found)}) == marked


def test_a_short_training_is_no_collapse(tmp_path: Path) -> None:
    found = analyse(write_run(tmp_path, HEADS, lambda levels: (0.5, 0.1), epochs=collapse.BRIEF - 1))
    assert set(found.trials["collapsed"]) == {""}


@pytest.mark.parametrize(("kind", "value"), [("bn_scale", 15.0), ("bn_scale", 1e-3), ("response_sd", 60.0)])
def test_scales_and_responses_out_of_range_are_a_collapse(tmp_path: Path, kind: str, value: float) -> None:
    run = load_run(write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), seeds=(1,), epochs=8))
    inside = run.diagnostics_of(record.id for record in run.records)
    trial = run.records[0].id
    inside.loc[(inside["id"] == trial) & (inside["kind"] == kind), "value"] = value
    assert list(collapse.reasons(run, run.histories(), inside)) == [trial]


def test_where_some_seeds_collapsed_a_verdict_that_hangs_on_them_is_withheld(tmp_path: Path) -> None:
    truth = lambda levels: (0.7 if "wide" in levels.values() else 0.5, 0.9)  # noqa: E731
    run = write_run(tmp_path, HEADS, truth, seeds=range(1, 6), epochs=8)
    assert analyse(run).effects.iloc[0]["verdict"] == "helps"
    for record in load_run(run).records:
        if record.arm == "wide" and record.seed < 3:
            _flatten_training(run, record.id)
    found = analyse(run).effects.iloc[0]
    assert (found["verdict"], found["note"]) == ("undecided", "2 collapsed of 10 trials could change it")
    assert (found["n"], found["missing"]) == (5, 0)


def _flatten_training(run: Path, trial: str) -> None:
    """Have a trial end where it began, at chance on its training images, as if its record had been written so."""
    import json

    from resflow.records import verification

    folder = run / "trials" / trial
    history = pd.read_csv(folder / "history.csv").assign(train_top1=0.1)
    history.to_csv(folder / "history.csv", index=False)
    values = json.loads((folder / "record.json").read_text())
    values["metrics"]["train_top1"] = 0.1
    (folder / "record.json").write_text(json.dumps(verification.sealed(values, folder)))
