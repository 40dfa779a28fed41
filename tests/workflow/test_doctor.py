"""`resflow doctor` and `resflow clean`: what is told, what is removed, and what never is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.driver import MB, FakeDriver
from typer.testing import CliRunner

from resflow import workspace
from resflow.cli import main
from resflow.errors import ResflowError
from resflow.workflow import doctor

MINE = {"results/run/trials/a/record.json", "results/run/report.html", "studies/mine.yaml", "photos/1.jpg"}
REMADE = {
    "images": "cache/data/synthetic-64-0/images.npy",
    "downloads": "cache/downloads/102flowers.tgz",
    "logs": ".resflow/run/logs/a.log",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    fill(tmp_path)
    return tmp_path


def fill(root: Path) -> None:
    for part in (workspace.IMAGES, workspace.DOWNLOADS):
        workspace.make_cache_folder(workspace.cache(part))
    for name in (*MINE, *REMADE.values()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x" * 1000)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {
        f"cache/{part}/{workspace.CACHE_TAG}" for part in (workspace.IMAGES, workspace.DOWNLOADS)
    }


def clean(*words: str, answer: str = "") -> str:
    result = CliRunner().invoke(main.app, ["clean", *words], input=answer)
    assert result.exit_code in (0, 1), result.exception
    return result.output


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*REMADE, "all"]), max_size=3), st.booleans())
def test_whatever_is_cleaned_results_stay(place: Path, parts: list[str], yes: bool) -> None:
    fill(place)
    for part in parts:
        clean("--what", part, *(["--yes"] if yes else []), answer="y\n")
    gone = set(REMADE) if "all" in parts else set(parts)
    assert files(place) == MINE | {path for what, path in REMADE.items() if what not in gone}


def test_kept_networks_go_only_by_their_name(place: Path) -> None:
    kept = place / ".resflow" / "run" / "weights" / "a.safetensors"
    kept.parent.mkdir()
    kept.touch()
    for part in ("all", "logs", "weights"):
        clean("--what", part, "--yes")
        assert kept.exists()
    assert "kept networks" in clean("--what", "kept", "--yes")
    assert not kept.exists()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_nothing_goes_unless_the_answer_is_yes(place: Path, answer: str) -> None:
    before = files(place)
    assert "Remove these?" in clean(answer=answer)
    assert files(place) == before


def test_what_would_go_is_shown_with_its_size(place: Path) -> None:
    shown = clean("--what", "images", answer="n\n")
    assert "cache/data" in shown
    assert "1.15 kB" in shown
    assert "decoded images" in shown


def test_an_empty_place_has_nothing_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "none"))
    assert clean() == "Nothing to remove.\n"


def test_an_unknown_part_is_told() -> None:
    with pytest.raises(
        ResflowError, match=r"'results'.*images, downloads, compiled, features, weights, logs, kept, all"
    ):
        doctor.removable_places("results")


def test_a_folder_that_cannot_be_removed_is_told(place: Path) -> None:
    (images,) = doctor.removable_places("images")
    images.remove()
    with pytest.raises(ResflowError, match="cannot remove"):
        images.remove()


def test_doctor_prints_versions_and_places(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: {"gpus": 0, "cuda": "12.5.1", "cudnn": "9"})
    result = CliRunner().invoke(main.app, ["doctor", "--no-ray"])
    assert result.exit_code == 0, result.exception
    for word in ("Python", "resflow", "numpy", "by the NVIDIA driver", "by TensorFlow", str(place / "cache"), "0.0 MB"):
        assert word in result.output


def test_doctor_finds_gpus_that_only_one_of_two_sees(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: {"gpus": 0, "cuda": "12.5.1", "cudnn": "9"})
    monkeypatch.setattr(doctor, "_ray_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    assert any(line.startswith("PROBLEM") and "resflow[gpu]" in line for line in doctor.examine())
    monkeypatch.setattr(doctor, "_ray_resources", lambda: {"CPU": 2.0})
    assert not any(line.startswith("PROBLEM") for line in doctor.examine())


def test_doctor_describes_a_gpu_with_its_software(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: {"gpus": 1, "cuda": "12.5.1", "cudnn": "9"})
    FakeDriver(80 * 10**9, context=400 * MB, name="NVIDIA H100").install(monkeypatch)
    lines = "\n".join(doctor.examine(start_ray=False))
    assert "NVIDIA H100, compute capability 9.0, 80.0 GB" in lines
    assert "for CUDA up to 12.4" in lines
    assert "0.42 GB of it for CUDA in each process" in lines
    assert "1 by TensorFlow, which was built for CUDA 12.5.1 and cuDNN 9" in lines
    FakeDriver(failing="cuMemGetInfo_v2").install(monkeypatch)
    (problem,) = (line for line in doctor.examine(start_ray=False) if line.startswith("PROBLEM"))
    assert "(cuMemGetInfo_v2 gave error 100): trials cannot share it" in problem


def test_doctor_without_the_training_stack(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    lines = "\n".join(doctor.examine())
    assert "TensorFlow is not installed" in lines
    assert "Ray is not installed" in lines


def test_a_folder_that_was_there_before_resflow_is_used_and_never_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RESFLOW_CACHE may name any folder, the user's project too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.csv").write_text("years")
    for part in (workspace.IMAGES, workspace.FEATURES):
        workspace.make_cache_folder(workspace.cache(part, "made"))
    shown = clean("--yes")
    assert "data stays" in shown
    assert (tmp_path / "data" / "thesis.csv").read_text() == "years"
    assert not (tmp_path / "features").exists()


def test_what_a_link_leads_to_is_not_cleaned(place: Path) -> None:
    precious = place / "elsewhere"
    for name in ("logs", "weights"):
        (precious / name).mkdir(parents=True)
        (precious / name / "mine").touch()
    (place / ".resflow" / "other").symlink_to(precious)
    (place / ".resflow" / "third").mkdir()
    (place / ".resflow" / "third" / "logs").symlink_to(precious / "logs")
    (place / "cache" / "features").symlink_to(precious / "logs")
    for part in ("all", "kept"):
        clean("--what", part, "--yes")
    assert sorted(path.name for path in precious.rglob("*") if path.is_file()) == ["mine", "mine"]


def test_a_cache_where_the_system_keeps_caches_is_resflows_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESFLOW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = workspace.cache(workspace.IMAGES) / "synthetic-64-0"
    old.mkdir(parents=True)  # by a version that made no marks
    workspace.make_cache_folder(old)
    assert workspace.is_marked(workspace.cache(workspace.IMAGES))
    assert tmp_path in old.parents
