"""Arms: the levels of each factor, the combinations that a study asks for, and the settings of one combination."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError, WithJsonSchema

from resflow.architectures import Architecture, stages
from resflow.errors import StudyError, one_of
from resflow.study import validation
from resflow.study.search_space import label_of
from resflow.study.settings import SECTIONS, Data, Network, Recipe, section_of, setting_names
from resflow.study.split_notes import JOINED
from resflow.study.yaml_source import Document

Levels = dict[str, Any]  # factor -> a level as a study writes it: its label or its value


def _check_entry(value: Any) -> Any:
    if isinstance(value, str | bool | int | float | dict):
        return value
    shown = json.dumps(value, default=str, ensure_ascii=False)
    raise ValueError(f"expected text or a mapping, got {shown[:60]}")


# An arm as a study writes it: its name, its levels, or the level of the only factor, such as 18.
Entry = Annotated[
    str | bool | int | float | Levels,
    BeforeValidator(_check_entry),
    WithJsonSchema({"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "object"}]}),
]


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
        """Return the network with its stem resolved. Raises StudyError where its settings do not go together."""
        return self.network.architecture(self.data.image_size)

    @property
    def loads_weights(self) -> bool:
        return self.network.weights != "none" and self.recipe.finetune != "scratch"

    @property
    def normalisation(self) -> str:
        """The normalisation, with `auto` resolved."""
        if self.data.normalisation != "auto":
            return self.data.normalisation
        return "weights" if self.loads_weights else "dataset"

    @property
    def written(self) -> str:
        """The name of this arm in the study file."""
        return self.of or self.name

    def with_settings(self, settings: Mapping[str, Any]) -> Arm:
        """Return this arm with other settings of its recipe or head, such as augmentation.zoom. Raises StudyError."""
        sections = {name: getattr(self, name).model_dump() for name in ("network", "recipe")}
        for name, value in settings.items():
            *outer, last = [section_of(name.partition(".")[0]), *name.split(".")]
            place: Any = sections
            for key in outer:
                place = place[key]
            place[last] = value
        changed: dict[str, Any] = {}
        for name, values in sections.items():
            try:
                changed[name] = SECTIONS[name].model_validate(values)
            except ValidationError as error:
                raise StudyError(validation.first_problem(error)) from error
        arm = replace(self, **changed)
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
        if self.data.train == JOINED:
            self._check_that_nothing_selects()
        count = len(stages(arch.family, arch.depth)[1])
        if recipe.finetune == "partial" and recipe.unfrozen_stages > count:
            raise StudyError(
                f"unfrozen_stages {recipe.unfrozen_stages}: the {arch.family} family has {count} stages.",
                ("unfrozen_stages", "family"),
            )

    def _check_that_nothing_selects(self) -> None:
        """Raise StudyError where a setting needs the validation images that this arm trains on."""
        recipe = self.recipe
        asked = {
            "early_stopping": (recipe.early_stopping is not None, "null"),
            "test_weights": (recipe.test_weights == "best", "last"),
            "schedule": (recipe.schedule == "plateau", "constant, step or cosine"),
            "validation_views": (recipe.validation_views == "augmented", "clean"),
        }
        for name, (needs, instead) in asked.items():
            if needs:
                raise StudyError(
                    f"{name} {getattr(recipe, name)} needs validation images, and train {JOINED} trains on them: set "
                    f"{name} to {instead}, or train to train.",
                    (name, "train"),
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
    labelled: dict[str, Any] = {}
    seen: set[Any] = set()
    for key, value in levels.items() if isinstance(levels, dict) else enumerate(levels):
        where = doc.origin((*at, key))
        label = str(key) if isinstance(levels, dict) else label_of(value)
        if label in labelled or (plain := _plain(value)) in seen:
            raise StudyError(f"{where}: level {label} of {factor} stands there twice.")
        seen.add(plain)
        if not re.fullmatch(r"[\w.+ ,\[\]-]{1,60}", label):
            raise StudyError(
                f"{where}: level {label!r} of {factor} needs a label of at most 60 letters, digits or . _ + -, such as "
                f"'{factor}: {{short-name: {json.dumps(value, default=str)}}}'."
            )
        labelled[label] = check_level(section, factor, value, where)
    return labelled


def check_level(section: str, factor: str, value: Any, where: str) -> Any:
    """Return a level as it is after validation, plain. Raises StudyError."""
    try:
        checked = getattr(SECTIONS[section].model_validate({factor: value}), factor)
    except ValidationError as error:
        raise StudyError(f"{where}: level of {factor}: {validation.first_problem(error)}.") from error
    return checked.model_dump(mode="json") if isinstance(checked, BaseModel) else checked


def _plain(value: Any) -> Any:
    """Return what values that are the same have in common: 0.0 and -0.0 are, 1 and 1.0 or true are not."""
    return (type(value), value) if isinstance(value, int | float) and value == value else json.dumps(value, default=str)


class Picker:
    """Picks arms, each as factor -> label, by name or by the levels (labels or values) that they share."""

    def __init__(self, doc: Document, factors: dict[str, dict[str, Any]], every: list[dict[str, str]]) -> None:
        self.doc, self.factors, self.every = doc, factors, every

    def arms(self, choice: Any, baseline: Entry) -> list[dict[str, str]]:
        """Return the arms that a study's `arms` asks for, in its order. Raises StudyError."""
        if choice == "all":
            return list(self.every)
        if choice == "one_at_a_time":
            base = self.one(baseline, ("baseline",))
            return [levels for levels in self.every if len(levels.items() - base.items()) <= 1]
        arms = [self.one(entry, ("arms", index)) for index, entry in enumerate(choice)]
        for index, levels in enumerate(arms):
            if levels in arms[:index]:
                raise StudyError(f"{self.doc.origin(('arms', index))}: arm {_name(levels)} is listed twice.")
        return arms

    def one(self, entry: Entry, at: tuple[Any, ...]) -> dict[str, str]:
        """Return the arm that the entry at a place of the study means. Raises StudyError where it fits several."""
        arms = self.matching(entry, at)
        if len(arms) > 1:
            raise StudyError(
                f"{self.doc.origin(at)}: {json.dumps(entry, default=str)} fits {len(arms)} arms: give a level of "
                f"every factor ({', '.join(self.factors)})."
            )
        return arms[0]

    def matching(self, entry: Entry, at: tuple[Any, ...]) -> list[dict[str, str]]:
        """Return the arms that an entry fits, one at least. Raises StudyError for an unknown name, factor or level."""
        where = self.doc.origin(at)
        if not isinstance(entry, str | Mapping):  # 18, where depth is the only factor
            entry = dict.fromkeys(self.factors, entry) if len(self.factors) == 1 else label_of(entry)
        if isinstance(entry, str):
            names = [_name(levels) for levels in self.every]
            if entry not in names:
                raise StudyError(f"{where}: {'.'.join(map(str, at))}: {one_of(entry, names, 'arm')}")
            return [self.every[names.index(entry)]]
        arms = self.every
        for factor, level in entry.items():
            label = self._label(factor, level, where)
            arms = [levels for levels in arms if levels[factor] == label]
        return arms

    def _label(self, factor: str, level: Any, where: str) -> str:
        if factor not in self.factors:
            raise StudyError(f"{where}: {one_of(factor, self.factors, 'factor of this study')}")
        labels = self.factors[factor]
        for label, value in labels.items():
            if label == str(level) or _plain(value) == _plain(level):
                return label
        raise StudyError(f"{where}: {one_of(label_of(level), labels, f'level of {factor}')}")


def _name(levels: Mapping[str, str]) -> str:
    return "-".join(levels.values())
