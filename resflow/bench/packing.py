"""Trials an hour by how many run at a time: on one GPU that they share, or on the cores of a CPU.

Each is a process of its own, as a worker of Ray is, on its share of the GPU's memory. All build and warm up first, and
the same seconds of all count: what a run's start takes is the matter of `study`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from resflow import provenance
from resflow.bench import device as devices
from resflow.bench import process
from resflow.bench.contest import Say
from resflow.bench.epoch import AUGMENTED, COUNTS
from resflow.bench.step import STUDY
from resflow.errors import ResflowError
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan

AT_A_TIME = (1, 2, 4, 8)
EPOCHS = 100  # of a trial, by which epochs a second become trials an hour
INPUTS = ("host", "device")
NET = {"network.width": 0.25, "execution.threads": 1}
LIMIT = 120.0  # seconds for as many as run at a time


def run(
    settings: Mapping[str, Any],
    at_a_time: Sequence[int],
    seconds: float,
    say: Say,
    device: str = "cpu",
    counts: tuple[int, int] = COUNTS,
) -> dict[str, Any]:
    """Measure each number of trials, one after the other, with inputs from the host and on the device.

    `settings` override those of step.yaml at a quarter of its width. Where so many find no room, or fail, `failed` says
    why. Raises ResflowError where more are asked for than a CPU has cores, or not even one alone trains.
    """
    cores = provenance.count_processors()
    if device == "cpu" and max(at_a_time) > cores:
        raise ResflowError(f"--trials {max(at_a_time)}: on a CPU expected no more than its {cores} cores.")
    settings = {**NET, **AUGMENTED, **settings, **devices.execution(device)}
    trial = make_plan(load_study(STUDY, settings=settings), prepare=False).trials[0]
    hourly: dict[str, dict[str, float]] = {inputs: {} for inputs in INPUTS}
    failed, answers = dict[str, str](), list[dict[str, Any]]()
    for inputs in INPUTS:
        spec = {
            "job": "packed",
            "study": str(STUDY),
            "settings": {**settings, "execution.inputs": inputs},
            "device": device,
            "threads": trial.execution.threads,
            "seconds": seconds,
            "counts": list(counts),
        }
        for trials in at_a_time:
            say(f"{trials} at a time, inputs: {inputs}")
            try:
                answers = run_together(spec, trials)
            except ResflowError as error:
                say(f"  left out: {error}")
                failed[f"{trials} at a time, inputs: {inputs}"] = str(error)
            else:
                rate = sum(answer["epochs_per_s"] for answer in answers)
                hourly[inputs][str(trials)] = round(3600 * rate / EPOCHS, 1)
    if not answers:
        raise ResflowError(f"benchmark: no trial trained: {next(iter(failed.values()))}")
    return {
        "benchmark": "packing",
        "trials_an_hour": hourly,
        **compare(hourly),
        **({"failed": failed} if failed else {}),
        "settings": {
            "network": trial.network.model_dump(),
            "image_size": trial.data.image_size,
            "batch_size": trial.recipe.batch_size,
            "counts": list(counts),
            "epochs": EPOCHS,
            "augmentation": trial.recipe.augmentation.model_dump(),
            **devices.describe(device),
            "execution": {**answers[0]["execution"], "inputs": "both"},
            "rounds": 1,
            "least_seconds": seconds,
        },
    }


def run_together(spec: Mapping[str, Any], trials: int) -> list[dict[str, Any]]:
    """Run so many trials at a time; return their answers. Raises ResflowError where one fails, once all have ended."""
    if spec.get("device") == "gpu":  # threads that make batches go by it
        spec = {**spec, "settings": {**spec["settings"], "resources.gpus": 1 / trials}}
    with tempfile.TemporaryDirectory() as meeting, ThreadPoolExecutor(trials) as pool:

        def ask(number: int) -> dict[str, Any]:
            try:
                return process.ask(
                    "resflow_jobs", {**spec, "trials": trials, "number": number, "meeting": meeting}, limit=LIMIT
                )
            except ResflowError:
                (Path(meeting) / "failed").touch()  # the others need not wait for it
                raise

        return list(pool.map(ask, range(trials)))


def compare(hourly: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """Return what sharing gains over one trial after the other, by inputs; None where one alone was not measured."""
    gains = {}
    for inputs, by_trials in hourly.items():
        alone = by_trials.get("1")
        gains[f"gain_{inputs}"] = round(max(by_trials.values()) / alone, 3) if alone else None
    return gains
