"""`resflow plan`: what a study would run, before it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from resflow.cli.options import DataDir, Out, Profile, Seeds, Set, Source, Study
from resflow.errors import StudyError

app = typer.Typer()


@app.command(epilog="Example: resflow plan depth --profile cpu --format csv > plan.csv")
def plan(
    name: Study,
    profile: Profile = None,
    data: Source = None,
    data_dir: DataDir = None,
    seeds: Seeds = None,
    set_: Set = None,
    out: Out = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="table, json or csv")] = "table",
) -> None:
    """Show every trial before it runs: arm, seed, size, time."""
    from resflow.errors import one_of
    from resflow.study.yaml_source import parse_settings
    from resflow.workflow.plan import (
        make_plan,
    )

    if format_ not in ("table", "json", "csv"):
        raise StudyError(f"--format: {one_of(format_, ('table', 'json', 'csv'), 'format')}")
    show(
        make_plan(name, profile, data, data_dir, seeds, parse_settings(set_), out, prepare=False),
        format_,
    )


def show(plan: Any, format_: str = "table") -> None:
    from resflow.cli.console import console, duration, plan_table
    from resflow.records.run import finished_records
    from resflow.study import costs
    from resflow.study.trial import plan_rows
    from resflow.weights.saved import trials_to_run
    from resflow.workflow.plan import (
        count_slots,
        estimate_seconds,
        unpaired_twins,
    )

    known = finished_records(plan.run) if plan.run.is_dir() else {}
    seconds, basis = estimate_seconds(plan.trials, known)
    if format_ != "table":
        import pandas as pd

        rows = [{**row, "estimated_seconds": round(seconds[row["id"]], 1)} for row in plan_rows(plan.trials)]
        frame = pd.DataFrame(rows)
        print(
            frame.to_csv(index=False) if format_ == "csv" else frame.to_json(orient="records", indent=1),
            end="",
        )
        return
    left = trials_to_run(plan.trials, known, plan.state)
    slots = count_slots(plan.trials or list(plan.searches.templates.values()))
    wall = max([sum(seconds[t.id] for t in left) / slots, *(seconds[t.id] for t in left)], default=0.0)
    size = costs.feature_bytes(left)
    disk = f"\nFeatures of frozen backbones: computed once, {size / 1e9:.3g} GB on disk" if size else ""
    if plan.trials:
        console.print(plan_table(plan.trials, seconds))
    for pair in unpaired_twins(plan.trials):
        console.print(f"unpaired: {pair}", style="yellow", markup=False, highlight=False)
    console.print(
        f"\n{plan.study.file.question}\n{len(plan.trials)} trials, {len(left)} to run, {slots} at a time: about "
        f"{duration(wall)} ({basis}). Baseline: {plan.study.baseline.name}. Records: {plan.run}/{disk}"
        f"{_tuning_first(plan, slots) if plan.searches else ''}",
        markup=False,
        highlight=False,
    )


def _tuning_first(plan: Any, slots: int) -> str:
    """What a study does before its trials, as far as it is still to be done."""
    from resflow.cli.console import duration
    from resflow.study import costs
    from resflow.workflow.plan import (
        estimate_search_seconds,
        tuning_phase,
    )

    phase, tune = tuning_phase(plan), plan.searches.tune
    if not phase.unfinished:
        return "\nThe search of every arm is complete."
    device = next(iter(plan.searches.templates.values())).execution.device
    seconds = estimate_search_seconds(plan, phase, costs.ASSUMED_RATE[device]) / slots
    allotted = ", ".join(f"{number} candidates" for number in dict.fromkeys(phase.table["allotted"]))
    return (
        f"\nBefore them each of {len(phase.table)} arms is tuned with {allotted} ({tune.oracle}), about "
        f"{duration(seconds)}; the tuned trials, as many again, are planned when the winners are known."
    )
