"""What a trial needs, and how many fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow import provenance
from resflow.errors import StudyError
from resflow.records.gpu_choice import GpuChoice
from resflow.study.load import load_study
from resflow.study.resources import TrialResources
from resflow.study.settings import Execution, Resources
from resflow.workflow.forecast import count_slots

STUDY = """
name: mine
question: Does the rate matter?
baseline: slow
factors: {learning_rate: {slow: 0.01, fast: 0.05}}
execution: {threads: 2, device: gpu}
resources: {gpus: 0.5, cpus: 3, memory: 4}
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


def test_a_trial_has_a_cpu_a_thread_and_a_gpu_of_its_own(folder: Path) -> None:
    cpu = tiny.trial(folder, execution=Execution(device="cpu", threads=3))
    gpu = tiny.trial(folder, execution=Execution(device="gpu", threads=2))
    assert TrialResources.from_trial(cpu).as_ray() == {"cpu": 3}
    assert TrialResources.from_trial(gpu).as_ray() == {"cpu": 2, "gpu": 1}
    asked = Resources(gpus=0.5, cpus=4, memory=1.5)
    assert TrialResources.from_trial(replace(gpu, resources=asked)).as_ray() == {
        "cpu": 4,
        "gpu": 0.5,
        "memory": 1_500_000_000,
    }
    assert TrialResources.from_trial(replace(cpu, resources=asked)).as_ray() == {"cpu": 4, "memory": 1_500_000_000}
    assert replace(cpu, resources=asked).id == cpu.id


@pytest.mark.parametrize(
    ("needs", "node", "trials"),
    [
        (TrialResources(1), {"CPU": 2}, 2),
        (TrialResources(3), {"CPU": 2}, 0),
        (TrialResources(1, 0.5), {"CPU": 16, "GPU": 4}, 8),
        (TrialResources(1, 1 / 3), {"CPU": 16, "GPU": 2}, 6),
        (TrialResources(1, 0.4), {"CPU": 16, "GPU": 2}, 4),  # no trial lies on two GPUs
        (TrialResources(4, 0.5), {"CPU": 16, "GPU": 4}, 4),
        (TrialResources(1, 1), {"CPU": 16}, 0),
        (TrialResources(1, 0, 4_000_000_000), {"CPU": 16, "memory": 9e9}, 2),
        (TrialResources(1, 0, 4_000_000_000), {"CPU": 16}, 16),
    ],
)
def test_what_fits_into_a_machine(needs: TrialResources, node: dict[str, float], trials: int) -> None:
    assert needs.fit(node) == trials
    assert needs.places([node, node]) == 2 * trials


@given(
    needs=st.builds(TrialResources, st.integers(1, 9), st.sampled_from([0, 0.1, 0.25, 0.3, 0.5, 1]), st.integers(0, 9)),
    node=st.fixed_dictionaries({"CPU": st.integers(0, 64), "GPU": st.integers(0, 8), "memory": st.integers(0, 99)}),
)
def test_what_fits_is_never_more_than_there_is(needs: TrialResources, node: dict[str, float]) -> None:
    fit = needs.fit(node)
    assert fit >= 0
    assert fit * needs.cpus <= node["CPU"]
    assert fit * needs.gpus <= node["GPU"] + 1e-6
    assert fit * needs.memory <= node["memory"]


def test_needs_are_said_in_words() -> None:
    assert str(TrialResources(1)) == "1 CPU"
    assert str(TrialResources(2, 0.5, 4_000_000_000)) == "2 CPUs, 0.5 GPUs, 4 GB of memory"


def test_a_study_says_what_its_trials_need(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(STUDY)
    study = load_study(str(file))
    assert study.file.resources == Resources(gpus=0.5, cpus=3, memory=4)
    assert study.resolved()["resources"] == {"cpus": 3.0, "gpus": 0.5, "memory": 4.0}
    assert load_study(str(file), settings={"gpus": 0.25}).file.resources.gpus == 0.25
    assert load_study(str(file), settings={"gpus": "auto"}).file.resources.gpus == "auto"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("resources: {gpus: 2}", "less than or equal to 1"),
        ("resources: {gpus: 0}", "greater than 0"),
        ("resources: {gpus: all}", "'auto'"),
        ("resources: {memory: lots}", 'expected a number, got "lots"'),
        ("resources: {cpus: 1}", "cpus 1 must be no fewer than threads 2"),
        ("resources: {ram: 1}", "ram"),
    ],
)
def test_needs_that_cannot_be_are_told(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(STUDY.replace("resources: {gpus: 0.5, cpus: 3, memory: 4}", line))
    with pytest.raises(StudyError, match=told):
        load_study(str(file))


def test_a_plan_counts_the_trials_that_run_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "count_processors", lambda: 16)
    monkeypatch.setattr(provenance, "count_gpus", lambda: 4)
    gpu = tiny.trial(folder, execution=Execution(device="gpu"))
    assert count_slots([gpu]) == 4
    assert count_slots([replace(gpu, resources=Resources(gpus=0.5))]) == 8
    auto, choice = replace(gpu, resources=Resources(gpus="auto")), GpuChoice(gpu={}, context_bytes=0, estimated_bytes=1)
    assert count_slots([auto]) == count_slots([auto], choice) == 4
    assert count_slots([auto], choice.model_copy(update={"trials_per_gpu": 2})) == 8
    assert auto.id == gpu.id
    cpu = tiny.trial(folder, execution=Execution(device="cpu", threads=2))
    assert count_slots([cpu]) == 8
    assert count_slots([replace(cpu, resources=Resources(cpus=16))]) == 1
