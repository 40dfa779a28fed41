"""The metrics: their names, which way is better, how they are shown; one table for all of resflow."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A column of the records and how a reader meets it.

    Files hold the raw value; a report shows `scale` times it in `unit`, and differences in `difference_unit`.
    `judged_by` is the accuracy that decides whether an arm is above chance: the metric itself, or, for a
    loss (which can be worse than guessing while the answers are better), the top-1 of the same images.
    """

    column: str
    label: str
    unit: str = ""
    difference_unit: str = ""
    scale: float = 1.0
    higher_is_better: bool = True
    judged_by: str = ""

    @property
    def low(self) -> float:
        """The lowest value that there can be; files hold fractions."""
        return 0.0

    @property
    def high(self) -> float:
        """The highest value that there can be."""
        return 1.0 if self.unit == "%" else math.inf

    @property
    def range(self) -> str:
        """The values that there can be, in words."""
        return "a fraction from 0 to 1" if self.unit == "%" else "0 or more"

    @property
    def axis_label(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _accuracy(column: str, label: str) -> Metric:
    return Metric(column, label, "%", "points", 100.0, True, column)


def _loss(column: str, label: str) -> Metric:
    return Metric(column, label, "nats", "nats", 1.0, False, column.replace("loss", "top1"))


METRICS = {
    metric.column: metric
    for metric in (
        _accuracy("test_top1", "test top-1"),
        _accuracy("test_top5", "test top-5"),
        _accuracy("test_mean_class_accuracy", "test mean class accuracy"),
        _accuracy("validation_top1", "validation top-1"),
        _accuracy("train_top1", "training top-1"),
        _loss("test_loss", "test loss"),
        _loss("validation_loss", "validation loss"),
        _loss("train_loss", "training loss"),
    )
}


def metric(column: str) -> Metric:
    """Return a column's metric; one that the table does not know is shown raw, higher taken as better."""
    return METRICS.get(column, Metric(column, column.replace("_", " ")))
