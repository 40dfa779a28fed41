"""What a screen shows of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from resflow import costs
from resflow.records import Record
from resflow.trial import Trial


@dataclass
class Progress:
    """`running` maps a trial's id to its last epoch's row."""

    trials: Sequence[Trial]
    done: dict[str, Record] = field(default_factory=dict)
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    work: dict[str, float] = field(init=False)  # multiply-adds by id

    def __post_init__(self) -> None:
        self.work = costs.work(self.trials)

    def seconds_left(self) -> float | None:
        """Work left over the rate so far of multiply-adds a second, None before the first epoch ends."""
        part = {t.id: self.running.get(t.id, {}).get("epoch", 0) / t.recipe.epochs for t in self.trials}
        total = sum(self.work.values())
        worked = sum(self.work[t.id] * (1 if t.id in self.done else part[t.id]) for t in self.trials)
        return (time.monotonic() - self.started) * (total - worked) / worked if worked else None
