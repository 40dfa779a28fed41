"""A run's folder: whose it is, what is put there, and what of this machine it does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow import workspace
from resflow.errors import RecordError, StudyError
from resflow.study.published import Publisher, restore_paths, write_paths
from resflow.workflow.plan import Plan, check_place, make_plan, plan_of_run, write_plan
from resflow.workflow.pretrain import plan_pretraining


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("a", "b"):
        tiny.photos(tmp_path / "private" / name / "train")
    next((tmp_path / "private" / "b" / "train").glob("*/*.png")).unlink()
    return place


def plan(folder: str = "a", out: str | None = None, **changes: Any) -> Plan:
    return make_plan({**tiny.STUDY, **changes}, data=f"folder:../private/{folder}/train", out=out)


def test_photos_of_two_folders_of_one_name_are_two_runs() -> None:
    assert plan("a").run != plan("b").run
    assert plan("a").run == plan("a").run


def test_a_folder_takes_no_run_on_other_data_or_of_another_study() -> None:
    first = plan(out="run")
    check_place(first)
    write_plan(first)
    check_place(plan(out="run", seeds=3))
    with pytest.raises(RecordError, match="on other data"):
        check_place(plan("b", out="run"))
    with pytest.raises(RecordError, match="other data"):
        check_place(plan(out="run", data={"image_size": 17}))
    with pytest.raises(RecordError, match="run of the study mine, not of other"):
        check_place(plan(out="run", name="other"))


def test_no_command_that_is_kept_tells_where_photos_lie(here: Path) -> None:
    source = f"folder:{here.parent}/private/a/train"
    settings = {"family": "cifar", "width": 0.125, "image_size": 16, "device": "cpu"}
    pretraining = plan_pretraining(source, None, 8, 1, settings, here.parent / "private" / "net.safetensors")
    for made in (pretraining, make_plan(tiny.STUDY, data=source)):
        assert "private" not in made.command
    assert pretraining.command.startswith("resflow pretrain --data folder:train --depth 8 --out net.safetensors ")


@pytest.mark.parametrize("name", [".driver.json", "study.yaml", "trials/x/record.json", "figures"])
def test_no_run_goes_on_where_a_link_leads_out_of_it(here: Path, name: str) -> None:
    made = plan(out="run")
    write_plan(made)
    precious = here / "precious"
    precious.write_text("mine\ncommand: x\n")
    (here / "run" / name).parent.mkdir(parents=True, exist_ok=True)
    (here / "run" / name).unlink(missing_ok=True)
    (here / "run" / name).symlink_to(precious)
    with pytest.raises(RecordError, match="link"):
        check_place(made)
    assert precious.read_text() == "mine\ncommand: x\n"


def test_no_run_goes_on_where_a_link_leads_out_of_its_ignored_folder(here: Path) -> None:
    made = plan(out="run")
    (here / "elsewhere").mkdir()
    workspace.STATE.mkdir()
    made.state.mkdir()
    (made.state / "logs").symlink_to(here / "elsewhere")
    with pytest.raises(RecordError, match="logs"):
        check_place(made)


def test_a_runs_own_files_do_not_tell_where_its_photos_lie(here: Path) -> None:
    made = plan()
    write_plan(made)
    for path in made.run.rglob("*"):
        assert "private" not in path.read_text()
    assert "--data folder:train" in made.command or made.run.name in made.command
    again = plan_of_run(made.run, "", None)
    assert [trial.id for trial in again.trials] == [trial.id for trial in made.trials]
    assert again.folders == made.folders


def test_a_listed_source_is_a_run_of_its_own_and_tells_no_place_either(here: Path) -> None:
    photos = here.parent / "private" / "a"
    rows = [f"{path.relative_to(photos)},{path.parent.name}\n" for path in sorted(photos.rglob("*.png"))]
    lists = []
    for name, listed in (("all", rows), ("some", rows[1:])):
        (photos / name).mkdir()
        lists.append(photos / name / "list.csv")
        lists[-1].write_text("path,label\n" + "".join(listed))
    made, other = (make_plan(tiny.STUDY, data=f"csv:{path}", data_dir=photos) for path in lists)
    assert made.run.name.startswith("mine-full-csv_list_csv-")
    assert made.run != other.run
    write_plan(made)
    assert not any("private" in path.read_text() for path in made.run.rglob("*"))
    assert f"results/{made.run.name}/study.yaml --data-dir a" in made.command
    again = plan_of_run(made.run, "", photos)
    assert [trial.id for trial in again.trials] == [trial.id for trial in made.trials]
    assert again.folders == made.folders


def test_a_run_that_lost_the_place_of_its_photos_says_so(here: Path) -> None:
    made = plan()
    write_plan(made)
    (made.state / workspace.PATHS).unlink()
    with pytest.raises(Exception, match="folder:PATH"):
        plan_of_run(made.run, "", None)


def test_two_photo_folders_of_one_name_in_one_study_are_refused(here: Path, tmp_path: Path) -> None:
    sources = {name: f"folder:{tmp_path}/private/{name}/train" for name in ("a", "b")}
    study = {**tiny.STUDY, "baseline": "a", "factors": {"source": sources}, "recipe": {"epochs": 1, "batch_size": 8}}
    with pytest.raises(StudyError, match="one name"):
        write_plan(make_plan(study))


TEXT = st.text(st.sampled_from("ab/.~: "), max_size=8)


@given(
    st.recursive(
        TEXT | TEXT.map("folder:".__add__) | TEXT.map("csv:".__add__) | TEXT.map("/".__add__) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    )
)
def test_what_is_published_holds_no_absolute_path_and_comes_back(value: Any) -> None:
    publisher = Publisher()
    try:
        shown = publisher.publish(value)
    except StudyError:
        return
    for text in strings(shown):
        assert not text.removeprefix("folder:").removeprefix("csv:").startswith("/") or text.strip("/") == "", text
    run = Path("run")
    write_paths(workspace.state_folder(run), publisher.paths)
    restored = restore_paths(shown, run) if publisher.paths else shown
    assert Publisher().publish(restored) == shown


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []
