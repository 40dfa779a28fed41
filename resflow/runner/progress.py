"""The progress of a run, as a screen shows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from resflow.records.record import Record
from resflow.study import costs
from resflow.study.trial import Trial


@dataclass
class Progress:
    """The state of a run: its trials by id as far as they are known, and how many there will be in `total`.

    `running` maps a trial's id to the row of its last epoch, `done` to its record.
    """

    trials: Mapping[str, Trial]
    total: int
    done: dict[str, Record] = field(default_factory=dict)
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    work: dict[str, float] = field(default_factory=dict)  # multiply-adds by id, of the known ones

    def seconds_left(self) -> float | None:
        """Return the work left over the rate so far (multiply-adds a second); None before the first epoch ends."""
        if len(self.work) < len(self.trials):
            self.work = costs.estimate_work(list(self.trials.values()))
        total = (
            sum(self.work.values()) * self.total / max(1, len(self.work))
        )  # trials to come weigh as much as those that are known
        worked = sum(self.work[trial_id] for trial_id in self.done if trial_id in self.work)
        for trial_id in self.running.keys() - self.done.keys():
            worked += self.work[trial_id] * self.running[trial_id].get("epoch", 0) / self.trials[trial_id].epochs
        return (time.monotonic() - self.started) * (total - worked) / worked if worked else None
