"""Files to start from: a study of one's own, out of a template or a built-in study, and what runs one on a cluster."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

from resflow import atomic, reading, workspace
from resflow.errors import StudyError, one_of
from resflow.study.builtin import builtin_studies
from resflow.study.schema import NAME_PATTERN, SCHEMA_ID, json_schema

STUDY = "study"  # the kind of file that is one; others are of clusters
EDITORS_LINE = f"# yaml-language-server: $schema={workspace.SCHEMA}\n"  # which editors look for


def write_start(kind: str, path: Path, source: str | None = None, force: bool = False) -> None:
    """Write a commented file to start from, and beside a study its JSON Schema, which the first line names for editors.

    `source` is a built-in study that is copied, comments and all, under the file's own name. Raises StudyError, and
    ResflowError where a file is there that resflow did not write.
    """
    if source is not None and kind != STUDY:
        raise StudyError(f"--from {source} copies a study: it does not go with --kind {kind}.")
    if path.is_dir() or not path.parent.is_dir():
        raise StudyError(f"cannot write {path}: expected a file's name in a folder that is there.")
    texts = {path: _template(kind) if source is None else _builtin(source, path.stem)}
    if kind == STUDY:
        texts[path] = EDITORS_LINE + texts[path]
        texts[path.parent / workspace.SCHEMA] = json.dumps(json_schema(), indent=1) + "\n"
    atomic.refuse_to_replace(texts, force, _is_our_schema)
    try:
        for place, text in texts.items():
            atomic.write(place, text)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error}. Choose a folder that exists and can be written.") from error


def _template(kind: str) -> str:
    return (resources.files("resflow") / "templates" / f"{kind}.yaml").read_text(encoding="utf-8")


def _builtin(source: str, name: str) -> str:
    """Return a built-in study's text under another name, where that may be a study's."""
    studies = builtin_studies()
    if source not in studies:
        raise StudyError(one_of(source, studies, "built-in study"))
    text = studies[source].read_text(encoding="utf-8")
    return re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.M) if re.match(NAME_PATTERN, name) else text


def _is_our_schema(path: Path) -> bool:
    try:
        return path.name == workspace.SCHEMA and json.loads(reading.read(path)).get("$id") == SCHEMA_ID
    except (OSError, ValueError, AttributeError):
        return False
