"""A watch over workers: one hangs that has been silent for many times what an epoch usually takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from resflow.errors import TrainingError
from resflow.study import costs
from resflow.study.trial import Trial

PATIENCE = 1800.0  # seconds of silence that are always allowed; RESFLOW_PATIENCE_S changes them
TIMES = 20  # of the longest silence that is usual: a machine may be busy, or compile


def read_patience() -> float:
    """Return the seconds of silence that are always allowed. Raises TrainingError for a nonsensical environment."""
    text = os.environ.get("RESFLOW_PATIENCE_S", str(PATIENCE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise TrainingError(f"RESFLOW_PATIENCE_S is {text!r}: expected seconds, such as 1800.")
    return seconds


class Watchdog:
    """Listener to the trials that run, of `trials` by id. `usual` is the longest silence of each arm so far."""

    def __init__(self, trials: Mapping[str, Trial], clock: Callable[[], float] = time.monotonic) -> None:
        self.trials = trials
        self.clock, self.patience = clock, read_patience()
        self.last: dict[str, float] = {}
        self.usual: dict[str, float] = {}

    def watch(self, trial_id: str) -> None:
        """Begin to wait for a trial's first sign of life."""
        self.last[trial_id] = self.clock()

    def reset(self, trial_id: str) -> None:
        """Take note of a sign of life."""
        now, arm = self.clock(), self.trials[trial_id].arm
        if trial_id in self.last:
            self.usual[arm] = max(self.usual.get(arm, 0.0), now - self.last[trial_id])
        self.last[trial_id] = now

    def forget(self, trial_id: str) -> None:
        """Stop waiting for a trial; more than once does no harm."""
        self.last.pop(trial_id, None)

    def find_overdue(self) -> dict[str, float]:
        """Return the seconds of silence of each trial whose worker is taken to hang, by id."""
        now = self.clock()
        silent = {trial_id: now - last for trial_id, last in self.last.items()}
        return {trial_id: seconds for trial_id, seconds in silent.items() if seconds > self.allowed_silence(trial_id)}

    def allowed_silence(self, trial_id: str) -> float:
        """Return a trial's allowed silence in seconds: by its arm's epochs so far, by an estimate before the first."""
        trial = self.trials[trial_id]
        estimate = costs.longest_silence(trial) / costs.ASSUMED_RATE[trial.execution.device]
        return max(self.patience, TIMES * max(estimate, self.usual.get(trial.arm, 0.0)))
