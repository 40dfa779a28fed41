"""`resflow plan`: the trials of a study, before they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from resflow.cli import complete
from resflow.cli.options import DataDir, Out, Profile, Seeds, Set, Source, Study, choice

if TYPE_CHECKING:
    from resflow.workflow.forecast import SearchForecast
    from resflow.workflow.plan import Plan

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
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="RUN",
            help="tell what the seeds can resolve by the spread of this run",
            autocompletion=complete.runs,
        ),
    ] = None,
    format_: Annotated[str, choice("--format", "-f", of=("table", "json", "csv"))] = "table",
) -> None:
    """Show every trial before it runs: arm, seed, size, time."""
    from resflow.cli.console import say_error
    from resflow.study.load import load_study
    from resflow.study.yaml_source import parse_settings
    from resflow.workflow.plan import make_plan
    from resflow.workflow.preflight import check_plan, find_machine_problems

    loaded = load_study(name, profile, parse_settings(set_), seeds=seeds)
    made = make_plan(loaded, data, data_dir, out, prepare=False)
    show(made, format_, prior)
    for problem in find_machine_problems(made):  # a plan may be for a cluster: it is told, and no error
        say_error(f"On this machine {problem}", style="yellow")
    check_plan(made, address="any")


def show(
    plan: Plan, format_: str = "table", prior: str | None = None, *, fresh: bool = False, reuse: Sequence[str] = ()
) -> None:
    """Print a plan: its trials, and below a table what they take and can resolve, by the spread of a prior run.

    What of it is to run is as `forecast` has it of `fresh` and `reuse`.
    """
    from resflow.cli.console import console, plan_table, render_table
    from resflow.report.formatting import duration
    from resflow.study import variation
    from resflow.workflow.forecast import forecast
    from resflow.workflow.gpu_plan import tell_gpu_memory
    from resflow.workflow.preflight import tell_data
    from resflow.workflow.resolution import resolution_table, tell_resolution

    resolved = resolution_table(plan, prior) if prior else None
    estimate = forecast(plan, fresh=fresh, reuse=reuse)
    if format_ != "table":
        import pandas as pd

        from resflow.study.trial import plan_rows

        optional = plan.study.optional_seeds
        frame = pd.DataFrame(plan_rows(plan.trials, optional))
        frame["estimated_seconds"] = [round(estimate.seconds[trial.id], 1) for trial in plan.trials]
        text = frame.to_csv(index=False) if format_ == "csv" else frame.to_json(orient="records", indent=1)
        print(text, end="")
        return
    if plan.trials:
        console.print(plan_table(plan.trials, estimate.seconds))
    for source, split, counts in dict.fromkeys((t.facts.source, t.facts.split, t.counts) for t in plan.trials):
        parts = "{} to train on, {} to validate, {} to test".format(*counts)
        console.print(f"Data: {source}, {split} split: {parts}", markup=False, highlight=False)
    for text in tell_data(plan):
        console.print(text, style="yellow", markup=False, highlight=False)
    for pair in estimate.unpaired:
        console.print(f"unpaired: {pair}", style="yellow", markup=False, highlight=False)
    features = f"{estimate.feature_bytes / 1e9:.3g} GB on disk" if estimate.feature_bytes else ""
    disk = f"\nFeatures of frozen backbones: computed once, {features}" if features else ""
    console.print(
        f"\n{plan.study.file.question}\n{len(plan.trials)} trials, {len(estimate.waiting)} to run, {estimate.slots} at "
        f"a time: about {duration(estimate.wall)} ({estimate.basis}). Baseline: {plan.study.baseline.name}. "
        f"Records: {plan.run}/{disk}{_search_text(estimate.search) if plan.searches else ''}",
        markup=False,
        highlight=False,
    )
    if text := variation.tell(plan.study.streams, plan.study.file.vary):
        console.print(text, markup=False, highlight=False)
    if optional := plan.study.optional_seeds:
        text = f"Seeds {optional[0]} to {optional[-1]} are optional: they run until every comparison is decided."
        console.print(text, markup=False, highlight=False)
    if resolved:
        console.print(render_table(resolved))
    elif text := tell_resolution(plan):
        console.print(text, markup=False, highlight=False)
    if memory := tell_gpu_memory(plan):
        console.print(memory, markup=False, highlight=False)


def _search_text(search: SearchForecast | None) -> str:
    """Say what a study does before its trials, as far as it is still to be done."""
    from resflow.report.formatting import duration

    if search is None:
        return "\nThe search of every arm is complete."
    allotted = ", ".join(f"{number} candidates" for number in search.allotted)
    return (
        f"\nBefore them each of {search.arms} arms is tuned with {allotted} ({search.oracle}), about "
        f"{duration(search.seconds)}; the tuned trials, as many again, are planned when the winners are known."
    )
