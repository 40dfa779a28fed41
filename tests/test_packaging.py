"""The wheel, installed without the training stack in an empty environment outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import fake_run

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def resflow(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed command, run from an empty folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    pip = [str(folder / "env/bin/python"), "-m", "pip", "install", "--quiet", str(wheel)]
    subprocess.run(pip, check=True)
    environment = {**os.environ, "RESFLOW_CACHE": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "env/bin/resflow"), *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    return run


def test_the_wheel_holds_studies_templates_and_tables(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"resflow/_studies/{path.name}" for path in (ROOT / "studies").glob("*.yaml")}
    for pattern in ("*.py", "*.csv", "templates/*", "py.typed"):
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "resflow").rglob(pattern)}
    assert len(expected) > 30
    assert expected <= held
    assert not [name for name in held if name.startswith("tests")]


def test_studies_are_found_and_planned(resflow: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert "depth" in resflow("list").stdout
    planned = resflow("plan", "depth", "--profile", "demo", "--format", "csv")
    assert planned.returncode == 0, planned.stderr
    assert len(planned.stdout.splitlines()) == 1 + 8 * 2


def test_training_says_what_is_missing(resflow: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    asked = resflow("study", "depth", "--profile", "demo")
    assert asked.returncode == 2
    assert "resflow[train]" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_reports_need_no_training_stack(
    resflow: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run = fake_run.write_run(tmp_path / "run")
    said = resflow("report", str(run))
    assert said.returncode == 0, said.stderr
    assert (run / "report.html").stat().st_size > 10_000


LINES = """
import resflow

study = resflow.load_study("depth", profile="demo", seeds=2, settings={"epochs": 6, "factors.depth": [18, 34]})
plan = resflow.plan(study, data="synthetic")
print(plan.frame().to_string())
run = resflow.run(plan, reporter=None, options=resflow.RunOptions(time_budget="2h"))
run = resflow.load_run(run.folder)
frames = run.trials, run.epochs, run.predictions, run.diagnostics
assert all({"arm", "shortcut", "depth", "seed"} <= set(frame.columns) and len(frame) for frame in frames)
result = resflow.analyse(run)
print(result.arms, result.effects, result.labels, result.answer)
result.figure("accuracy").savefig("accuracy.png")
print(resflow.write_report(run), resflow.__file__)
"""


def test_the_python_door_opens_from_a_wheel_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """The training stack is this environment's; resflow itself is the wheel's alone."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "RESFLOW_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-W", "ignore", "-c", LINES]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page, home = done.stdout.split()[-2:]
    assert (empty / page).is_file()
    assert (empty / "accuracy.png").is_file()
    assert Path(home).is_relative_to(site)
