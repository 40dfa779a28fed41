"""The folder of a run: one name for one run, however it was asked for.

results/STUDY-PROFILE-DATA, with short hashes of a user's photos and of what the settings change of the study. A run
that is asked for by its own study.yaml is that run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resflow import workspace
from resflow.errors import StudyError
from resflow.study.load import Study
from resflow.study.published import KINDS
from resflow.study.trial import Trial

# What a run is the same with and without: it changes no trial. The source is in the name already.
SAME_RUN = {("keep_weights",), ("diagnostics",), ("metric",), ("resources",), ("profile",), ("data", "source")}


def find_run(study: Study, trial: Trial) -> Path:
    """Return the folder of a study's run, given one of its trials: one that is there, or where it is to be."""
    changes = find_changes(study)
    own = own_run(study)
    if own is not None and not changes and study.origin.source is None:
        return own
    source = trial.data.source
    data = re.sub(r"[^A-Za-z0-9_]+", "_", source)
    if source.startswith(KINDS):  # two folders may have one name, and one folder other photos tomorrow
        data += f"-{trial.fingerprint[:6]}"
    tails = dict.fromkeys((_digest(changes), _digest(_as_given(study))))
    names = [f"{study.name}-{profile}-{data}{tail}" for tail in tails for profile in study.origin.run_profiles]
    folders = [workspace.RESULTS / name for name in names]
    return next((folder for folder in folders if workspace.is_run(folder)), folders[0])


def own_run(study: Study) -> Path | None:
    """Return the run whose study.yaml a study was read from."""
    path = Path(study.origin.name)
    return path.parent if path.name == workspace.STUDY and workspace.is_run(path.parent) else None


def find_changes(study: Study) -> dict[str, Any]:
    """Return what the settings that are laid over a study change of it, by dotted key, whatever they are called there.

    More seeds of one study are one run.
    """
    if not study.origin.settings:
        return {}
    try:
        before = dict(_flat(replace(study.origin, settings={}).resolve(study.profile).resolved()))
    except StudyError:  # they mend it
        return _as_given(study)
    after = dict(_flat(study.resolved()))
    if after[("seeds",)] == list(range(1, len(study.seeds) + 1)):
        after[("seeds",)] = before[("seeds",)]
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return {".".join(path): after.get(path) for path in changed if not {path[:1], path[:2]} & SAME_RUN}


def _as_given(study: Study) -> dict[str, Any]:
    """Return the settings that name a run as an older resflow named it: as they were typed."""
    settings = dict(study.origin.settings)
    left_out = ["keep_weights", "diagnostics", *(["seeds"] if isinstance(settings.get("seeds"), int) else [])]
    return {key: value for key, value in settings.items() if key not in left_out}


def _digest(settings: Mapping[str, Any]) -> str:
    return f"-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]}" if settings else ""


def _flat(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value
