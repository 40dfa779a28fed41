"""A run as a folder of records: what is there, readable or not, as tidy frames. Fractions are 0..1."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resflow import workspace
from resflow.errors import RecordError
from resflow.records.archive import Archive, open_archive
from resflow.records.kernel_places import from_input_on
from resflow.records.packing import packed_record
from resflow.records.record import DIAGNOSTIC_COLUMNS, HISTORY_COLUMNS, PREDICTION_COLUMNS, Record, open_record
from resflow.records.run_files import PLAN_KEYS, PLAN_NUMBERS, expected_rows, read_plan, read_study
from resflow.records.trial_tables import TrialTables
from resflow.study.contrast_families import with_tuning
from resflow.study.level_columns import VARIES, column_names, with_levels
from resflow.workspace import trial_folder

if TYPE_CHECKING:
    import pyarrow as pa

MANY = 200  # trials: of more, what lies beside records is not read unasked, and not looked into where a digest fits


def finished_records(run: Path) -> dict[str, Record]:
    """Return every readable record of a run by trial id; broken ones are left out (see `load_run`).

    Raises RecordError where the archive is damaged, which may hold any of them.
    """
    found = load_run(run)
    if workspace.ARCHIVE in found.broken:
        raise RecordError(found.broken[workspace.ARCHIVE])
    return {record.id: record for record in found.records}


def records_to_take_over(
    ids: Iterable[str], theirs: Mapping[str, Record], ours: Mapping[str, Record]
) -> dict[str, Record]:
    """Return the completed records of another run, by trial id, that are of these trials and not there yet."""
    return {key: theirs[key] for key in ids if key in theirs and key not in ours and theirs[key].status == "completed"}


@dataclass(frozen=True)
class Run:
    """A results folder as read: `records`, a message by folder name for each unreadable one, and its files.

    `faults` are messages about what else is damaged: what it says of that is not used, the rest is.

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
    faults: tuple[str, ...] = ()
    archive: Archive | None = None
    packed: frozenset[str] = frozenset()  # trials that are read from the archive

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of all trials' folders, readable or not."""
        return (*(record.id for record in self.records), *self.broken)

    @cached_property
    def expected(self) -> pd.DataFrame:
        """The plan but for optional seeds that nothing has begun."""
        return expected_rows(self.plan, self.folders)

    def frame(self) -> pd.DataFrame:
        """A row a record: id, arm, seed, status, reason, a column a factor, metrics, costs."""
        return pd.DataFrame([_row(record) for record in self.records])

    @cached_property
    def varies(self) -> dict[str, str]:
        """Trial -> the stream that alone varies in it, of those beside the study's own seeds.

        As the plan has it, or the records where there is none: two studies may see one trial in two ways.
        """
        listed = {record.id: record.varies for record in self.records}
        if len(self.plan):
            listed = dict(zip(self.plan["id"], self.plan[VARIES], strict=True)) if VARIES in self.plan else {}
        return {trial: stream for trial, stream in listed.items() if stream}

    def histories(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """A row an epoch of each record with a history: id, arm, seed, HISTORY_COLUMNS."""
        wanted = None if ids is None else set(ids)
        mine = [r for r in self.records if r.epochs_run and (wanted is None or r.id in wanted)]
        if not mine:
            return pd.DataFrame(columns=["id", "arm", "seed", *HISTORY_COLUMNS])
        epochs = {record.id: record.epochs_run for record in mine}
        return self._tables.histories(epochs).assign(**_repeated(mine, list(epochs.values())))

    def predictions_of(self, trial_id: str) -> pd.DataFrame:
        """The test predictions of one trial: PREDICTION_COLUMNS."""
        return self.prediction_table(trial_id).to_pandas()

    def prediction_table(self, trial_id: str) -> pa.Table:
        """The test predictions of one trial as an Arrow table, whose text costs nothing until somebody looks at it."""
        if (table := self._tables.predictions(trial_id)) is None:
            raise RecordError(f"trial {trial_id} of {self.folder} kept no predictions.")
        return table

    def diagnostics_of(self, ids: Iterable[str]) -> pd.DataFrame:
        """The diagnostics of those of some trials that kept any: id, arm, seed, DIAGNOSTIC_COLUMNS."""
        import pyarrow as pa

        known = {record.id: record for record in self.records}
        found = self._tables.diagnostics(trial_id for trial_id in ids if trial_id in known)
        if not found:
            return pd.DataFrame(columns=["id", "arm", "seed", *DIAGNOSTIC_COLUMNS])
        of_record = _repeated([known[key] for key in found], [table.num_rows for table in found.values()])
        rows = pa.concat_tables(found.values(), promote_options="permissive")
        return from_input_on(pd.concat([pd.DataFrame(of_record), rows.to_pandas()], axis="columns"), known)

    @cached_property
    def _tables(self) -> TrialTables:
        return TrialTables(self.folder, self.archive, self.packed)

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
        seconds, shared_seconds, and the metrics of the chosen weights; `varies`, where some vary one stream alone.
        """
        frame = self.frame()
        recorded = {record.id for record in self.records}
        planned = self.expected[~self.expected["id"].isin(recorded)] if len(self.plan) else self.plan
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
        if self.varies:
            frame[VARIES] = [self.varies.get(trial, "") for trial in frame["id"]]
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
            if self._tables.keeps_predictions(record.id)
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


def _repeated(records: Iterable[Record], rows: Sequence[int]) -> dict[str, np.ndarray]:
    """The names of each record, as often as it has rows."""
    listed = list(records)
    return {name: np.repeat([getattr(record, name) for record in listed], rows) for name in ("id", "arm", "seed")}


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
        "shared_seconds": record.shared_seconds,
        **record.metrics,
    }


def load_run(run: Path) -> Run:
    """Read a results folder, whole or partial, ours or foreign. Raises RecordError if it is none.

    What is damaged is left out and told: a record in `broken`, the rest in `faults`.
    """
    trials, plan, study = run / workspace.TRIALS, run / workspace.PLAN, run / workspace.STUDY
    try:
        if not run.is_dir():
            raise RecordError(f"no results folder at {run}. `resflow status` lists the runs below results/.")
        if not trials.is_dir() and not plan.is_file():
            raise RecordError(f"{run} is no results folder: it holds neither plan.csv nor trials/.")
        workspace.refuse_links_out(run)
        written, faults = read_study(study) if study.exists() else ({}, [])
        planned = read_plan(plan) if plan.exists() else pd.DataFrame()
        folders = sorted(trials.iterdir()) if trials.is_dir() else []
        faults += [f"{trials} is no folder: no record can be read."] if trials.exists() and not trials.is_dir() else []
    except OSError as error:
        raise RecordError(f"{run} cannot be read ({error}). Mend its permissions, or name another folder.") from error
    records, broken = [], {}
    for folder in _trial_folders(folders, planned):
        try:
            record, lost = open_record(folder, tables=len(folders) <= MANY)
        except RecordError as error:
            broken[folder.name] = str(error)
        else:
            records.append(record)
            faults += [f"{folder / name} is lost: its record was written with it." for name in lost]
    archive = None
    try:
        archive = open_archive(run)
    except RecordError as error:
        broken[workspace.ARCHIVE] = str(error)
    packed = _packed_records(run, archive, broken) if archive else []
    records = sorted([*records, *packed], key=lambda record: record.id)
    ids = frozenset(record.id for record in packed)
    return Run(run, tuple(records), broken, planned, written, tuple(faults), archive, ids)


def _packed_records(run: Path, archive: Archive, broken: dict[str, str]) -> list[Record]:
    """Return the records of an archive that count, and bring `broken` up to date.

    It is read after the folders: a trial that was packed meanwhile has none any more, and is here.
    """
    records = []
    for trial_id in archive.records:
        if not trial_folder(run, trial_id).exists():
            broken.pop(trial_id, None)
            try:
                records.append(packed_record(run, archive, trial_id, tables=len(archive.records) <= MANY))
            except RecordError as error:
                broken[trial_id] = str(error)
    return records


def _trial_folders(paths: Iterable[Path], plan: pd.DataFrame) -> Iterator[Path]:
    """Yield what lies where trials do: folders, and whatever else has the name of a planned trial."""
    ids = set(plan["id"]) if len(plan) else set()
    for path in paths:
        if not path.name.startswith(".") and (path.name in ids or path.is_dir()):
            yield path
