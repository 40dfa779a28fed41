"""Study files: load, lay a profile and overrides over them, check everything, expand factors into arms.

`load` returns a frozen Study or raises one StudyError that names every problem with its file and line.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from resflow import document
from resflow.architectures import Architecture, resolve_stem
from resflow.document import Document
from resflow.errors import StudyError, nearest, one_of
from resflow.settings import (
    SECTIONS,
    Augmentation,
    Data,
    Execution,
    Network,
    Recipe,
    Section,
    section_of,
    setting_names,
)

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Levels = dict[str, Any]
PROFILE_KEYS = (
    "baseline",
    "factors",
    "arms",
    "exclude",
    "network",
    "recipe",
    "data",
    "execution",
    "seeds",
    "split_seed",
    "margin",
)


class StudyFile(Section):
    """A study as it is written. Settings that are neither fixed nor factors keep their defaults."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="lower-case letters, digits, - and _"
    )
    question: str = Field(min_length=1, description="what the study asks, in one sentence")
    baseline: str | Levels = Field(
        description="the arm that others are compared with: its name, or its levels"
    )
    factors: dict[str, Annotated[list[Any] | dict[str, Any], Field(min_length=1)]] = Field(
        min_length=1, description="a setting's name -> its levels, or label -> level"
    )
    arms: Literal["all", "one_at_a_time"] | Annotated[list[str | Levels], Field(min_length=1)] = Field(
        "all", description="every combination, the baseline with one factor changed at a time, or a list"
    )
    exclude: list[str | Levels] = Field([], description="arms to leave out: names, or levels that they share")
    network: Network = Network()
    recipe: Recipe = Recipe()
    data: Data = Data()
    execution: Execution = Execution()
    seeds: Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        3, description="how many (1, 2, …), or which"
    )
    split_seed: Seed = Field(
        0, description="draws the split where the source has none; never the trial's seed"
    )
    metric: Literal["test_top1", "test_top5", "test_mean_class_accuracy"] = "test_top1"
    margin: float | None = Field(
        None, gt=0, lt=1, description="differences within ± this fraction of accuracy count as equivalent"
    )
    profiles: dict[str, dict[str, Any] | None] = Field({}, description="name -> keys that it overrides")


@dataclass(frozen=True)
class Arm:
    """One combination of levels, with every setting resolved."""

    name: str
    levels: dict[str, str]  # factor -> label
    network: Network
    recipe: Recipe
    data: Data

    def architecture(self) -> Architecture:
        stem = resolve_stem(self.network.stem, self.network.family, self.data.image_size)
        return Architecture(**{**self.network.model_dump(), "stem": stem})


@dataclass(frozen=True)
class Study:
    """A study that can run: everything in it has been checked."""

    file: StudyFile
    profile: str | None
    factors: dict[str, dict[str, Any]]  # factor -> label -> value
    arms: tuple[Arm, ...]
    baseline: Arm
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.file.name

    def resolved(self) -> dict[str, Any]:
        """Return the study as it runs; itself a valid study file, but for paths and defaults spelled out."""
        plain = self.file.model_dump(mode="json", exclude={"profiles", "exclude", *SECTIONS})
        for section, model in SECTIONS.items():
            values = getattr(self.file, section).model_dump(mode="json")
            plain[section] = {key: values[key] for key in model.model_fields if key not in self.factors}
        plain |= {
            "profile": self.profile,
            "baseline": self.baseline.name,
            "factors": self.factors,
            "arms": [arm.name for arm in self.arms],
            "seeds": list(self.seeds),
        }
        order = ("name", "question", "profile", "baseline", "factors", "arms", *SECTIONS)
        return {key: plain[key] for key in [*order, *(key for key in plain if key not in order)]}


def builtin_folder() -> Path:
    """The folder of built-in studies: package data, or `studies/` beside the package in a checkout."""
    packaged = Path(str(resources.files("resflow"))) / "_studies"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "studies"


def builtin() -> dict[str, Path]:
    return {path.stem: path for path in sorted(builtin_folder().glob("*.yaml"))}


def open_document(name: str) -> Document:
    """Read a built-in study by name, or a file by path (anything with a slash or a YAML ending)."""
    if name in builtin():
        return document.read(builtin()[name], f"studies/{name}.yaml")
    if os.sep in name or name.endswith((".yaml", ".yml")):
        return document.read(Path(name).expanduser(), name)
    raise StudyError(
        f"{one_of(name, builtin(), 'study')} A file of your own is given by its path, such as ./{name}.yaml; "
        "`resflow init` writes one to start from."
    )


def load(name: str, profile: str | None = None, overrides: Mapping[str, Any] | None = None) -> Study:
    """Load a study by name or path, with a profile and `--set` overrides (dotted or bare keys) laid over it."""
    doc = open_document(name)
    checked = _validated(doc)
    for known in checked.profiles:
        _check_profile_keys(doc, known)
        if known != profile:
            resolve(doc.profile(known), known)  # a profile with a mistake is found before it is needed
    if profile is not None:
        if profile not in checked.profiles:
            raise StudyError(f"{doc.source}: {one_of(profile, checked.profiles, 'profile')}")
        doc = doc.profile(profile)
    doc = doc.without("profiles")
    for key, value in (overrides or {}).items():
        path = _override_path(key, doc)
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        doc = doc.overlaid(nested, {path: f"--set {key}={json.dumps(value)}"})
    return resolve(doc, profile)


def resolve(doc: Document, profile: str | None = None) -> Study:
    """Turn a document without profiles into a Study. Raises StudyError."""
    file = _validated(doc)
    factors = {factor: _levels(doc, factor, levels) for factor, levels in file.factors.items()}
    seeds = tuple(range(1, file.seeds + 1)) if isinstance(file.seeds, int) else tuple(file.seeds)
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"{doc.origin(('seeds',))}: the same seed is listed twice in {list(seeds)}.")
    every = [dict(zip(factors, labels, strict=True)) for labels in itertools.product(*factors.values())]
    names = ["-".join(levels.values()) for levels in every]
    if len(set(names)) < len(names):
        raise StudyError(f"{doc.origin(('factors',))}: two arms would have one name: choose other labels.")
    pick = _Picker(doc, factors, every)
    kept = pick.arms(file.arms, file.baseline)
    for index, entry in enumerate(file.exclude):
        gone = pick.matching(entry, ("exclude", index))
        kept = [levels for levels in kept if levels not in gone]
    baseline = pick.one(file.baseline, ("baseline",))
    if baseline not in kept:
        raise StudyError(
            f"{doc.origin(('baseline',))}: baseline {'-'.join(baseline.values())} is not an arm of this study: "
            f"expected one of {', '.join('-'.join(levels.values()) for levels in kept) or 'none: all are excluded'}."
        )
    arms = tuple(_arm(doc, file, factors, levels) for levels in kept)
    _no_two_arms_alike(doc, arms)
    return Study(file, profile, factors, arms, arms[kept.index(baseline)], seeds)


def _validated(doc: Document) -> StudyFile:
    return _checked(doc, StudyFile, doc.values, ())


def _checked(doc: Document, model: type[Any], values: Any, at: tuple[Any, ...]) -> Any:
    """Validate against a model; every problem becomes a line with its place."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(_problem(doc, at, model, problem) for problem in error.errors())
        raise StudyError("\n".join(lines)) from error


def _problem(doc: Document, at: tuple[Any, ...], model: type[BaseModel], problem: Any) -> str:
    # Pydantic puts the branch of a union into the place; only what the document holds is shown.
    place = (*at, *_real_keys(doc, at, problem["loc"]))
    shown = ".".join(map(str, place)) or "the study"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        return f"{doc.origin(place)}: unknown key '{shown}'.{nearest(str(place[-1]), known)} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"{doc.origin(place[:-1])}: '{problem['loc'][-1]}' is missing: every study needs it."
    came = "" if isinstance(problem["input"], dict) else f", got {json.dumps(problem['input'], default=str)}"
    if problem["type"] == "value_error":  # a rule between settings: its message stands alone
        return f"{doc.origin(place)}: {shown}: {problem['msg'].removeprefix('Value error, ')}."
    return f"{doc.origin(place)}: {shown}: expected {problem['msg'].removeprefix('Input should be ')}{came}."


def _real_keys(doc: Document, at: tuple[Any, ...], loc: Sequence[Any]) -> Iterator[Any]:
    value: Any = doc.values
    for key in at:
        value = value[key]
    for index, key in enumerate(loc):
        inside = (isinstance(value, dict) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        )
        if inside:
            value = value[key]
        if inside or (index == len(loc) - 1 and isinstance(value, dict)):
            yield key


def _fields_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    for key in loc:
        inner = model.model_fields[key].annotation if key in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _check_profile_keys(doc: Document, profile: str) -> None:
    for key in doc.values["profiles"][profile] or {}:
        if key not in PROFILE_KEYS:
            where = doc.origin(("profiles", profile, key))
            raise StudyError(
                f"{where}: profile {profile} cannot override '{key}'.{nearest(str(key), PROFILE_KEYS)} "
                f"Known: {', '.join(PROFILE_KEYS)}."
            )


def _override_path(key: str, doc: Document) -> tuple[str, ...]:
    """Turn `epochs`, `recipe.epochs`, `augmentation.flip` or `seeds` into a path. Raises StudyError."""
    parts = tuple(key.split("."))
    if parts[0] in PROFILE_KEYS:
        path = parts
    elif (section := section_of(parts[0])) is not None:
        path = (section, *parts)
    elif parts[0] in Execution.model_fields:
        path = ("execution", *parts)
    else:
        known = [*setting_names(), *Execution.model_fields, *PROFILE_KEYS]
        raise StudyError(
            f"--set {key}: unknown key '{key}'.{nearest(parts[0], known)} Known: {', '.join(known)}, and "
            f"augmentation.{{{', '.join(Augmentation.model_fields)}}}."
        )
    if len(path) == 2 and path[1] in (doc.values.get("factors") or {}) and path[0] in SECTIONS:
        raise StudyError(
            f"--set {key}: {path[1]} is a factor of this study. Choose its levels with "
            f"--set 'factors.{path[1]}=[…]'."
        )
    return path


def _levels(doc: Document, factor: str, levels: list[Any] | dict[str, Any]) -> dict[str, Any]:
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
    keys = list(levels) if isinstance(levels, dict) else range(len(levels))
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
        problem = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise StudyError(
            f"{doc.origin(at)}: level of {factor}: expected {message}, got {json.dumps(value, default=str)}."
        ) from error
    return checked.model_dump(mode="json") if isinstance(checked, BaseModel) else checked


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _same(one: Any, other: Any) -> bool:
    return (
        (type(one) is type(other)
        and one == other)
        or json.dumps(one, default=str) == json.dumps(other, default=str)
    )


class _Picker:
    """Finds arms by name, or by the levels (labels or values) that they share."""

    def __init__(
        self, doc: Document, factors: dict[str, dict[str, Any]], every: list[dict[str, str]]
    ) -> None:
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


def _arm(doc: Document, file: StudyFile, factors: dict[str, dict[str, Any]], levels: dict[str, str]) -> Arm:
    """Resolve one arm's settings and check that they go together. Raises StudyError."""
    name = "-".join(levels.values())
    sections: dict[str, Any] = {}
    for section, model in SECTIONS.items():
        values = getattr(file, section).model_dump()
        mine = {f: factors[f][label] for f, label in levels.items() if section_of(f) == section}
        try:
            sections[section] = model.model_validate({**values, **mine})
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise StudyError(
                f"{_blame(doc, factors, levels, section, mine)}: arm {name}: {message}."
            ) from error
    arm = Arm(name, levels, **sections)
    try:
        arm.architecture()
    except StudyError as error:
        raise StudyError(
            f"{_blame(doc, factors, levels, 'network', {'depth': 0})}: arm {name}: {error}"
        ) from error
    return arm


def _blame(
    doc: Document,
    factors: dict[str, dict[str, Any]],
    levels: dict[str, str],
    section: str,
    suspects: Mapping[str, Any],
) -> str:
    """Point to the level of the suspect factor, or to the section where none is a factor."""
    for factor in suspects:
        if factor in levels:
            index = list(factors[factor]).index(levels[factor])
            listed = isinstance(doc.values["factors"][factor], list)
            return doc.origin(("factors", factor, index if listed else _raw_key(doc, factor, levels[factor])))
    return doc.origin((section, *list(suspects)[:1]))


def _raw_key(doc: Document, factor: str, label: str) -> Any:
    return next(key for key in doc.values["factors"][factor] if str(key) == label)


def _no_two_arms_alike(doc: Document, arms: Sequence[Arm]) -> None:
    seen: dict[str, str] = {}
    for arm in arms:
        key = json.dumps(
            [getattr(arm, section).model_dump(mode="json") for section in SECTIONS], sort_keys=True
        )
        if key in seen:
            raise StudyError(
                f"{doc.origin(('factors',))}: arms {seen[key]} and {arm.name} are the same trial: their levels differ in "
                "name only."
            )
        seen[key] = arm.name
