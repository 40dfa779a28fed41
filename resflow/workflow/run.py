"""Run a study: search what it tunes, train what has no record, write the report.

Nothing here prints or ends the process: a Reporter is told, and a RunResult comes back. So the command line and a
notebook do the same.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from resflow import atomic, provenance, workspace
from resflow.data.cache import Spent
from resflow.errors import RecordError, StudyError
from resflow.records import packing
from resflow.records.run import finished_records, load_run, records_to_take_over
from resflow.report.formatting import many
from resflow.runner.stopping import Stop, exclusive_run
from resflow.study.load import Study
from resflow.trackers.known import require_trackers
from resflow.weights.saved import trials_to_run, trials_without_network
from resflow.workflow import looks
from resflow.workflow.forecast import tell_cost
from resflow.workflow.gpu_plan import tell_gpu_memory
from resflow.workflow.plan import Plan, plan_of_run, tuning_phase, with_tuned_trials, write_plan
from resflow.workflow.preflight import check_plan, tell_data
from resflow.workflow.run_contract import Reporter, RunOptions, RunResult, Silent
from resflow.workflow.tracking import Tracking, track

if TYPE_CHECKING:
    from resflow.runner.execute import RunPlace


REPORT = "resflow.report.write"


def spent_by(stop: Stop) -> Spent:
    """Return what tells whoever decodes photos for a plan that its time is over, and why."""
    return lambda: stop.reason if stop.due() else ""


def run_plan(
    plan: Plan, options: RunOptions | None = None, reporter: Reporter | None = None, stop: Stop | None = None
) -> RunResult:
    """Run what a plan has no record of yet, then write its report.

    `stop` is the options' own where its clock has started before the plan was made: photos are decoded on that time.
    Raises MissingExtraError where nothing can be trained here, RecordError where another process has the run or its
    folder cannot be written, TrainingError where Ray does not start.
    """
    options, reporter = options or RunOptions(), reporter or Silent()
    provenance.require_training()
    stop = stop or options.make_stop()
    check_and_warn(plan, options, reporter)
    with exclusive_run(plan.run), stop.on_signals():
        looks.note_extension(plan)
        if plan.searches:
            plan, searching = _search(plan, options, stop, reporter)
            if searching:
                return RunResult(plan, stop.reason, searching)
        _sort_records(plan, options, reporter)
        return _train(plan, options, stop, reporter)


def tune_plan(
    plan: Plan, options: RunOptions | None = None, reporter: Reporter | None = None, stop: Stop | None = None
) -> RunResult:
    """Search the settings of each arm of a plan whose study tunes, and train nothing else. Raises as `run_plan`."""
    options, reporter = options or RunOptions(), reporter or Silent()
    provenance.require_training()
    check_tunable(plan.study)
    stop = stop or options.make_stop()
    check_and_warn(plan, options, reporter)
    with exclusive_run(plan.run), stop.on_signals():
        plan, searching = _search(plan, options, stop, reporter)
        return RunResult(plan, stop.reason, searching)


def check_and_warn(plan: Plan, options: RunOptions, reporter: Reporter) -> None:
    """Raise as `check_plan`, and tell of what is no problem and must not be overlooked: photos, a GPU's memory."""
    require_trackers(options.log)
    check_plan(plan, options.storage, options.address)
    for text in (*tell_data(plan), "" if options.address else tell_gpu_memory(plan)):
        if text:
            reporter.note(text)


def check_tunable(study: Study) -> None:
    """Raise StudyError where a study has nothing to tune."""
    if study.file.tune is None:
        raise StudyError(
            f"the study {study.name} has no `tune`: expected a section that says what is searched, such as tune: "
            "{space: {learning_rate: {low: 0.001, high: 1.0, sampling: log}}, candidates: 12}."
        )


def retry_run(
    folder: Path,
    *,
    diverged: bool = False,
    data_dir: Path | None = None,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Run the failed trials of a run again, those that diverged as well if asked, and what has no record yet."""
    options, reporter = options or RunOptions(), reporter or Silent()
    run = load_run(folder)
    if not (folder / workspace.STUDY).is_file():
        raise RecordError(
            f"{folder} has no {workspace.STUDY}: run its study by name, `resflow study NAME --out {folder}`."
        )
    provenance.require_training()
    stop = options.make_stop()
    gpus, command = cluster_gpus(options.address), str(run.study.get("command", ""))
    plan = plan_of_run(folder, command, data_dir, gpus, spent_by(stop))
    statuses, ids = ("failed", "diverged") if diverged else ("failed",), {trial.id for trial in plan.trials}
    check_and_warn(plan, options, reporter)
    with exclusive_run(folder), stop.on_signals():
        again = [record.id for record in run.records if record.status in statuses and record.id in ids]
        _set_aside(plan, again, reporter)
        if plan.searches:
            plan, searching = _search(plan, options, stop, reporter)
            if searching:
                return RunResult(plan, stop.reason, searching)
        return _train(plan, options, stop, reporter)


def cluster_gpus(address: str | None) -> int | None:
    """Return how many GPUs a Ray cluster has; None where trials run on this machine. Raises TrainingError."""
    if address is None:
        return None
    provenance.require_training()
    from resflow.runner import ray_session

    return int(ray_session.visible_resources(address).get("GPU", 0))


def _search(plan: Plan, options: RunOptions, stop: Stop, reporter: Reporter) -> tuple[Plan, tuple[str, ...]]:
    """Run the candidates that have no record; return the plan with the tuned trials, and the arms not yet searched."""
    assert plan.searches is not None
    folder = plan.run / workspace.TUNING
    write_plan(plan)
    if options.fresh and (folder / workspace.TRIALS).is_dir():
        _set_aside(plan, [record.id for record in load_run(folder).records], reporter, folder)
    phase = tuning_phase(plan)
    if phase.unfinished:
        table, tune = plan.searches.table(), plan.searches.tune
        reporter.note(
            f"tuning {many(len(table), 'arm')}, {table['allotted'].iloc[0]} candidates each ({tune.oracle}), "
            f"{', '.join(tune.space)}. Records: {folder}/",
            title=plan.study.name,
        )
        reporter.note(tell_cost(plan, on_cluster=options.address is not None))
        from resflow.runner.execute import execute_search

        with reporter.watch(int(table["allotted"].sum()) * len(tune.chosen_seeds)) as show:
            execute_search(_place(folder, plan, options), plan.searches, plan.folders, show, stop)
        phase = tuning_phase(plan)
        plan = with_tuned_trials(plan, phase)
        write_plan(plan)
    assert plan.searches is not None
    atomic.write(plan.run / workspace.LEDGER, atomic.csv(phase.ledger()))
    from resflow.report import tuning as tuning_tables  # with it come all statistics

    reporter.show(tuning_tables.tables(phase, plan.searches.tune.space))
    return plan, tuple(phase.unfinished)


def _sort_records(plan: Plan, options: RunOptions, reporter: Reporter) -> None:
    """Set aside and take over what the options ask for, and tell of records that are of no trial of this study."""
    known = load_run(plan.run).folders if (plan.run / workspace.TRIALS).is_dir() else ()
    if options.fresh:
        _set_aside(plan, [trial.id for trial in plan.trials if trial.id in known], reporter)
        _forget_checkpoints(plan, options.storage)
    strangers = sorted(set(known) - {trial.id for trial in plan.trials})
    if options.prune:
        _set_aside(plan, strangers, reporter)
    elif strangers:
        reporter.note(
            f"{many(len(strangers), 'record')} of trials that this study does not have (any more) left out of the "
            f"report; --prune sets them aside: {', '.join(strangers[:5])}{' …' if len(strangers) > 5 else ''}"
        )
    for run in options.reuse:
        _take_over(plan, workspace.run_folder(run), reporter)


def _train(plan: Plan, options: RunOptions, stop: Stop, reporter: Reporter) -> RunResult:
    """Train what has no record, or lacks its network, seed by seed of a sequential design, and write the report."""
    write_plan(plan)
    atomic.sweep(plan.state / workspace.NETWORKS)  # the run is ours: drafts of whoever was killed in writing
    with track(plan.run, options.log, reporter) as tracking:
        stage = plan
        for stage in looks.stages(plan, reporter.note):
            if not stop.reason:
                _train_stage(stage, options, stop, reporter, tracking)
        from resflow.report.write import write_report  # matplotlib takes a while

        report = write_report(plan.run)
        tracking.conclude()
    return RunResult(stage, stop.reason, report=report, unlogged=tuple(tracking.problems))


def _train_stage(plan: Plan, options: RunOptions, stop: Stop, reporter: Reporter, tracking: Tracking) -> None:
    """Train what of a plan, all of it or some of its seeds, has no record or lacks its network."""
    known = finished_records(plan.run)
    waiting = trials_to_run(plan.trials, known, plan.state)
    again = trials_without_network(plan.trials, known, plan.state)
    seeds = len({(trial.seed, trial.varies) for trial in plan.trials})
    reporter.note(
        f"{many(len(plan.study.arms), 'arm')} × {many(seeds, 'seed')} = {len(plan.trials)} trials, "
        f"{len(plan.trials) - len(waiting)} of them done before. Records: {plan.run}/",
        title=plan.study.name,
    )
    if again:
        reporter.note(f"{many(len(again), 'trial')} of them ran before and kept no whole network: trained again for it")
    if waiting:
        reporter.note(tell_cost(plan, on_cluster=options.address is not None))
        from resflow.runner.execute import execute

        Thread(target=import_module, args=(REPORT,), daemon=True).start()  # a second that trials need not wait for
        with reporter.watch(len(waiting)) as show:
            execute(_place(plan.run, plan, options), plan.trials, plan.folders, tracking.beside(show), stop)


def _place(run: Path, plan: Plan, options: RunOptions) -> RunPlace:
    from resflow.runner.execute import RunPlace

    return RunPlace(run, plan.state, options.storage, options.address)


def _take_over(plan: Plan, other: Path, reporter: Reporter) -> None:
    """Take over the records of this plan's trials that another run has completed."""
    write_plan(plan)
    ids = [trial.id for trial in plan.trials]
    same = records_to_take_over(ids, finished_records(other), finished_records(plan.run))
    for trial in plan.trials:
        if trial.id in same:
            packing.take_over(plan.run, trial, other)
    reporter.note(f"{many(len(same), 'record')} taken over from {other}")


def _set_aside(plan: Plan, ids: Collection[str], reporter: Reporter, run: Path | None = None) -> None:
    if ids:
        place = packing.set_aside(run or plan.run, ids, plan.state / workspace.SET_ASIDE)
        reporter.note(f"{many(len(ids), 'record')} set aside in {place}")


def _forget_checkpoints(plan: Plan, storage: str | None) -> None:
    from resflow.training import checkpoints

    place = checkpoints.checkpoint_place(plan.run, plan.state, storage)
    checkpoints.Storage(place).sweep({trial.id for trial in plan.trials})
