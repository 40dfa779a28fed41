"""A sequential design as it runs: which seeds are due, a look at what they decided, and then the next ones.

Of a run of fixed seeds it is noted that somebody saw its report before seeds were added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from resflow import workspace
from resflow.records.gpu_choice import read_choice
from resflow.records.looks import Look, note_look
from resflow.records.run import load_run
from resflow.workflow.forecast import count_slots
from resflow.workflow.plan import Plan

UNDECIDED = "undecided"


def first_stage(plan: Plan) -> Plan:
    """Return a plan with the seeds that are due whatever they show: the least, and those that have begun."""
    optional = plan.study.optional_seeds
    if not optional:
        return plan
    recorded = set(load_run(plan.run).folders)
    begun = {trial.seed for trial in plan.trials if trial.id in recorded}
    last = max((place for place, seed in enumerate(plan.study.seeds) if seed in begun), default=0)
    return _with_seeds(plan, plan.study.seeds[: max(last + 1, len(plan.study.seeds) - len(optional))])


def stages(plan: Plan, note: Callable[[str], object]) -> Iterator[Plan]:
    """Yield a plan with the seeds that are due, each time those before have run: all of them where they are fixed.

    Of a sequential design seeds are added until a look finds every comparison decided, or there are no more. What was
    yielded last is what is left to run where something stopped.
    """
    seeds, stage = plan.study.seeds, first_stage(plan)
    together = math.ceil(count_slots(plan.trials, read_choice(plan.run)) / len(plan.study.arms))  # no slot idles
    while True:
        yield stage
        if not plan.study.optional_seeds or {trial.id for trial in stage.trials} - {*load_run(plan.run).folders}:
            return
        look = take_look(plan)
        note_look(plan.run, look)
        note(f"after {look.seeds} seeds {look.decided} of {look.comparisons} comparisons are decided")
        if look.decided == look.comparisons or len(stage.trials) == len(plan.trials):
            return
        stage = _with_seeds(plan, seeds[: len({trial.seed for trial in stage.trials}) + together])


def take_look(plan: Plan) -> Look:
    """Count what the seeds so far decide."""
    from resflow.analysis.analyse import analyse  # with it come all statistics

    seen = analyse(plan.run)
    once = seen.effects.drop_duplicates(["arm", "reference", "less"]) if len(seen.effects) else seen.effects
    decided = int((once["verdict"] != UNDECIDED).sum()) if len(once) else 0
    return Look(int(seen.trials["seed"].nunique()), len(once), decided)


def note_extension(plan: Plan) -> None:
    """Note a look where a run of fixed seeds, whole and reported on, is about to get more of them."""
    if plan.study.optional_seeds or not (plan.run / workspace.REPORT).is_file():
        return
    before = load_run(plan.run)
    seeds, planned = set(before.expected.get("seed", ())), {trial.seed for trial in plan.trials}
    if seeds and seeds < planned and set(before.expected["id"]) <= set(before.folders):
        note_look(plan.run, take_look(plan))


def _with_seeds(plan: Plan, seeds: Iterable[int]) -> Plan:
    chosen = set(seeds)
    return replace(plan, trials=[trial for trial in plan.trials if trial.seed in chosen])
