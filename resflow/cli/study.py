"""Running a study: `resflow study`, `retry` and `plan`, thin as the commands of cli.py."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow import provenance, workspace
from resflow.cli import plan as plan_cli
from resflow.cli.options import (
    Address,
    DataDir,
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
from resflow.errors import RecordError, StudyError

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
        typer.Option("--reuse", metavar="RUN", help="take over records of the same trials, by id, from another run"),
    ] = None,
    max_failures: MaxFailures = None,
    time_budget: TimeBudget = None,
    storage: Storage = None,
    address: Address = None,
) -> None:
    """Run what a study has no record of yet, then write its report."""
    from resflow.records.run import load_run
    from resflow.runner.stopping import Stop, exclusive_run, parse_duration
    from resflow.workflow.plan import make_plan
    from resflow.workspace import run_folder

    stop = Stop(None if time_budget is None else parse_duration(time_budget), max_failures)
    if not dry_run:
        provenance.require_training()
    gpus = _gpus(address)
    plan = make_plan(name, profile, data, data_dir, seeds, _settings(set_), out, prepare=not dry_run, gpus=gpus)
    if dry_run:
        plan_cli.show(plan)
        return
    with exclusive_run(plan.run):
        if plan.searches:
            plan = _tune(plan, stop, storage, address, fresh)
        known = load_run(plan.run).folders if (plan.run / workspace.TRIALS).is_dir() else ()
        if fresh:
            _set_aside(plan, [trial.id for trial in plan.trials if trial.id in known])
            _forget(plan, storage)
        strangers = sorted(set(known) - {trial.id for trial in plan.trials})
        if prune:
            _set_aside(plan, strangers)
        elif strangers:
            _say(
                f"{_many(len(strangers), 'record')} of trials that this study does not have (any more) left out of the "
                f"report; --prune sets them aside: {', '.join(strangers[:5])}{' …' if len(strangers) > 5 else ''}"
            )
        for other in reuse or ():
            _reuse(plan, run_folder(other))
        _run(plan, stop, storage, address)


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
    from resflow.runner.stopping import Stop, exclusive_run, parse_duration
    from resflow.study.load import load_study
    from resflow.workflow.plan import make_plan

    stop = Stop(None if time_budget is None else parse_duration(time_budget), None)
    provenance.require_training()
    if load_study(name, profile, _settings(set_)).file.tune is None:
        raise StudyError(
            f"the study {name} has no `tune`: expected a section that says what is searched, such as tune: "
            "{space: {learning_rate: {low: 0.001, high: 1.0, sampling: log}}, candidates: 12}."
        )
    plan = make_plan(name, profile, data, data_dir, seeds, _settings(set_), out, gpus=_gpus(address))
    with exclusive_run(plan.run):
        plan = _tune(plan, stop, storage, address, fresh)
    _say(f"Go on with: {shlex.join(['resflow', 'study', *[w for w in sys.argv[2:] if w != '--fresh']])}")


def _tune(plan: Any, stop: Any, storage: str | None, address: str | None, fresh: bool = False) -> Any:
    """Run the candidates that have no record, say who won, and return the plan with the tuned trials."""
    from resflow import atomic
    from resflow.cli.console import console, render_table, watch_run
    from resflow.records.run import load_run
    from resflow.report import tuning as tuned
    from resflow.workflow.plan import tuning_phase, with_tuned_trials, write_plan

    place = plan.run / workspace.TUNING
    write_plan(plan)
    if fresh and (place / workspace.TRIALS).is_dir():
        _set_aside(plan, [record.id for record in load_run(place).records], place)
    phase = tuning_phase(plan)
    if phase.unfinished:
        from resflow.runner.execute import execute_search

        table, tune = plan.searches.table(), plan.searches.tune
        allotted = int(table["allotted"].sum()) * len(tune.chosen_seeds)
        console.print(
            f"[bold]{plan.study.name}[/]: tuning {_many(len(table), 'arm')}, "
            f"{table['allotted'].iloc[0]} candidates each ({tune.oracle}), {', '.join(tune.space)}. Records: {place}/",
            highlight=False,
        )
        try:
            with watch_run(allotted) as show:
                execute_search(place, plan.searches, plan.folders, plan.state, show, stop, storage, address)
        except KeyboardInterrupt:
            _say(f"Stopped. Go on with: {_same_command()}")
            raise typer.Exit(130) from None
        phase = tuning_phase(plan)
        plan = with_tuned_trials(plan, phase)
        write_plan(plan)
    atomic.write(plan.run / workspace.LEDGER, atomic.csv(phase.ledger()))
    for made in tuned.tables(phase, plan.searches.tune.space):
        console.print(render_table(made))
    _say("")
    if phase.unfinished:
        why = f"Stopped: {stop.reason}. " if stop.reason else ""
        _say(f"{why}The search of {', '.join(phase.unfinished)} is not complete. Go on with: {_same_command()}")
        raise typer.Exit(1)
    return plan


@app.command(epilog="Example: resflow retry depth-cpu-oxford_flowers102 --diverged")
def retry(
    run: Annotated[str, typer.Argument(help="a run's name or folder")],
    diverged: Annotated[bool, typer.Option("--diverged", help="those whose loss was no number as well")] = False,
    data_dir: DataDir = None,
    max_failures: MaxFailures = None,
    time_budget: TimeBudget = None,
    storage: Storage = None,
    address: Address = None,
) -> None:
    """Run the failed trials of a run again, and what it has no record of yet."""
    from resflow.records.run import load_run
    from resflow.runner.stopping import Stop, exclusive_run, parse_duration
    from resflow.workflow.plan import plan_of_run
    from resflow.workspace import run_folder

    stop = Stop(None if time_budget is None else parse_duration(time_budget), max_failures)
    folder = run_folder(run)
    found = load_run(folder)
    if not (folder / workspace.STUDY).is_file():
        raise RecordError(f"{folder} has no study.yaml: run its study by name, `resflow study NAME --out {folder}`.")
    provenance.require_training()
    plan = plan_of_run(folder, str(found.study.get("command", "")), data_dir, _gpus(address))
    statuses = ("failed", "diverged") if diverged else ("failed",)
    mine = {trial.id for trial in plan.trials}
    with exclusive_run(folder):
        _set_aside(plan, [record.id for record in found.records if record.status in statuses and record.id in mine])
        if plan.searches:
            plan = _tune(plan, stop, storage, address)
        _run(plan, stop, storage, address)


def _gpus(address: str | None) -> int | None:
    """How many GPUs a cluster has; None where trials run on this machine."""
    if address is None:
        return None

    provenance.require_training()
    from resflow.runner import ray_session

    return int(ray_session.visible_resources(address).get("GPU", 0))


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    from resflow.study.yaml_source import parse_settings

    return parse_settings(pairs)


def _reuse(plan: Any, other: Path) -> None:
    """Take over what another run has completed of this plan's trials."""
    from resflow.records.record import take_over
    from resflow.records.run import finished_records
    from resflow.workflow.plan import write_plan
    from resflow.workspace import trial_folder

    write_plan(plan)
    there, mine = finished_records(other), finished_records(plan.run)
    same = [t for t in plan.trials if t.id in there and t.id not in mine and there[t.id].status == "completed"]
    for trial in same:
        take_over(plan.run, trial, trial_folder(other, trial.id))
    _say(f"{_many(len(same), 'record')} taken over from {other}")


def _forget(plan: Any, storage: str | None) -> None:
    """Remove the checkpoints of a plan's trials."""
    from resflow.training import checkpoints

    place = checkpoints.checkpoint_place(plan.run, plan.state, storage)
    checkpoints.Storage(place).sweep({trial.id for trial in plan.trials})


def _set_aside(plan: Any, ids: Collection[str], run: Path | None = None) -> None:
    from resflow.records.record import set_aside

    if ids:
        place = set_aside(run or plan.run, ids, plan.state / workspace.SET_ASIDE)
        _say(f"{_many(len(ids), 'record')} set aside in {place}")


def _run(plan: Any, stop: Any, storage: str | None, address: str | None) -> None:
    """Run what has no record, and write the report."""
    from resflow.cli.console import console, watch_run
    from resflow.records.run import finished_records
    from resflow.weights.saved import trials_to_run, trials_without_network
    from resflow.workflow.plan import write_plan

    write_plan(plan)
    known = finished_records(plan.run)
    waiting, again = (chosen(plan.trials, known, plan.state) for chosen in (trials_to_run, trials_without_network))
    console.print(
        f"[bold]{plan.study.name}[/]: {_many(len(plan.study.arms), 'arm')} × {_many(len(plan.study.seeds), 'seed')} = "
        f"{len(plan.trials)} trials, {len(plan.trials) - len(waiting)} of them done before. Records: {plan.run}/",
        highlight=False,
    )
    if again:
        _say(f"{_many(len(again), 'trial')} of them ran before without keeping this network: trained again for it")
    if waiting:
        from resflow.runner.execute import execute

        try:
            with watch_run(len(waiting)) as show:
                execute(plan.run, waiting, plan.folders, plan.state, show, stop, storage, address)
        except KeyboardInterrupt:
            _say(f"Stopped. Go on with: {_same_command()}")
            raise typer.Exit(130) from None
    _finish(plan, stop.reason)


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    from resflow.cli.console import console

    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _same_command() -> str:
    words = [word for word in sys.argv[1:] if word != "--fresh"]  # what is done is not to be done again
    return shlex.join(["resflow", *words])


def _finish(plan: Any, stopped: str) -> None:
    """Write the report and say what came of the run; `stopped` is why it ended early, if it did."""
    from resflow.cli.console import console, status_text
    from resflow.records.run import finished_records
    from resflow.report.write import write_report
    from resflow.weights.saved import trials_without_network

    path = write_report(plan.run)
    known = finished_records(plan.run)
    mine = [known[t.id] for t in plan.trials if t.id in known]
    console.print(status_text(Counter(record.status for record in mine)))
    failed = [record for record in mine if record.status in ("failed", "diverged")]
    for record in failed:
        log = workspace.log_path(plan.state, record.id)
        _say(f"{record.arm} seed {record.seed} {record.status}: {record.reason}\n  log: {log}")
    if failed:
        _say(f"Run them again with: resflow retry {shlex.quote(str(plan.run))}")
    missing = len(plan.trials) - len(mine)
    lacking = trials_without_network(plan.trials, known, plan.state)
    if lacking:
        _say(
            f"{_many(len(lacking), 'trial')} kept no network: the logs in {plan.state / workspace.LOGS} say why. "
            "The same command trains them again."
        )
    if missing:
        why = f"Stopped: {stopped}. " if stopped else ""
        _say(f"{why}{_many(missing, 'trial')} without a record yet. Go on with: {_same_command()}")
    _say(f"Report: {path}")
    if missing or lacking:  # interrupted: what waits for this command must not take it for done
        raise typer.Exit(1)
