"""A sequential design as it runs: seeds are added until all is decided, and none that was not needed is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import fake_run

from resflow import atomic, workspace
from resflow.analysis.analyse import analyse
from resflow.analysis.labels import labels
from resflow.errors import RecordError
from resflow.records.looks import Look, note_look, read_looks
from resflow.records.record import write_record
from resflow.records.run import finished_records, load_run
from resflow.report import write
from resflow.runner import execute
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.workflow import forecast
from resflow.workflow.looks import note_extension
from resflow.workflow.plan import Plan, make_plan, write_plan
from resflow.workflow.resolution import design_of
from resflow.workflow.run import run_plan
from resflow.workflow.run_contract import RunOptions, RunResult
from resflow.workflow.status import read_state

Truth = Callable[[Trial], float]
STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "Does depth help?",
    "baseline": "18",
    "factors": {"depth": [18, 34]},
    "execution": {"device": "cpu"},
    "recipe": {"epochs": 4},
}
SEQUENTIAL = {"at_least": 3, "at_most": 6, "until": "decided"}


def apart(trial: Trial) -> float:
    return 0.5 + 0.05 * (trial.arm == "34")


def far_apart(trial: Trial) -> float:
    return 0.5 + 0.08 * (trial.arm == "34")


def alike(trial: Trial) -> float:
    return 0.5


def plan(seeds: Any, out: Path | None = None, **changes: Any) -> Plan:
    return make_plan(load_study({**STUDY, "seeds": seeds, **changes}), out=out, prepare=False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunResult]:
    """Run a plan whose trials leave what a truth says; `.calls` are the seeds that each stage trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecast, "count_slots", lambda *_: 2)
    monkeypatch.setattr("resflow.workflow.looks.count_slots", lambda *_: 2)  # as many as arms: a seed a look

    def write_nothing(folder: Path) -> Path:
        atomic.write(folder / workspace.REPORT, "")
        return folder / workspace.REPORT

    def start(made: Plan, truth: Truth, most: int | None = None, report: bool = False) -> RunResult:
        if not report:
            monkeypatch.setattr(write, "write_report", write_nothing)
        start.calls = []  # type: ignore[attr-defined]

        def train(place: Any, trials: Sequence[Trial], folders: Any, show: Any, stop: Any) -> None:
            waiting = [trial for trial in trials if trial.id not in finished_records(place.run)]
            for trial in waiting[:most]:
                write_record(place.run, fake_run.completed(trial, (truth(trial), 0.9)))
            start.calls.append(sorted({trial.seed for trial in waiting[:most]}))  # type: ignore[attr-defined]
            if most is not None:
                stop.reason = "the time is spent"

        monkeypatch.setattr(execute, "execute", train)
        return run_plan(made, RunOptions())

    return start


def test_seeds_are_added_until_all_is_decided(run: Any) -> None:
    result = run(plan(SEQUENTIAL), apart)
    seen = analyse(result.plan.run)
    assert run.calls[0] == [1, 2, 3]
    assert [len(call) for call in run.calls[1:]] == [1] * (len(run.calls) - 1)
    assert 3 < run.calls[-1][-1] < 6  # the least were too few, and not all were needed
    assert set(seen.effects["verdict"]) == {"helps"}
    assert result.complete
    assert [look.seeds for look in read_looks(result.plan.run)] == [call[-1] for call in run.calls]
    assert [look.decided for look in seen.looks] == [0] * (len(run.calls) - 1) + [1]


def test_what_was_not_needed_is_not_missing(run: Any) -> None:
    folder = run(plan(SEQUENTIAL), apart, report=True).plan.run
    seen, ran = analyse(folder), run.calls[-1][-1]
    listed = pd.read_csv(folder / workspace.PLAN, keep_default_na=False)
    assert sorted(listed.loc[listed["optional"] == "yes", "seed"].unique()) == [4, 5, 6]
    assert (listed.loc[listed["optional"] == "", "seed"] <= 3).all()
    assert len(seen.trials) == len(load_run(folder).trials) == read_state(folder).total == 2 * ran
    assert set(seen.trials["status"]) == {"completed"}
    assert list(seen.design.factors) == ["depth"]
    assert "sequential design" in {label.word for label in labels(seen)}
    text = (folder / workspace.REPORT).read_text(encoding="utf-8")
    assert "not run" not in text
    assert "95 % sequential intervals" in text
    assert f">{ran} seeds<" in text  # the last look
    assert "paired t test" not in text


def test_the_same_command_goes_on_where_it_was_and_then_has_nothing_to_do(run: Any) -> None:
    made = plan(SEQUENTIAL)
    assert not run(made, alike, most=7).complete  # more seeds are due
    assert run.calls == [[1, 2, 3]]
    assert not run(made, alike, most=1).complete  # half of the fourth
    assert run(made, alike).complete
    assert run.calls == [[4], [5], [6]]
    looks = read_looks(made.run)
    assert run(made, alike).complete
    assert run.calls == []
    assert read_looks(made.run) == looks
    assert looks[-1] == Look(6, 1, 0)


def test_parts_run_with_the_least_seeds_and_have_no_others(run: Any) -> None:
    result = run(plan({**SEQUENTIAL, "at_most": 4}, vary={"parts": ["init", "order"]}), alike)
    seen = analyse(result.plan.run)
    assert result.complete
    assert run.calls == [[1, 2, 3], [4]]
    assert sorted(seen.apart["seed"].unique()) == [2, 3]
    assert set(seen.parts["n"]) == {3}  # of all together, too
    assert [look.seeds for look in seen.looks] == [3, 4]


def test_a_seed_that_has_begun_is_to_be_whole(run: Any) -> None:
    made = plan(SEQUENTIAL)
    run(made, far_apart, most=6)
    assert set(analyse(made.run).effects["verdict"]) == {"helps"}  # three seeds are enough
    half = next(trial for trial in made.trials if trial.seed == 4)
    write_record(made.run, fake_run.completed(half, (0.5, 0.9)))
    seen = analyse(made.run)
    assert (seen.trials["status"] == "not run").sum() == 1
    assert set(seen.effects["verdict"]) == {"undecided"}
    assert "have not run yet" in seen.effects["note"].iloc[0]


def test_intervals_are_sequential_everywhere(run: Any) -> None:
    looked, fixed = (
        analyse(run(plan(seeds, Path(name), margin=0.01), alike).plan.run)
        for name, seeds in (("looked", SEQUENTIAL), ("fixed", 6))
    )
    one, other = looked.effects.iloc[0], fixed.effects.iloc[0]
    assert one["n"] == other["n"] == 6
    assert one["p_equivalence"] > other["p_equivalence"]
    assert pd.isna(one["p_sign_flip"])
    assert not pd.isna(other["p_sign_flip"])
    for wide, narrow in ((looked.arms, fixed.arms), (looked.effects, fixed.effects)):
        assert ((wide["high"] - wide["low"]) > (narrow["high"] - narrow["low"])).all()


def test_ids_are_those_of_fixed_seeds() -> None:
    assert [trial.id for trial in plan(SEQUENTIAL).trials] == [trial.id for trial in plan(6).trials]
    assert design_of(plan(SEQUENTIAL)).sequential
    assert not design_of(plan(6)).sequential


def test_a_study_keeps_its_design_on_disk(run: Any) -> None:
    made = plan(SEQUENTIAL)
    write_plan(made)
    again = load_study(made.run / workspace.STUDY)
    assert again.seeds == tuple(range(1, 7))
    assert again.optional_seeds == (4, 5, 6)


def test_fixed_seeds_that_were_added_after_a_report_are_labelled(run: Any) -> None:
    first = plan(3)
    run(first, alike)
    assert not read_looks(first.run)
    run(first, alike)
    assert not read_looks(first.run)  # nothing was added
    longer = plan(5)
    assert longer.run == first.run
    run(longer, alike)
    assert read_looks(first.run) == [Look(3, 1, 0)]
    words = {label.word: label.text for label in labels(analyse(first.run))}
    assert "after 3 of these 5 seeds" in words["seeds added after a report"]


def test_seeds_that_are_added_before_a_report_or_to_a_stopped_run_are_no_look(run: Any) -> None:
    made = plan(3)
    run(made, alike, most=4)  # reported on, but not whole: nothing was decided
    note_extension(plan(5))
    run(made, alike)
    (made.run / workspace.PLAN).unlink()  # nobody knows how many there were to be
    note_extension(plan(5))
    assert not read_looks(made.run)


def test_looks_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    note_look(tmp_path, Look(3, 6, 2))
    note_look(tmp_path, Look(4, 6, 2))
    note_look(tmp_path, Look(4, 6, 2))
    assert read_looks(tmp_path) == [Look(3, 6, 2), Look(4, 6, 2)]
    (tmp_path / workspace.LOOKS).write_text("seeds,decided\n3,x\n")
    with pytest.raises(RecordError, match=r"expected the columns seeds, comparisons, decided"):
        read_looks(tmp_path)
