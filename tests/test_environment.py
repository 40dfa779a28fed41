"""The same trial gives the same record, whatever variables and files of other programs stand around it."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow import environment
from resflow.records.run import load_run

TABLE = Path(__file__).parent / "fixtures" / "variables.csv"
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))
AUGMENTED = {"augmentation": {"flip": True, "rotation": 20.0, "zoom": 0.2}, "weight_decay": 1e-3}
TRAIN = """
import runpy, sys
from resflow import environment
environment.settle_program()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STUDY = """
name: surrounded
question: Does anything from outside reach a result?
baseline: "8"
factors: {depth: {"8": 8}}
network: {family: cifar, width: 0.125}
data: {source: "folder:photos", image_size: 16}
recipe: {epochs: 2, batch_size: 8, augmentation: {flip: true, zoom: 0.2}}
seeds: 1
execution: {device: cpu}
"""


def hostile(home: Path, names: list[str] | None = None) -> dict[str, str]:
    """The variables of the table, or some of them; `home` holds a keras.json that says otherwise in all it can."""
    home.mkdir(exist_ok=True)
    said = {"floatx": "float16", "epsilon": 1e-3, "backend": "jax", "image_data_format": "channels_first"}
    (home / "keras.json").write_text(json.dumps(said))
    rows = [row for row in ROWS if names is None or row["variable"] in names]
    return {row["variable"]: row["hostile value"].format(home=home) for row in rows}


def outcome(folder: Path, place: Path, variables: dict[str, str]) -> Any:
    place.mkdir()
    asked, out = place / "settings", place / "out"
    asked.write_bytes(pickle.dumps(AUGMENTED))
    environ = {name: value for name, value in os.environ.items() if name not in {row["variable"] for row in ROWS}}
    command = [sys.executable, "-c", TRAIN, tiny.__file__, str(folder), str(out), str(asked)]
    subprocess.run(command, check=True, timeout=240, env={**environ, **variables})
    return pickle.loads(out.read_bytes())


def same(one: Any, other: Any) -> bool:
    changing = {"seconds", "shared", "provenance"}
    histories = [each.history.drop(columns="seconds") for each in (one, other)]
    return bool(
        one.record.model_dump(exclude=changing) == other.record.model_dump(exclude=changing)
        and histories[0].equals(histories[1])
        and one.predictions.equals(other.predictions)
    )


def culprits(folder: Path, place: Path, clean: Any, names: list[str]) -> list[str]:
    """Halve the variables until those are left that change the record."""
    if len(names) == 1:
        return names
    found = []
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):
        there = place / f"{half[0]}-{len(half)}"
        try:
            changed = not same(clean, outcome(folder, there, hostile(place / "home", half)))
        except subprocess.CalledProcessError:
            changed = True
        found += culprits(folder, place, clean, half) if changed else []
    return found or names


def test_a_trial_in_a_hostile_environment_has_the_same_record(tmp_path: Path) -> None:
    folder = tiny.prepare()
    clean = outcome(folder, tmp_path / "clean", {})
    try:
        alike = same(clean, outcome(folder, tmp_path / "hostile", hostile(tmp_path / "home")))
    except subprocess.CalledProcessError:
        alike = False
    if not alike:
        pytest.fail(f"changed by {culprits(folder, tmp_path, clean, [row['variable'] for row in ROWS])}")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_study_among_files_that_are_called_like_packages(tmp_path: Path) -> None:
    """Through the command line, Ray and a tracker: all variables are set, and the working folder is full of traps."""
    runs = {}
    for name in ("clean", "hostile"):
        here = tmp_path / name
        here.mkdir()
        tiny.photos(here / "photos")
        (here / "s.yaml").write_text(STUDY)
        variables = {"RESFLOW_CACHE": "cache"}
        if name == "hostile":
            variables |= hostile(tmp_path / "home")
            for module in ("keras", "tensorflow", "numpy", "ray", "pandas", "resflow"):
                (here / f"{module}.py").write_text("x = 1\n")
            (here / "matplotlibrc").write_text("lines.linewidth: 20\nfont.size: 40\n")
        command = [str(Path(sys.executable).with_name("resflow")), "study", "./s.yaml"]
        command += ["--log", "tensorboard"] if name == "hostile" else []
        done = subprocess.run(command, cwd=here, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder,) = (here / "results").iterdir()
        runs[name] = load_run(folder)
        figure = (runs[name].folder / "figures" / "accuracy.svg").read_bytes()
        runs[name, "figure"] = figure
    (clean,), (other,) = runs["clean"].records, runs["hostile"].records
    changing = {"seconds", "shared", "provenance"}
    assert clean.model_dump(exclude=changing) == other.model_dump(exclude=changing)
    assert runs["clean", "figure"] == runs["hostile", "figure"]
    assert "logged to tensorboard" in done.stdout
    assert list(here.glob(f".resflow/*/tensorboard/*-{other.id}/events.out.tfevents.*"))


def test_the_table_names_each_variable_once_and_where_it_was_found() -> None:
    assert len({row["variable"] for row in ROWS}) == len(ROWS) > 50
    assert all(row["found in"] and row["hostile value"] for row in ROWS)


@given(st.sampled_from(environment.CLEARED), st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True))
def test_a_variable_that_nobody_has_heard_of_is_cleared_by_its_family(prefix: str, rest: str) -> None:
    name = f"{prefix}{rest}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "overruled", {})
        patch.setenv(name, "hostile")
        environment.settle()
        passes = name.startswith(environment.PASSING)
        assert os.environ.get(name) == ("hostile" if passes else environment.OWN.get(name))
        assert environment.overruled.get(name) == (None if passes else "hostile")


@pytest.mark.parametrize(
    "name",
    [
        *("PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "HOME"),
        *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"),  # of trackers
    ],
)
def test_what_says_nothing_of_numbers_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "as it is")
    environment.settle()
    assert os.environ[name] == "as it is"
    assert name not in environment.overruled


def test_only_what_numpy_has_followed_already_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"NPY_DISABLE_CPU_FEATURES": "AVX2", "NPY_DISTUTILS_APPEND_FLAGS": "1", "KERAS_BACKEND": "jax"}
    monkeypatch.setattr(environment, "overruled", found)
    assert environment.too_late() == ["NPY_DISABLE_CPU_FEATURES"]
    monkeypatch.delitem(sys.modules, "numpy")
    assert environment.too_late() == []


def test_of_many_flags_paths_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "overruled", {})
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/cuda --xla_cpu_enable_fast_math=true")
    environment.settle()
    assert os.environ["XLA_FLAGS"] == "--xla_gpu_cuda_data_dir=/cuda"
    assert environment.overruled == {"XLA_FLAGS": "--xla_gpu_cuda_data_dir=/cuda --xla_cpu_enable_fast_math=true"}


def test_xla_on_gpus_is_told_to_repeat_itself_and_stays_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "overruled", {})
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/cuda --xla_gpu_autotune_level=4")
    environment.settle()
    overruled = dict(environment.overruled)
    for _ in range(2):  # before each trial of a worker
        environment.settle()
        environment.settle_gpu()
        assert os.environ["XLA_FLAGS"].split() == ["--xla_gpu_cuda_data_dir=/cuda", *environment.GPU_FLAGS]
    assert (
        environment.overruled == overruled == {"XLA_FLAGS": "--xla_gpu_cuda_data_dir=/cuda --xla_gpu_autotune_level=4"}
    )


@pytest.mark.long
def test_tensorflow_knows_the_flags_that_it_is_given() -> None:
    """XLA ends a process whose flags it does not know, on a CPU as well."""
    code = (
        "from resflow import environment; environment.settle(); environment.settle_gpu(); import tensorflow as tf; "
        "print(float(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1.0))))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "2.0", ended.stderr


def test_the_working_folder_is_left_out_unless_pythonpath_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "elsewhere"])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment.leave_folder_out(tmp_path)
    assert str(tmp_path) in sys.path
    monkeypatch.setenv("PYTHONPATH", "")
    environment.leave_folder_out(tmp_path)
    assert sys.path == ["elsewhere"]
