"""Trials between their folders and the archive of their run: packed, looked up, taken over, set aside.

A trial counts once: where both have it, which is so while it is packed and after it ran again, its folder counts.
Whoever packs or sets aside holds the run (`runner.stopping.exclusive_run`); readers need not.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resflow import atomic, reading, workspace
from resflow.errors import RecordError
from resflow.records import archive as archives
from resflow.records import verification
from resflow.records.archive import (
    DIAGNOSTICS,
    HISTORY,
    PREDICTIONS,
    TABLES,
    Archive,
    DamagedArchiveError,
    content_digest,
    open_archive,
    to_stored,
)
from resflow.records.record import (
    HISTORY_COLUMNS,
    Record,
    open_record,
    parse,
    read_content,
    read_record,
    record_text,
    whole,
)
from resflow.records.tables import DIAGNOSTIC_KINDS, PREDICTION_KINDS, read_parquet
from resflow.workspace import archive_path, trial_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from resflow.study.trial import Trial

FILES = {HISTORY: workspace.HISTORY, PREDICTIONS: workspace.PREDICTIONS, DIAGNOSTICS: workspace.DIAGNOSTICS}


def find_record(run: Path, trial_id: str) -> Record:
    """Return the record of a trial, in its folder or in the run's archive. Raises RecordError as `read_record`."""
    folder = trial_folder(run, trial_id)
    archive = None if folder.exists() else open_archive(run)
    if archive is None or trial_id not in archive.records:
        return read_record(folder)
    return packed_record(run, archive, trial_id)


def packed_record(run: Path, archive: Archive, trial_id: str, tables: bool = True) -> Record:
    """Return the record of a trial that the archive of a run has. Raises RecordError where it is not as packed."""
    place = archive_path(run)
    again = f"Restore {place}, or run the study again: only that trial will run."
    record = parse(archive.records[trial_id], place, again)
    if problem := verification.damage_packed(archive, record, tables):
        raise RecordError(f"trial {trial_id} in {place}: {problem}. {again}")
    return record


def pack(run: Path) -> int:
    """Put the trials of a run into its archive, and return how many came to it.

    What is damaged, or has lost a table, stays in its folder, and in the archive as it was. The archive is there,
    whole and read back, before the first folder goes: interrupted anywhere, it is ended by doing it again. Raises
    RecordError.
    """
    trials = run / workspace.TRIALS
    if not trials.is_dir():
        return 0
    before = open_archive(run)
    with _explained(run):
        atomic.sweep(trials)
        folders = [path for path in sorted(trials.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        new = {folder: part for folder in folders if (part := _read_part(folder))}
        if not new:
            return 0
        known = {str(values["id"]) for values, _ in new.values()}
        kept = [part for part in _parts(before) if part[0]["id"] not in known] if before else []
        _replace(run, [*kept, *new.values()])
        for folder in new:
            atomic.remove(folder)
    return len(new)


def set_aside(run: Path, ids: Iterable[str], place: Path) -> Path:
    """Move the records of some trials out of a run, and return the new folder below `place` that holds them."""
    wanted, archive = set(ids), open_archive(run)
    target = place / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    with _explained(run, f" to {target}"):
        target.mkdir(parents=True)
        packed = wanted & set(archive.records) if archive else set()
        if archive and packed:
            for trial_id in sorted(packed):
                if not trial_folder(run, trial_id).exists():
                    _unpack(run, archive, trial_id, target)
            _replace(run, [part for part in _parts(archive) if part[0]["id"] not in packed])
        for trial_id in sorted(wanted):
            if trial_folder(run, trial_id).exists():
                shutil.move(trial_folder(run, trial_id), target / trial_id)
    return target


def take_over(run: Path, trial: Trial, other: Path) -> Path:
    """Copy another run's record of a trial, under this one's names of study, arm and seed; return its folder.

    Its id says that nothing else differs; the record says where it came from. Raises RecordError.
    """
    record, folder = find_record(other, trial.id), trial_folder(other, trial.id)
    names = {name: getattr(trial, name) for name in ("study", "arm", "levels", "seed", "held", "varies")}
    provenance = {**record.provenance, "taken_over": other.resolve().name}
    with whole(run, record.model_copy(update={**names, "provenance": provenance})) as draft:
        if archive := None if folder.exists() else open_archive(other):
            _write_tables(archive, trial.id, draft)
        else:
            for name in FILES.values():
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, draft / name)
            if not folder.exists():  # what had gone before it was copied would seem never to have been
                raise RecordError(f"{other} was packed or changed while {trial.id} was taken over. Do it again.")
    return trial_folder(run, trial.id)


Part = tuple[Mapping[str, Any], Mapping[str, "pa.Table"]]  # the content of a record, and its tables as stored


def _read_part(folder: Path) -> Part | None:
    """Return what an archive has of the trial in a folder; None where it is damaged or lacks a table."""
    import pyarrow as pa

    try:
        record, lost = open_record(folder)
    except RecordError:
        return None
    if lost:
        return None
    tables: dict[str, pa.Table] = {}
    if (folder / workspace.HISTORY).is_file():
        history = pd.read_csv(io.BytesIO(reading.read(folder / workspace.HISTORY)))
        tables[HISTORY] = pa.Table.from_pandas(history, preserve_index=False)
        if len(history) != record.epochs_run:
            return None
    kinds = {PREDICTIONS: PREDICTION_KINDS, DIAGNOSTICS: DIAGNOSTIC_KINDS}
    for name, columns in kinds.items():
        if (folder / FILES[name]).is_file():
            tables[name] = read_parquet(reading.read(folder / FILES[name]), columns)
    stored = {name: to_stored(name, table) for name, table in tables.items() if table.num_rows}
    values = {name: value for name, value in read_content(folder).items() if name != verification.DIGESTS}
    return verification.sealed_rows(values, stored), stored


def _parts(archive: Archive) -> Iterator[Part]:
    for trial_id, values in archive.records.items():
        rows = {name: archive.stored(name, trial_id) for name in TABLES if name in archive.tables}
        yield values, {name: table for name, table in rows.items() if table is not None}


def _replace(run: Path, parts: Iterable[Part]) -> None:
    """Put an archive of these trials in place of the run's; where there are none, remove it."""
    path = archive_path(run)
    # Trials of an arm beside each other, whose answers are alike: that is some per cent smaller.
    listed = sorted(parts, key=lambda part: (str(part[0]["arm"]), int(part[0]["seed"]), str(part[0]["id"])))
    if not listed:
        path.unlink(missing_ok=True)
    else:
        with atomic.file(path) as draft:
            archives.write(draft, archives.make_archive(listed))
            written = archives.read(draft)
            if [_digests(part) for part in _parts(written)] != [_digests(part) for part in listed]:
                raise RecordError(
                    f"the trials of {run} could not be read back as they were packed. Nothing was changed."
                )
    atomic.sync(path.parent)


def _digests(part: Part) -> tuple[Mapping[str, Any], dict[str, str]]:
    values, tables = part
    return values, {name: content_digest(rows) for name, rows in tables.items()}


def _unpack(run: Path, archive: Archive, trial_id: str, place: Path) -> None:
    """Write the folder of a packed trial below `place`; where it is damaged, keep a copy of the archive there."""
    try:
        record = packed_record(run, archive, trial_id)
    except RecordError:
        shutil.copyfile(archive_path(run), place / workspace.ARCHIVE)
        return
    with atomic.folder(place / trial_id) as draft:
        _write_tables(archive, trial_id, draft)
        (draft / workspace.RECORD).write_text(record_text(record, draft), encoding="utf-8")


def _write_tables(archive: Archive, trial_id: str, draft: Path) -> None:
    """Write the tables of a packed trial as its folder has them."""
    tables = {name: archive.table(name, trial_id) for name in TABLES if name in archive.tables}
    history = tables.pop(HISTORY, None)
    frame = pd.DataFrame(columns=list(HISTORY_COLUMNS)) if history is None else history.to_pandas()
    frame.to_csv(draft / workspace.HISTORY, index=False)
    for name, table in tables.items():
        if table is not None:
            table.to_pandas().to_parquet(draft / FILES[name], index=False)


@contextmanager
def _explained(run: Path, where: str = "") -> Iterator[None]:
    """Turn what the disk refuses into a RecordError."""
    try:
        yield
    except (OSError, DamagedArchiveError) as error:
        raise RecordError(f"cannot move records of {run}{where}: {error}. Free space or mend it by hand.") from error
