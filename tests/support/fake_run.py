"""A plausible results folder without training: for tests and for looking at reports. Never a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from resflow.records import verification
from resflow.records.record import DIAGNOSTIC_COLUMNS, HISTORY_COLUMNS, Outcome, Record, write_record
from resflow.records.run_files import PLAN_KEYS, PLAN_NUMBERS
from resflow.study.level_columns import column_names
from resflow.study.trial import Trial

DEPTHS = {"18": 18, "34": 34, "50": 50, "101": 101}
DEPTH_FACTORS: dict[str, dict[str, Any]] = {
    "shortcut": {"plain": "none", "residual": "zero_pad"},
    "depth": DEPTHS,
}
CLASSES, TEST = 10, 500
METRICS = ("test_top1", "train_top1")


def degrading(levels: Mapping[str, str]) -> tuple[float, float]:
    """(test, train) top-1 of a depth study in which plain networks degrade down to chance."""
    place = list(DEPTHS).index(levels["depth"])
    if levels["shortcut"] == "plain":
        return [0.55, 0.45, 0.25, 0.10][place], [0.97, 0.80, 0.40, 0.10][place]
    return [0.56, 0.60, 0.62, 0.64][place], [0.99, 0.99, 0.98, 0.97][place]


def trial_id(arm: str, seed: int) -> str:
    return hashlib.sha256(f"{arm}/{seed}".encode()).hexdigest()[:12]


def write_run(
    folder: Path,
    factors: Mapping[str, Mapping[str, Any]] = DEPTH_FACTORS,
    truth: Callable[[Mapping[str, str]], tuple[float, float]] = degrading,
    seeds: Sequence[int] = (1, 2, 3),
    statuses: Mapping[tuple[str, int], str] | None = None,  # (arm, seed) -> status, or "not run"
    epochs: int = 12,
    foreign: bool = False,  # without study.yaml and plan.csv
    evaluate_every: int = 1,
    projections: int = 0,  # parameters that arms with shortcuts have beyond their plain twins'
    **study: Any,
) -> Path:
    """Write a run and return its folder. `study` overrides keys of study.yaml, such as question or margin."""
    arms = {
        "-".join(labels): dict(zip(factors, labels, strict=True))
        for labels in product(*(list(levels) for levels in factors.values()))
    }
    resolved = {
        "name": "depth",
        "question": "Does depth help with shortcuts, and hurt without them?",
        "profile": "cpu",
        "baseline": next(iter(arms)),
        "factors": {name: dict(levels) for name, levels in factors.items()},
        "arms": list(arms),
        "settings": {
            "network": {"family": "imagenet", "variant": "v1.5", "width": 0.25, "stem": "auto"},
            "recipe": {"optimizer": "sgd", "learning_rate": 0.05, "epochs": epochs, "batch_size": 32}
            | ({"evaluate_every": evaluate_every} if evaluate_every > 1 else {}),
            "data": {"source": "oxford_flowers10", "split": "official", "image_size": 64},
        },
        "seeds": list(seeds),
        "split_seed": 0,
        "metric": "test_top1",
        "margin": None,
        **study,
    }
    folder.mkdir(parents=True, exist_ok=True)
    plan, names = [], column_names(factors, (*PLAN_KEYS, *PLAN_NUMBERS))
    places = [[label for factor, label in levels.items() if factor != "shortcut"] for levels in arms.values()]
    for arm, levels in arms.items():
        for seed in seeds:
            others = [label for factor, label in levels.items() if factor != "shortcut"]
            shortcut = factors.get("shortcut", {}).get(levels.get("shortcut", ""), "none")
            size = 200_000 + 50_000 * places.index(others) + projections * (shortcut != "none")
            plan.append(
                {"id": trial_id(arm, seed), "arm": arm, "seed": seed}
                | {names[factor]: label for factor, label in levels.items()}
                | {"parameters": size, "multiply_adds": 40 * size, "epochs": epochs}
            )
            status = (statuses or {}).get((arm, seed), "completed")
            if status != "not run":
                settings = _settings(resolved, factors, levels)
                write_record(folder, _outcome(resolved, settings, plan[-1], levels, truth(levels), status, epochs))
    if not foreign:
        pd.DataFrame(plan).to_csv(folder / "plan.csv", index=False)
        with (folder / "study.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(resolved, file)
    return folder


def completed(trial: Trial, truth: tuple[float, float]) -> Outcome:
    """Return what a planned trial would leave, had it come near a (test, train) top-1."""
    groups = ("network", "recipe", "data")
    settings = {name: getattr(trial, name).model_dump(mode="json") for name in groups}
    row = {name: getattr(trial, name) for name in ("id", "arm", "seed", "parameters", "multiply_adds")}
    study = {"name": trial.study, "split_seed": trial.split_seed}
    return _outcome(study, settings, row, trial.levels, truth, "completed", 12)


def rewrite(run: Path, arm: str, seed: int, **changes: Any) -> None:
    """Change fields of one record on disk as if it had been written so; scores that its predictions do not give drop
    these."""
    folder = run / "trials" / trial_id(arm, seed)
    values = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    if any(name.startswith("test_") for name in changes.get("metrics", ())):
        (folder / "predictions.parquet").unlink(missing_ok=True)
    (folder / "record.json").write_text(json.dumps(verification.sealed(values, folder)), encoding="utf-8")


def rewrite_predictions(folder: Path, frame: pd.DataFrame) -> None:
    """Give a trial's record other predictions, and the scores that they give, as if it had been written so."""
    frame.to_parquet(folder / "predictions.parquet", index=False)
    values = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    scores = verification.answer_scores(*(frame[name].to_numpy() for name in ("label", "rank", "probability")))
    values["metrics"].update(scores)
    (folder / "record.json").write_text(json.dumps(verification.sealed(values, folder)), encoding="utf-8")


def _settings(
    study: Mapping[str, Any], factors: Mapping[str, Mapping[str, Any]], levels: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    settings = {group: dict(values) for group, values in study["settings"].items()}
    settings["network"] |= {name: factors[name][label] for name, label in levels.items()}
    return settings


def _outcome(
    study: Mapping[str, Any],
    settings: dict[str, dict[str, Any]],
    row: Mapping[str, Any],
    levels: Mapping[str, str],
    truth: tuple[float, float],
    status: str,
    epochs: int,
) -> Outcome:
    draw = np.random.default_rng([row["seed"], *row["arm"].encode()])
    test = round((truth[0] + draw.normal(0, 0.008)) * TEST) / TEST
    done = status == "completed"
    run_epochs = epochs if done else max(1, epochs // 3)
    epoch = np.arange(1, run_epochs + 1)
    rise = 1 - np.exp(-4 * epoch / epochs)
    train = 1 / CLASSES + (truth[1] - 1 / CLASSES) * rise + draw.normal(0, 0.01, run_epochs)
    validation = 1 / CLASSES + (test - 1 / CLASSES) * rise + draw.normal(0, 0.015, run_epochs)
    history = pd.DataFrame(
        {
            "epoch": epoch,
            "learning_rate": 0.05 * (1 + np.cos(np.pi * epoch / epochs)) / 2,
            "batch_loss": -np.log(np.clip(train, 0.02, 1)) + 0.1,
            "train_loss": -np.log(np.clip(train, 0.02, 1)),
            "train_top1": np.clip(train, 0, 1),
            "validation_loss": -np.log(np.clip(validation, 0.02, 1)),
            "validation_top1": np.clip(validation, 0, 1),
            "seconds": 20 + draw.normal(0, 1, run_epochs),
        },
        columns=list(HISTORY_COLUMNS),
    )
    every = settings["recipe"].get("evaluate_every", 1)
    history.loc[(epoch % every > 0) & (epoch < run_epochs), list(HISTORY_COLUMNS[3:7])] = np.nan
    right = np.arange(TEST) < round(test * TEST)
    label = np.arange(TEST) % CLASSES
    predictions = pd.DataFrame(
        {
            "image": [f"image_{index:05d}.jpg" for index in range(TEST)],
            "label": label,
            "predicted": np.where(right, label, (label + 1) % CLASSES),
            "probability": np.full(TEST, max(test, 0.02)),
            "rank": np.where(right, 0, np.where(np.arange(TEST) < round((test + 0.3) * TEST), 1, 7)),
        }
    )
    reasons = {
        "failed": "ResourceExhaustedError: out of memory",
        "diverged": "training loss is NaN in epoch 4",
    }
    last = history.iloc[-1]
    record = Record(
        id=row["id"],
        study=study["name"],
        arm=row["arm"],
        levels=dict(levels),
        seed=row["seed"],
        split_seed=study["split_seed"],
        status=status,  # type: ignore[arg-type]
        reason=reasons.get(status, ""),
        settings=settings,
        execution={"device": "cpu", "threads": 1, "precision": "float32", "jit": False},
        data={
            "source": settings["data"]["source"],
            "fingerprint": "sha256:6f1c0d",
            "split": "official",
            "split_hash": "a41f77c09e21",
            "image_size": 64,
            "classes": CLASSES,
            "train": 100,
            "validation": 100,
            "test": TEST,
        },
        network={"parameters": row["parameters"], "multiply_adds": row["multiply_adds"], "stem": "imagenet"},
        metrics={
            "test_top1": test,
            "test_top5": min(1.0, test + 0.3),
            "test_mean_class_accuracy": test,
            "test_loss": float(-np.log(max(test, 0.02))),
            "train_top1": float(last.train_top1),
            "train_loss": float(last.train_loss),
            "validation_top1": float(last.validation_top1),
            "validation_loss": float(last.validation_loss),
        }
        if done
        else {},
        best_epoch=run_epochs if done else None,
        epochs_run=run_epochs,
        seconds=float(history["seconds"].sum()) * row["parameters"] / 300_000,
        provenance={
            "started": f"2026-01-01T{row['seed'] % 24:02d}:00:00+00:00",
            "finished": f"2026-01-01T{row['seed'] % 24:02d}:30:00+00:00",
            "host": "example",
            "cpu": "Example CPU",
            "cores": 2,
            "memory_gb": 8.0,
            "python": "3.11.9",
            "versions": {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6", "resflow": "0.1.0"},
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "device": "cpu",
        },
    )
    inside = _inside(row["arm"], levels, draw, run_epochs) if done else None
    return Outcome(record, history, predictions if done else None, inside)


def _inside(arm: str, levels: Mapping[str, str], draw: np.random.Generator, epochs: int) -> pd.DataFrame:
    """Gradients that shrink towards the input, responses that shortcuts make smaller: what the paper describes."""
    layers = 4 + 2 * (list(DEPTHS).index(levels["depth"]) if levels.get("depth") in DEPTHS else 0)
    plain = levels.get("shortcut") == "plain"
    rows = []
    for place in range(layers):
        noise = 1 + draw.normal(0, 0.02)
        rows += [
            *(("gradient_norm", f"conv{place}", place, at, noise * 0.9 ** (layers - place)) for at in (0, epochs)),
            ("response_sd", f"conv{place}_bn", place, epochs, noise * (1.0 if plain else 0.7 - 0.02 * layers)),
            ("bn_scale", f"conv{place}_bn", place, epochs, noise),
            ("dead_units", f"conv{place}_relu", place, epochs, 0.1 * noise),
            *([] if plain else [("shortcut_share", f"block{place}_add", place, epochs, 0.6 * noise)]),
        ]
    return pd.DataFrame(rows, columns=list(DIAGNOSTIC_COLUMNS))
