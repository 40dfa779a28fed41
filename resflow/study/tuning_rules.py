"""Rules of a tuning phase: what it may search of a study's arms, checked before anything starts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from resflow.errors import StudyError, one_of
from resflow.study import contrast_families, search_space
from resflow.study.arms import Arm
from resflow.study.search_space import Choice, Parameter, Tune
from resflow.study.settings import Recipe, section_of
from resflow.study.variation import Vary, follow
from resflow.study.yaml_source import Document

TUNABLE = {"recipe": set(Recipe.model_fields), "network": {"head"}}  # what a tuning phase may search
# the budget, the judge, what an arm is
NOT_TUNABLE = {"epochs", "evaluate_every", "test_weights", "validation_views", "finetune"}


def check_tuning(
    doc: Document, tune: Tune, factors: Mapping[str, Any], arms: Sequence[Arm], seeds: Sequence[int]
) -> None:
    """Raise StudyError where a tuning phase searches what it cannot, or on seeds that are not for it."""
    if contrast_families.TUNING in factors:
        raise StudyError(
            f"{doc.origin(('factors',))}: a factor cannot be called {contrast_families.TUNING} beside `tune`."
        )
    if shared := sorted(set(seeds) & set(tune.chosen_seeds)):
        raise StudyError(
            f"{doc.origin(('tune', 'seeds'))}: seed {shared[0]} is a trial's as well: candidates are judged on seeds "
            "of their own, so that the winners' trials are fresh."
        )
    if tune.pruning == "asha" and (sparse := next((arm for arm in arms if arm.recipe.evaluate_every > 1), None)):
        raise StudyError(
            f"{doc.origin(('tune', 'pruning'))}: asha judges candidates after every epoch, and arm {sparse.name} is "
            f"evaluated every {sparse.recipe.evaluate_every}: leave evaluate_every at 1, or pruning out."
        )
    earlier: dict[str, Parameter] = {}
    for name, parameter in tune.space.items():
        at = ("tune", "space", name)
        _check_tunable(doc, name, factors, at)
        _check_conditions(doc, parameter, earlier, at)
        others = [{other: value} for other, known in earlier.items() for value in known.ends()]
        for value, beside, arm in itertools.product(parameter.ends(), [{}, *others], arms):
            settings = {**beside, name: value}
            try:
                arm.with_settings({**settings, "epochs": tune.epochs or arm.recipe.epochs})
            except StudyError as error:
                values = ", ".join(f"{setting} {json.dumps(one)}" for setting, one in settings.items())
                raise StudyError(f"{doc.origin(at)}: {values}: arm {arm.name}: {error}") from error
        earlier[name] = parameter
    candidates = max(len(tune.rungs(tune.epochs or arm.recipe.epochs)) for arm in arms)
    points = search_space.count_points(tune.space)
    if points < candidates:
        raise StudyError(
            f"{doc.origin(('tune', 'space'))}: {points:g} candidates can differ in this space, and {candidates} are "
            "asked for: make it larger, or set `tune.candidates` to fewer."
        )


def check_one_split(doc: Document, vary: Vary) -> None:
    """Raise StudyError where a study tunes, and draws a split for each seed: one's validation images test another."""
    if "split" in follow(vary):
        raise StudyError(
            f"{doc.origin(('vary',))}: with `tune` the split cannot vary: images that choose settings in one split are "
            "test images of another. Leave split out of vary, or leave tune out."
        )


def _check_tunable(doc: Document, name: str, factors: Mapping[str, Any], at: tuple[Any, ...]) -> None:
    first = name.partition(".")[0]
    section = section_of(first)
    if section is None or first not in TUNABLE.get(section, set()):
        known = [*Recipe.model_fields, "head.dropout", "head.hidden", "augmentation.zoom"]
        raise StudyError(f"{doc.origin(at)}: {one_of(name, known, 'setting of the recipe or the head')}")
    if first in NOT_TUNABLE:
        raise StudyError(
            f"{doc.origin(at)}: {first} cannot be tuned: it is the budget, what candidates are judged by, or what an "
            "arm is. `tune.epochs` says for how long candidates train."
        )
    for factor in factors:
        if first == factor.partition(".")[0]:
            raise StudyError(f"{doc.origin(at)}: {factor} is a factor of this study: what is compared is not tuned.")


def _check_conditions(
    doc: Document, parameter: Parameter, earlier: Mapping[str, Parameter], at: tuple[Any, ...]
) -> None:
    for parent, labels in parameter.wanted().items():
        where, choice = doc.origin((*at, "when", parent)), earlier.get(parent)
        if not isinstance(choice, Choice):
            choices = [name for name, one in earlier.items() if isinstance(one, Choice)]
            raise StudyError(f"{where}: {one_of(parent, choices, 'choice above')}")
        for label in labels:
            if label not in choice.labelled:
                raise StudyError(f"{where}: {one_of(label, list(choice.labelled), f'choice of {parent}')}")
