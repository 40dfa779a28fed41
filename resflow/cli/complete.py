"""What a shell completes: studies, profiles, runs, arms. Whatever cannot be read completes to nothing.

A shell waits for it at every press of a key: nothing but names on disk, a plan and a study's own file are read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from resflow import workspace
from resflow.errors import ResflowError


def studies(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the built-in studies and the YAML files that a path begins."""
    from resflow.study.builtin import builtin_studies

    folder = incomplete.rpartition("/")[0] if "/" in incomplete else "."
    files: list[str] = []
    with suppress(OSError):
        files = sorted(f"{folder}/{path.name}" for path in Path(f"{folder}/").glob("*.yaml"))
    return [*builtin_studies(), *files]


def builtin_studies(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the built-in studies."""
    from resflow.study.builtin import builtin_studies

    return list(builtin_studies())


def profiles(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the profiles of the study that the command line names."""
    from resflow.study.builtin import builtin_studies
    from resflow.study.yaml_source import read_document

    name = _first_argument(ctx, "name")
    with suppress(ResflowError, OSError):
        return list(read_document(builtin_studies().get(name, Path(name))).values.get("profiles") or {})
    return []


def settings(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return what --set takes: keys, and of one that is written out, its values as far as there are a few."""
    from resflow.study.overrides import KEYS
    from resflow.study.schema import StudyFile
    from resflow.study.settings import SECTIONS, Execution, Resources, Section

    fields = {key: StudyFile.model_fields[key] for key in KEYS}
    models: tuple[type[Section], ...] = (*SECTIONS.values(), Execution, Resources)
    for model in models:
        fields |= model.model_fields
    key, equals, _ = incomplete.partition("=")
    if not equals:
        return [f"{name}=" for name in fields]
    field = fields.get(key.rpartition(".")[2])
    return [f"{key}={value}" for value in _choices(field.annotation)] if field else []


def _choices(annotation: Any) -> list[str]:
    """Return the values that a type names, as YAML writes them."""
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return list(map(str, get_args(annotation)))
    return [value for part in get_args(annotation) for value in _choices(part)]


def runs(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the runs below results/."""
    with suppress(OSError):
        return sorted(path.parent.name for path in workspace.RESULTS.glob(f"*/{workspace.STUDY}"))
    return []


def arms(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the arms of the run that the command line names."""
    return list(dict.fromkeys(row["arm"] for row in _plan(_first_argument(ctx, "run"))))


def trials(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return runs, and of the one that is meant RUN/ARM, then RUN/ARM/SEED; or RUN/TRIAL where an id is begun."""
    run, rows = _named_run(ctx, args, incomplete)
    rest = incomplete.partition("/")[2]
    names = list(dict.fromkeys(row["arm"] for row in rows))
    if any(rest.startswith(f"{arm}/") for arm in names):
        names = [f"{row['arm']}/{row['seed']}" for row in rows]
    elif not any(arm.startswith(rest) for arm in names):
        names = [row["id"] for row in rows]
    return [f"{run}/{name}" for name in names] if rows else _folders(ctx, args, incomplete)


def networks(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return runs, and of the one that is meant RUN/TRIAL."""
    run, rows = _named_run(ctx, args, incomplete)
    return [f"{run}/{row['id']}" for row in rows] if rows else _folders(ctx, args, incomplete)


def _first_argument(ctx: Any, name: str) -> str:
    """Return a command's first argument; behind an option without its value yet it is still unparsed."""
    return str(ctx.params.get(name) or next(iter(ctx.args), ""))


def _named_run(ctx: Any, args: list[str], incomplete: str) -> tuple[str, list[dict[str, str]]]:
    """Return the run that RUN/… means, or the only one that begins so, and its plan's rows."""
    run, slash, _ = incomplete.partition("/")
    matching = [run] if slash else [name for name in runs(ctx, args, incomplete) if name.startswith(run)]
    return (matching[0], _plan(matching[0])) if len(matching) == 1 else ("", [])


def _folders(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    return [f"{name}/" for name in runs(ctx, args, incomplete)]


def _plan(run: str) -> list[dict[str, str]]:
    return list(_rows(workspace.run_folder(run) / workspace.PLAN)) if run else []


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        yield from (row for row in csv.DictReader(file) if {"id", "arm", "seed"} <= row.keys())
