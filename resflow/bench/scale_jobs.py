"""The bookkeeping of thousands of trials, a job a process: what it costs in seconds and in memory."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from resflow.bench import process, stand_in
from resflow.study.load import load_study

MEGABYTE = 1e6


def job(spec: dict[str, Any]) -> dict[str, Any]:
    return {"plan": plan, "records": records, "report": report, "idle": idle}[spec["job"]](spec)


def _plan(spec: dict[str, Any]) -> Any:
    from resflow.workflow.plan import make_plan

    return make_plan(load_study(spec["study"], settings={"seeds": spec["seeds"]}), out=Path(spec["run"]), prepare=False)


def plan(spec: dict[str, Any]) -> dict[str, Any]:
    """Expand a study into trials; seconds without importing."""
    from resflow.workflow.plan import make_plan, write_plan  # noqa: F401

    start = time.perf_counter()
    return {"trials": len(_plan(spec).trials), "seconds": time.perf_counter() - start}


def records(spec: dict[str, Any]) -> dict[str, Any]:
    """Make a run to report on."""
    from resflow.workflow.plan import write_plan

    made = _plan(spec)
    write_plan(made)
    stand_in.write(made.run, made.trials, spec["epochs"])
    return {"records": len(made.trials)}


def report(spec: dict[str, Any]) -> dict[str, Any]:
    """Read, analyse and report; seconds and the most memory of this process, its imports included."""
    start = time.perf_counter()
    from resflow.report.write import write_report

    page = write_report(Path(spec["run"]))
    return {
        "seconds": time.perf_counter() - start,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE,
        "page_mb": page.stat().st_size / MEGABYTE,
    }


def idle(spec: dict[str, Any]) -> dict[str, Any]:
    """Run trials that do nothing through Ray: when each ended, and this process's memory then."""
    from resflow.runner import execute

    made = _plan(spec)
    trials = made.trials[: spec["trials"]]
    ends: list[float] = []
    memory: list[float] = []

    def show(progress: execute.Progress) -> None:
        while len(ends) < len(progress.done):
            ends.append(time.perf_counter() - start)
            memory.append(_resident())

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folders = {trial.id: Path(place) for trial in trials}
        done = execute.execute(execute.RunPlace(made.run, Path(place)), trials, folders, show, work=stand_in.idle)
    if any(record.provenance.get("tensorflow") for record in done):
        raise RuntimeError("a worker imported TensorFlow for a trial that does nothing")
    return {"ends": ends, "rss_mb": memory, "wall_s": time.perf_counter() - start, "records": len(done)}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


if __name__ == "__main__":
    process.answer(job)
