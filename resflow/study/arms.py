"""Arms: the levels of each factor, which combinations a study's `arms` and `exclude` mean, and every setting of one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from resflow.architectures import Architecture, stages
from resflow.errors import StudyError, one_of
from resflow.study import validation
from resflow.study.settings import SECTIONS, Data, Network, Recipe, section_of, setting_names
from resflow.study.yaml_source import Document

Levels = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One combination of levels, with every setting resolved."""

    name: str
    levels: dict[str, str]  # factor -> label
    network: Network
    recipe: Recipe
    data: Data
    tuned: bool = False  # whether its settings are those that a tuning phase chose
    of: str = ""  # the arm as the study writes it, where a tuning phase has made two of one

    def architecture(self) -> Architecture:
        """The network with its stem resolved. Raises StudyError where its settings do not go together."""
        return self.network.architecture(self.data.image_size)

    @property
    def loads_weights(self) -> bool:
        return self.network.weights != "none" and self.recipe.finetune != "scratch"

    @property
    def normalisation(self) -> str:
        """What `auto` stands for here."""
        if self.data.normalisation != "auto":
            return self.data.normalisation
        return "weights" if self.loads_weights else "dataset"

    @property
    def written(self) -> str:
        """The name of this arm in the study file."""
        return self.of or self.name

    def with_settings(self, settings: Mapping[str, Any]) -> Arm:
        """This arm with other settings of its recipe or head, such as augmentation.zoom. Raises StudyError."""
        sections = {name: getattr(self, name).model_dump() for name in ("network", "recipe")}
        for name, value in settings.items():
            *outer, last = [section_of(name.partition(".")[0]), *name.split(".")]
            place: Any = sections
            for key in outer:
                place = place[key]
            place[last] = value
        made: dict[str, Any] = {}
        for name, values in sections.items():
            try:
                made[name] = SECTIONS[name].model_validate(values)
            except ValidationError as error:
                raise StudyError(validation.first_problem(error)) from error
        arm = replace(self, **made)
        arm.check()
        return arm

    def check(self) -> None:
        """Raise StudyError where settings of different sections do not go together."""
        arch, recipe = self.architecture(), self.recipe
        if recipe.finetune in ("frozen", "partial") and not self.loads_weights:
            raise StudyError(
                f"finetune {recipe.finetune} keeps parts of the backbone as they are, which needs pretrained weights: "
                "set weights to imagenet, a file, or run:RUN/TRIAL; or finetune to full or scratch.",
                ("finetune", "weights"),
            )
        if self.data.normalisation == "weights" and not self.loads_weights:
            raise StudyError(
                "normalisation weights is that of pretrained weights, and this arm loads none: choose auto, dataset "
                "or raw.",
                ("normalisation", "weights", "finetune"),
            )
        count = len(stages(arch.family, arch.depth)[1])
        if recipe.finetune == "partial" and recipe.unfrozen_stages > count:
            raise StudyError(
                f"unfrozen_stages {recipe.unfrozen_stages}: the {arch.family} family has {count} stages.",
                ("unfrozen_stages", "family"),
            )


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
        raise StudyError(f"{doc.origin(at)}: level of {factor}: {validation.first_problem(error)}.") from error
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
