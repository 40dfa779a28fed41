"""Every name on disk: a run's folder below results/, the ignored folder beside it, and the user's cache.

results/<run>/            RESULTS: the study as it ran, its plan, a folder a trial, what the report is made of
.resflow/<run>/           STATE: logs, checkpoints, kept networks, Ray's files; ignored by git
<cache>/                  `cache`: all that can be made or fetched again, shared by the runs of a user
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from resflow import reading
from resflow.errors import RecordError

RESULTS, STATE = Path("results"), Path(".resflow")

# In a run's folder
STUDY, PLAN, TRIALS = "study.yaml", "plan.csv", "trials"
SCHEMA = "study.schema.json"  # beside a study of one's own
TRIALS_TABLE, EFFECTS, LANDSCAPE = "trials.csv", "effects.csv", "landscape.csv"
SPREAD = "spread.csv"  # its parts, of a study that varies streams one by one
REPORT, README, FIGURES, EXPORTS = "report.html", "README.md", "figures", "exports"
TUNING, SEARCHES, LEDGER = "tuning", "searches.csv", "ledger.csv"
LOOKS = "looks.csv"  # after how many seeds somebody looked, and what was decided then
GPU_SHARING = "gpu_sharing.json"  # how many trials a GPU ran, of `gpus: auto`
LOCK, DRIVER = ".driver.lock", ".driver.json"  # who runs it right now

# In a trial's folder
RECORD, HISTORY = "record.json", "history.csv"
PREDICTIONS, DIAGNOSTICS = "predictions.parquet", "diagnostics.parquet"
ARCHIVE = "packed.zip"  # beside trials' folders: the trials of a run that was packed

# Beside all runs
INDEX = "index.html"

# In the ignored folder of a run
LOGS, CHECKPOINTS, NETWORKS, RAY, SET_ASIDE, MAPS = "logs", "checkpoints", "weights", "ray", "set_aside", "maps"
SAFETENSORS = ".safetensors"
PROGRESS = "progress.json"  # of the run that goes on right now, for `resflow status`
PATHS = "paths.json"  # where the photos and weights lie that the run's own files name without a path

# In the cache
IMAGES, DOWNLOADS, COMPILED, FEATURES, WEIGHTS = "data", "downloads", "compiled", "features", "weights"
EMPTY = "empty"  # where Ray starts
GPU_LOCK = ".gpu.lock"  # of whoever measures what CUDA takes
CACHE_TAG = "CACHEDIR.TAG"  # in each part of it: programs that make backups know it, and `clean` goes by it
CACHE_MARK = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of resflow, which can make all of it again. See https://bford.info/cachedir/
"""
PIXELS, LABELS, META, DIGEST = "images.npy", "labels.npy", "meta.json", "digest.json"  # of one source at one size
IMAGE_FILES = (PIXELS, LABELS, META, DIGEST)


def run_folder(run: str | Path) -> Path:
    """Return the folder of a run, given its name below results/ or its path."""
    named = RESULTS / run
    return named if os.path.isdir(named) else Path(run)  # noqa: PTH112  # pathlib's raises where a name is too long


def state_folder(run: Path) -> Path:
    """Return the ignored folder of a run: logs, checkpoints, kept networks and Ray's files.

    It has the name of a run below results/. That of another has some digits of its path behind its name, so that two
    runs of one name share nothing; the path is seen from here where the run lies below, so that a project may move.
    """
    path, here = run.resolve(), Path.cwd()
    if path.parent == RESULTS.resolve():
        return STATE / path.name
    seen = path.relative_to(here) if path.is_relative_to(here) else path
    return STATE / f"{path.name}-{hashlib.sha256(os.fsencode(seen)).hexdigest()[:8]}"


def is_run(folder: Path) -> bool:
    """Tell whether a folder holds a run: a study as it ran, a record, or a search for one."""
    if any(True for _ in folder.glob(f"{TRIALS}/*/{RECORD}")) or archive_path(folder).is_file():
        return True
    if (folder / TUNING / SEARCHES).is_file():
        return True
    study = folder / STUDY
    return study.is_file() and b"\ncommand:" in reading.read(study)


def claim_run(folder: Path) -> None:
    """Raise RecordError where a run in this folder would be one among files that are no run's."""
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"{folder} is a file: expected a folder for the run. Choose another with --out.")
    try:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        others = [name for name in names if not name.startswith(".")]
        if others and not is_run(folder):
            raise RecordError(
                f"{folder} holds {', '.join(others[:3])}{' …' if len(others) > 3 else ''} and no run of resflow, whose "
                "files would stand among those or in their place. Choose an empty or a new folder with --out."
            )
    except OSError as error:
        raise RecordError(f"cannot read {folder}: {error}. Choose another folder with --out.") from error


def trial_folder(run: Path, trial_id: str) -> Path:
    """Return the folder of a trial's record."""
    return run / TRIALS / trial_id


def archive_path(run: Path) -> Path:
    """Return the path of the archive of a run's packed trials."""
    return run / TRIALS / ARCHIVE


def log_path(state: Path, trial_id: str) -> Path:
    """Return the path of a trial's log."""
    return state / LOGS / f"{trial_id}.log"


def network_path(state: Path, trial_id: str) -> Path:
    """Return the path under which the network of a trial is kept."""
    return state / NETWORKS / f"{trial_id}{SAFETENSORS}"


def cache(*parts: str) -> Path:
    """Return a place in the user's cache: below RESFLOW_CACHE, or where the system keeps caches."""
    given = os.environ.get("RESFLOW_CACHE")
    if not given:
        import platformdirs

        given = platformdirs.user_cache_dir("resflow")
    return Path(given).absolute().joinpath(*parts)


def make_cache_folder(folder: Path) -> None:
    """Make a folder of the cache, and mark the part that it is in where that is made: `resflow clean` goes by the mark.

    A part that holds something and has no mark may be the user's own (RESFLOW_CACHE may name any folder): it is used
    and never cleaned. Where the system keeps caches a part is resflow's by its name. Raises OSError.
    """
    if folder.is_relative_to(cache()) and folder != cache():
        part = cache(folder.relative_to(cache()).parts[0])
        part.mkdir(parents=True, exist_ok=True)
        tag = part / CACHE_TAG
        if not tag.is_file() and (not os.environ.get("RESFLOW_CACHE") or not any(part.iterdir())):
            tag.write_bytes(CACHE_MARK)
    folder.mkdir(parents=True, exist_ok=True)


def is_marked(folder: Path) -> bool:
    """Tell whether a folder is a part of a cache that resflow made."""
    tag = folder / CACHE_TAG
    return not folder.is_symlink() and tag.is_file() and reading.read(tag) == CACHE_MARK


def refuse_links_out(folder: Path) -> None:
    """Raise RecordError where a run's, cache's or state's folder holds a link that leads out of it.

    Whoever made the folder would decide what is read, overwritten or removed elsewhere. The folder itself may be a
    link: its user made that.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(root):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise RecordError(
                    f"{path.relative_to(root)} in {folder} is a link to {path.readlink()}, out of that folder. resflow "
                    "follows no link out of a folder of its own: remove the link, or put the file in its place."
                )
