"""Is a trial's record the same to the bit: run again, and beside others that share its device?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from resflow import provenance
from resflow.bench import device as devices
from resflow.bench.contest import Say
from resflow.bench.study import run_resflow_study
from resflow.records.run import load_run
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan

STUDY = Path(__file__).with_name("repeat.yaml")
TIMES = ["seconds"]  # columns of a history that differ whenever it is run


def run(settings: Mapping[str, Any], say: Say, device: str = "cpu", together: bool = True) -> dict[str, Any]:
    """Run a small study by `resflow study`, again, and if `together` with all its trials at a time; compare records."""
    chosen: dict[str, Any] = {**devices.execution(device), **settings}
    plan = make_plan(load_study(STUDY, settings=chosen))  # decodes the images: no run has to
    alone, shared = list_shares(device, len(plan.trials))
    kinds = {"first": alone, "again": alone, **({"together": shared} if together else {})}
    seen, walls = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, resources in kinds.items():
            say(f"resflow study: {kind}")
            out = Path(folder) / kind
            walls[kind] = run_resflow_study(STUDY, {**chosen, **resources}, device=device, out=out)["wall_s"]
            seen[kind] = read_outcomes(out)
    same = {kind: find_difference(seen["first"], seen[kind]) for kind in kinds if kind != "first"}
    first = plan.trials[0]
    return {
        "benchmark": "repeat",
        "same": {kind: not difference for kind, difference in same.items()},
        "differences": {kind: difference for kind, difference in same.items() if difference},
        "wall_s": {kind: round(wall, 1) for kind, wall in walls.items()},
        "settings": {
            "network": first.network.model_dump(),
            "image_size": first.data.image_size,
            "recipe": first.recipe.model_dump(mode="json"),
            "trials": len(plan.trials),
            **devices.describe(device),
            "execution": first.execution.model_dump(),
            "rounds": 1,
        },
    }


def list_shares(device: str, trials: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the resources of a trial that has the device to itself, and of one of so many on it at a time."""
    if device == "gpu":
        return {"gpus": 1}, {"gpus": 1 / trials}
    cores = provenance.count_processors()
    return {"cpus": cores}, {"cpus": cores / min(trials, cores)}


def read_outcomes(folder: Path) -> dict[str, Any]:
    """Return all that a run's trials have computed, by trial's id; of its history all but the seconds."""
    run = load_run(folder)
    histories = run.histories()
    return {
        record.id: {
            "metrics": record.metrics,
            "history": histories[histories["id"] == record.id].drop(columns=TIMES).reset_index(drop=True),
            "predictions": run.predictions_of(record.id),
            "diagnostics": run.diagnostics_of([record.id]),
        }
        for record in run.records
    }


def find_difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return what differs first between the outcomes of two runs; empty where nothing does, to the last bit."""
    if first.keys() != other.keys():
        return f"trials {sorted(first.keys() ^ other.keys())} are in one of them only"
    for trial_id, outcome in first.items():
        for part, value in outcome.items():
            theirs = other[trial_id][part]
            if not (value.equals(theirs) if isinstance(value, pd.DataFrame) else value == theirs):
                return f"{part} of trial {trial_id}"
    return ""
