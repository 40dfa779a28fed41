"""From a command to a plan: the run's folder, the command that repeats it, its files, its estimate."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest

from resflow.errors import DataError, RecordError, StudyError
from resflow.records import run as runs
from resflow.records.record import Record
from resflow.study import costs
from resflow.study.load import Origin, load_study, open_document
from resflow.study.yaml_source import Document
from resflow.workflow.forecast import estimate_seconds, unpaired_twins
from resflow.workflow.plan import Plan, _command, make_plan, write_plan

TEXT = """\
name: mine
question: q
baseline: plain-18
factors:
  shortcut: {plain: none, residual: zero_pad}
  depth: [18, 34]
execution: {device: cpu}
recipe: {epochs: 4}
seeds: 2
profiles: {fast: {recipe: {epochs: 1}}}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(TEXT)
    return "./mine.yaml"


def make(name: str, **options: Any) -> Plan:
    laid_over = {key: options.pop(key) for key in ("profile", "settings", "seeds") if key in options}
    return make_plan(load_study(name, **laid_over), prepare=False, **options)


def test_a_run_is_named_after_study_profile_and_data(mine: str) -> None:
    assert make(mine).run == Path("results/mine-full-synthetic")
    assert make(mine, profile="fast").run == Path("results/mine-fast-synthetic")
    assert make(mine, out=Path("there/x")).run == Path("there/x")


def test_what_set_changes_is_in_the_name(mine: str) -> None:
    runs = [make(mine, settings=given).run.name for given in ({"epochs": 2}, {"epochs": 3}, {"epochs": 2})]
    assert runs[0] == runs[2] != runs[1]
    assert all(len(run.removeprefix("mine-full-synthetic-")) == 6 for run in runs)
    assert make(mine, settings={"epochs": 2, "width": 0.5}).run == make(mine, settings={"width": 0.5, "epochs": 2}).run


def test_the_command_repeats_the_run(mine: str) -> None:
    plan = make(mine, profile="fast", data="synthetic", seeds=3, settings={"epochs": 2}, out=Path("x"))
    assert plan.command == (
        "resflow study ./mine.yaml --profile fast --data synthetic --seeds 3 --set epochs=2 --out x"
    )
    assert [t.seed for t in plan.trials] == [1] * 4 + [2] * 4 + [3] * 4
    assert {t.recipe.epochs for t in plan.trials} == {2}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/ada/my photos", "my photos"),
        ("~/private/102", "102"),
        ("../photos", "photos"),
        ("photos/102", "photos/102"),
    ],
)
def test_the_command_names_the_folder_of_the_official_files(given: str, shown: str) -> None:
    for name in ("depth", ""):  # a study of a file, and one of Python
        words = shlex.split(_command(Origin(name, Document({}, {}, "")), None, Path("x"), None, Path(given)))
        assert words[words.index("--data-dir") + 1] == shown
        assert "--address" not in words
    assert "--data-dir" not in make("depth").command


def test_the_command_of_a_clusters_run_says_that_it_was_one(mine: str) -> None:
    """Whether a cluster has GPUs decides on the device, and so on the numbers."""
    assert make(mine, gpus=2).command == "resflow study ./mine.yaml --address auto"


def test_the_command_names_weights_and_not_their_place() -> None:
    origin = Origin("finetune", Document({}, {}, ""), None, {"weights": "/home/ada/nets/resnet{depth}.safetensors"})
    words = shlex.split(_command(origin, None, Path("x"), None))
    assert words[-2:] == ["--set", 'weights="resnet{depth}.safetensors"']


@pytest.mark.parametrize("value", [5, 1e-4, "it's", True, None, [18, 34], {"a b": 18}, 'say "x"', "$HOME `x`"], ids=str)
def test_the_command_survives_the_shell(value: Any, mine: str) -> None:
    from resflow.study.yaml_source import parse_scalar

    origin = Origin("a b.yaml", Document({}, {}, ""), "folder:/my photos", {"epochs": value})
    command = _command(origin, None, Path("my run"), Path("my run"))
    words = shlex.split(command)
    assert words[2] == "a b.yaml"
    assert words[words.index("--data") + 1] == "folder:my photos"  # and not where that folder lies
    assert words[words.index("--out") + 1] == "my run"
    assert parse_scalar(words[words.index("--set") + 1].removeprefix("epochs=")) == value


def test_plan_and_study_are_written_and_read_again(mine: str) -> None:
    plan = make(mine, profile="fast")
    write_plan(plan)
    with (plan.run / "plan.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [t.id for t in plan.trials]
    assert list(rows[0]) == ["id", "arm", "seed", "shortcut", "depth", "parameters", "multiply_adds", "epochs"]
    run = runs.load_run(plan.run)
    assert run.study["command"] == plan.command
    assert (run.study["profile"], run.study["seeds"]) == ("fast", [1, 2])
    again = make_plan(str(plan.run / "study.yaml"), prepare=False)
    assert [t.id for t in again.trials] == [t.id for t in plan.trials]
    assert sorted(path.name for path in plan.run.iterdir()) == ["plan.csv", "study.yaml"]


def test_a_folder_that_cannot_be_written_is_told(mine: str) -> None:
    Path("file").write_text("")
    with pytest.raises(RecordError, match="--out"):
        write_plan(make(mine, out=Path("file/run")))


def test_planning_prepares_no_data_that_it_need_not(mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    plan = make(mine)
    assert not (tmp_path / "cache").exists()
    assert plan.folders == {}
    assert {t.classes for t in plan.trials} == {10}


def test_wrong_data_is_told(mine: str) -> None:
    with pytest.raises(DataError, match="unknown data source 'nope'"):
        make(mine, data="nope")
    with pytest.raises(DataError, match="split"):
        make(mine, settings={"split": "official"})
    with pytest.raises(DataError, match="--data-dir"):
        make(mine, data_dir=Path())


def test_a_study_is_found_by_name_or_path_and_nothing_else(mine: str) -> None:
    for name in ("mine", "dept"):
        with pytest.raises(StudyError, match=r"unknown study .*\./"):
            make(name)
    assert open_document("mine.yaml").values["name"] == "mine"


def _done(t: Any, seconds: float, status: str = "completed") -> Record:
    return Record(
        id=t.id,
        study=t.study,
        arm=t.arm,
        levels=t.levels,
        seed=t.seed,
        split_seed=0,
        status=status,  # type: ignore[arg-type]
        settings={},
        execution={},
        seconds=seconds,
    )


def test_the_estimate_comes_from_finished_trials(mine: str) -> None:
    trials = make(mine).trials
    first = trials[0]
    guessed, basis = estimate_seconds(trials, {})
    assert basis.startswith("assuming")
    assert guessed[trials[1].id] / guessed[first.id] == pytest.approx(
        costs.estimate_work(trials)[trials[1].id] / costs.estimate_work(trials)[first.id]
    )
    estimated, basis = estimate_seconds(trials, {first.id: _done(first, 100)})
    assert basis == "from 1 finished trial"
    assert estimated[first.id] == pytest.approx(100)
    assert estimated[trials[1].id] == pytest.approx(
        100 * costs.estimate_work(trials)[trials[1].id] / costs.estimate_work(trials)[first.id]
    )
    for useless in ({first.id: _done(first, 100, "failed")}, {"other": _done(first, 100)}):
        assert estimate_seconds(trials, useless) == (guessed, estimate_seconds(trials, {})[1])


def test_twins_that_differ_in_size_are_told_before_they_run(mine: str) -> None:
    assert unpaired_twins(make(mine).trials) == []
    projections = make(mine, settings={"factors.shortcut": {"plain": "none", "residual": "projection"}}).trials
    assert unpaired_twins(projections) == [
        "residual-18 − plain-18: +173,824 parameters (+1.6 %)",
        "residual-34 − plain-34: +173,824 parameters (+0.8 %)",
    ]


def test_many_trials_share_what_they_can(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand seeds look at the data and count the parameters of each arm once."""
    from resflow import architectures
    from resflow.study.trial import _size

    _size.cache_clear()
    counted: list[Any] = []
    real = architectures.parameters
    monkeypatch.setattr(architectures, "parameters", lambda *given: counted.append(given) or real(*given))
    assert len([trial.parameters for trial in make(mine, seeds=1000).trials]) == 4000
    assert len(counted) == 4
