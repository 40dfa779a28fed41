"""The memory of one process that runs many trials, and the time that a graph saves when it is used again."""

from __future__ import annotations

from typing import Any

from resflow.bench import process
from resflow.bench.contest import Say
from resflow.bench.study import STUDY
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan


def run(trials: int, say: Say) -> dict[str, Any]:
    """Measure the memory and the seconds of one process that runs so many small trials in turn, arm after arm."""
    settings = {"seeds": 10, "epochs": 1, "warmup_epochs": 0, "width": 0.125, "image_size": 32}
    make_plan(load_study(STUDY, settings=settings))  # decodes the images
    say(f"{trials} trials in one process")
    answer = process.ask("resflow_jobs", {"job": "worker", "study": str(STUDY), "settings": settings, "trials": trials})
    return {"benchmark": "worker", **answer, "settings": {**settings, "trials": trials, "rounds": 1}}
