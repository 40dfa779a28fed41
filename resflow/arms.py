"""From factors to combinations: the levels of each factor, and which arms a study's `arms` and `exclude` mean."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from resflow import validation
from resflow.document import Document
from resflow.errors import StudyError, one_of
from resflow.settings import SECTIONS, section_of, setting_names

Levels = dict[str, Any]


def levels_of(doc: Document, factor: str, levels: list[Any] | dict[str, Any]) -> dict[str, Any]:
    """Return label -> value of one factor, each value checked alone. Raises StudyError."""
    at = ("factors", factor)
    section = section_of(factor)
    if section is None:
        raise StudyError(f"{doc.origin(at)}: {one_of(factor, setting_names(), 'factor')}")
    if factor in (doc.values.get(section) or {}):
        raise StudyError(
            f"{doc.origin((section, factor))}: {factor} is a factor of this study ({doc.origin(at)}): it cannot be "
            "fixed as well. Remove one of the two."
        )
    keys: list[Any] = list(levels) if isinstance(levels, dict) else list(range(len(levels)))
    labelled: dict[str, Any] = {}
    for key in keys:
        value = levels[key]
        label = str(key) if isinstance(levels, dict) else _label(value)
        if label in labelled or any(_same(value, other) for other in labelled.values()):
            raise StudyError(f"{doc.origin((*at, key))}: level {label} of {factor} stands there twice.")
        if not re.fullmatch(r"[\w.+ ,\[\]-]{1,60}", label):
            raise StudyError(
                f"{doc.origin((*at, key))}: level {label!r} of {factor} needs a label of at most 60 letters, digits "
                f"or . _ + -, such as '{factor}: {{short-name: {json.dumps(value, default=str)}}}'."
            )
        checked = _checked_level(doc, section, factor, value, (*at, key))
        labelled[label] = checked
    return labelled


def _checked_level(doc: Document, section: str, factor: str, value: Any, at: tuple[Any, ...]) -> Any:
    try:
        checked = getattr(SECTIONS[section].model_validate({factor: value}), factor)
    except ValidationError as error:
        raise StudyError(f"{doc.origin(at)}: level of {factor}: {validation.reason(error)}.") from error
    return checked.model_dump(mode="json") if isinstance(checked, BaseModel) else checked


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _same(one: Any, other: Any) -> bool:
    return (type(one) is type(other) and one == other) or json.dumps(one, default=str) == json.dumps(other, default=str)


class Picker:
    """Finds arms by name, or by the levels (labels or values) that they share."""

    def __init__(self, doc: Document, factors: dict[str, dict[str, Any]], every: list[dict[str, str]]) -> None:
        self.doc, self.factors, self.every = doc, factors, every

    def arms(self, wanted: Any, baseline: Any) -> list[dict[str, str]]:
        if wanted == "all":
            return list(self.every)
        if wanted == "one_at_a_time":
            base = self.one(baseline, ("baseline",))
            differing = lambda levels: sum(levels[f] != base[f] for f in base)  # noqa: E731
            return [levels for levels in self.every if differing(levels) <= 1]
        picked = [self.one(entry, ("arms", index)) for index, entry in enumerate(wanted)]
        for index, levels in enumerate(picked):
            if levels in picked[:index]:
                raise StudyError(
                    f"{self.doc.origin(('arms', index))}: arm {'-'.join(levels.values())} is listed twice."
                )
        return picked

    def one(self, entry: str | Levels, at: tuple[Any, ...]) -> dict[str, str]:
        found = self.matching(entry, at)
        if len(found) > 1:
            raise StudyError(
                f"{self.doc.origin(at)}: {json.dumps(entry, default=str)} fits {len(found)} arms: give a level of "
                f"every factor ({', '.join(self.factors)})."
            )
        return found[0]

    def matching(self, entry: str | Levels, at: tuple[Any, ...]) -> list[dict[str, str]]:
        where = self.doc.origin(at)
        if isinstance(entry, str):
            found = [levels for levels in self.every if "-".join(levels.values()) == entry]
            if not found:
                names = ["-".join(levels.values()) for levels in self.every]
                raise StudyError(f"{where}: {'.'.join(map(str, at))}: {one_of(entry, names, 'arm')}")
            return found
        found = list(self.every)
        for factor, level in entry.items():
            if factor not in self.factors:
                raise StudyError(f"{where}: {one_of(factor, self.factors, 'factor of this study')}")
            labels = self.factors[factor]
            label = next((k for k, v in labels.items() if k == str(level) or _same(v, level)), None)
            if label is None:
                raise StudyError(f"{where}: {one_of(_label(level), labels, f'level of {factor}')}")
            found = [levels for levels in found if levels[factor] == label]
        return found
