"""The tables of a run's trials, wherever they lie: in their own folders, or in the run's archive."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from resflow import reading, workspace
from resflow.errors import RecordError
from resflow.records.archive import DIAGNOSTICS, HISTORY, PREDICTIONS, Archive
from resflow.records.tables import DIAGNOSTIC_KINDS, PREDICTION_KINDS, DamagedTableError, Kind, read_parquet
from resflow.workspace import trial_folder

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TrialTables:
    """The tables of trials: those of `packed` are in the archive. Methods raise RecordError for what is damaged."""

    run: Path
    archive: Archive | None
    packed: frozenset[str]

    def histories(self, epochs: Mapping[str, int]) -> pd.DataFrame:
        """Return the epochs of some trials, in the order of `epochs`, which says how many each has."""
        loose = [trial for trial in epochs if trial not in self.packed]
        frames = [_read_csvs([trial_folder(self.run, trial) / workspace.HISTORY for trial in loose])] if loose else []
        packed = [trial for trial in epochs if trial in self.packed]
        frames += [self.archive.joined(HISTORY, packed).to_pandas()] if self.archive and packed else []
        table = pd.concat(frames, ignore_index=True)
        if len(frames) < 2:
            return table
        place = {trial: number for number, trial in enumerate(epochs)}
        places = [place[trial] for trial in (*loose, *packed) for _ in range(epochs[trial])]
        return table.iloc[sorted(range(len(places)), key=places.__getitem__)].reset_index(drop=True)

    def predictions(self, trial: str) -> pa.Table | None:
        """Return the answers of a trial; None where it kept none."""
        path = trial_folder(self.run, trial) / workspace.PREDICTIONS
        if trial in self.packed:
            return self._packed(PREDICTIONS, trial)
        return _read_parquet(path, PREDICTION_KINDS) if path.is_file() else None

    def keeps_predictions(self, trial: str) -> bool:
        """Tell whether a trial kept its answers."""
        if trial in self.packed:
            return self.archive is not None and self.archive.stored(PREDICTIONS, trial) is not None
        return (trial_folder(self.run, trial) / workspace.PREDICTIONS).is_file()

    def diagnostics(self, trials: Iterable[str]) -> dict[str, pa.Table]:
        """Return trial -> its diagnostics, of those that kept any."""
        found = {}
        for trial in trials:
            path = trial_folder(self.run, trial) / workspace.DIAGNOSTICS
            if trial in self.packed:
                table = self._packed(DIAGNOSTICS, trial)
            else:
                table = _read_parquet(path, DIAGNOSTIC_KINDS) if path.is_file() else None
            if table is not None:
                found[trial] = table
        return found

    def _packed(self, name: str, trial: str) -> pa.Table | None:
        return self.archive.table(name, trial) if self.archive else None


def _read_parquet(path: Path, columns: Mapping[str, Kind]) -> pa.Table:
    try:
        return read_parquet(reading.read(path), columns)
    except (OSError, DamagedTableError) as error:
        raise RecordError(
            f"{path} cannot be read as a table ({error}). Remove the folder {path.parent} and run the study again: "
            "only that trial will run."
        ) from error


def _read_csvs(paths: Sequence[Path]) -> pd.DataFrame:
    """CSV files with a header each, as one frame in their order: thousands in the time of some."""
    bodies: dict[bytes, list[bytes]] = {}
    for path in paths:
        header, _, body = reading.read(path).partition(b"\n")
        bodies.setdefault(header, []).append(body)
    try:
        if len(bodies) == 1:
            ((header, parts),) = bodies.items()
            return pd.read_csv(io.BytesIO(b"\n".join([header, b"".join(parts)])))
        frames = [pd.read_csv(io.BytesIO(reading.read(path))) for path in paths]
    except ValueError as error:  # pandas' parser errors are: somebody changed a file since it was looked into
        raise RecordError(
            f"a {workspace.HISTORY} was changed while it was read ({error}). Read the run again."
        ) from error
    return pd.concat(frames, ignore_index=True)
