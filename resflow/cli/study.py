"""Running a study: `resflow study`, `tune` and `retry`."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from resflow import interruption, workspace
from resflow.cli import complete
from resflow.cli import plan as plan_command
from resflow.cli.options import (
    Address,
    DataDir,
    Log,
    MaxFailures,
    Out,
    Profile,
    Seeds,
    Set,
    Source,
    Storage,
    Study,
    TimeBudget,
)

if TYPE_CHECKING:
    from resflow.workflow.run_contract import RunResult

app = typer.Typer()


@app.command(epilog="Example: resflow study depth --profile cpu --data oxford_flowers102 --seeds 3")
def study(
    name: Study,
    profile: Profile = None,
    data: Source = None,
    data_dir: DataDir = None,
    seeds: Seeds = None,
    set_: Set = None,
    out: Out = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and stop")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="set this study's records aside and run all of it")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="set records aside that are no trial of it any more")] = False,
    reuse: Annotated[
        list[str] | None,
        typer.Option(
            "--reuse",
            metavar="RUN",
            help="take over records of the same trials, by id, from another run",
            autocompletion=complete.runs,
        ),
    ] = None,
    max_failures: MaxFailures = None,
    time_budget: TimeBudget = None,
    storage: Storage = None,
    address: Address = None,
    log: Log = None,
) -> None:
    """Run what a study has no record of yet, then write its report."""
    from resflow import provenance
    from resflow.cli.progress_view import TerminalReporter
    from resflow.study.load import load_study
    from resflow.study.yaml_source import parse_settings
    from resflow.trackers.known import require_trackers
    from resflow.workflow.plan import make_plan
    from resflow.workflow.preflight import check_plan
    from resflow.workflow.run import cluster_gpus, run_plan, spent_by
    from resflow.workflow.run_contract import RunOptions

    options = RunOptions(
        time_budget, max_failures, storage, address, fresh, prune, tuple(reuse or ()), tuple(log or ())
    )
    stop = options.make_stop()  # a wrong time budget is told before photos are decoded, and they are on its time
    if not dry_run:
        provenance.require_training()
        require_trackers(options.log)
    loaded = load_study(name, profile, parse_settings(set_), seeds=seeds)
    gpus = cluster_gpus(address)
    plan = make_plan(loaded, data, data_dir, out, prepare=not dry_run, gpus=gpus, spent=spent_by(stop))
    if dry_run:
        plan_command.show(plan, fresh=fresh, reuse=options.reuse)
        check_plan(plan, storage, address)
    else:
        _conclude(run_plan(plan, options, TerminalReporter(), stop))


@app.command(epilog="Example: resflow tune tuned_depth --profile demo")
def tune(
    name: Study,
    profile: Profile = None,
    data: Source = None,
    data_dir: DataDir = None,
    seeds: Seeds = None,
    set_: Set = None,
    out: Out = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="set its candidates aside and search anew")] = False,
    time_budget: TimeBudget = None,
    storage: Storage = None,
    address: Address = None,
) -> None:
    """Search each arm's settings with one budget for all, on validation images alone; `study` goes on from there."""
    from resflow import provenance
    from resflow.cli.console import say_command
    from resflow.cli.progress_view import TerminalReporter
    from resflow.study.load import load_study
    from resflow.study.yaml_source import parse_settings
    from resflow.workflow.plan import make_plan
    from resflow.workflow.run import check_tunable, cluster_gpus, spent_by, tune_plan
    from resflow.workflow.run_contract import RunOptions

    options = RunOptions(time_budget, storage=storage, address=address, fresh=fresh)
    stop = options.make_stop()
    provenance.require_training()
    loaded = load_study(name, profile, parse_settings(set_), seeds=seeds)
    check_tunable(loaded)
    plan = make_plan(loaded, data, data_dir, out, gpus=cluster_gpus(address), spent=spent_by(stop))
    _conclude_search(tune_plan(plan, options, TerminalReporter(), stop))
    say_command("Go on with", shlex.join(["resflow", "study", *[word for word in sys.argv[2:] if word != "--fresh"]]))


@app.command(epilog="Example: resflow retry depth-cpu-oxford_flowers102 --diverged")
def retry(
    run: Annotated[str, typer.Argument(help="a run's name or folder", autocompletion=complete.runs)],
    diverged: Annotated[bool, typer.Option("--diverged", help="those whose loss was no number as well")] = False,
    data_dir: DataDir = None,
    max_failures: MaxFailures = None,
    time_budget: TimeBudget = None,
    storage: Storage = None,
    address: Address = None,
) -> None:
    """Run the failed trials of a run again, and what it has no record of yet."""
    from resflow.cli.progress_view import TerminalReporter
    from resflow.workflow.run import retry_run
    from resflow.workflow.run_contract import RunOptions

    options = RunOptions(time_budget, max_failures, storage, address)
    folder = workspace.run_folder(run)
    _conclude(retry_run(folder, diverged=diverged, data_dir=data_dir, options=options, reporter=TerminalReporter()))


def _conclude_search(result: RunResult) -> None:
    from resflow.cli.console import say, say_command

    if result.searching:
        say(f"{_why(result)}The search of {', '.join(result.searching)} is not complete.")
        say_command("Go on with", interruption.command_to_go_on())
        raise typer.Exit(1)


def _why(result: RunResult) -> str:
    return f"Stopped: {result.stopped}. " if result.stopped else ""


def _conclude(result: RunResult) -> None:
    """Say what came of a run, its answer last, and end with what a script must know.

    Exit code 1 where a trial failed or something is left to do, 2 where no trial completed. A trial that diverged has
    ended with a result.
    """
    from resflow.cli.console import console, say, say_command, say_whole, status_text
    from resflow.report.formatting import many

    _conclude_search(result)
    plan = result.plan
    if result.records:
        console.print(status_text(Counter(record.status for record in result.records)))
    _tell_failed(result)
    if result.without_network:
        say(
            f"{many(len(result.without_network), 'trial')} kept no network: the logs in {plan.state / workspace.LOGS} "
            "say why. The same command trains them again."
        )
    if result.missing:
        say(f"{_why(result)}{many(result.missing, 'trial')} without a record yet.")
        say_command("Go on with", interruption.command_to_go_on())
    statuses = {record.status for record in result.records}
    if "completed" in statuses:
        _tell_answer(result)
    say_whole(f"Report: {result.report}")
    _tell_unlogged(result)
    if result.records and "completed" not in statuses and not result.missing:
        raise typer.Exit(2)
    if "failed" in statuses or not result.complete:
        raise typer.Exit(1)


def _tell_failed(result: RunResult) -> None:
    """Say of each trial that failed or diverged why, and how they run again."""
    from resflow.cli.console import say, say_command
    from resflow.cli.terminal import one_line

    for record in result.failed:
        log = workspace.log_path(result.plan.state, record.id)
        say(f"{one_line(record.arm)} seed {record.seed} {record.status}: {one_line(record.reason)}\n  log: {log}")
    if result.failed:
        say_command("Run them again with", shlex.join(["resflow", "retry", str(result.plan.run)]))


def _tell_unlogged(result: RunResult) -> None:
    """Name the trackers that have not got all of a run, each with the command that makes up for it."""
    from resflow.cli.console import say_command
    from resflow.workflow.tracking import command_to_make_up

    for name in result.unlogged:
        say_command(f"{name} has not got all of it; make up for that with", command_to_make_up(result.plan.run, name))


def _tell_answer(result: RunResult) -> None:
    from resflow.analysis.analyse import analyse
    from resflow.analysis.labels import DEMONSTRATION, labels
    from resflow.cli.console import say
    from resflow.report.headline import headline

    analysis = analyse(result.plan.run)
    demo = [label.word for label in labels(analysis) if label.word == DEMONSTRATION]
    for line in ("", *demo, *headline(analysis).lines):
        say(line)
