"""Outcomes of trials that nobody trained, for measuring bookkeeping. Never a result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resflow import provenance
from resflow.records import verification
from resflow.records.record import HISTORY_COLUMNS, Outcome, make_record, record_text
from resflow.study.trial import Trial
from resflow.workspace import trial_folder

SCORES = ("train_top1", "validation_top1")
TEST_IMAGES = 300


def make_outcome(trial: Trial, epochs: int) -> Outcome:
    """Return a completed trial whose curves rise to a level of its arm's, with noise of its seed's."""
    draw = np.random.default_rng([trial.seed, *trial.arm.encode()])
    level = np.random.default_rng(list(trial.arm.encode())).uniform(0.3, 0.8)
    epoch = np.arange(1, epochs + 1)
    curves = {name: _curve(level, epoch / epochs, draw) for name in SCORES}
    losses = {name.replace("top1", "loss"): -np.log(curve) for name, curve in curves.items()}
    rate = np.full(epochs, trial.recipe.learning_rate)
    columns = {"epoch": epoch, "learning_rate": rate, "batch_loss": losses["train_loss"], **curves, **losses}
    history = pd.DataFrame({**columns, "seconds": np.ones(epochs)})[list(HISTORY_COLUMNS)]
    last: dict[str, float] = {name: float(history[name].iloc[-1]) for name in (*curves, *losses)}
    predictions = _predictions(round(last["validation_top1"] * TEST_IMAGES), trial.classes)
    scores = verification.answer_scores(*(predictions[name].to_numpy() for name in ("label", "rank", "probability")))
    record = make_record(
        trial,
        status="completed",
        data={"source": trial.data.source, "fingerprint": trial.fingerprint, "classes": trial.classes},
        network={"parameters": trial.parameters, "multiply_adds": trial.multiply_adds},
        metrics={**last, **scores},
        best_epoch=epochs,
        epochs_run=epochs,
        seconds=float(epochs),
        provenance={"finished": provenance.now(), "tensorflow": "tensorflow" in sys.modules},
    )
    return Outcome(record, history, predictions)


def _predictions(correct: int, classes: int) -> pd.DataFrame:
    labels, right = np.arange(TEST_IMAGES) % classes, np.arange(TEST_IMAGES) < correct
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(TEST_IMAGES)],
            "label": labels,
            "predicted": np.where(right, labels, (labels + 1) % classes),
            "probability": np.where(right, 0.8, 0.1),
            "rank": np.where(right, 0, 1),
        }
    )


def _curve(level: float, part: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return np.clip(level * (1 - np.exp(-4 * part)) + draw.normal(0, 0.01, len(part)), 0.01, 0.99)


def write_records(run: Path, trials: list[Trial], epochs: int) -> None:
    """Write the records of some trials as `write_record` does, but without waiting for the disk: thousands in seconds.

    Those that answer alike share the bytes of their predictions.
    """
    written: dict[float, bytes] = {}  # test top-1 -> predictions
    for trial in trials:
        outcome, folder = make_outcome(trial, epochs), trial_folder(run, trial.id)
        folder.mkdir(parents=True)
        outcome.history.to_csv(folder / "history.csv", index=False)
        top1 = outcome.record.metrics["test_top1"]
        if top1 not in written and outcome.predictions is not None:
            written[top1] = outcome.predictions.to_parquet(index=False)
        (folder / "predictions.parquet").write_bytes(written[top1])
        (folder / "record.json").write_text(record_text(outcome.record, folder), encoding="utf-8")


def do_nothing(trial: Trial, *arguments: Any) -> Outcome:
    """Do nothing, in place of training in a worker, and return an outcome."""
    return make_outcome(trial, 1)
