"""Where a run's files lie, and which folders are a run's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow import workspace
from resflow.errors import RecordError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAME = st.text("abc.-", min_size=1, max_size=4).filter(lambda name: name.strip(".") == name)


@given(st.lists(st.lists(NAME, min_size=1, max_size=3).map(lambda parts: Path(*parts)), min_size=2, unique=True))
def test_no_two_runs_share_a_state_folder(runs: list[Path]) -> None:
    states = {workspace.state_folder(run) for run in runs}
    assert len(states) == len(runs)
    assert {state.parent for state in states} == {workspace.STATE}


def test_a_run_below_results_has_the_state_of_its_name_however_it_is_written(here: Path) -> None:
    (here / "scratch").mkdir()
    workspace.RESULTS.symlink_to(here / "scratch")
    for run in (
        Path("results/depth"),
        here / "results/depth",
        Path("results/../results/depth"),
        here / "scratch/depth",
    ):
        assert workspace.state_folder(Path(run)) == Path(".resflow/depth")


def test_a_project_may_move(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = workspace.state_folder(Path("out/run"))
    (here / "moved").mkdir()
    monkeypatch.chdir(here / "moved")
    assert workspace.state_folder(Path("out/run")) == before != workspace.state_folder(here / "out" / "run")


@pytest.mark.parametrize("name", ["README.md", "study.yaml", "trials/run1/notes.txt", "plan.csv", "figures/a.png"])
def test_a_run_is_not_put_among_other_files(here: Path, name: str) -> None:
    (here / "mine" / name).parent.mkdir(parents=True)
    (here / "mine" / name).write_text("name: mine\nquestion: ?\n")
    with pytest.raises(RecordError, match="no run of resflow"):
        workspace.claim_run(here / "mine")


@pytest.mark.parametrize("name", ["trials/1a2b/record.json", "tuning/searches.csv", "study.yaml", ".gitkeep", ""])
def test_a_run_goes_on_in_its_folder_and_begins_in_an_empty_or_a_new_one(here: Path, name: str) -> None:
    path = here / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name:
        path.write_text("name: depth\ncommand: resflow study depth\n")
        (here / "run" / "notes.txt").touch()
    if name == ".gitkeep":
        (here / "run" / "notes.txt").unlink()
    workspace.claim_run(here / "run")


def test_a_file_is_no_folder_for_a_run(here: Path) -> None:
    (here / "run").touch()
    with pytest.raises(RecordError, match="is a file"):
        workspace.claim_run(here / "run")
