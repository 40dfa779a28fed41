"""One arm of a study: every setting of its trials, and what of it must go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from resflow import validation
from resflow.architectures import Architecture, stages
from resflow.errors import StudyError
from resflow.settings import SECTIONS, Data, Network, Recipe, section_of


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
                raise StudyError(validation.reason(error)) from error
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
