"""resflow's bookkeeping of thousands of trials: the seconds and the memory that each job takes in a process."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from resflow.bench import process, stand_ins
from resflow.study.load import load_study

MEGABYTE = 1e6


def job(spec: dict[str, Any]) -> dict[str, Any]:
    return {"plan": plan, "records": write_records, "report": report, "idle": run_idle}[spec["job"]](spec)


def _make_plan(spec: dict[str, Any]) -> Any:
    from resflow.workflow.plan import make_plan

    study = load_study(spec["study"], settings={"seeds": spec["seeds"]})
    return make_plan(study, out=spec["run"], prepare=False)


def plan(spec: dict[str, Any]) -> dict[str, Any]:
    """Expand a study into trials; its seconds are without those of imports."""
    from resflow.workflow.plan import make_plan, write_plan  # noqa: F401

    start = time.perf_counter()
    return {"trials": len(_make_plan(spec).trials), "seconds": time.perf_counter() - start}


def write_records(spec: dict[str, Any]) -> dict[str, Any]:
    """Write a run to report on."""
    from resflow.workflow.plan import write_plan

    run_plan = _make_plan(spec)
    write_plan(run_plan)
    stand_ins.write_records(run_plan.run, run_plan.trials, spec["epochs"])
    return {"records": len(run_plan.trials)}


def report(spec: dict[str, Any]) -> dict[str, Any]:
    """Read, analyse and report; measure this process's seconds and its most memory, imports included."""
    start = time.perf_counter()
    from resflow.report.write import write_report

    page = write_report(Path(spec["run"]))
    return {
        "seconds": time.perf_counter() - start,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE,
        "page_mb": page.stat().st_size / MEGABYTE,
    }


def run_idle(spec: dict[str, Any]) -> dict[str, Any]:
    """Run trials that do nothing through Ray; measure the second in which each ends, and this process's memory then."""
    from resflow.runner import execute

    run_plan = _make_plan(spec)
    trials = run_plan.trials[: spec["trials"]]
    ends: list[float] = []
    memory: list[float] = []

    def show(progress: execute.Progress) -> None:
        while len(ends) < len(progress.done):
            ends.append(time.perf_counter() - start)
            memory.append(_resident())

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folders = {trial.id: Path(place) for trial in trials}
        run_place = execute.RunPlace(run_plan.run, Path(place))
        records = execute.execute(run_place, trials, folders, show, work=stand_ins.do_nothing)
    if any(record.provenance.get("tensorflow") for record in records):
        raise RuntimeError("a worker imported TensorFlow for a trial that does nothing")
    return {"ends": ends, "rss_mb": memory, "wall_s": time.perf_counter() - start, "records": len(records)}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


if __name__ == "__main__":
    process.answer(job)
