"""Whether a record and what lies beside it are as they were written: digests, ranges, and one against the other.

A record of schema version 2 carries the SHA-256 digests of its files and of its own content. Older ones have none: what
contradicts itself is found out, a changed last digit is not, and readers are told so. In an archive the digests are of
a trial's rows, whatever bytes hold them, and older records have them from their packing on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resflow import reading, workspace
from resflow.records import rounding
from resflow.records.archive import HISTORY, PREDICTIONS, TABLES, Archive, content_digest
from resflow.records.metrics import METRICS
from resflow.records.tables import (
    DIAGNOSTIC_KINDS,
    MOST_ROWS,
    PREDICTION_KINDS,
    DamagedTableError,
    read_numbers,
    read_parquet,
)

if TYPE_CHECKING:
    from resflow.records.record import Record

DIGESTS = "digests"  # of record.json: file -> digest; its own is of everything but itself
FIRST_SEALED = 2  # schema version
BESIDE = (workspace.HISTORY, workspace.PREDICTIONS, workspace.DIAGNOSTICS)
MOST_DIAGNOSTICS = 1_000_000  # rows: 152 layers have some 25,000
MOST_CLASSES = 1_000  # of a record that does not say how many there are
TOLERANCE = 1e-6


def sealed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of a record with the digests of the files that lie in `folder`, and its own."""
    files = {name: digest((folder / name).read_bytes()) for name in BESIDE if (folder / name).is_file()}
    plain = json.loads(json.dumps({**values, DIGESTS: files}))
    return {**plain, DIGESTS: {**files, workspace.RECORD: _own_digest(plain)}}


def sealed_rows(values: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a record with the digests of its rows, as an archive stores them, and its own."""
    plain = json.loads(json.dumps({**values, DIGESTS: {name: content_digest(rows) for name, rows in tables.items()}}))
    return {**plain, DIGESTS: {**plain[DIGESTS], workspace.RECORD: _own_digest(plain)}}


def digest(content: bytes) -> str:
    """Return the digest of a file as records have it."""
    return hashlib.sha256(content).hexdigest()


def _own_digest(values: Mapping[str, Any]) -> str:
    """Return the digest of a record's content, however its JSON is laid out."""
    files = {name: value for name, value in values[DIGESTS].items() if name != workspace.RECORD}
    return digest(json.dumps({**values, DIGESTS: files}, sort_keys=True, separators=(",", ":")).encode())


def lost_files(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Name the optional files that a record was written with and that are not there any more."""
    listed = values.get(DIGESTS)
    names = [name for name in BESIDE[1:] if isinstance(listed, Mapping) and name in listed]
    return [name for name in names if not (folder / name).exists()]


def damage(folder: Path, values: Mapping[str, Any], record: Record, tables: bool = True) -> str:
    """Say what in a record's folder is not as it was written, or contradicts the rest; empty where all is well.

    A table that fits its digest is as training wrote it: only predictions, which the record sums up, are then held
    against it, and without `tables` not even these.
    """
    digests = values.get(DIGESTS)
    if digests is None and record.schema_version < FIRST_SEALED:
        digests = {}
    elif not isinstance(digests, Mapping) or digests.get(workspace.RECORD) != _own_digest(values):
        reason = f"{folder / workspace.RECORD} does not fit its own digest: something in it was changed"
        return "; ".join([reason, *_contradictions(folder, record)][:2])
    for name in BESIDE:
        try:
            content = reading.read(folder / name)
        except FileNotFoundError:
            if name == workspace.HISTORY and record.epochs_run:
                return f"{folder / name} has 0 whole rows, its record is of {record.epochs_run} epochs"
            continue
        except OSError as error:
            return f"{folder / name} cannot be read ({error.strerror or error})"
        changed = bool(digests) and digests.get(name) != digest(content)
        if digests and not changed and not (tables and name == workspace.PREDICTIONS):
            continue
        problem = next(iter(_problems(name, content, record)), "")
        if changed:
            named = "does not fit the digest in its record" if name in digests else "was not written with its record"
            return f"{folder / name} {named}: the file was changed" + (f"; {problem}" if problem else "")
        if problem:
            return f"{folder / name}: {problem}"
    return ""


def damage_packed(archive: Archive, record: Record, tables: bool = True) -> str:
    """Say what of a trial in an archive is not as it was packed, as `damage` does of one in its folder."""
    values = archive.records[record.id]
    digests = values.get(DIGESTS)
    if not isinstance(digests, Mapping) or digests.get(workspace.RECORD) != _own_digest(values):
        return "the record does not fit its own digest: something in it was changed"
    for name in TABLES:
        rows = archive.stored(name, record.id)
        if digests.get(name) != (None if rows is None else content_digest(rows)):
            return f"its {name} does not fit the digest in its record: it was changed"
    if (epochs := archive.count(HISTORY, record.id)) != record.epochs_run:
        return f"its {HISTORY} has {epochs} rows, its record is of {record.epochs_run} epochs"
    answers = archive.table(PREDICTIONS, record.id) if tables else None
    return "" if answers is None else next((f"its {PREDICTIONS}: {line}" for line in _of_answers(answers, record)), "")


def _contradictions(folder: Path, record: Record) -> Iterator[str]:
    for name in BESIDE:
        try:
            yield from _problems(name, reading.read(folder / name), record)
        except OSError:
            continue


def _problems(name: str, content: bytes, record: Record) -> Iterator[str]:
    """Yield what is wrong with a file beside a record, by itself and against the record."""
    check = {
        workspace.HISTORY: _of_history,
        workspace.PREDICTIONS: _of_predictions,
        workspace.DIAGNOSTICS: _of_diagnostics,
    }[name]
    try:
        yield from check(content, record)
    except DamagedTableError as error:
        yield str(error)


def _of_history(content: bytes, record: Record) -> Iterator[str]:
    from resflow.records.record import HISTORY_COLUMNS

    rows = content.count(b"\n") - 1
    if rows != record.epochs_run or not content.endswith(b"\n"):
        yield f"it has {max(rows, 0)} whole rows, its record is of {record.epochs_run} epochs"
        return
    columns = read_numbers(content, HISTORY_COLUMNS)
    if not np.array_equal(columns["epoch"], np.arange(1, rows + 1)):
        yield "its epochs are not 1, 2, …"
    for name, values in columns.items():
        top = 1 if name.endswith("top1") else np.inf
        if name != "epoch" and ((values < -TOLERANCE) | (values > top)).any():
            yield f"its {name} is not {'between 0 and 1' if top == 1 else '0 or more'} in every epoch"
    if record.best_epoch:
        tested = {name: float(values[record.best_epoch - 1]) for name, values in columns.items()}
        for name in record.metrics.keys() & tested.keys():
            if not _alike(record.metrics[name], tested[name]):
                yield _contradiction(name, tested[name], record) + f" of epoch {record.best_epoch}"


def _of_predictions(content: bytes, record: Record) -> Iterator[str]:
    images = record.data.get("test")
    table = read_parquet(content, PREDICTION_KINDS, MOST_ROWS if images is None else images, only=("whole", "number"))
    yield from _of_answers(table, record)


def _of_answers(table: Any, record: Record) -> Iterator[str]:
    images, classes = record.data.get("test"), record.data.get("classes") or MOST_CLASSES
    if images is not None and table.num_rows != images:
        yield f"it has {table.num_rows:,} rows, its record is of {images:,} test images"
        return
    columns = {name: table.column(name).to_numpy() for name, kind in PREDICTION_KINDS.items() if kind != "text"}
    for name in ("label", "predicted", "rank"):
        wrong = columns[name][(columns[name] < 0) | (columns[name] >= classes)]
        if len(wrong):
            yield f"it has {wrong[0]} for {name}, of {classes:,} classes"
            return
    right, probability = columns["rank"] == 0, columns["probability"]
    if not ((probability >= 0) & (probability <= 1)).all():
        yield "it has a probability that is not between 0 and 1"
    if (right & (columns["predicted"] != columns["label"])).any():
        yield "it has an answer of rank 0 that is not the true class"
    if table.num_rows:
        for name, value in answer_scores(columns["label"], columns["rank"], probability).items():
            said = record.metrics.get(name)
            slack = rounding.LOSS_PRECISION if name == "test_loss" and rounding.is_rounded(probability) else 0.0
            if said is not None and not _alike(said, value, slack):
                yield _contradiction(name, value, record)


def _alike(one: float, other: float, slack: float = 0.0) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE + slack)


def answer_scores(label: np.ndarray, rank: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return the metrics of the test images that their predictions give, as `training.scoring` computes them."""
    right, counts = rank == 0, np.bincount(label)
    hits = np.bincount(label, weights=right)
    scores = {
        "test_top1": float(right.mean()),
        "test_top5": float((rank < 5).mean()),
        "test_mean_class_accuracy": float((hits[counts > 0] / counts[counts > 0]).mean()),
    }
    if probability.min() > np.finfo(float).tiny:  # of what is rounded to 0 the loss is not known
        scores["test_loss"] = float(-np.log(probability).mean())
    return scores


def _of_diagnostics(content: bytes, record: Record) -> Iterator[str]:
    table = read_parquet(content, DIAGNOSTIC_KINDS, MOST_DIAGNOSTICS)
    epochs = table.column("epoch").to_numpy()
    if ((epochs < 0) | (epochs > record.epochs_run)).any():
        yield f"it has an epoch that is none of its record's {record.epochs_run}"


def _contradiction(name: str, value: float, record: Record) -> str:
    label = METRICS[name].label if name in METRICS else name
    return f"it gives a {label} of {value:.6g} where its record says {record.metrics[name]:.6g}: one was changed"
