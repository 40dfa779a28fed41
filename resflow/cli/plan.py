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
    from resflow.study import yaml_source as document
    from resflow.workflow import plan as planning

    if format_ not in ("table", "json", "csv"):
        raise StudyError(f"--format: {one_of(format_, ('table', 'json', 'csv'), 'format')}")
    show(planning.make(name, profile, data, data_dir, seeds, document.settings(set_), out, prepare=False), format_)


def show(plan: Any, format_: str = "table") -> None:
    from resflow.cli import console as screens
    from resflow.records import run as runs
    from resflow.study import costs, trial
    from resflow.weights import saved as kept
    from resflow.workflow import plan as planning

    known = runs.finished(plan.run) if plan.run.is_dir() else {}
    seconds, basis = planning.seconds(plan.trials, known)
    if format_ != "table":
        import pandas as pd

        rows = [{**row, "estimated_seconds": round(seconds[row["id"]], 1)} for row in trial.plan_rows(plan.trials)]
        frame = pd.DataFrame(rows)
        print(
            frame.to_csv(index=False) if format_ == "csv" else frame.to_json(orient="records", indent=1),
            end="",
        )
        return
    left = kept.waiting(plan.trials, known, plan.state)
    slots = planning.slots(plan.trials or list(plan.searches.templates.values()))
    wall = max([sum(seconds[t.id] for t in left) / slots, *(seconds[t.id] for t in left)], default=0.0)
    size = costs.feature_bytes(left)
    disk = f"\nFeatures of frozen backbones: computed once, {size / 1e9:.3g} GB on disk" if size else ""
    if plan.trials:
        screens.console.print(screens.plan_table(plan.trials, seconds))
    for pair in planning.unpaired(plan.trials):
        screens.console.print(f"unpaired: {pair}", style="yellow", markup=False, highlight=False)
    screens.console.print(
        f"\n{plan.study.file.question}\n{len(plan.trials)} trials, {len(left)} to run, {slots} at a time: about "
        f"{screens.duration(wall)} ({basis}). Baseline: {plan.study.baseline.name}. Records: {plan.run}/{disk}"
        f"{_tuning_first(plan, slots) if plan.searches else ''}",
        markup=False,
        highlight=False,
    )


def _tuning_first(plan: Any, slots: int) -> str:
    """What a study does before its trials, as far as it is still to be done."""
    from resflow.cli import console as screens
    from resflow.study import costs
    from resflow.workflow import plan as planning

    phase, tune = planning.phase(plan), plan.searches.tune
    if not phase.unfinished:
        return "\nThe search of every arm is complete."
    device = next(iter(plan.searches.templates.values())).execution.device
    seconds = planning.search_seconds(plan, phase, costs.ASSUMED_RATE[device]) / slots
    allotted = ", ".join(f"{number} candidates" for number in dict.fromkeys(phase.table["allotted"]))
    return (
        f"\nBefore them each of {len(phase.table)} arms is tuned with {allotted} ({tune.oracle}), about "
        f"{screens.duration(seconds)}; the tuned trials, as many again, are planned when the winners are known."
    )
