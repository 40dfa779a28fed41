"""The types of what a record's open sections say; newer keys beside these must not break older readers."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST = 2**63 - 1  # what a table can hold
TOLERATED_WAIT = 0.1  # of its epochs' time, that a device waits for input without a word
Count = Annotated[int, Field(ge=0, le=MOST)]
Side = Annotated[int, Field(ge=1, le=MOST)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CandidateFacts(BaseModel):
    """The candidate of a tuning phase that a record is of."""

    model_config = ConfigDict(extra="allow", frozen=True)

    search: str  # its arm's
    number: Count  # 1, 2, … within the search
    values: dict[str, str | bool | int | float]  # hyperparameter -> value; choices by their labels
    epochs: Count  # that it may train for
    reached: dict[str, Finite] = {}  # where it was pruned: epoch and validation_top1


class OriginalFacts(BaseModel):
    """Shorter sides of a split's photos before they were resized, in pixels."""

    model_config = ConfigDict(strict=True)

    smallest: Side
    median: Side
    largest: Side

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.smallest <= self.median <= self.largest:
            raise ValueError(f"{self.smallest}, {self.median} and {self.largest} pixels are in no order")
        return self


class SplitFacts(BaseModel):
    """What must not be overlooked in a split (`study.split_notes`); nothing of one that hides nothing."""

    model_config = ConfigDict(strict=True)

    drawn: list[str] = []
    leaks: dict[str, Count] = {}
    absent: dict[str, list[str]] = {}
    joined: bool = False


class DataFacts(BaseModel):
    """What `Record.data` may say, among more."""

    model_config = ConfigDict(strict=True)

    source: str | None = None
    image_size: Count | None = None
    normalisation: dict[str, list[float]] | None = None  # mean and deviation, RGB in 0..255
    classes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    class_names: list[str] | None = None
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None
    originals: OriginalFacts | None = None  # none of drawn images, and of records from before it was noted
    split_notes: SplitFacts | None = None


class NetworkFacts(BaseModel):
    """What `Record.network` may say, among more."""

    model_config = ConfigDict(strict=True)

    parameters: Count | None = None
    multiply_adds: Count | None = None
    weights: str | None = None  # their name
    weights_digest: str | None = None
    weights_origin: str | None = None  # this and the next as their file says
    weights_note: str | None = None
    weights_altered: str | None = None  # how they differ from what was trained


class GpuFacts(BaseModel):
    """What `Record.provenance` may say of the GPU that a trial ran on, among more; nothing where there was none."""

    model_config = ConfigDict(strict=True)

    name: str | None = None
    compute_capability: str | None = None
    memory: Count | None = None  # bytes
    driver: str | None = None  # its version
    cuda: str | None = None  # the newest that the driver speaks
    built_for_cuda: str | None = None  # that TensorFlow was built for, as is the next
    built_for_cudnn: str | None = None
    share: NotNegative | None = None  # of the GPU, that the trial had
    peak_bytes: Count | None = None  # that TensorFlow had at most


class ProvenanceFacts(BaseModel):
    """What `Record.provenance` may say, among more."""

    model_config = ConfigDict(strict=True)

    versions: dict[str, Any] | None = None
    cores: Count | None = None
    gpu: GpuFacts | None = None  # none of trials on CPUs, and of records from before it was noted
    out_of_gpu_memory: Count | None = None  # bytes at the peak, where a trial failed for want of it
    load_at_start: NotNegative | None = None  # load average over a minute
    load_at_end: NotNegative | None = None
    input_wait: Annotated[float, Field(ge=0, le=1)] | None = None  # share of the epochs' time, of a device for input


class SharedCost(BaseModel):
    """The cost of work whose outcome several trials use: whichever needs it first does it, or a part of it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    seconds: NotNegative | None = None  # of all that this trial uses, whoever did it and when; None where unknown
    computed_seconds: NotNegative = 0.0  # that this very trial worked on it
    key: str = ""  # of features: their folder's name, a hash of backbone, weights, data, normalisation and execution
