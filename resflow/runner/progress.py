"""What a screen shows of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from resflow.records.record import Record
from resflow.study import costs
from resflow.study.trial import Trial


@dataclass
class Progress:
    """`trials` by id are those that are known, `total` says how many there will be; `running` maps a trial's id to its
    last epoch's row."""

    trials: Mapping[str, Trial]
    total: int
    done: dict[str, Record] = field(default_factory=dict)
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    work: dict[str, float] = field(default_factory=dict)  # multiply-adds by id, of the known ones

    def seconds_left(self) -> float | None:
        """Work left over the rate so far of multiply-adds a second, None before the first epoch ends."""
        if len(self.work) < len(self.trials):
            self.work = costs.estimate_work(list(self.trials.values()))
        total = sum(self.work.values()) * self.total / max(1, len(self.work))  # those to come as those that came
        worked = sum(self.work[done] for done in self.done if done in self.work)
        for trial_id in self.running.keys() - self.done.keys():
            worked += self.work[trial_id] * self.running[trial_id].get("epoch", 0) / self.trials[trial_id].epochs
        return (time.monotonic() - self.started) * (total - worked) / worked if worked else None
