"""What would end every trial is told by `plan` and before anything trains."""

from __future__ import annotations

import json
import resource
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import tiny
from support.direct import raised, said
from support.public_nets import FIXTURES, THIN
from typer.testing import CliRunner

from resflow import architectures, workspace
from resflow.architectures import Architecture
from resflow.cli import main
from resflow.errors import DataError, ResflowError, TrainingError
from resflow.runner import execute
from resflow.weights import load
from resflow.workflow import preflight
from resflow.workflow.plan import Plan, make_plan, write_plan
from resflow.workflow.run import run_plan
from resflow.workflow.run_contract import Silent


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny.photos(tmp_path / "photos")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a trial started")

    monkeypatch.setattr(execute, "execute", never)
    return tmp_path


def plan(**changes: Any) -> Plan:
    out = changes.pop("out", None)
    merged = {**tiny.STUDY, **{key: {**tiny.STUDY.get(key, {}), **value} for key, value in changes.items()}}
    return make_plan(merged, data="folder:photos", out=out)


def problems(made: Plan, *given: Any) -> str:
    return "\n".join(preflight.find_problems(made, *given))


def test_a_plan_without_problems_has_none() -> None:
    assert problems(plan()) == ""


def test_photos_that_are_enlarged_are_told_by_plan_and_before_the_first_trial() -> None:
    larger = plan(data={"image_size": 20})
    (told,) = preflight.tell_data(larger)
    assert "16 pixels are enlarged to 20" in told
    assert preflight.tell_data(plan()) == preflight.tell_data(make_plan(tiny.STUDY, prepare=False)) == []
    notes: list[str] = []

    class Heard(Silent):
        def note(self, text: str, title: str = "") -> None:
            notes.append(text)

    with pytest.raises(AssertionError, match="a trial started"):
        run_plan(larger, reporter=Heard())
    assert notes.count(told) == 1
    write_plan(larger)
    assert told in said("plan", f"{larger.run}/study.yaml", "--data", "folder:photos")


def test_photos_are_decoded_on_the_time_of_the_budget(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(here / "cache"))
    (here / "study.yaml").write_text(json.dumps(tiny.STUDY))
    with pytest.raises(DataError, match=r"the time budget of 0 s is spent, and 0 of 30 photos of folder:photos"):
        raised("study", "./study.yaml", "--data", "folder:photos", "--time-budget", "0.001")
    assert not (here / "results").exists()


def test_plan_says_which_split_there_is_and_what_it_hides(here: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(here / "photos", here / "parts" / part)
    (here / "parts" / "test" / "a" / "0.png").unlink()
    (here / "study.yaml").write_text(json.dumps({**tiny.STUDY, "split_seed": 1}))
    page = " ".join(said("plan", "./study.yaml", "--data", "folder:parts").split())
    assert "Data: folder:parts, partly-drawn split: 24 to train on, 6 to validate, 29 to test" in page
    assert "lacks validation, drawn from its training images by split_seed" in page
    assert "In an earlier part of the split as well, pixel for pixel: 29 test images." in page


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.integers(1, 60))
def test_a_batch_must_not_be_larger_than_the_training_images(size: int) -> None:
    made = plan(recipe={"batch_size": size})
    told = f"batch_size {size} of slow is more than the {made.trials[0].counts[0]} training images" in problems(made)
    assert told == (size > made.trials[0].counts[0])


def test_so_must_no_batch_that_a_search_may_choose() -> None:
    for space in ({"batch_size": {"choice": [8, 500]}}, {"batch_size": {"low": 8, "high": 500}}):
        assert "batch_size 500 of the search" in problems(plan(tune={"space": space, "candidates": 2}))


@pytest.mark.parametrize("out", ["file/run", "/proc/run", "/dev/null/run"])
def test_a_run_that_cannot_be_written_is_told_before_it_starts(here: Path, out: str) -> None:
    (here / "file").touch()
    with pytest.raises(ResflowError, match=out.partition("/run")[0]):
        run_plan(plan(out=out))


def test_so_is_a_place_for_checkpoints() -> None:
    assert "cannot write into /proc/there" in problems(plan(), "/proc/there")
    assert problems(plan(), "s3://bucket/there") == ""


Usage = namedtuple("Usage", "total used free")


def test_a_disk_without_room_is_told_with_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(plan(), trials=[replace(trial, keep_weights="last") for trial in plan().trials])
    need = 2 * 4 * made.trials[0].parameters
    for free, expected in ((10**9, False), (need, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(10**12, 0, free))
        assert ("of kept networks" in problems(made)) == expected


def test_a_machine_that_lacks_what_a_trial_asks_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(resources={"memory": 1e6, "cpus": 4096})
    told = problems(made)
    assert "asks for 4096 CPUs" in told
    assert "GB of memory, this machine has" in told
    assert problems(made, None, "auto") == ""  # a cluster may have it
    monkeypatch.setattr("resflow.provenance.count_gpus", lambda: 0)
    assert "no GPU" in problems(plan(execution={"device": "gpu"}))


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE"])
def test_a_limit_that_is_too_low_is_named(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, number = resource.getrlimit, getattr(resource, limit)
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (16, 16) if asked == number else real(asked))
    assert "ulimit" in problems(plan())


def test_plan_shows_the_trials_and_then_the_problem(here: Path) -> None:
    (here / "mine.yaml").write_text("""
name: mine
question: q
baseline: 18
factors: {depth: [18, 34]}
data: {source: "folder:photos", image_size: 16}
recipe: {epochs: 1, batch_size: 8}
""")
    assert "6 trials" in said("plan", "mine.yaml")
    for command in (("plan", "./mine.yaml"), ("study", "./mine.yaml", "--dry-run"), ("study", "./mine.yaml")):
        with pytest.raises(TrainingError, match="batch_size 400 of 18"):
            raised(*command, "--set", "batch_size=400")
    assert not workspace.RESULTS.exists()


ARCHITECTURES = st.builds(
    Architecture,
    st.just("imagenet"),
    st.sampled_from([18, 34, 50, 101]),
    st.sampled_from(["none", "zero_pad", "projection", "projection_all"]),
    st.sampled_from(["v1", "v1.5", "v2"]),
    st.sampled_from([0.25, 0.5]),
    st.just("imagenet"),
)


@given(ARCHITECTURES)
def test_the_tensors_of_a_backbone_are_those_that_are_counted(arch: Architecture) -> None:
    shapes = list(load.tensor_shapes(arch))
    kernels = sum(rows * columns * inputs * outputs for rows, columns, inputs, outputs in (s for s in shapes if s[1:]))
    norms = sum(shape[0] for shape in shapes if not shape[1:])
    head = architectures.feature_channels(arch) * 10 + 10
    assert kernels + norms // 2 + head == architectures.parameters(arch, 10)


def test_weights_of_another_network_are_told_before_one_is_built() -> None:
    weights = {"weights": str(FIXTURES / "thin_resnet18.safetensors"), "family": "imagenet", "width": 1 / THIN}
    network = {**weights, "shortcut": "projection", "stem": "imagenet"}
    data = {"image_size": 32, "normalisation": "raw"}
    assert problems(plan(network={**network, "depth": 18}, data=data)) == ""
    assert "are not of the network of slow" in problems(plan(network={**network, "depth": 34}, data=data))
    assert problems(plan(network={**network, "depth": 34, "partial_weights": True}, data=data)) == ""


def test_a_plan_for_another_machine_is_no_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resflow.provenance.count_gpus", lambda: 0)
    result = CliRunner().invoke(main.app, ["plan", "depth", "--data", "synthetic", "--set", "device=gpu"])
    assert result.exit_code == 0, result.output
    assert "On this machine device gpu was asked for" in " ".join(result.stderr.split())
    with pytest.raises(TrainingError, match="no GPU"):
        raised("study", "depth", "--data", "synthetic", "--set", "device=gpu", "--dry-run")
