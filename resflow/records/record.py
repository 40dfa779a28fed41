"""Records: what a trial leaves on disk.

    results/<run>/trials/<id>/record.json          the Record below
    results/<run>/trials/<id>/history.csv          a row an epoch: HISTORY_COLUMNS
    results/<run>/trials/<id>/predictions.parquet  a row a test image: PREDICTION_COLUMNS
    results/<run>/trials/<id>/diagnostics.parquet  a row a layer and kind of figure: DIAGNOSTIC_COLUMNS

A record appears whole or not at all: its files are written and synced in a hidden folder beside
the final one, which one rename then puts in place. A run that has ended may be packed into one file
without such folders (`archive`). A record is read whole or not at all as well: what does not fit its
digests, or contradicts itself, is refused (`verification`). Fractions are 0..1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from resflow import atomic, reading, workspace
from resflow.errors import RecordError
from resflow.records import verification
from resflow.records.facts import (
    MOST,
    CandidateFacts,
    Count,
    DataFacts,
    Finite,
    NetworkFacts,
    NotNegative,
    ProvenanceFacts,
    SharedCost,
)
from resflow.records.metrics import METRICS
from resflow.workspace import trial_folder

if TYPE_CHECKING:
    from resflow.study.trial import Trial

SCHEMA_VERSION = 2
Status = Literal["completed", "diverged", "failed", "pruned"]
HISTORY_COLUMNS = (
    "epoch",  # 1, 2, …
    "learning_rate",  # of the epoch's last step
    "batch_loss",  # mean over the epoch's training batches, training mode, augmented, as optimised
    "train_loss",  # cross-entropy on the clean training images, inference mode
    "train_top1",
    "validation_loss",
    "validation_top1",
    "seconds",  # wall time of the epoch, evaluation included; as `Record.seconds`, the trial's own
)
PREDICTION_COLUMNS = (
    "image",  # the image's name in its source
    "label",  # true class, 0-based
    "predicted",  # most probable class
    "probability",  # softmax probability of the true class
    "rank",  # other classes that score at least as high as the true one; 0 is a correct answer, < 5 a top-5 one
)
DIAGNOSTIC_COLUMNS = (
    "kind",  # gradient_norm, response_sd, bn_scale, dead_units, shortcut_share (training/diagnostics.py)
    "layer",  # its name
    "place",  # 0, 1, … among the layers of this kind, from the input on
    "epoch",  # whose end the value is of; 0 is the first step
    "value",
)
PROBE = 64  # validation images, or all where there are fewer, that diagnostics look at
LARGEST = 16 * reading.MEGABYTE  # bytes of a record.json; one of 100,000 classes' names has 3 MB


class Record(BaseModel):
    """One trial's outcome. Immutable; `metrics` is empty unless the status is completed."""

    model_config = ConfigDict(extra="allow", frozen=True)  # newer fields must not break older readers

    schema_version: Annotated[int, Field(ge=1)] = SCHEMA_VERSION  # 1: without digests
    id: str
    study: str
    arm: str
    levels: dict[str, str]  # factor -> label of its level
    seed: Annotated[int, Field(ge=-MOST, le=MOST)]
    split_seed: Annotated[int, Field(ge=-MOST, le=MOST)]
    # init or order -> the seed that it was drawn from, where that was not `seed`
    held: dict[str, Annotated[int, Field(ge=-MOST, le=MOST)]] = {}
    varies: str = ""  # the stream that alone followed the seed, of a trial beside the study's own seeds
    status: Status
    reason: str = ""  # one line, unless completed
    candidate: CandidateFacts | None = None  # of a tuning phase; None for a trial
    settings: dict[str, dict[str, Any]]  # network, recipe, data: everything that was asked for
    execution: dict[str, Any]  # device, threads, precision, jit, lowering
    data: dict[str, Any] = {}  # source, fingerprint, split, split_hash, image_size, classes, counts
    network: dict[str, Any] = {}  # parameters, multiply_adds, stem
    metrics: dict[str, Finite] = {}  # of the test images, and of the others under the same weights
    best_epoch: Count | None = None  # the epoch whose weights were tested
    epochs_run: Count = 0
    seconds: NotNegative = 0.0  # the trial's own wall time: without work that trials share, and without waiting for it
    # `features` (of a frozen backbone) and `graph` (the network's, built, traced and compiled, with the first call of
    # each function) -> their cost. Empty in older records, whose `seconds` hold what shared work the trial did itself.
    shared: dict[str, SharedCost] = {}
    provenance: dict[str, Any] = {}

    @field_validator("candidate", mode="before")
    @classmethod
    def _none_of_a_trial(cls, value: Any) -> Any:
        return value or None

    @field_validator("metrics")
    @classmethod
    def _within_their_range(cls, values: dict[str, float]) -> dict[str, float]:
        for name, value in values.items():
            if (metric := METRICS.get(name)) and not metric.low <= value <= metric.high:
                raise ValueError(f"{name} is {value:g}, expected {metric.range}")
        return values

    @field_validator("data", "network", "provenance")
    @classmethod
    def _of_known_types(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        kinds: dict[str, type[BaseModel]] = {"data": DataFacts, "network": NetworkFacts, "provenance": ProvenanceFacts}
        kinds[str(info.field_name)].model_validate(values)
        return values

    @model_validator(mode="after")
    def _tested_an_epoch_that_ran(self) -> Self:
        if (self.best_epoch or 0) > self.epochs_run:
            raise ValueError(f"best_epoch is {self.best_epoch} of {self.epochs_run} epochs")
        return self

    @property
    def shared_seconds(self) -> float:
        """The cost of all shared work that the trial uses: NaN where that is unknown, 0 where none is told apart."""
        if not self.shared:
            return math.nan if self.network.get("shared_features") else 0.0
        return sum(math.nan if cost.seconds is None else cost.seconds for cost in self.shared.values())

    @property
    def spent_seconds(self) -> float:
        """The trial's own seconds and those that it worked for others: over all trials they count each work once."""
        return self.seconds + sum(cost.computed_seconds for cost in self.shared.values())

    @property
    def sealed(self) -> bool:
        """True where digests say that all of it is as it was written; older records have none."""
        return self.schema_version >= verification.FIRST_SEALED


def make_record(trial: Trial, **facts: Any) -> Record:
    """Return a trial's record: its settings, and the `facts` of its training.

    Weights that give a metric that is no number have not completed anything: they diverged.
    """
    lost = [name for name, value in facts.get("metrics", {}).items() if not math.isfinite(value)]
    if lost:
        reason = f"{', '.join(lost)} of the tested weights: no number"
        facts |= {"status": "diverged", "reason": reason, "metrics": {}, "best_epoch": None}
    if (notes := trial.facts.notes.as_json()) and facts.get("data"):
        facts["data"] = {**facts["data"], "split_notes": notes}
    fields = ("id", "study", "arm", "levels", "seed", "split_seed", "held", "varies")
    names = {name: getattr(trial, name) for name in fields}
    candidate = trial.candidate and CandidateFacts.model_validate(trial.candidate, from_attributes=True)
    return Record(
        **names, candidate=candidate, settings=trial.settings(), execution=trial.execution.model_dump(), **facts
    )


@dataclass(frozen=True)
class Outcome:
    """A record with its history, predictions and diagnostics, as training hands it over."""

    record: Record
    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(HISTORY_COLUMNS)))
    predictions: pd.DataFrame | None = None
    diagnostics: pd.DataFrame | None = None


def write_record(run: Path, outcome: Outcome) -> Path:
    """Write one record, whole or not at all, and return its folder. Replaces an older one."""
    with whole(run, outcome.record) as draft:
        outcome.history.to_csv(draft / workspace.HISTORY, index=False)
        if outcome.predictions is not None and outcome.record.status == "completed":
            outcome.predictions.to_parquet(draft / workspace.PREDICTIONS, index=False)
        if outcome.diagnostics is not None:
            outcome.diagnostics.to_parquet(draft / workspace.DIAGNOSTICS, index=False)
    return trial_folder(run, outcome.record.id)


@contextmanager
def whole(run: Path, record: Record) -> Iterator[Path]:
    """Give a draft folder for the tables beside a record; it takes the record's place when all of it is on the disk."""
    try:
        with atomic.folder(trial_folder(run, record.id)) as draft:
            yield draft
            (draft / workspace.RECORD).write_text(record_text(record, draft), encoding="utf-8")
    except OSError as error:
        raise RecordError(
            f"cannot write the record of trial {record.id} below {run}: {error}. "
            "Free space or choose another folder with --out, then run the same command again."
        ) from error


def record_text(record: Record, folder: Path) -> str:
    """Return record.json of a record whose tables lie in `folder`: with their digests and its own.

    A record from before there were digests stays as unchecked as it was.
    """
    values = record.model_dump()
    return json.dumps(verification.sealed(values, folder) if record.sealed else values, indent=1) + "\n"


def read_record(folder: Path) -> Record:
    """Read one record folder. Raises RecordError where it is not a whole, known record, as it was written."""
    return open_record(folder)[0]


def open_record(folder: Path, tables: bool = True) -> tuple[Record, list[str]]:
    """Read one record folder; return the record, and the files beside it that are lost. Raises as `read_record`.

    Without `tables` those that fit their digests are not looked into: of very many trials that takes long.
    """
    path, again = folder / workspace.RECORD, _again(folder)
    values = read_content(folder)
    record = parse(values, path, again)
    if record.id != folder.name:  # ids become paths
        raise RecordError(f"{path} is the record of another trial, {record.id!r}: rename or remove that folder.")
    if problem := verification.damage(folder, values, record, tables):
        raise RecordError(f"{problem}. {again}")
    return record, verification.lost_files(folder, values)


def parse(values: Mapping[str, Any], path: Path, again: str) -> Record:
    """Return a record of the content that `path` has; `again` says how to do without it. Raises RecordError."""
    try:
        record = Record.model_validate({name: value for name, value in values.items() if name != verification.DIGESTS})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordError(
            f"{path} is no valid record ({place + ': ' if place else ''}{first['msg']}). {again}"
        ) from error
    if record.schema_version > SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema version {record.schema_version}, this resflow reads up to {SCHEMA_VERSION}. "
            "Upgrade resflow."
        )
    return record


def _again(folder: Path) -> str:
    return f"Remove the folder {folder} and run the study again: only that trial will run."


def read_content(folder: Path) -> dict[str, Any]:
    """Return what the record.json in a folder says, whether it is a record or not. Raises RecordError."""
    path, again = folder / workspace.RECORD, _again(folder)
    try:
        values = from_json(reading.read(path, LARGEST))
    except FileNotFoundError as error:
        raise RecordError(f"{path.parent} holds no record.json: it is not a trial's folder.") from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror or error}). {again}") from error
    except ValueError as error:
        raise RecordError(f"{path} is no valid record ({error}). {again}") from error
    if not isinstance(values, dict):
        raise RecordError(f"{path} is no valid record (expected a mapping). {again}")
    return {"schema_version": 1, **values}
