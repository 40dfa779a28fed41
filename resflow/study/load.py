"""Study files: load, lay a profile and settings over them, check everything, expand factors into arms.

`load_study` returns a frozen Study or raises one StudyError that names every problem with its file and line.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from resflow import workspace
from resflow.errors import StudyError, nearest, one_of
from resflow.study import contrast_families, overrides, published, tuning_rules, validation, variation
from resflow.study.arms import Arm, Picker, levels_of
from resflow.study.builtin import builtin_studies as builtin_studies
from resflow.study.schema import PROFILE_KEYS, SequentialSeeds, StudyFile
from resflow.study.settings import SECTIONS, section_of
from resflow.study.split_notes import JOINED
from resflow.study.yaml_source import Document, read_document

NO_PROFILE = "full"  # its name in a run's
MOST_ARMS, MOST_TRIALS = 5_000, 20_000  # what a machine's memory and a reader bear


@dataclass(frozen=True)
class Origin:
    """A study as it was asked for: what it was read from, and what is laid over it, the settings last."""

    name: str  # a built-in study's, or a path; empty for a mapping
    document: Document  # with its profile laid over it
    source: str | None = None  # of the data; its own default split comes with it
    settings: Mapping[str, Any] = field(default_factory=dict)  # by dotted or bare key, as `--set` has them
    profiles: tuple[str, ...] = ()  # that it has
    run_profiles: tuple[str, ...] = (NO_PROFILE,)  # names that this one has in a run's, its own first

    def resolve(self, profile: str | None) -> Study:
        """Turn it into a Study. Raises StudyError."""
        source = {} if self.source is None else {"data.source": self.source, "data.split": "auto"}
        doc = overrides.lay_over(self.document, {**source, **self.settings})
        return replace(resolve_study(doc, profile), origin=self)


@dataclass(frozen=True)
class Study:
    """A study that can run: everything in it has been checked."""

    file: StudyFile
    profile: str | None
    factors: dict[str, dict[str, Any]]  # factor -> label -> value
    arms: tuple[Arm, ...]
    baseline: Arm
    seeds: tuple[int, ...]  # of a sequential design as many as there may be
    origin: Origin = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def optional_seeds(self) -> tuple[int, ...]:
        """The seeds of a sequential design beyond its least: they run only where comparisons are undecided."""
        chosen = self.file.seeds
        return self.seeds[chosen.at_least :] if isinstance(chosen, SequentialSeeds) else ()

    @property
    def streams(self) -> tuple[variation.Streams, ...]:
        """What is drawn from which seed, a trial of each arm: the study's own seeds, then those that vary a part."""
        return _streams(self.file, self.seeds)

    def with_data(self, source: str) -> Study:
        """Return this study on another data source, split as that source is by default. Raises StudyError."""
        return replace(self.origin, source=source).resolve(self.profile)

    def resolved(self) -> dict[str, Any]:
        """Return the study as it runs; itself a valid study file, but for paths and defaults spelled out."""
        plain = self.file.model_dump(mode="json", exclude={"profiles", "exclude", "command", "fingerprints", *SECTIONS})
        if self.file.tune is None:
            del plain["tune"]
        for section, model in SECTIONS.items():
            values = getattr(self.file, section).model_dump(mode="json")
            plain[section] = {key: values[key] for key in model.model_fields if key not in self.factors}
        plain |= {
            "profile": self.profile or self.file.profile,  # a run's own study says under which it ran
            "baseline": self.baseline.name,
            "factors": self.factors,
            "arms": [arm.name for arm in self.arms],
            "seeds": plain["seeds"] if self.optional_seeds else list(self.seeds),
        }
        plain = {key: value for key, value in plain.items() if value or key not in ("claim", "titles")}
        order = ("name", "question", "claim", "titles", "profile", "baseline", "factors", "arms", *SECTIONS)
        return {key: plain[key] for key in [*order, *(key for key in plain if key not in order)] if key in plain}


def open_document(name: str) -> Document:
    """Read a built-in study by name, or a file by path (anything with a slash or a YAML ending)."""
    if name in builtin_studies():
        return read_document(builtin_studies()[name], f"studies/{name}.yaml")
    if os.sep in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
        document = read_document(path, name)
        if path.name != workspace.STUDY:
            return document
        return document.with_values(published.restore_paths(document.values, path.parent))
    raise StudyError(
        f"{one_of(name, builtin_studies(), 'study')} A file of your own is given by its path, such as ./{name}.yaml; "
        "`resflow init` writes one to start from."
    )


def load_study(
    study: str | os.PathLike[str] | Mapping[str, Any],
    profile: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    seeds: int | None = None,
) -> Study:
    """Load a study: a built-in one by its name, a YAML file by its path, or a mapping of what such a file holds.

    `profile` is laid over it, then the `settings`, by dotted or bare key as `--set` has them: {"epochs": 5}. `seeds`
    says how many: 1, 2, …, N. Raises StudyError, which names every problem with its place.
    """
    if isinstance(study, Mapping):
        name, doc = "", _document_of(study)
    else:
        name = os.fspath(study)
        doc = open_document(name)
    checked = _validated(doc)
    for known in checked.profiles:
        _check_profile_keys(doc, known)
        try:  # a profile with a mistake is found before it is needed
            resolve_study(doc.profile(known), known)
        except StudyError as error:
            raise StudyError(f"{error} (with profile '{known}' laid over the study)") from error
    names = _run_profiles(doc, checked, profile)
    if profile is not None:
        if profile not in checked.profiles:
            raise StudyError(f"{doc.origin(('profiles',))}: {one_of(profile, checked.profiles, 'profile')}")
        doc = doc.profile(profile)
    count = {} if seeds is None else {"seeds": seeds}
    origin = Origin(name, doc.without("profiles"), None, {**count, **(settings or {})}, tuple(checked.profiles), names)
    return origin.resolve(profile)


def _run_profiles(doc: Document, checked: StudyFile, profile: str | None) -> tuple[str, ...]:
    """Return a profile's names in a run's: profiles that change nothing are one with each other and with none."""
    plain = doc.without("profiles").values
    idle = [known for known in checked.profiles if doc.profile(known).values == plain]
    if profile is None or profile in idle:
        own = [checked.profile] if checked.profile else []  # of a study as it ran
        return (*own, *idle, NO_PROFILE)
    return (profile,)


def _document_of(study: Mapping[str, Any]) -> Document:
    """Return a study that was written in Python as a document. Raises StudyError where YAML has no word for it."""
    try:
        return Document(json.loads(json.dumps(study, default=os.fspath)), {}, "the study")
    except TypeError as error:
        raise StudyError(
            f"the study: {error}. Expected a mapping of text, numbers, true or false, lists and mappings, as a study "
            "file has them."
        ) from error


def resolve_study(doc: Document, profile: str | None = None) -> Study:
    """Turn a document without profiles into a Study. Raises StudyError."""
    file = _validated(doc)
    factors = {factor: levels_of(doc, factor, levels) for factor, levels in file.factors.items()}
    most = file.seeds.at_most if isinstance(file.seeds, SequentialSeeds) else file.seeds
    seeds = tuple(range(1, most + 1)) if isinstance(most, int) else tuple(most)
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"{doc.origin(('seeds',))}: the same seed is listed twice in {list(seeds)}.")
    if math.prod(map(len, factors.values())) > MOST_ARMS:
        raise StudyError(
            f"{doc.origin(('factors',))}: {' × '.join(str(len(levels)) for levels in factors.values())} levels are "
            f"more than {MOST_ARMS:,} combinations: choose fewer."
        )
    every = [dict(zip(factors, labels, strict=True)) for labels in itertools.product(*factors.values())]
    names = ["-".join(levels.values()) for levels in every]
    if len(set(names)) < len(names):
        raise StudyError(f"{doc.origin(('factors',))}: two arms would have one name: choose other labels.")
    pick = Picker(doc, factors, every)
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
    known = contrast_families.group_names([*factors, contrast_families.TUNING] if file.tune else list(factors))
    for index, family in enumerate(file.contrasts or []):
        if family not in known:
            raise StudyError(f"{doc.origin(('contrasts', index))}: {one_of(family, known, 'comparison')}")
    _check_prose(doc, file, known, factors)
    if len(kept) * (count := len(_streams(file, seeds))) > MOST_TRIALS:
        raise StudyError(
            f"{doc.origin(('seeds',))}: {len(kept):,} arms × {count:,} seeds are more than {MOST_TRIALS:,} "
            "trials: choose fewer."
        )
    arms = tuple(_arm(doc, file, factors, levels) for levels in kept)
    _no_two_arms_alike(doc, arms)
    _check_that_nothing_selects(doc, file, arms)
    if file.tune is not None:
        tuning_rules.check_tuning(doc, file.tune, factors, arms, seeds)
        tuning_rules.check_one_split(doc, file.vary)
    return Study(file, profile, factors, arms, arms[kept.index(baseline)], seeds, Origin("", doc))


def _streams(file: StudyFile, seeds: Sequence[int]) -> tuple[variation.Streams, ...]:
    least = file.seeds.at_least if isinstance(file.seeds, SequentialSeeds) else len(seeds)
    return variation.expand(file.vary, seeds, least, file.split_seed)


def _check_that_nothing_selects(doc: Document, file: StudyFile, arms: Sequence[Arm]) -> None:
    """Raise StudyError where a study looks at validation images, and one of its arms trains on them."""
    joined = [arm.name for arm in arms if arm.data.train == JOINED]
    asked = {
        "tune": file.tune is not None,
        "keep_weights": file.keep_weights == "best",
        "published": file.published is not None and file.published.metric.startswith("validation"),
    }
    for key in (key for key, needs in asked.items() if needs and joined):
        raise StudyError(
            f"{doc.origin((key,))}: {key} needs validation images, and arm {joined[0]} trains on them: leave {key} out"
            f"{', or set it to last' if key == 'keep_weights' else ''}; or set train to train."
        )


def _check_prose(doc: Document, file: StudyFile, groups: Sequence[str], factors: Mapping[str, Any]) -> None:
    """Check that claim and titles speak of comparisons and factors that there are. Raises StudyError."""
    names = [*factors, contrast_families.TUNING] if file.tune else list(factors)
    for index, need in enumerate(file.claim.needs if file.claim else ()):
        place = ("claim", "needs", index)
        if need.comparison not in groups:
            raise StudyError(f"{doc.origin((*place, 'comparison'))}: {one_of(need.comparison, groups, 'comparison')}")
        for factor in need.at:
            if factor not in names:
                raise StudyError(f"{doc.origin((*place, 'at', factor))}: {one_of(factor, names, 'factor')}")
    for factor in file.titles:
        if factor not in names:
            raise StudyError(f"{doc.origin(('titles', factor))}: {one_of(factor, names, 'factor')}")


def _validated(doc: Document) -> StudyFile:
    return validation.validate(doc, StudyFile, doc.values)


def _check_profile_keys(doc: Document, profile: str) -> None:
    for key in doc.values["profiles"][profile] or {}:
        if key not in PROFILE_KEYS:
            where = doc.origin(("profiles", profile, key))
            raise StudyError(
                f"{where}: profile {profile} cannot override '{key}'.{nearest(str(key), PROFILE_KEYS)} "
                f"Known: {', '.join(PROFILE_KEYS)}."
            )


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
            where = _blame(doc, factors, levels, section, mine)
            raise StudyError(f"{where}: arm {name}: {validation.first_problem(error)}.") from error
    arm = Arm(name, levels, **sections)
    try:
        arm.check()
    except StudyError as error:
        suspects = error.settings or ("depth",)
        where = _blame(doc, factors, levels, section_of(suspects[0]) or "network", suspects)
        raise StudyError(f"{where}: arm {name}: {error}") from error
    return arm


def _blame(
    doc: Document,
    factors: dict[str, dict[str, Any]],
    levels: dict[str, str],
    section: str,
    suspects: Iterable[str],
) -> str:
    """Point to the level of the suspect factor, or to the section where none is a factor."""
    suspects = list(suspects)
    for factor in suspects:
        if factor in levels:
            written = doc.values["factors"][factor]
            keys = range(len(written)) if isinstance(written, list) else list(written)
            key = keys[list(factors[factor]).index(levels[factor])]
            return doc.origin(("factors", factor, key))
    return doc.origin((section, *suspects[:1]))


def _no_two_arms_alike(doc: Document, arms: Sequence[Arm]) -> None:
    seen: dict[str, str] = {}
    for arm in arms:
        # `auto` and what it stands for are one, and so are `scratch` and no weights
        loaded = arm.network.weights if arm.loads_weights else "none"
        recipe = arm.recipe if arm.loads_weights else arm.recipe.model_copy(update={"finetune": "scratch"})
        data = arm.data.model_copy(update={"normalisation": arm.normalisation})
        key = repr((arm.architecture(), arm.network.head, loaded, recipe, data))
        if key in seen:
            raise StudyError(
                f"{doc.origin(('factors',))}: arms {seen[key]} and {arm.name} are the same trial: their levels "
                "differ in name only."
            )
        seen[key] = arm.name
