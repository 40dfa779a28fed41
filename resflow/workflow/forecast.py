"""The cost of a plan before it runs: trials left, seconds, places at a time, disk; and arms that differ in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from resflow import architectures, provenance, workspace
from resflow.records.gpu_choice import GpuChoice, read_choice
from resflow.records.record import Record
from resflow.records.run import finished_records, records_to_take_over
from resflow.report.formatting import duration, many
from resflow.study import costs
from resflow.study.resources import GIGABYTE, TrialResources, object_store_bytes
from resflow.study.trial import Trial
from resflow.tuning.phase import Phase, phase_from_records
from resflow.weights.saved import trials_to_run
from resflow.workflow.plan import Plan, tuning_phase

LONG_S, SHORT = 20 * 60, "demo"  # a run of which it is told, and the profile that takes minutes
START_SECONDS = 20  # of a run: Ray, TensorFlow in its workers, the report (`resflow bench study`)


@dataclass(frozen=True)
class SearchForecast:
    """The search that a study begins with, as far as it is still to be done."""

    arms: int
    allotted: tuple[int, ...]  # candidates an arm, each number once
    oracle: str
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """An estimate of what a plan takes on this machine."""

    seconds: dict[str, float]  # by trial id
    basis: str  # of the estimate, in words
    waiting: list[Trial]  # trials that are to run
    slots: int  # of them that run at a time
    wall: float  # seconds until the last has ended
    feature_bytes: int  # on disk, of features that trials share
    unpaired: list[str]  # pairs of a plain and a residual arm that differ in size
    search: SearchForecast | None  # before the trials; none where there is nothing to search (any more)


def forecast(plan: Plan, *, fresh: bool = False, reuse: Sequence[str] = ()) -> Forecast:
    """Estimate what is still to be done for a plan, by the run's own finished trials where there are some.

    They are done, unless all is to run afresh; so are those of the runs to `reuse`, which it would take over.
    """
    own = finished_records(plan.run) if workspace.is_run(plan.run) else {}
    done = {} if fresh else dict(own)
    for run in reuse:
        theirs = finished_records(workspace.run_folder(run))
        done |= records_to_take_over([trial.id for trial in plan.trials], theirs, done)
    seconds, basis = estimate_seconds(plan.trials, own | done)
    waiting = trials_to_run(plan.trials, done, plan.state)
    templates = [] if plan.searches is None else list(plan.searches.templates.values())
    slots = count_slots(plan.trials or templates, read_choice(plan.run))
    wall = max([sum(seconds[t.id] for t in waiting) / slots, *(seconds[t.id] for t in waiting)], default=0.0)
    if waiting:
        wall += START_SECONDS + costs.estimate_graph_seconds(waiting) / slots
    return Forecast(
        seconds=seconds,
        basis=basis,
        waiting=waiting,
        slots=slots,
        wall=wall,
        feature_bytes=costs.feature_bytes(waiting),
        unpaired=unpaired_twins(plan.trials),
        search=None if plan.searches is None else _forecast_search(plan, slots, fresh),
    )


def tell_cost(plan: Plan, *, on_cluster: bool = False) -> str:
    """Say how long what comes next takes, the search or the trials, and where that is long which profile is shorter."""
    known = forecast(plan)
    if known.search:
        what, seconds, basis = f"The search of {known.search.arms} arms", known.search.seconds, ""
    else:
        what, seconds, basis = f"{len(known.waiting)} trials", known.wall, f" ({known.basis})"
    like = known.waiting[0] if known.waiting else next(iter(plan.searches.templates.values() if plan.searches else ()))
    where = "on one machine like this" if on_cluster else f"on this {like.execution.device.upper()}"
    is_shorter = seconds > LONG_S and SHORT in plan.study.origin.profiles and plan.study.profile != SHORT
    time = "less than a minute" if seconds < 60 else f"about {duration(seconds)}"
    return f"{what}, {time} {where}{f'; --profile {SHORT} takes minutes' if is_shorter else ''}{basis}"


def _forecast_search(plan: Plan, slots: int, fresh: bool) -> SearchForecast | None:
    assert plan.searches is not None
    phase = phase_from_records(plan.searches.table(), ()) if fresh else tuning_phase(plan)
    if not phase.unfinished:
        return None
    device = next(iter(plan.searches.templates.values())).execution.device
    seconds = estimate_search_seconds(plan, phase, costs.ASSUMED_RATE[device]) / slots
    allotted = tuple(dict.fromkeys(int(number) for number in phase.table["allotted"]))
    return SearchForecast(len(phase.table), allotted, plan.searches.tune.oracle, seconds)


def estimate_search_seconds(plan: Plan, found: Phase, rate: float) -> float:
    """Estimate the seconds that the candidates which are still to come take, one after the other."""
    assert plan.searches is not None
    searches, total, first = plan.searches, 0.0, []
    for arm in found.unfinished:
        rungs, seeds = searches.rungs(arm), searches.tune.chosen_seeds
        like = {epochs: searches.candidate(arm, 1, {}, epochs, seeds[0]) for epochs in set(rungs)}
        work = {epochs: _work_of_another(one) for epochs, one in like.items()}
        share = 1 - len(found.tried[arm]) / len(rungs)
        total += share * len(seeds) * sum(work[epochs] for epochs in rungs)
        first.append(like[max(like)])
    shared = sum(costs.estimate_work(first).values()) - sum(map(_work_of_another, first))  # features, once
    return (total + shared) / rate


def _work_of_another(trial: Trial) -> float:
    """Return the multiply-adds of a trial like one that has run, whose features are there."""
    other = replace(trial, id=f"another {trial.id}")
    return costs.estimate_work([trial, other])[other.id]


def unpaired_twins(trials: Sequence[Trial]) -> list[str]:
    """Pairs of a plain and a residual arm, equal in all other factors, whose parameters differ; by how much."""
    arms = list({t.arm: t for t in trials}.values())
    pairs = [
        (residual, plain)
        for plain in arms
        for residual in arms
        if plain.network.shortcut == "none" != residual.network.shortcut
        and _but_shortcut(plain) == _but_shortcut(residual)
    ]
    said = [(one, other, architectures.unpaired(one.parameters, other.parameters)) for one, other in pairs]
    return [f"{residual.arm} − {plain.arm}: {difference}" for residual, plain, difference in said if difference]


def _but_shortcut(trial: Trial) -> dict[str, str]:
    return {factor: label for factor, label in trial.levels.items() if factor != "shortcut"}


def count_slots(trials: Sequence[Trial], choice: GpuChoice | None = None) -> int:
    """Trials that run at a time on this machine; with `gpus: auto` as the run has chosen, one a GPU before that."""
    memory = provenance.environment()["memory_gb"]
    there = {"CPU": provenance.count_processors(), "GPU": provenance.count_gpus()}
    there |= {"memory": memory * GIGABYTE - object_store_bytes(memory * GIGABYTE)} if memory else {}
    resources = TrialResources.from_trial(trials[0])
    if choice and resources.gpus and trials[0].resources.gpus == "auto":
        resources = replace(resources, gpus=1 / choice.trials_per_gpu)
    return max(1, resources.fit(there))


def estimate_seconds(trials: Sequence[Trial], records: Mapping[str, Record]) -> tuple[dict[str, float], str]:
    """Estimate each trial's seconds, and say from what.

    The rate (multiply-adds a second) is that of the run's own finished trials, or else a measured figure of
    another machine.
    """
    if not trials:
        return {}, "none is planned yet"
    work = costs.estimate_work(trials)
    done = [(t, records[t.id]) for t in trials if t.id in records and records[t.id].status == "completed"]
    spent = sum(record.spent_seconds for _, record in done)
    if spent:
        rate, basis = sum(work[t.id] for t, _ in done) / spent, f"from {many(len(done), 'finished trial')}"
    else:
        rate = costs.ASSUMED_RATE[trials[0].execution.device]
        basis = f"assuming {rate:.1e} multiply-adds a second; better once a trial has finished here"
    return {t.id: work[t.id] / rate for t in trials}, basis
