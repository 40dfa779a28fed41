"""Which differences between the devices of a run's trials a reader is told, and that old records tell of none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.fake_run import rewrite, trial_id, write_run

from resflow.analysis import devices
from resflow.analysis.analyse import analyse
from resflow.analysis.labels import labels
from resflow.errors import RecordError
from resflow.records import verification
from resflow.records.gpu_choice import GpuChoice
from resflow.records.record import read_record
from resflow.report.compare import compare
from resflow.report.run_details import how

GPU = {"name": "NVIDIA H100", "driver": "550.54.15", "built_for_cuda": "12.5.1", "built_for_cudnn": "9"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", {"head": {"linear": 1, "wide": 2}}, lambda _: (0.8, 0.9), seeds=(1, 2), epochs=2)


def on_gpu(run: Path, arm: str, seed: int, **facts: Any) -> None:
    rewrite(run, arm, seed, execution={"device": "gpu"}, provenance={"gpu": {**GPU, **facts}})


def label_of(run: Path) -> str:
    return "".join(label.text for label in labels(analyse(run)) if label.word == "different devices")


def test_one_kind_of_device_needs_no_label(run: Path) -> None:
    assert label_of(run) == ""  # CPUs, and records that know nothing of GPUs
    for arm in ("linear", "wide"):
        for seed in (1, 2):
            on_gpu(run, arm, seed, share=0.5 / seed, peak_bytes=seed)  # alone or shared: the same digits
    assert label_of(run) == ""


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"name": "NVIDIA A100"}, "1 on NVIDIA A100 (driver 550.54.15, CUDA 12.5.1, cuDNN 9)"),
        ({"driver": "570.1"}, "1 on NVIDIA H100 (driver 570.1, CUDA 12.5.1, cuDNN 9)"),
        ({"built_for_cudnn": "8"}, "1 on NVIDIA H100 (driver 550.54.15, CUDA 12.5.1, cuDNN 8)"),
        ({"name": None}, "1 on a GPU that its record does not name"),
    ],
)
def test_trials_of_different_gpus_or_drivers_are_labelled(run: Path, other: dict[str, Any], named: str) -> None:
    for arm, seed in (("linear", 1), ("linear", 2), ("wide", 1)):
        on_gpu(run, arm, seed)
    on_gpu(run, "wide", 2, **other)
    text = label_of(run)
    assert text.startswith("Trials ran on 2 kinds of device: 3 on NVIDIA H100 (driver 550.54.15, ")
    assert named in text
    rewrite(run, "wide", 2, status="failed", reason="it broke", metrics={})
    values = json.loads((run / "trials" / trial_id("wide", 2) / "record.json").read_text())
    values["metrics"] = {}
    folder = run / "trials" / trial_id("wide", 2)
    (folder / "record.json").write_text(json.dumps(verification.sealed(values, folder)))
    assert label_of(run) == ""  # of what has not completed nothing is compared


def test_a_cpu_among_gpus_is_labelled_and_the_report_names_them(run: Path, tmp_path: Path) -> None:
    on_gpu(run, "wide", 2)
    assert "3 on the CPU; 1 on NVIDIA H100" in label_of(run)
    assert "NVIDIA H100, driver 550.54.15, TensorFlow for CUDA 12.5.1, cuDNN 9" in dict(how(analyse(run)))["Hardware"]


def test_two_runs_on_different_gpus_differ_in_what_they_ran_on(run: Path, tmp_path: Path) -> None:
    factors = {"head": {"linear": 1, "wide": 2}}
    other = write_run(tmp_path / "other", factors, lambda _: (0.8, 0.9), seeds=(1, 2), epochs=2)
    for one, name in ((run, "NVIDIA H100"), (other, "NVIDIA A100")):
        for arm in ("linear", "wide"):
            for seed in (1, 2):
                on_gpu(one, arm, seed, name=name)
    rows = {row[0]: row[1:] for row in compare(analyse(run), analyse(other))[0].rows}
    assert [value.split(" (")[0] for value in rows["ran on"]] == ["NVIDIA H100", "NVIDIA A100"]


def test_a_gpu_that_cannot_be_is_a_damaged_record(run: Path) -> None:
    on_gpu(run, "wide", 1, driver=550)
    with pytest.raises(RecordError, match=r"provenance.*valid string"):
        read_record(run / "trials" / trial_id("wide", 1))


def test_devices_are_told_from_records_alone(run: Path) -> None:
    assert devices.tell_differences([]) == ""
    assert {devices.kind(record) for record in analyse(run).records} == {"the CPU"}


def test_a_report_says_how_trials_shared_a_gpu(run: Path) -> None:
    assert "Trials a GPU" not in dict(how(analyse(run)))
    choice = GpuChoice(gpu=GPU, context_bytes=1, estimated_bytes=1, trials_per_gpu=2, throughput={1: 4.0, 2: 7.0})
    choice.write(run)
    told = "2, the fastest together: 1 worth 1, 2 worth 1.75 times one alone"
    assert dict(how(analyse(run)))["Trials a GPU"] == told
    choice.model_copy(update={"trials_per_gpu": 1, "throughput": {}}).write(run)
    assert dict(how(analyse(run)))["Trials a GPU"].startswith("1, for trials too short")
