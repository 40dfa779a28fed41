"""The paths in a study, which are of one machine: a run's files hold names, its ignored folder holds the paths.

    results/<run>/study.yaml     source: folder:photos        weights: backbone.safetensors
    .resflow/<run>/paths.json    {"folder:photos": "folder:/home/ada/private/photos", …}

Records, reports and study.yaml are there to be published. With its ignored folder a run goes on where it began; without
it the photos are named anew, `--data folder:PATH`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resflow import atomic, reading, workspace
from resflow.errors import StudyError

KINDS = ("folder:", "csv:")  # of data sources that name a path


class Publisher:
    """Replaces paths by names; `paths` says what each name stands for."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}

    def publish(self, value: Any) -> Any:
        """Return a value of a study file with names in place of paths. Raises StudyError where two have one name."""
        if isinstance(value, Mapping):
            return {key: self.publish(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.publish(one) for one in value]
        if not isinstance(value, str):
            return value
        name, path = _named(value)
        if name != value and self.paths.setdefault(name, path) != path:
            raise StudyError(
                f"{path} and {self.paths[name]} have one name, and a run's files hold no more: rename one of them."
            )
        return name


def _named(text: str) -> tuple[str, str]:
    """Return the name that stands for a text, and the text with its path whole. What holds no path is its own name."""
    kind = next((kind for kind in KINDS if text.startswith(kind)), "")
    written = text.removeprefix(kind)
    lies_elsewhere = written.startswith(("/", "~")) or ".." in Path(written).parts
    if not written or not lies_elsewhere or (not kind and "/" not in written):
        return text, text
    try:
        path = Path(written).expanduser().absolute()
    except RuntimeError:  # no such user: an error when it is opened
        return text, text
    return f"{kind}{path.resolve().name}", f"{kind}{path}"


def write_paths(state: Path, paths: Mapping[str, str]) -> None:
    """Keep what names stand for in a run's ignored folder. Raises OSError."""
    if paths:
        atomic.write(state / workspace.PATHS, json.dumps(dict(paths), indent=1, ensure_ascii=False) + "\n")


def restore_paths(value: Any, run: Path) -> Any:
    """Return a value of a run's study.yaml with this machine's paths, as far as its ignored folder has them."""
    try:
        paths = json.loads(reading.read(workspace.state_folder(run) / workspace.PATHS))
    except (OSError, ValueError):
        return value
    return _replaced(value, paths) if isinstance(paths, dict) else value


def _replaced(value: Any, paths: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, paths) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, paths) for one in value]
    return str(paths.get(value, value)) if isinstance(value, str) else value
