"""A run as a folder of records: what is there, readable or not, as tidy frames. Fractions are 0..1."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resflow import workspace
from resflow.errors import RecordError
from resflow.records.record import DIAGNOSTIC_COLUMNS, HISTORY_COLUMNS, PREDICTION_COLUMNS, Record, read_record
from resflow.study.contrast_families import with_tuning
from resflow.study.level_columns import column_names, with_levels
from resflow.workspace import trial_folder

PLAN_KEYS = ("id", "arm", "seed")
PLAN_NUMBERS = ("seed", "parameters", "multiply_adds", "epochs")
_PLAN_AGAIN = "Remove it and run the study again: finished trials are kept."


def finished_records(run: Path) -> dict[str, Record]:
    """Return every readable record of a run by trial id; broken ones are left out (see `load`)."""
    return {record.id: record for record in load_run(run).records}


@dataclass(frozen=True)
class Run:
    """A results folder as read: `records`, a message by folder name for each unreadable one, and its files.

    `plan` has a row for each planned trial (id, arm, seed, factor columns, parameters, multiply_adds)
    and is empty for a foreign folder without plan.csv. `study` is the resolved study as a mapping.

    `trials`, `epochs`, `predictions` and `diagnostics` are for people: tidy frames, each with the arm, a column for
    each factor with values of its own type, and the seed. The other methods have labels as they are written.
    """

    folder: Path
    records: tuple[Record, ...]
    broken: dict[str, str]
    plan: pd.DataFrame
    study: dict[str, Any]

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of all trials' folders, readable or not."""
        return (*(record.id for record in self.records), *self.broken)

    def frame(self) -> pd.DataFrame:
        """A row a record: id, arm, seed, status, reason, a column a factor, metrics, costs."""
        return pd.DataFrame([_row(record) for record in self.records])

    def histories(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row an epoch of each record with a history: id, arm, seed, HISTORY_COLUMNS."""
        wanted = None if ids is None else set(ids)
        mine = [r for r in self.records if r.epochs_run and (wanted is None or r.id in wanted)]
        tables = _tables([trial_folder(self.folder, record.id) / workspace.HISTORY for record in mine])
        if not mine:
            return pd.DataFrame(columns=["id", "arm", "seed", *HISTORY_COLUMNS])
        rows = [record.epochs_run for record in mine]
        of_record = {
            name: np.repeat([getattr(record, name) for record in mine], rows) for name in ("id", "arm", "seed")
        }
        return tables.assign(**of_record)

    def predictions_of(self, trial_id: str) -> pd.DataFrame:
        """The test predictions of one trial: PREDICTION_COLUMNS."""
        path = trial_folder(self.folder, trial_id) / workspace.PREDICTIONS
        if not path.is_file():
            raise RecordError(f"trial {trial_id} kept no predictions: {path} does not exist.")
        return _table(pd.read_parquet, path)

    def diagnostics_of(self, ids: Iterable[str]) -> pd.DataFrame:
        """The diagnostics of those of some trials that kept any: id, arm, seed, DIAGNOSTIC_COLUMNS."""
        known = {record.id: record for record in self.records}
        found = []
        for trial_id in ids:
            path = trial_folder(self.folder, trial_id) / workspace.DIAGNOSTICS
            if trial_id in known and path.is_file():
                record = known[trial_id]
                found.append(_table(pd.read_parquet, path).assign(id=record.id, arm=record.arm, seed=record.seed))
        columns = ["id", "arm", "seed", *DIAGNOSTIC_COLUMNS]
        return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)

    @cached_property
    def factors(self) -> dict[str, dict[str, Any]]:
        """Factor -> label of a level -> its value; a level that is no single value, a head say, stands by its label."""
        written = with_tuning(self.study).get("factors")
        if not isinstance(written, Mapping):
            written = {name: {} for record in self.records for name in record.levels}
        levels = {
            name: {} if not isinstance(values, Mapping) else {str(label): values[label] for label in values}
            for name, values in written.items()
        }
        for record in self.records:
            for name, label in record.levels.items():
                levels.setdefault(name, {}).setdefault(label, label)
        return levels

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial, planned or recorded: its status is `not run` without a record, `unreadable` with a broken one.

        Columns: id, arm, the factors, seed, status, reason, parameters, multiply_adds, epochs_run, best_epoch,
        seconds, and the metrics of the chosen weights.
        """
        frame = self.frame()
        recorded = {record.id for record in self.records}
        planned = self.plan[~self.plan["id"].isin(recorded)] if len(self.plan) else self.plan
        names = column_names(self.factors, (*PLAN_KEYS, *PLAN_NUMBERS))
        renamed = {name: factor for factor, name in names.items() if name != factor and name in planned}
        planned = planned.drop(columns=list(renamed.values()), errors="ignore").rename(columns=renamed)
        keys = [name for name in (*PLAN_KEYS, *self.factors, "parameters", "multiply_adds") if name in planned.columns]
        status = [("unreadable" if trial in self.broken else "not run") for trial in planned.get("id", ())]
        rest = planned[keys].assign(
            status=status, reason=[self.broken.get(trial, "") for trial in planned.get("id", ())]
        )
        frame = pd.concat([part for part in (frame, rest) if len(part)], ignore_index=True) if len(rest) else frame
        order = {trial: place for place, trial in enumerate(self.plan["id"])} if len(self.plan) else {}
        if order:
            frame = frame.sort_values("id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
        return with_factor_values(frame, self.factors)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row an epoch of each trial: id, arm, the factors, seed, HISTORY_COLUMNS.

        A factor that is called like a column of the history is `factor_learning_rate`, say, by `level_columns`.
        """
        return self._with_levels(self.histories())

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row a test image of each trial that kept predictions: id, arm, the factors, seed, PREDICTION_COLUMNS."""
        kept = [
            self.predictions_of(record.id).assign(id=record.id, arm=record.arm, seed=record.seed)
            for record in self.records
            if (trial_folder(self.folder, record.id) / workspace.PREDICTIONS).is_file()
        ]
        columns = ["id", "arm", "seed", *PREDICTION_COLUMNS]
        return self._with_levels(pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=columns))

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        """A row a layer and kind of figure of each trial that looked inside: id, arm, the factors, seed,
        DIAGNOSTIC_COLUMNS."""
        return self._with_levels(self.diagnostics_of(record.id for record in self.records))

    def _with_levels(self, frame: pd.DataFrame) -> pd.DataFrame:
        labels = {record.arm: record.levels for record in self.records}
        names = column_names(self.factors, frame.columns)
        return with_factor_values(
            with_levels(frame, labels), {names[factor]: levels for factor, levels in self.factors.items()}
        )

    def _repr_html_(self) -> str:
        """Show the run in a notebook as its trials."""
        table = self.trials.to_html(max_rows=20, index=False, border=0)
        return f"<p><strong>{html.escape(self.folder.name)}</strong></p>{table}"


def with_factor_values(frame: pd.DataFrame, factors: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return a frame with `id`, `arm`, the factors and `seed` first, each factor with values of its own type.

    `factors` maps a factor's column to label -> value. A value that is no number, text, true or false stays its label.
    """
    frame = frame.copy()
    for name, levels in factors.items():
        if name in frame.columns:
            values = [levels.get(label, label) if isinstance(label, str) else label for label in frame[name]]
            plain = [
                v if isinstance(v, str | int | float | bool) else label
                for v, label in zip(values, frame[name], strict=True)
            ]
            frame[name] = pd.Series(plain, index=frame.index).infer_objects()
    first = [name for name in ("id", "arm", *factors, "seed") if name in frame.columns]
    return frame[[*first, *(name for name in frame.columns if name not in first)]]


def _table(reader: Callable[[Path], pd.DataFrame], path: Path) -> pd.DataFrame:
    try:
        return reader(path)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise RecordError(
            f"{path} cannot be read as a table ({str(error).splitlines()[0]}). Remove the folder {path.parent} and run "
            "the study again: only that trial will run."
        ) from error


def _tables(paths: Sequence[Path]) -> pd.DataFrame:
    """CSV files with a header each, as one frame in their order: thousands in the time of some."""
    bodies: dict[bytes, list[bytes]] = {}
    for path in paths:
        header, _, body = path.read_bytes().partition(b"\n")
        bodies.setdefault(header, []).append(body)
    try:
        if len(bodies) == 1:
            ((header, parts),) = bodies.items()
            return pd.read_csv(io.BytesIO(b"\n".join([header, b"".join(parts)])))
    except ValueError:
        pass  # one is no table, and is told by name
    frames = [_table(pd.read_csv, path) for path in paths]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _row(record: Record) -> dict[str, Any]:
    # A factor may be called like a column, `epochs_run` say: the column keeps its own meaning.
    return {
        **record.levels,
        "id": record.id,
        "arm": record.arm,
        "seed": record.seed,
        "status": record.status,
        "reason": record.reason,
        "parameters": record.network.get("parameters"),
        "multiply_adds": record.network.get("multiply_adds"),
        "epochs_run": record.epochs_run,
        "best_epoch": record.best_epoch,
        "seconds": record.seconds,
        **record.metrics,
    }


def load_run(run: Path) -> Run:
    """Read a results folder, whole or partial, ours or foreign. Raises RecordError if it is none."""
    if not run.is_dir():
        raise RecordError(f"no results folder at {run}. `resflow status` lists the runs below results/.")
    trials, plan, study = run / workspace.TRIALS, run / workspace.PLAN, run / workspace.STUDY
    if not trials.is_dir() and not plan.is_file():
        raise RecordError(f"{run} is no results folder: it holds neither plan.csv nor trials/.")
    records, broken = [], {}
    for folder in sorted(trials.iterdir()) if trials.is_dir() else []:
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            records.append(read_record(folder))
        except RecordError as error:
            broken[folder.name] = str(error)
    return Run(
        folder=run,
        records=tuple(records),
        broken=broken,
        plan=_read_plan(plan) if plan.is_file() else pd.DataFrame(),
        study=_read_study(study) if study.is_file() else {},
    )


def _read_plan(path: Path) -> pd.DataFrame:
    try:
        # Labels are text: '1e-4' is no 0.0001, and an arm may be called 'none' or 'NA'.
        plan = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise RecordError(f"{path} cannot be read as a table ({error}). {_PLAN_AGAIN}") from error
    missing = [name for name in PLAN_KEYS if name not in plan.columns]
    if missing:
        raise RecordError(f"{path} lacks the columns {', '.join(missing)}. {_PLAN_AGAIN}")
    for name in PLAN_NUMBERS:
        if name in plan.columns:
            plan[name] = pd.to_numeric(plan[name], errors="coerce")
    if plan["seed"].isna().any():
        raise RecordError(f"{path} has a seed that is no number. {_PLAN_AGAIN}")
    return plan.astype({"seed": int})


def _read_study(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML, YAMLError

    try:
        study = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecordError(f"{path} is no readable study: {error}") from error
    if not isinstance(study, dict):
        raise RecordError(f"{path} is no study: expected a mapping with name, question, factors and arms.")
    return study
