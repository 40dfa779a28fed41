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

    def classes(self, arm: str) -> int:
        """Return how many classes there are, as far as the test images and an arm's answers tell."""
        trials = self.of_arm.get(arm, {}).values()
        return max(int(self.labels.max()), *(int(self.predicted[trial].max()) for trial in trials), 0) + 1

    def answers(self, arm: str, label: int) -> NDArray[np.float64]:
        """Return the share of a class' images that an arm takes for each class, the mean over its seeds."""
        mine = self.labels == label
        trials = self.of_arm.get(arm, {}).values()
        counts = [np.bincount(self.predicted[trial][mine], minlength=self.classes(arm)) for trial in trials]
        total = mine.sum() * len(counts)
        return np.sum(counts, axis=0) / total if total else np.zeros(self.classes(arm))

    def confusion(self, arm: str) -> NDArray[np.float64]:
        """Return a row a true class, a column a predicted one: the mean over seeds of the share of the row's images."""
        return np.stack([self.answers(arm, label) for label in range(self.classes(arm))])


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
