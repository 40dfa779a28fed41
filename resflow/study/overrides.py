"""Settings that are laid over a study, as `--set key=value` has them: by dotted or bare key, each with its origin."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from resflow.errors import StudyError, nearest
from resflow.study import validation
from resflow.study.arms import Entry, Picker, check_level, levels_of
from resflow.study.schema import PROFILE_KEYS, StudyFile
from resflow.study.settings import SECTIONS, Augmentation, Execution, Resources, section_of, setting_names
from resflow.study.yaml_source import Document

KEYS = (*PROFILE_KEYS, "metric")  # of a study that may be set beside its settings


def lay_over(doc: Document, settings: Mapping[str, Any]) -> Document:
    """Return a document with settings laid over it: factors first, the others in their order. Raises StudyError."""
    for key in sorted(settings, key=lambda key: not key.startswith("factors.")):
        path, before = override_path(key, doc), doc
        nested: Any = settings[key]
        for part in reversed(path):
            nested = {part: nested}
        doc = doc.overlaid(nested, {path: f"--set {key}={json.dumps(settings[key])}"})
        if path[:1] == ("factors",) and len(path) == 2:
            doc = _settle_factor(before, doc, path[1])
    return doc


def override_path(key: str, doc: Document) -> tuple[str, ...]:
    """Turn `epochs`, `recipe.epochs`, `augmentation.flip` or `seeds` into a path. Raises StudyError."""
    parts = tuple(key.split("."))
    if parts[0] in KEYS:
        path = parts
    elif (section := section_of(parts[0])) is not None:
        path = (section, *parts)
    elif parts[0] in Execution.model_fields:
        path = ("execution", *parts)
    elif parts[0] in Resources.model_fields:
        path = ("resources", *parts)
    else:
        known = [*setting_names(), *Execution.model_fields, *Resources.model_fields, *KEYS]
        raise StudyError(
            f"--set {key}: unknown key '{key}'.{nearest(parts[0], known)} Known: {', '.join(known)}, and "
            f"augmentation.{{{', '.join(Augmentation.model_fields)}}}."
        )
    if len(path) == 2 and path[1] in (doc.values.get("factors") or {}) and path[0] in SECTIONS:
        raise StudyError(
            f"--set {key}: {path[1]} is a factor of this study. Choose its levels with --set 'factors.{path[1]}=[…]'."
        )
    return path


def _settle_factor(before: Document, after: Document, factor: str) -> Document:
    """Return a document whose factor was set, without its fixed value; where it is new, with arms that have it.

    Arms that the study names stand for themselves at every new level. The baseline keeps what it had: the fixed value
    or the default where that is a level, else the first one. Contrasts that the study declares are joined by its own.
    """
    section, levels = section_of(factor), after.values["factors"][factor]
    if section is None or not isinstance(levels, list | dict) or not levels:
        return after  # an error, and whoever checks the study tells it
    values = dict(after.values)
    fixed = dict(values.get(section) or {})
    value = fixed.pop(factor, SECTIONS[section].model_fields[factor].get_default())
    values[section] = fixed
    settled = after.with_values(values)
    if factor in (before.values.get("factors") or {}):
        return settled
    labelled = levels_of(settled, factor, levels)
    same = check_level(section, factor, value, before.origin((section, factor)))
    usual = next((label for label, level in labelled.items() if level == same), next(iter(labelled)))
    file = validation.validate(before, StudyFile, before.values)
    pick = _picker(before, file)
    values["baseline"] = {**pick.one(file.baseline, ("baseline",)), factor: usual}
    if isinstance(file.arms, list):
        named = [pick.one(entry, ("arms", index)) for index, entry in enumerate(file.arms)]
        values["arms"] = [{**levels, factor: label} for levels in named for label in labelled]
    values["exclude"] = [_levels(pick, entry, index) for index, entry in enumerate(file.exclude)]
    if file.contrasts is not None:
        values["contrasts"] = [*file.contrasts, factor]
    return after.with_values(values)


def _picker(doc: Document, file: StudyFile) -> Picker:
    factors = {factor: levels_of(doc, factor, levels) for factor, levels in file.factors.items()}
    every = [dict(zip(factors, labels, strict=True)) for labels in itertools.product(*factors.values())]
    return Picker(doc, factors, every)


def _levels(pick: Picker, entry: Entry, index: int) -> Entry:
    """Return an entry of `exclude` as levels."""
    return entry if isinstance(entry, dict) else dict(pick.matching(entry, ("exclude", index))[0])
