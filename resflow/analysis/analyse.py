"""A run, read and analysed once: everything that its report shows, and the labels that it must carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pandas as pd

from resflow import workspace
from resflow.analysis import chance as chances
from resflow.analysis import (
    collapse,
    effects,
    landscape_table,
    predictions,
    variance_parts,
)
from resflow.analysis import design as designs
from resflow.errors import RecordError
from resflow.records import record as records
from resflow.records.looks import Look, read_looks
from resflow.records.run import MANY, Run, load_run
from resflow.study import search_space as space
from resflow.study.level_columns import VARIES, with_levels
from resflow.tuning import phase as tuning

Part = TypeVar("Part")


@dataclass(frozen=True)
class Analysis:
    """One run's frames: a row a trial, an arm, a contrast, an epoch; `left_out` says what none holds.

    Beside an arm stands a column for each factor with the arm's label; `effects` has two arms, and `arm_FACTOR` and
    `reference_FACTOR`.
    """

    run: Run
    design: designs.Design
    chance: chances.Chance
    trials: pd.DataFrame
    arms: pd.DataFrame
    effects: pd.DataFrame
    histories: pd.DataFrame
    predictions: predictions.Predictions | None  # on the test images; None of many trials, and where none kept any
    diagnostics: pd.DataFrame | None  # of completed trials, a row a layer and kind of figure; None of many trials
    left_out: tuple[str, ...]
    tuning: tuning.Phase | None  # None of a run that has none
    landscape: pd.DataFrame | None  # landscape.csv, of arms that the study has
    faults: tuple[str, ...]  # what of the run is damaged, beside its records
    looks: tuple[Look, ...] = ()  # at its earlier seeds, before others were added
    apart: pd.DataFrame = field(default_factory=pd.DataFrame)  # trials that vary one stream alone, as VARIES names it

    @property
    def completed(self) -> int:
        """The number of completed trials of the study's own seeds."""
        return int((self.trials["status"] == "completed").sum())

    @property
    def progress(self) -> tuple[int, int]:
        """How many of all trials have completed, and how many there are."""
        return int((self.every_trial["status"] == "completed").sum()), len(self.every_trial)

    @cached_property
    def every_trial(self) -> pd.DataFrame:
        """All trials: where some vary one stream alone, after the others, with VARIES beside the seed."""
        if self.apart.empty:
            return self.trials
        own = self.trials.copy()
        own.insert(list(own.columns).index("seed") + 1, VARIES, "")
        return pd.concat([own, self.apart[own.columns]], ignore_index=True)

    @property
    def records(self) -> list[records.Record]:
        """The records behind all trials, in their order."""
        by_id = {record.id: record for record in self.run.records}
        return [by_id[trial] for trial in self.every_trial["id"] if trial in by_id]

    @cached_property
    def parts(self) -> pd.DataFrame:
        """The parts of the spread, as `variance_parts` has them, with factors; empty of a study without parts."""
        table = variance_parts.variance_parts(self.trials, self.apart, self.design)
        return _with_both_levels(table, self.design) if len(table) else table

    @cached_property
    def ledger(self) -> pd.DataFrame | None:
        """A row an arm: its allotment in the tuning phase and its spending; None of a run that has no such phase."""
        return self.tuning.ledger(designs.written_arms(self.run)) if self.tuning else None

    @cached_property
    def space(self) -> dict[str, space.Parameter]:
        """Hyperparameter -> what the tuning phase searched; empty where study.yaml does not say."""
        tune = self.run.study.get("tune")
        return space.read_space(tune.get("space")) if isinstance(tune, dict) else {}


def analyse(folder: Path) -> Analysis:
    """Read a results folder and compute every table. Raises RecordError where it is none.

    What is damaged beside plan and records costs its own part of the report, and is told.
    """
    run = load_run(folder)
    design = designs.design(run)
    faults = list(run.faults)
    phase = _unless_damaged(faults, lambda: tuning.read_phase(folder))
    faults += phase.faults if phase else ()
    measured = _unless_damaged(faults, lambda: landscape_table.read(folder / workspace.LANDSCAPE, design.arms))
    looks = _unless_damaged(faults, lambda: read_looks(folder)) or []
    every, left_out = designs.trials(run, design)
    done, name = every[every["status"] == "completed"], design.metric.column
    if len(done) and done[name].isna().all():
        faults.append(f"{folder / workspace.STUDY}: metric is '{name}', which no completed trial has. Mend the file.")
    chance = chances.chance(run, design)
    histories, inside = run.histories(every["id"]).merge(every[["id", "status"]], on="id", how="inner"), None
    if len(every) <= MANY:
        inside = _unless_damaged(faults, lambda: with_levels(run.diagnostics_of(done["id"]), design.arms))
    collapsed = collapse.reasons(run, histories, inside)
    every["collapsed"] = [collapsed.get(trial, "") for trial in every["id"]]
    trials, apart = designs.set_apart(every)
    answers = predictions.read(run, trials, splits_vary="split" in design.follows)
    arms = effects.arm_table(trials, design, chance)
    table = effects.effect_table(trials, arms, design, chance, designs.twins(run, design), answers)
    table = _with_both_levels(table, design) if len(table) else table
    return Analysis(
        run=run,
        design=design,
        chance=chance,
        trials=with_levels(trials, design.arms),
        arms=with_levels(arms, design.arms) if len(arms) else arms,
        effects=table,
        histories=with_levels(_of(trials, histories), design.arms),
        predictions=answers,
        diagnostics=None if inside is None else _of(trials, inside),
        left_out=tuple(left_out),
        tuning=phase,
        landscape=None if measured is None else with_levels(measured, design.arms),
        faults=tuple(faults),
        looks=tuple(looks),
        apart=with_levels(apart, design.arms),
    )


def _with_both_levels(table: pd.DataFrame, design: designs.Design) -> pd.DataFrame:
    """Return a table of two arms with a column for each factor beside either."""
    for side in ("arm", "reference"):
        table = with_levels(table, design.arms, side, f"{side}_")
    return table


def _of(trials: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that are of some trials."""
    return table[table["id"].isin(trials["id"])].reset_index(drop=True)


def _unless_damaged(faults: list[str], read: Callable[[], Part | None]) -> Part | None:
    try:
        return read()
    except RecordError as error:
        faults.append(str(error))
        return None
