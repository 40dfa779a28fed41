"""The two things that a file of weights says: the conventions of its tensors, and the trained network that they are.

Any file may say the first (`Description`). The second (`TrainedNetwork`) is in the files that resflow keeps and
exports. `metadata` reads and writes both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from resflow.architectures import Architecture
from resflow.errors import StudyError
from resflow.study import validation
from resflow.study.pretrained import NO_NOTES, Normalisation, Notes
from resflow.study.settings import Head, ImageSize, Lowering, Network, Precision
from resflow.study.trial import Trial

FIELDS = {field.name for field in fields(Architecture)}


@dataclass(frozen=True)
class Description:
    """The conventions of a file's tensors; the defaults stand for what it leaves out."""

    normalisation: Normalisation | None = None  # in RGB order, whatever the file's
    layout: str = "RGB"  # the order of the stem's input channels
    stem_pool: str = "both"
    epsilon: float | None = None
    variant: str | None = None
    notes: Notes = NO_NOTES


def _architecture(value: Any) -> Architecture:
    """Check fields by `settings.Network` as well, which bounds them: a damaged depth must not ask for all memory."""
    if isinstance(value, Architecture):
        return value
    if not isinstance(value, dict) or not set(value) >= FIELDS:
        raise ValueError(f"expected an object with {', '.join(sorted(FIELDS))}")
    try:
        Network(**{key: field for key, field in value.items() if key not in ("stem", "stem_pool")})
        return Architecture(**value)
    except ValidationError as error:
        raise ValueError(validation.first_problem(error)) from error
    except (StudyError, TypeError) as error:
        raise ValueError(str(error).rstrip(".")) from error


class _Part(BaseModel):
    # Newer keys must not break older readers.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class Trained(_Part):
    """The training that a network comes from."""

    trial: str
    study: str
    arm: str
    seed: int
    epoch: int
    kept: str  # best or last
    source: str  # of its images
    finetune: str


class Computed(_Part):
    """All else that decides the last bits of a network's logits."""

    lowering: Lowering
    precision: Precision


class TrainedNetwork(_Part):
    """A trained network: all that it is built from again, what it wants of a pixel, and what its outputs mean."""

    architecture: Annotated[
        Architecture,
        PlainValidator(_architecture),
        PlainSerializer(asdict, dict[str, Any]),
        Field(alias="network"),  # its name on disk
    ]
    head: Head
    classes: Annotated[tuple[str, ...], Field(min_length=1)]  # class names in the order of the logits
    image_size: ImageSize
    computed: Computed
    trained: Trained
    normalisation: Normalisation


def describe_trial(trial: Trial, epoch: int, classes: Iterable[str], normalisation: Normalisation) -> TrainedNetwork:
    """Describe the network of a trial as it is after an epoch."""
    assert trial.keep_weights != "none"  # else nobody asks
    return TrainedNetwork(
        architecture=trial.architecture,
        head=trial.network.head,
        classes=tuple(classes),
        image_size=trial.data.image_size,
        computed=Computed(lowering=trial.execution.lowering, precision=trial.execution.policy),
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
        normalisation=normalisation,
    )
