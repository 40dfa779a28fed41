"""Answers of trials on the test images, image by image: sampling of images, confusions, hard classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resflow.analysis.image_statistics import OverImages, over_images
from resflow.errors import RecordError
from resflow.records.run import MANY, Run

if TYPE_CHECKING:
    import pyarrow as pa

Answers = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Answers of the trials that share a test set: `labels` (images,), and by trial `predicted` and `right`."""

    labels: Answers
    predicted: dict[str, Answers]
    right: dict[str, NDArray[np.bool_]]
    left_out: tuple[str, ...]  # trials without predictions, or on other images
    of_arm: dict[str, dict[int, str]]  # arm -> seed -> trial

    def pair(self, arm: str, reference: str) -> OverImages | None:
        """Compare two arms over the seeds that both have; None where there is none."""
        first, second = self.of_arm.get(arm, {}), self.of_arm.get(reference, {})
        seeds = sorted(first.keys() & second.keys())
        if not seeds or not len(self.labels):
            return None
        return over_images(
            np.stack([self.right[first[seed]] for seed in seeds]),
            np.stack([self.right[second[seed]] for seed in seeds]),
        )

    def by_class(self, arm: str) -> NDArray[np.float64]:
        """Return the share of each class that an arm got right, the mean over its seeds; NaN without images."""
        rights = [self.right[trial] for trial in self.of_arm.get(arm, {}).values()]
        classes = int(self.labels.max()) + 1 if len(self.labels) else 0
        if not rights:
            return np.full(classes, np.nan)
        counts = np.bincount(self.labels, minlength=classes)
        hits = np.bincount(self.labels, weights=np.mean(rights, axis=0), minlength=classes)
        return np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)

    def confusion(self, arm: str) -> NDArray[np.float64]:
        """Return a row a true class, a column a predicted one: the mean over seeds of the share of the row's images."""
        trials = list(self.of_arm.get(arm, {}).values())
        highest = max((int(self.predicted[trial].max()) for trial in trials), default=0)
        classes = max(int(self.labels.max()), highest) + 1
        table = np.zeros((classes, classes))
        for trial in trials:
            np.add.at(table, (self.labels, self.predicted[trial]), 1)
        total = table.sum(axis=1, keepdims=True)
        return np.divide(table, total, out=np.zeros_like(table), where=total > 0)


def read(run: Run, trials: pd.DataFrame) -> Predictions | None:
    """Read the predictions of completed trials; None where none has any, or where there are more than MANY."""
    done = trials[trials["status"] == "completed"]
    if len(trials) > MANY:
        return None
    tables = dict(_tables(run, list(done["id"])))
    if not tables:
        return None
    first = next(iter(tables.values()))
    images = first.column("image")
    alike = {trial: table for trial, table in tables.items() if table.column("image").equals(images)}
    of_arm: dict[str, dict[int, str]] = {}
    for trial, arm, seed in done[["id", "arm", "seed"]].itertuples(index=False):
        if trial in alike:
            of_arm.setdefault(str(arm), {})[int(seed)] = str(trial)
    return Predictions(
        labels=first.column("label").to_numpy().astype(np.int64),
        predicted={trial: table.column("predicted").to_numpy().astype(np.int64) for trial, table in alike.items()},
        right={trial: table.column("rank").to_numpy() == 0 for trial, table in alike.items()},
        left_out=tuple(trial for trial in done["id"] if trial not in alike),
        of_arm=of_arm,
    )


def _tables(run: Run, ids: list[str]) -> Iterator[tuple[str, pa.Table]]:
    for trial in ids:
        try:
            table = run.prediction_table(trial)
        except RecordError:
            continue  # an optional file: what has none is in `left_out`
        if table.num_rows:
            yield trial, table
