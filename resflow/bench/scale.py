"""The time and the memory that the bookkeeping of thousands of trials takes: planning, reporting, scheduling."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from resflow.bench import process
from resflow.bench.contest import Say

STUDY = Path(__file__).with_name("scale.yaml")
ARMS = 40  # of that study
WARM = 0.1  # of the trials that do nothing: after them memory should grow no more


def run(trials: int, epochs: int, idle: int, rounds: int, say: Say) -> dict[str, Any]:
    """Plan and report on so many `trials` of so many `epochs`, and schedule `idle` ones that do nothing.

    `trials` becomes a whole number of seeds of each arm. Times are medians of the rounds, but those of scheduling,
    which is run once. Raises ResflowError where a part of it fails.
    """
    spec: dict[str, Any] = {"study": str(STUDY), "seeds": max(1, trials // ARMS), "epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        spec["run"] = f"{folder}/run"
        plans, reports = [], []
        for number in range(1, rounds + 1):
            say(f"round {number}/{rounds}: a plan")
            plans.append(process.ask("resflow_bookkeeping", {**spec, "job": "plan"}))
        say(f"making {plans[0]['trials']:,} records")
        process.ask("resflow_bookkeeping", {**spec, "job": "records"})
        for number in range(1, rounds + 1):
            say(f"round {number}/{rounds}: a report")
            reports.append(process.ask("resflow_bookkeeping", {**spec, "job": "report"}))
        say(f"scheduling {idle:,} trials that do nothing")
        schedule = process.ask("resflow_bookkeeping", {**spec, "job": "idle", "run": f"{folder}/idle", "trials": idle})
    return {"benchmark": "scale", **summarise(plans, reports, schedule), **_settings(spec, plans, idle, rounds)}


def _settings(spec: dict[str, Any], plans: list[dict[str, Any]], idle: int, rounds: int) -> dict[str, Any]:
    return {
        "settings": {
            "trials": plans[0]["trials"],
            "arms": ARMS,
            "seeds": spec["seeds"],
            "epochs": spec["epochs"],
            "idle_trials": idle,
            "rounds": rounds,
        }
    }


def summarise(
    plans: list[dict[str, Any]], reports: list[dict[str, Any]], schedule: dict[str, Any]
) -> dict[str, float | int]:
    """Return medians over rounds; of scheduling, the time to the first end apart from that of each further trial."""
    ends, memory = schedule["ends"], schedule["rss_mb"]
    warm = max(0, int(WARM * len(memory)) - 1)
    return {
        "plan_s": round(statistics.median(p["seconds"] for p in plans), 3),
        "report_s": round(statistics.median(r["seconds"] for r in reports), 2),
        "report_rss_mb": round(max(r["rss_mb"] for r in reports)),
        "report_page_mb": round(reports[0]["page_mb"], 2),
        "s_per_trial": round((ends[-1] - ends[0]) / max(1, len(ends) - 1), 4),
        "first_trial_s": round(ends[0], 2),
        "driver_rss_mb": round(memory[-1]),
        "driver_rss_growth_mb": round(memory[-1] - memory[warm], 1),
        "records": schedule["records"],
    }
