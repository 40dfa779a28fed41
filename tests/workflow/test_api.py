"""The Python door: a notebook does what the command line does, and gets frames whose columns can be used."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import direct, tiny
from support.fake_run import write_run

import resflow
from resflow.errors import RecordError, ResflowError, StudyError
from resflow.runner import execute
from resflow.study.settings import section_of
from resflow.workflow.plan import write_plan

STUDY: dict[str, Any] = {
    "name": "rates",
    "question": "Does the rate matter?",
    "baseline": "8-slow-relu",
    "factors": {
        "depth": [8, 14],
        "learning_rate": {"slow": 1e-3, "fast": 0.1},
        "head": {"relu": {"hidden": [8]}},
    },
    "network": {"family": "cifar", "width": 0.125, "shortcut": "zero_pad"},
    "recipe": {"epochs": 2, "batch_size": 8},
    "data": {"source": "folder:photos", "image_size": 16},
    "execution": {"device": "cpu"},
    "seeds": 2,
}


class Listener:
    """A Reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.totals: list[int] = []

    def note(self, text: str, title: str = "") -> None:
        self.lines.append(f"{title}: {text}" if title else text)

    def show(self, tables: Iterable[Any]) -> None:
        self.lines += [table.title for table in tables]

    @contextmanager
    def watch(self, total: int) -> Iterator[Callable[[Any], Any]]:
        self.totals.append(total)
        yield lambda progress: None


@pytest.fixture(scope="module")
def study() -> Any:
    return resflow.load_study(STUDY)


@pytest.fixture(scope="module")
def trained(study: Any, tmp_path_factory: pytest.TempPathFactory, tensorflow_on_one_thread: None) -> tuple[Any, Any]:
    """A run by `resflow.run`, its trials trained in this process, and what its reporter heard."""
    listener = Listener()
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("api")
        patch.chdir(place)
        tiny.photos(place / "photos")
        patch.setattr(execute, "execute", direct.execute)
        plan = resflow.plan(study)
        run = resflow.run(plan, listener)
        # Paths are relative, as a user has them; later tests stand elsewhere
        run = resflow.load_run(run.folder.absolute())
    return run, listener


def test_a_mapping_is_a_study_as_its_file_is(study: Any, tmp_path: Path) -> None:
    import json

    (tmp_path / "rates.yaml").write_text(json.dumps(STUDY))
    from_file = resflow.load_study(tmp_path / "rates.yaml")
    assert from_file.resolved() == study.resolved()
    assert from_file == study


def test_seeds_profile_and_settings_are_laid_over_a_study() -> None:
    study = resflow.load_study("depth", profile="cpu", seeds=3, settings={"epochs": 6})
    assert (study.seeds, study.profile) == ((1, 2, 3), "cpu")
    assert {arm.recipe.epochs for arm in study.arms} == {6}
    other = study.with_data("oxford_flowers102")
    assert other.file.data.source == "oxford_flowers102"
    assert {arm.recipe.epochs for arm in other.arms} == {6}  # settings stand over the source


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({**STUDY, "sedes": 3}, "unknown key 'sedes'"),
        ({**STUDY, "margin": object()}, "the study: "),
        ("nothing", "unknown study 'nothing'"),
    ],
)
def test_a_wrong_study_is_one_message(wrong: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        resflow.load_study(wrong)


def test_a_plan_is_a_row_a_trial_and_a_column_a_factor(study: Any) -> None:
    plan = resflow.plan(study.with_data("synthetic"), prepare=False)
    frame = plan.frame()
    assert list(frame.columns)[:6] == ["id", "arm", "depth", "learning_rate", "head", "seed"]
    assert len(frame) == len(plan.trials) == 8
    assert frame["depth"].dtype == "int64"
    assert sorted(set(frame["learning_rate"])) == [1e-3, 0.1]
    assert set(frame["head"]) == {"relu"}  # no single value: its label
    assert plan.run == Path("results/rates-full-synthetic")


def test_run_trains_what_is_missing_and_tells_its_reporter(trained: tuple[Any, Any]) -> None:
    run, listener = trained
    assert listener.totals == [8]
    first, cost = listener.lines
    assert first == f"rates: 4 arms × 2 seeds = 8 trials, 0 of them done before. Records: results/{run.folder.name}/"
    assert cost.startswith("8 trials, ")
    assert "on this CPU" in cost
    assert (run.folder / "report.html").is_file()
    assert list(run.trials["status"]) == ["completed"] * 8


def test_every_frame_has_each_factor_with_its_own_type(trained: tuple[Any, Any]) -> None:
    run, _ = trained
    assert run.epochs["learning_rate"].max() <= 0.1  # the history's own column, which a factor is called like
    epochs = run.epochs.drop(columns="learning_rate").rename(columns={"factor_learning_rate": "learning_rate"})
    for frame in (run.trials, epochs, run.predictions, run.diagnostics):
        assert list(frame.columns)[:6] == ["id", "arm", "depth", "learning_rate", "head", "seed"]
        assert frame["depth"].dtype == "int64"
        assert frame["learning_rate"].dtype == "float64"
        assert set(frame["learning_rate"]) == {1e-3, 0.1}
        parts = frame["arm"].str.split("-", expand=True)
        assert (parts[0].astype(int) == frame["depth"]).all()
        assert (parts[1].map({"slow": 1e-3, "fast": 0.1}) == frame["learning_rate"]).all()
    assert len(run.epochs) == 8 * 2
    assert {"image", "label", "predicted"} <= set(run.predictions.columns)


def test_a_factor_called_like_a_column_of_the_plan_has_its_own(tmp_path: Path) -> None:
    factors = {"depth": [8], "epochs": {"short": 1, "long": 4}}
    changed = {"baseline": "8-short", "factors": factors, "recipe": {"batch_size": 8}}
    study = resflow.load_study({**STUDY, **changed})
    plan = resflow.plan(study.with_data("synthetic"), out=tmp_path / "run", prepare=False)
    frame = plan.frame()
    assert list(frame["factor_epochs"]) == list(frame["epochs"]) == [1, 4, 1, 4]
    write_plan(plan)
    trials = resflow.load_run(tmp_path / "run").trials
    assert list(trials["epochs"]) == [1, 4, 1, 4]
    assert set(trials["status"]) == {"not run"}


def test_a_run_that_is_read_again_is_the_same(trained: tuple[Any, Any]) -> None:
    run, _ = trained
    for path in (run.folder, str(run.folder)):
        pd.testing.assert_frame_equal(resflow.load_run(path).trials, run.trials)


def test_trials_without_a_record_are_rows_too(trained: tuple[Any, Any], tmp_path: Path) -> None:
    import shutil

    run, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    gone, broken = list(run.trials["id"])[:2]
    shutil.rmtree(copy / "trials" / gone)
    (copy / "trials" / broken / "record.json").write_text("{")
    trials = resflow.load_run(copy).trials.set_index("id")
    assert list(trials.index) == list(run.trials["id"])
    assert trials.loc[gone, "status"] == "not run"
    assert trials.loc[broken, "status"] == "unreadable"
    assert "record.json" in trials.loc[broken, "reason"]
    assert trials["depth"].dtype == "int64"


def test_an_analysis_has_arms_effects_labels_answer_and_figures(trained: tuple[Any, Any]) -> None:
    from matplotlib.figure import Figure

    run, _ = trained
    result = resflow.analyse(run)
    assert list(result.arms.columns)[:4] == ["arm", "depth", "learning_rate", "head"]
    assert len(result.arms) == 4
    assert len(result.effects)
    assert any(label.startswith("budget-limited") for label in result.labels)
    assert isinstance(result.answer, str)
    assert result.answer
    assert {"accuracy", "effects", "cost"} <= set(result.figures)
    figure = result.figure("accuracy", width=5)
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == 5
    with pytest.raises(RecordError, match="accurracy"):
        result.figure("accurracy")
    assert resflow.analyse(run.folder).answer == result.answer


def test_in_a_notebook_they_are_tables(trained: tuple[Any, Any], study: Any) -> None:
    run, _ = trained
    plan = resflow.plan(study.with_data("synthetic"), prepare=False)
    for shown in (plan, run, resflow.analyse(run)):
        assert "<table" in shown._repr_html_()
        assert "8-slow-relu" in shown._repr_html_()


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    run = resflow.load_run(write_run(tmp_path / "<b>run"))
    assert "<b>run" not in run._repr_html_()


@pytest.mark.usefixtures("one_figure")
def test_write_report_takes_a_run_or_its_folder(trained: tuple[Any, Any]) -> None:
    run, _ = trained
    page = resflow.write_report(run)
    assert page == run.folder / "report.html"
    before = page.read_bytes()
    assert resflow.write_report(str(run.folder)) == page
    assert page.read_bytes() == before


def test_no_run_is_one_message() -> None:
    with pytest.raises(RecordError, match="no results folder at nowhere"):
        resflow.load_run("nowhere")


def test_wrong_options_are_one_message(study: Any) -> None:
    plan = resflow.plan(study.with_data("synthetic"), prepare=False)
    with pytest.raises(ResflowError, match="'soon' is no time budget"):
        resflow.run(plan, options=resflow.RunOptions(time_budget="soon"))


def test_what_is_public_is_there_and_importing_it_is_cheap() -> None:
    assert set(resflow.__all__) <= set(dir(resflow))
    for name in set(resflow.__all__) - {"OracleSearcher", "ResNetHyperModel"}:  # these take Ray and TensorFlow
        assert getattr(resflow, name).__doc__, name
    code = (
        "import sys, resflow; print([name for name in ('pandas', 'ray', 'tensorflow', 'numpy') if name in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", time.monotonic() - started


def test_factors_of_the_study_are_settings() -> None:
    assert all(section_of(name) for name in STUDY["factors"])
