"""The rewriting of a run's records in the smallest form that this version knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resflow import workspace
from resflow.errors import RecordError
from resflow.records.packing import pack
from resflow.records.run import Run, load_run
from resflow.runner.stopping import exclusive_run


@dataclass(frozen=True)
class Size:
    """The size of a folder on disk, without hidden files."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Upgrade:
    """An upgraded run: how many trials were packed now, its size before and after, and what could not be packed."""

    run: Path
    packed: int
    before: Size
    after: Size
    left: tuple[str, ...]


def upgrade_run(run: Path) -> Upgrade:
    """Pack the trials of a run, and of its search, into one file each; of a packed run, those that ran since.

    Ids, metrics and what a report says stay as they are. Raises RecordError where the run is none, a process runs it,
    or its archive is damaged.
    """
    load_run(run)
    with exclusive_run(run):
        before, packed, left = measure(run), 0, list[str]()
        for part in (run, run / workspace.TUNING):
            if (part / workspace.TRIALS).is_dir():
                packed += pack(part)
                left += _tell_left(load_run(part))
        return Upgrade(run, packed, before, measure(run), tuple(left))


def _tell_left(run: Run) -> list[str]:
    """Say of each trial that is still in its folder why."""
    place = run.folder / workspace.TRIALS
    others = [record.id for record in run.records if record.id not in run.packed]
    unfit = [f"{place / trial}: a table of it is lost, or does not fit its record" for trial in others]
    return [*run.broken.values(), *run.faults, *unfit]


def measure(run: Path) -> Size:
    """Measure a run's folder."""
    try:
        files = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return Size(len(files), sum(path.stat().st_size for path in files))
    except OSError as error:
        raise RecordError(f"{run} cannot be read ({error}). Mend its permissions, or name another folder.") from error
