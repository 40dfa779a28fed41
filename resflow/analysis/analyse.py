"""A run, read and analysed once: everything that its report shows, and the labels that it must carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from resflow import workspace
from resflow.analysis import design as designs
from resflow.analysis import effects, landscape_table, predictions, verdicts
from resflow.errors import RecordError
from resflow.records import record as records
from resflow.records.run import MANY, Run, load_run
from resflow.study import search_space as space
from resflow.study.level_columns import with_levels
from resflow.study.originals import tell_enlarged
from resflow.tuning import phase as tuning

DEMO, SYNTHETIC = "demo", "synthetic"
Part = TypeVar("Part")


@dataclass(frozen=True)
class Analysis:
    """One run's frames: a row a trial, an arm, a contrast, an epoch; `left_out` says what none holds.

    Beside an arm stands a column for each factor with the arm's label; `effects` has two arms, and `arm_FACTOR` and
    `reference_FACTOR`.
    """

    run: Run
    design: designs.Design
    chance: designs.Chance
    trials: pd.DataFrame
    arms: pd.DataFrame
    effects: pd.DataFrame
    histories: pd.DataFrame
    left_out: tuple[str, ...]
    tuning: tuning.Phase | None  # None of a run that has none
    landscape: pd.DataFrame | None  # landscape.csv, of arms that the study has
    faults: tuple[str, ...]  # what of the run is damaged, beside its records

    @property
    def completed(self) -> int:
        """The number of completed trials."""
        return int((self.trials["status"] == "completed").sum())

    @property
    def records(self) -> list[records.Record]:
        """The records behind the trials, in their order."""
        by_id = {record.id: record for record in self.run.records}
        return [by_id[trial] for trial in self.trials["id"] if trial in by_id]

    @cached_property
    def predictions(self) -> predictions.Predictions | None:
        """Predictions on the test images, read when first needed; None of many trials, and where none kept any."""
        return predictions.read(self.run, self.trials)

    @cached_property
    def diagnostics(self) -> pd.DataFrame | None:
        """Diagnostics of completed trials, a row a layer and kind of figure; None of many trials."""
        if len(self.trials) > MANY:
            return None
        done = self.trials[self.trials["status"] == "completed"]
        return with_levels(self.run.diagnostics_of(done["id"]), self.design.arms)

    @cached_property
    def ledger(self) -> pd.DataFrame | None:
        """A row an arm: its allotment in the tuning phase and its spending; None of a run that has no such phase."""
        return self.tuning.ledger(designs.written_arms(self.run)) if self.tuning else None

    @cached_property
    def space(self) -> dict[str, space.Parameter]:
        """Hyperparameter -> what the tuning phase searched; empty where study.yaml does not say."""
        tune = self.run.study.get("tune")
        return space.read_space(tune.get("space")) if isinstance(tune, dict) else {}


@dataclass(frozen=True)
class Label:
    """A word that a reader must not miss, and what it means here."""

    word: str
    text: str


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
    trials, left_out = designs.trials(run, design)
    done, name = trials[trials["status"] == "completed"], design.metric.column
    if len(done) and done[name].isna().all():
        faults.append(f"{folder / workspace.STUDY}: metric is '{name}', which no completed trial has. Mend the file.")
    chance = designs.chance(run, design)
    histories = run.histories(trials["id"]).merge(trials[["id", "status"]], on="id", how="inner")
    arms = effects.arm_table(trials, design, chance)
    table = effects.effect_table(trials, arms, design, chance, designs.twins(run, design))
    for side in ("arm", "reference") if len(table) else ():
        table = with_levels(table, design.arms, side, f"{side}_")
    return Analysis(
        run=run,
        design=design,
        chance=chance,
        trials=with_levels(trials, design.arms),
        arms=with_levels(arms, design.arms) if len(arms) else arms,
        effects=table,
        histories=with_levels(histories, design.arms),
        left_out=tuple(left_out),
        tuning=phase,
        landscape=None if measured is None else with_levels(measured, design.arms),
        faults=tuple(faults),
    )


def _unless_damaged(faults: list[str], read: Callable[[], Part | None]) -> Part | None:
    try:
        return read()
    except RecordError as error:
        faults.append(str(error))
        return None


def labels(analysis: Analysis) -> list[Label]:
    """List everything that a reader could mistake for more than it is, by rule."""
    return [*_kind(analysis), *_parity(analysis), *_tuning(analysis), *_quality(analysis), *_gaps(analysis)]


def _kind(analysis: Analysis) -> list[Label]:
    notes = []
    if analysis.run.study.get("profile") == DEMO:
        notes.append(Label("demonstration, not a result", "Run with profile demo: made to show the way, in minutes."))
    sources = {str(record.data.get("source")) for record in analysis.records}
    if SYNTHETIC in sources:
        notes.append(Label("synthetic data", "Flowers drawn from a seed, not photos."))
    notes += _origins(analysis)
    if not analysis.run.study:
        text = "There is no study.yaml: no question, baseline or seeds are declared. Arms come from the records."
        notes.append(Label("no study", text))
    if analysis.run.plan.empty:
        notes.append(Label("no plan", "There is no plan.csv: trials that never started cannot be counted."))
    for key, what in (("split_hash", "splits"), ("fingerprint", "versions of the data")):
        values = {str(record.data.get(key)) for record in analysis.records}
        if len(values) > 1:
            text = f"The records come from {len(values)} {what}: differences between them are not paired."
            notes.append(Label(f"different {what}", text))
    return notes


def _origins(analysis: Analysis) -> list[Label]:
    """Tell of photos and weights that are less than they seem, as the records have it."""
    data = [record.data for record in analysis.records if record.data.get("originals")]
    enlarged = tell_enlarged((one["originals"]["median"], one.get("image_size", 0)) for one in data)
    notes = [Label("enlarged photos", enlarged)] if enlarged else []
    altered = {_alteration(one.network) for one in analysis.records if one.network.get("weights_altered")}
    if altered:
        text = f"Networks start from weights that were altered after their training. {' '.join(sorted(altered))}"
        notes.append(Label("altered weights", text))
    return notes


def _alteration(network: dict[str, Any]) -> str:
    quoted = f" Its file says: “{network['weights_note']}”." if network.get("weights_note") else ""
    return f"{network.get('weights')}: {network['weights_altered']}.{quoted}"


def _parity(analysis: Analysis) -> list[Label]:
    table, name_of = analysis.effects, analysis.design.display_name
    rows = table[table["unpaired"] != ""].to_dict("records") if len(table) else []
    pairs = dict.fromkeys(f"{name_of(row['arm'])} − {name_of(row['reference'])}: {row['unpaired']}" for row in rows)
    text = "These plain and residual arms differ in size as well, so the shortcut is not all that differs."
    return [Label("unpaired", f"{'; '.join(pairs)}. {text}")] if pairs else []


def _tuning(analysis: Analysis) -> list[Label]:
    phase = analysis.tuning
    if phase is None:
        return []
    notes = [Label("unfairly tuned", f"{'; '.join(unfair)}.")] if (unfair := phase.unfair()) else []
    near = tuning.winners_at_ends(phase, analysis.space)
    ends = [f"{name} of {arm} ({end} end)" for arm, some in near.items() for name, end in some.items()]
    if ends:
        text = "Better values may lie outside of what was searched."
        notes.append(Label("winners at an end of the space", f"{join(ends)}. {text}"))
    return notes


def _quality(analysis: Analysis) -> list[Label]:
    notes, arms, name_of = [], analysis.arms, analysis.design.display_name
    limited = effects.budget_limited(arms, designs.residual_arms(analysis.run)) if len(arms) else []
    if limited:
        text = (
            f"{join([*map(name_of, limited)])} {'ends' if len(limited) == 1 else 'end'} below "
            f"{100 * effects.BUDGET_LIMIT:.0f} % training top-1: trained for longer, "
            "these arms could rank differently."
        )
        notes.append(Label("budget-limited", text))
    if not len(arms):
        return notes
    for word, text in (
        (verdicts.AT, "No skill is shown, and none of these arms can be called a winner."),
        (verdicts.UNRESOLVED, "More seeds are needed before any of these arms can be called a winner."),
    ):
        names = [*map(name_of, arms.loc[arms["chance"] == word, "arm"])]
        if names:
            notes.append(Label(word, f"{join(names)}. {text}"))
    if analysis.completed and (arms["chance"] == verdicts.UNKNOWN).all():
        notes.append(Label("chance unknown", f"Chance is {analysis.chance.why}; it is not drawn or tested."))
    alone = list(arms.loc[arms["n"] == 1, "arm"])
    if alone:
        who = "Every arm" if len(alone) == len(arms) else join([*map(name_of, alone)])
        text = f"{who}: no interval and no test can be given, and nothing can be decided."
        notes.append(Label("one seed", text))
    return notes


def _gaps(analysis: Analysis) -> list[Label]:
    notes, counts = [], analysis.trials["status"].value_counts()
    total = len(analysis.trials)
    for status, text in (
        ("failed", "Shown below with their reasons; left out of means and pairs."),
        (
            "diverged",
            "Shown below with their reasons; left out of means and pairs, which flatters their arms.",
        ),
        ("pruned", "Stopped early by choice; left out of means and pairs."),
        (designs.UNREADABLE, "Their records cannot be read; see below."),
        (designs.NOT_RUN, "They have no record yet: the study has not finished, and figures may change."),
    ):
        if counts.get(status):
            notes.append(Label(f"{counts[status]} of {total} trials {status}", text))
    notes += [Label("damaged", message) for message in analysis.faults]
    return notes + [Label("left out", message) for message in analysis.left_out]


def join(words: list[str]) -> str:
    """Join words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
