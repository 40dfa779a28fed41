"""Every name on disk: a run's folder below results/, the ignored folder beside it, and the user's cache.

results/<run>/            RESULTS: the study as it ran, its plan, a folder a trial, what the report is made of
.resflow/<run>/           STATE: logs, checkpoints, kept networks, Ray's files; ignored by git
<cache>/                  `cache`: all that can be made or fetched again, shared by the runs of a user
"""

from __future__ import annotations

import os
from pathlib import Path

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
    return RESULTS / run if (RESULTS / run).is_dir() else Path(run)


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
