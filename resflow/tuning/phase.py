"""A tuning phase as it stands on disk: searches, their candidates' records, what they spent, who won.

    results/<run>/tuning/searches.csv     a row an arm: SEARCH_COLUMNS; which search is the study's
    results/<run>/tuning/trials/<id>/     a record a candidate and seed, as a trial's, without test figures
    results/<run>/ledger.csv              a row an arm: what it was allotted and what it used

A candidate's score is the mean over its seeds of the validation top-1 of the weights that a trial would test. Nothing
here imports keras-tuner.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from resflow import reading, workspace
from resflow.errors import RecordError
from resflow.records.record import Record
from resflow.records.run import load_run
from resflow.study import contrast_families, search_space
from resflow.study.arms import Arm
from resflow.study.level_columns import with_levels
from resflow.study.load import Study
from resflow.study.search_space import Parameter, Tune
from resflow.study.trial import Candidate, Trial, make_trial
from resflow.study.variation import Streams

SEARCH_COLUMNS = ("arm", "search", "space", "oracle", "allotted", "seeds", "epochs")
SCORE = "validation_top1"


@dataclass(frozen=True)
class Searches:
    """The searches of a study, one an arm, each by an id of all that decides which candidates it tries."""

    study: Study  # as it is written
    templates: dict[str, Trial]  # arm -> a trial of it

    @property
    def tune(self) -> Tune:
        assert self.study.file.tune is not None, "a study without `tune` has no searches"
        return self.study.file.tune

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Each arm with the epochs of its candidates."""
        return {
            arm.name: arm.with_settings({"epochs": self.tune.epochs or arm.recipe.epochs}) for arm in self.study.arms
        }

    def rungs(self, arm: str) -> list[int]:
        """Return the epochs of every candidate that an arm is allotted."""
        return self.tune.rungs(self.arms[arm].recipe.epochs)

    @cached_property
    def ids(self) -> dict[str, str]:
        """Arm -> the id of its search."""
        return {name: self._id(name) for name in self.arms}

    def _id(self, arm: str) -> str:
        text = f"{self._trial(arm, {}, 0, 'search').id} {self.tune.digest()}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def candidate(self, arm: str, number: int, values: Mapping[str, Any], epochs: int, seed: int) -> Trial:
        """Return a candidate of an arm's oracle as a trial. Raises StudyError where its values do not go together."""
        checkpoint = self._trial(arm, values, seed, "course").id
        candidate = Candidate(self.ids[arm], number, dict(values), epochs, checkpoint)
        trial = self._trial(arm, values, seed, f"candidate {number}")  # an oracle may ask for the same values again
        return replace(trial, candidate=candidate, diagnostics=False, keep_weights="none")

    def _trial(self, arm: str, values: Mapping[str, Any], seed: int, purpose: str) -> Trial:
        base, template = self.arms[arm], self.templates[arm]
        settings = search_space.settings_of(self.tune.space, values)
        changed = base.with_settings(settings) if settings else base
        streams = Streams(seed, self.study.file.split_seed)  # a search's seeds vary what seeds vary by default
        return make_trial(self.study, changed, streams, template.context, purpose)

    def table(self) -> pd.DataFrame:
        """Return SEARCH_COLUMNS, a row an arm."""
        tune = self.tune
        rows = [
            (
                name,
                self.ids[name],
                space_digest(tune),
                tune.oracle,
                len(self.rungs(name)),
                len(tune.chosen_seeds),
                arm.recipe.epochs,
            )
            for name, arm in self.arms.items()
        ]
        return pd.DataFrame(rows, columns=list(SEARCH_COLUMNS))


def make_searches(study: Study, trials: Sequence[Trial]) -> Searches:
    """Return the searches of a study that asks for tuning; `trials` are its own, as it is written."""
    return Searches(study, {trial.arm: trial for trial in reversed(trials)})


def space_digest(tune: Tune) -> str:
    """Return eight hex digits that tell a search space from another."""
    text = json.dumps(tune.model_dump(mode="json")["space"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def final_study(study: Study, winners: Mapping[str, TriedCandidate]) -> Study:
    """Return the study whose trials are compared: each arm with its winner's settings, beside it the arm as written.

    Arms whose search has no winner are left out of the tuned ones.
    """
    tune = study.file.tune
    assert tune is not None
    arms: list[Arm] = []
    for arm in study.arms:
        both = {contrast_families.UNTUNED: arm} if tune.untuned else {}
        if arm.name in winners:
            settings = search_space.settings_of(tune.space, winners[arm.name].values)
            both[contrast_families.TUNED] = replace(arm.with_settings(settings), tuned=True)
        arms += [_at_level(one, level) for level, one in both.items()] if tune.untuned else both.values()
    return replace(study, arms=tuple(arms))


def _at_level(arm: Arm, level: str) -> Arm:
    """Return an arm as one of two, tuned and untuned."""
    levels = {**arm.levels, contrast_families.TUNING: level}
    return replace(arm, name=contrast_families.arm_name(arm.name, level), levels=levels, of=arm.name)


@dataclass(frozen=True)
class TriedCandidate:
    """One candidate of an arm, over its seeds."""

    arm: str
    number: int
    values: dict[str, Any]
    epochs: int  # that it may train for
    records: tuple[Record, ...]

    @property
    def status(self) -> str:
        """The worst of its seeds."""
        order = ("failed", "diverged", "pruned", "completed")
        return min((record.status for record in self.records), key=order.index)

    @property
    def score(self) -> float:
        """Mean validation top-1; a diverged seed counts 0, a pruned one what it had reached. NaN where one failed."""
        return sum(map(record_score, self.records)) / len(self.records)

    @property
    def loss(self) -> float:
        """Mean validation loss, which decides between equal scores."""
        return sum(record.metrics.get("validation_loss", float("inf")) for record in self.records) / len(self.records)


def record_score(record: Record) -> float:
    """Return the score of one record; NaN where it failed."""
    if record.status == "diverged":
        return 0.0
    if record.status == "pruned":
        return record.candidate.reached.get(SCORE, 0.0) if record.candidate else 0.0
    return float(record.metrics.get(SCORE, float("nan")))


@dataclass(frozen=True)
class Phase:
    """The tuning phase of a run as its records tell it. `left_out` counts the records of other searches."""

    table: pd.DataFrame  # SEARCH_COLUMNS
    tried: dict[str, list[TriedCandidate]]  # arm -> its candidates by number
    left_out: int = 0
    faults: tuple[str, ...] = ()  # messages about what of it is damaged

    def complete(self, arm: str) -> bool:
        """Return whether every candidate that an arm was allotted has ended."""
        allotted = self.table.loc[self.table["arm"] == arm, "allotted"]
        return len(allotted) == 1 and len(self.tried.get(arm, ())) >= int(allotted.iloc[0])

    @property
    def unfinished(self) -> list[str]:
        """Arms whose search is not complete."""
        return [arm for arm in self.table["arm"] if not self.complete(arm)]

    def winner(self, arm: str) -> TriedCandidate | None:
        """Return the best completed candidate of all epochs; of equal ones the one of lower loss, then the earlier."""
        epochs = int(self.table.loc[self.table["arm"] == arm, "epochs"].iloc[0])
        trained = [one for one in self.tried.get(arm, ()) if one.status == "completed" and one.epochs == epochs]
        return min(trained, key=lambda one: (-one.score, one.loss, one.number), default=None)

    def winners(self) -> dict[str, TriedCandidate]:
        """Return arm -> its winner, of arms whose search is complete."""
        winners = {arm: self.winner(arm) for arm in self.table["arm"] if self.complete(arm)}
        return {arm: winner for arm, winner in winners.items() if winner}

    def ledger(self, levels: Mapping[str, Mapping[str, str]] | None = None) -> pd.DataFrame:
        """Return a row an arm: what it was allotted and what it used, with a column for each factor.

        `levels` maps arm to factor to label; without it they are those that the records of candidates have.
        """
        rows: list[dict[str, Any]] = []
        for row in self.table.to_dict("records"):
            candidates, winner = self.tried.get(row["arm"], []), self.winner(row["arm"])
            records = [record for candidate in candidates for record in candidate.records]
            statuses = [candidate.status for candidate in candidates]
            rows.append(
                {
                    **{str(name): value for name, value in row.items()},
                    "candidates": len(candidates),
                    **{word: statuses.count(word) for word in ("completed", "pruned", "diverged", "failed")},
                    "epochs_used": sum(record.epochs_run for record in records),
                    "device_seconds": round(sum(record.spent_seconds for record in records), 1),
                    "winner": winner.number if winner else None,
                    SCORE: winner.score if winner else None,
                }
            )
        if not rows:
            return pd.DataFrame(columns=[*SEARCH_COLUMNS])
        known = {arm: one.records[0].levels for arm, mine in self.tried.items() for one in mine[:1]}
        return with_levels(pd.DataFrame(rows).astype({"winner": "Int64"}), {**known, **(levels or {})})

    def unfair(self) -> list[str]:
        """Return the reasons why the arms cannot be compared as tuned alike; none where they can."""
        ledger, reasons = self.ledger(), []
        for column, meaning in (
            ("allotted", "candidates allotted"),
            ("epochs", "most epochs of a candidate"),
            ("space", "search space"),
            ("oracle", "oracle"),
            ("seeds", "seeds a candidate"),
        ):
            if ledger[column].nunique() > 1:
                values = ", ".join(f"{arm} {value}" for arm, value in ledger[["arm", column]].to_numpy())
                reasons.append(f"{meaning}: {values}")
        short = ledger[ledger["candidates"] < ledger["allotted"]]
        reasons += [
            f"{arm} has tried {tried} of {allotted} candidates"
            for arm, tried, allotted in short[["arm", "candidates", "allotted"]].to_numpy()
        ]
        return reasons


def winners_at_ends(phase: Phase, searched: Mapping[str, Parameter]) -> dict[str, dict[str, str]]:
    """Return arm -> hyperparameter -> `low` or `high`, of winners that lie at an end of what was searched."""
    winners = {arm: phase.winner(arm) for arm in phase.table["arm"]}
    edges = {arm: search_space.edges_of(searched, winner.values) for arm, winner in winners.items() if winner}
    return {arm: ends for arm, ends in edges.items() if ends}


def read_phase(run: Path) -> Phase | None:
    """Read the tuning phase of a run; None where it has none. Raises RecordError where searches.csv is no table."""
    folder = run / workspace.TUNING
    if not (folder / workspace.TRIALS).is_dir() and not (folder / workspace.SEARCHES).exists():
        return None
    found = load_run(folder) if (folder / workspace.TRIALS).is_dir() else None
    records = list(found.records) if found else []
    table = _table(folder / workspace.SEARCHES) if (folder / workspace.SEARCHES).exists() else _from_records(records)
    faults = [*(f"candidate: {message}" for message in found.broken.values()), *found.faults] if found else []
    return replace(phase_from_records(table, records), faults=tuple(faults))


def phase_from_records(table: pd.DataFrame, records: Iterable[Record]) -> Phase:
    """Return the phase whose searches are in `table`, with those of the records that are theirs."""
    groups, left_out = dict[tuple[str, int], list[Record]](), 0
    seeds = dict(zip(table["search"], table["seeds"], strict=True))
    for record in records:
        if record.candidate and record.candidate.search in seeds:
            groups.setdefault((record.arm, record.candidate.number), []).append(record)
        else:
            left_out += 1
    tried: dict[str, list[TriedCandidate]] = {arm: [] for arm in table["arm"]}
    for (arm, number), group in sorted(groups.items()):
        first = group[0].candidate
        if first and len(group) >= int(seeds[first.search]):  # all its seeds have ended
            tried.setdefault(arm, []).append(TriedCandidate(arm, number, first.values, first.epochs, tuple(group)))
    return Phase(table, tried, left_out)


def _table(path: Path) -> pd.DataFrame:
    text = {"arm": str, "search": str, "space": str, "oracle": str}
    try:
        table = pd.read_csv(io.BytesIO(reading.read(path)), dtype=text, keep_default_na=False)
        table = table[list(SEARCH_COLUMNS)].astype({"allotted": int, "seeds": int, "epochs": int})
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise RecordError(f"{path} cannot be read as a table ({error}). Run `resflow tune` again.") from error
    if table["arm"].duplicated().any() or (table[["allotted", "seeds", "epochs"]] < 0).any(axis=None):
        raise RecordError(f"{path} has an arm twice, or a number below 0. Run `resflow tune` again.")
    return table


def _from_records(records: Sequence[Record]) -> pd.DataFrame:
    """Return the table of searches that nobody listed, as far as their candidates tell it."""
    rows: dict[str, list[Any]] = {}
    for record in records:
        if candidate := record.candidate:
            row = rows.setdefault(candidate.search, [record.arm, set(), set(), 0])
            row[1].add(candidate.number)
            row[2].add(record.seed)
            row[3] = max(row[3], candidate.epochs)
    return pd.DataFrame(
        [
            (arm, search, "?", "?", len(numbers), len(seeds), epochs)
            for search, (arm, numbers, seeds, epochs) in rows.items()
        ],
        columns=list(SEARCH_COLUMNS),
    )
