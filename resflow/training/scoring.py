"""Losses, accuracies and predictions from logits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from resflow.data.dataset import Dataset


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return cross-entropy (nats), top-1, top-5 and mean per-class accuracy of logits (n, classes)."""
    log_probability = log_softmax(logits)[np.arange(len(labels)), labels]
    ranks = rank(logits, labels)
    right = ranks == 0
    per_class = [right[labels == c].mean() for c in np.unique(labels)]
    return {
        "loss": float(-log_probability.mean()),
        "top1": float(right.mean()),
        "top5": float((ranks < 5).mean()),
        "mean_class_accuracy": float(np.mean(per_class)),
    }


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, float64, from logits (n, classes)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many other classes score at least as high as the true one, (n,): a tie is no correct answer."""
    true = logits[np.arange(len(labels)), labels][:, None]
    return (logits >= true).sum(axis=1) - 1


def predictions(logits: np.ndarray, dataset: Dataset) -> pd.DataFrame:
    """Return a row a test image: PREDICTION_COLUMNS."""
    labels = dataset.labels[dataset.test]
    return pd.DataFrame(
        {
            "image": [dataset.names[i] for i in dataset.test],
            "label": labels,
            "predicted": logits.argmax(axis=1),
            "probability": np.exp(log_softmax(logits)[np.arange(len(labels)), labels]),
            "rank": rank(logits, labels),
        }
    )
