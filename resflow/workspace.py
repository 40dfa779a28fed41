"""Every name on disk: a run's folder below results/, the ignored folder beside it, and the user's cache.

results/<run>/            RESULTS: the study as it ran, its plan, a folder a trial, what the report is made of
.resflow/<run>/           STATE: logs, checkpoints, kept networks, Ray's files; ignored by git
<cache>/                  `cache`: all that can be made or fetched again, shared by the runs of a user
"""

from __future__ import annotations

import os
from pathlib import Path

from resflow.errors import RecordError

RESULTS, STATE = Path("results"), Path(".resflow")

# In a run's folder
STUDY, PLAN, TRIALS = "study.yaml", "plan.csv", "trials"
TRIALS_TABLE, EFFECTS, LANDSCAPE = "trials.csv", "effects.csv", "landscape.csv"
REPORT, README, FIGURES, EXPORTS = "report.html", "README.md", "figures", "exports"
TUNING, SEARCHES, LEDGER = "tuning", "searches.csv", "ledger.csv"
LOCK, DRIVER = ".driver.lock", ".driver.json"  # who runs it right now

# In a trial's folder
RECORD, HISTORY = "record.json", "history.csv"
PREDICTIONS, DIAGNOSTICS = "predictions.parquet", "diagnostics.parquet"

# Beside all runs
INDEX = "index.html"

# In the ignored folder of a run
LOGS, CHECKPOINTS, NETWORKS, RAY, SET_ASIDE, MAPS = "logs", "checkpoints", "weights", "ray", "set_aside", "maps"
SAFETENSORS = ".safetensors"

# In the cache
IMAGES, DOWNLOADS, COMPILED, FEATURES, WEIGHTS = "data", "downloads", "compiled", "features", "weights"
EMPTY = "empty"  # where Ray starts
PIXELS, LABELS, META = "images.npy", "labels.npy", "meta.json"  # of one source at one size


def run_folder(run: str | Path) -> Path:
    """Return the folder of a run, given its name below results/ or its path."""
    named = RESULTS / run
    return named if os.path.isdir(named) else Path(run)  # noqa: PTH112  # pathlib's raises where a name is too long


def state_folder(run: Path) -> Path:
    """Return the ignored folder of a run: logs, checkpoints, kept networks and Ray's files."""
    return STATE / run.resolve().name


def trial_folder(run: Path, trial_id: str) -> Path:
    """Return the folder of a trial's record."""
    return run / TRIALS / trial_id


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
