"""Answers of trials on the test images, image by image: sampling of images, confusions, hard classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resflow.analysis.crossed import image_variance
from resflow.analysis.image_statistics import OverImages, over_images
from resflow.errors import RecordError
from resflow.records.run import MANY, Run

if TYPE_CHECKING:
    import pyarrow as pa

Answers = NDArray[np.int64]
WITHIN = {"test_top1": 1, "test_top5": 5}  # metric that is a mean over images -> the ranks that count as correct


@dataclass(frozen=True)
class Predictions:
    """Answers of the trials that share a test set: `labels` (images,), and by trial `predicted` and its `ranks`."""

    labels: Answers
    predicted: dict[str, Answers]
    ranks: dict[str, Answers]
    left_out: tuple[str, ...]  # trials without predictions, or on other images
    of_arm: dict[str, dict[int, str]]  # arm -> seed -> trial

    def right(self, trial: str, column: str = "test_top1") -> NDArray[np.bool_]:
        """Return which images a trial got right, as a metric of WITHIN counts them."""
        return self.ranks[trial] < WITHIN[column]

    def pair(self, arm: str, reference: str) -> OverImages | None:
        """Compare two arms' top-1 over the seeds that both have; None where there is none."""
        seeds = self._shared_seeds((arm, reference))
        if not seeds or not len(self.labels):
            return None
        first, second = (np.stack([self.right(self.of_arm[one][seed]) for seed in seeds]) for one in (arm, reference))
        return over_images(first, second)

    def image_variance(self, terms: Mapping[str, int], column: str) -> float:
        """Return the variance that sampling of images gives a contrast's mean, `terms` arm -> coefficient.

        NaN where that is not known: the metric is no mean over images, or fewer than two seeds have predictions.
        """
        seeds = self._shared_seeds(terms) if column in WITHIN else []
        if len(seeds) < 2:
            return float("nan")
        differences = [
            sum(coefficient * self.right(self.of_arm[arm][seed], column) for arm, coefficient in terms.items())
            for seed in seeds
        ]
        return image_variance(np.stack(differences))

    def identical(self, arm: str, reference: str) -> bool:
        """Tell whether two arms gave the same answer to every image in each seed that both have, and they have one."""
        pairs = [
            (self.of_arm[arm][seed], self.of_arm[reference][seed]) for seed in self._shared_seeds((arm, reference))
        ]
        return bool(pairs) and all(np.array_equal(self.predicted[one], self.predicted[other]) for one, other in pairs)

    def _shared_seeds(self, arms: Iterable[str]) -> list[int]:
        return sorted(set.intersection(*(set(self.of_arm.get(arm, {})) for arm in arms)))

    def by_class(self, arm: str) -> NDArray[np.float64]:
        """Return the share of each class that an arm got right, the mean over its seeds; NaN without images."""
        rights = [self.right(trial) for trial in self.of_arm.get(arm, {}).values()]
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


def read(run: Run, trials: pd.DataFrame, splits_vary: bool = False) -> Predictions | None:
    """Read the predictions of completed trials; None where none has any, or where there are more than MANY.

    Where `splits_vary` with the seed, and test images with them, None: nothing holds of one image over seeds.
    """
    done = trials[trials["status"] == "completed"]
    if len(trials) > MANY:
        return None
    tables = dict(_tables(run, list(done["id"])))
    if not tables:
        return None
    first = next(iter(tables.values()))
    images = first.column("image")
    alike = {trial: table for trial, table in tables.items() if table.column("image").equals(images)}
    if splits_vary and len(alike) < len(tables):
        return None
    of_arm: dict[str, dict[int, str]] = {}
    for trial, arm, seed in done[["id", "arm", "seed"]].itertuples(index=False):
        if trial in alike:
            of_arm.setdefault(str(arm), {})[int(seed)] = str(trial)
    return Predictions(
        labels=first.column("label").to_numpy().astype(np.int64),
        predicted={trial: table.column("predicted").to_numpy().astype(np.int64) for trial, table in alike.items()},
        ranks={trial: table.column("rank").to_numpy().astype(np.int64) for trial, table in alike.items()},
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
