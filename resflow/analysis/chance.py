"""What guessing scores, and how an arm stands beside it: skill, by one rule for every study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resflow.analysis import image_statistics
from resflow.analysis.design import Design
from resflow.analysis.seed_statistics import Mean
from resflow.errors import RecordError
from resflow.records.record import Record
from resflow.records.run import Run

ABOVE, AT, UNRESOLVED, UNKNOWN = "above chance", "at chance", "interval includes chance", "chance unknown"
MEAN_CLASS = "test_mean_class_accuracy"


@dataclass(frozen=True)
class Chance:
    """What guessing scores: `level` of `judged_by`, which decides about skill, and `of_metric`, for figures; fractions.

    NaN where the records do not say, and where guessing has no score, as of a loss.
    """

    judged_by: str
    level: float
    why: str
    images: int | None  # test images that weigh as much as those behind one `judged_by`, for the interval of one seed
    of_metric: float = np.nan


def chance(run: Run, plan: Design) -> Chance:
    """Return what guessing scores.

    Skill is judged on the mean class accuracy of the test images against 1/classes, whatever the metric: one answer to
    every image scores no more, however large its class is. Records without it are judged on the metric's accuracy,
    where such an answer scores the share of the largest test class.
    """
    completed = [record for record in run.records if record.status == "completed"]
    data = next((record.data for record in completed if record.data.get("classes")), {})
    judged_by = plan.metric.judged_by or plan.metric.column
    images = _count(data.get(judged_by.split("_")[0]))
    if not data or not plan.metric.judged_by:
        return Chance(judged_by, np.nan, "unknown: no completed trial says how many classes there are", images)
    classes = _count(data["classes"]) or 1
    sizes = _test_classes(run, completed)
    uniform, of_metric = 1 / classes, min(1.0, (5 if judged_by.endswith("top5") else 1) / classes)
    why = f"1/{classes} classes"
    if judged_by == "test_top1" and len(sizes):
        of_metric = max(of_metric, float(sizes.max() / sizes.sum()))
    shown = of_metric if judged_by == plan.metric.column else np.nan
    if all(MEAN_CLASS in record.metrics for record in completed):
        # The variance of a mean over classes is that of so many images, were all classes of one size.
        alike = round(len(sizes) ** 2 / float((1 / sizes).sum())) if len(sizes) else _count(data.get("test"))
        tested = len(sizes) or classes
        return Chance(MEAN_CLASS, 1 / tested, f"1/{tested} classes", alike, shown)
    if of_metric > uniform + 1e-9 and judged_by == "test_top1":
        why = f"the share of the largest test class; {why} is less"
    elif judged_by.endswith("top5"):
        why = f"5/{classes} classes"
    return Chance(judged_by, of_metric, why, images, shown)


def _count(value: Any) -> int | None:
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def _test_classes(run: Run, completed: list[Record]) -> NDArray[np.int64]:
    """Count the test images of each class that has any; empty where no trial kept its predictions."""
    for record in completed:
        try:
            counts = np.bincount(run.prediction_table(record.id).column("label").to_numpy())
        except RecordError:
            continue  # an optional file
        return counts[counts > 0]
    return np.array([], dtype=np.int64)


def beside_chance(mean: Mean, chance: Chance) -> str:
    """Tell how an arm stands to chance. ABOVE needs a mean above it and an interval that excludes it.

    With fewer than three seeds, or no spread between them, the interval is Wilson's, of the test images. An arm that
    fails is AT chance where its mean is no more than chance or Wilson's interval of the mean reaches it,
    and UNRESOLVED where only the interval over seeds does.
    """
    if mean.n == 0 or not np.isfinite(chance.level):
        return UNKNOWN
    if mean.mean <= chance.level:
        return AT
    if chance.images and image_statistics.wilson(mean.mean, chance.images)[0] <= chance.level:
        return AT
    return UNRESOLVED if mean.includes(chance.level) else ABOVE
