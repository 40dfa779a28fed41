"""What a file says of the trained network that it holds: all that the network is built from again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from resflow.architectures import Architecture
from resflow.errors import StudyError, WeightsError
from resflow.study import validation
from resflow.study.pretrained import Normalisation
from resflow.study.settings import Head, Network
from resflow.study.trial import Trial

FIELDS = {field.name for field in fields(Architecture)}


def _architecture(given: Any) -> Architecture:
    """Check fields by `settings.Network` as well, which bounds them: a damaged depth must not ask for all memory."""
    if isinstance(given, Architecture):
        return given
    if not isinstance(given, dict) or not set(given) >= FIELDS:
        raise ValueError(f"expected an object with {', '.join(sorted(FIELDS))}")
    try:
        Network(**{key: value for key, value in given.items() if key not in ("stem", "stem_pool")})
        return Architecture(**given)
    except ValidationError as error:
        raise ValueError(validation.first_problem(error)) from error
    except (StudyError, TypeError) as error:
        raise ValueError(str(error).rstrip(".")) from error


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")  # newer keys must not break older readers


class Trained(_Said):
    """Where a network comes from."""

    trial: str
    study: str
    arm: str
    seed: int
    epoch: int
    kept: str  # best or last
    source: str  # of its images
    finetune: str


class Computed(_Said):
    """What else decides the last bits of its logits."""

    lowering: Literal["table", "native"]
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]


class About(_Said):
    """A trained network: what it is built from again, and what its outputs mean."""

    network: Annotated[Architecture, PlainValidator(_architecture), PlainSerializer(asdict, dict[str, Any])]
    head: Head
    classes: Annotated[tuple[str, ...], Field(min_length=1)]  # class names in the order of the logits
    image_size: Annotated[int, Field(ge=1, le=512)]  # no more than `settings.Data` has
    computed: Computed
    trained: Trained

    def metadata(self) -> dict[str, str]:
        """Return what a safetensors file must say beside that which `weights.save` writes: `network` and `classes`."""
        parts = self.model_dump(mode="json", exclude={"network", "classes"})
        return {key: json.dumps(value, ensure_ascii=False) for key, value in parts.items()}


class Described(About):
    """About, with what the network wants of a pixel; model.json holds it."""

    normalisation: Normalisation


def describe_trial(trial: Trial, epoch: int, classes: Iterable[str]) -> About:
    """Describe the network of a trial as it is after an epoch."""
    assert trial.keep_weights != "none"  # else nobody asks
    return About(
        network=trial.architecture,
        head=trial.network.head,
        classes=tuple(classes),
        image_size=trial.data.image_size,
        computed=Computed(lowering=trial.execution.lowering, precision=trial.execution.precision),
        trained=Trained(
            trial=trial.id,
            study=trial.study,
            arm=trial.arm,
            seed=trial.seed,
            epoch=epoch,
            kept=trial.keep_weights,
            source=trial.data.source,
            finetune=trial.recipe.finetune if trial.pretrained else "scratch",
        ),
    )


def parse_description(kind: type[Any], text: str, path: Path) -> Any:
    """Read JSON as About or Described. Raises WeightsError where it makes no sense; `path` is where it stands."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        own_words = problem["type"] in ("missing", "json_invalid")  # else they tell what was expected and what came
        reason = problem["msg"] if own_words else validation.first_problem(error)
        raise WeightsError(
            f"what {path} says of its network makes no sense: {where or 'its text'}: {reason}. "
            "Export or train the network again."
        ) from error
