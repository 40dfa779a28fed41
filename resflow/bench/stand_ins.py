"""Outcomes of trials that nobody trained, for measuring bookkeeping. Never a result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resflow import provenance
from resflow.records.record import HISTORY_COLUMNS, Outcome, make_record, write_record
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
    test = round(last["validation_top1"] * TEST_IMAGES) / TEST_IMAGES
    record = make_record(
        trial,
        status="completed",
        data={"source": trial.data.source, "fingerprint": trial.fingerprint, "classes": trial.classes},
        network={"parameters": trial.parameters, "multiply_adds": trial.multiply_adds},
        metrics={**last, "test_top1": test, "test_top5": 1.0, "test_mean_class_accuracy": test, "test_loss": 1.0},
        best_epoch=epochs,
        epochs_run=epochs,
        seconds=float(epochs),
        provenance={"finished": provenance.now(), "tensorflow": "tensorflow" in sys.modules},
    )
    labels = np.arange(TEST_IMAGES) % trial.classes
    right = np.arange(TEST_IMAGES) < round(test * TEST_IMAGES)
    predictions = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(TEST_IMAGES)],
            "label": labels,
            "predicted": np.where(right, labels, (labels + 1) % trial.classes),
            "probability": np.where(right, 0.8, 0.1),
            "rank": np.where(right, 0, 1),
        }
    )
    return Outcome(record, history, predictions)


def _curve(level: float, part: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return np.clip(level * (1 - np.exp(-4 * part)) + draw.normal(0, 0.01, len(part)), 0.01, 0.99)


def write_records(run: Path, trials: list[Trial], epochs: int) -> None:
    """Write the records of some trials as `write_record` does, but without waiting for the disk: thousands in seconds.

    All have the predictions of the first; no report reads more than one.
    """
    first = write_record(run, make_outcome(trials[0], epochs))
    predictions = (first / "predictions.parquet").read_bytes()
    for trial in trials[1:]:
        outcome, folder = make_outcome(trial, epochs), trial_folder(run, trial.id)
        folder.mkdir()
        outcome.history.to_csv(folder / "history.csv", index=False)
        (folder / "predictions.parquet").write_bytes(predictions)
        (folder / "record.json").write_text(json.dumps(outcome.record.model_dump(), indent=1) + "\n", encoding="utf-8")


def do_nothing(trial: Trial, *arguments: Any) -> Outcome:
    """Do nothing, in place of training in a worker, and return an outcome."""
    return make_outcome(trial, 1)
