"""The one way to a tracker, for trials that run now and for those that have run: each epoch once, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resflow.trackers.tracker import INTERRUPTED, Row, StudyEnd, Tracker, TrialEnd, TrialStart


@dataclass
class _State:
    """What the tracker has of a trial, and whether its run is open."""

    trial: TrialStart
    last_epoch: int
    status: str
    is_open: bool = False


class TrialLog:
    """Writes to a tracker what it does not have yet.

    An epoch is written when the tracker has the one before. Where a trial goes on that the tracker has not seen from
    its beginning, its epochs are written at its end, from its history: no tracker takes an earlier one afterwards.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.states: dict[str, _State] = {}

    def begin(self, trial: TrialStart) -> None:
        """Take note that a trial runs, or runs again in another process."""
        self._open(self._find(trial))

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        """Write those of some epochs that follow on what the tracker has."""
        state = self._find(trial)
        new = []
        for row in rows:
            if row["epoch"] == state.last_epoch + 1:
                new.append(row)
                state.last_epoch += 1
        if new:
            self._open(state)
            self.tracker.log_epochs(trial, new)

    def end(self, trial: TrialStart, history: Sequence[Row], end: TrialEnd) -> None:
        """Write what is missing of a trial that has ended. `history` has all of its epochs."""
        self.log_epochs(trial, history)
        state = self._find(trial)
        if state.is_open or state.status != end.status:
            self._open(state)
            self._end(state, end)

    def log_study(self, study: StudyEnd) -> None:
        """Write the report of the trials' study."""
        self.tracker.log_study(study)

    def close(self) -> None:
        """Leave trials that have not ended as interrupted, and wait until all is written."""
        for state in self.states.values():
            if state.is_open:
                self._end(state, TrialEnd(INTERRUPTED))
        self.tracker.close()

    def _find(self, trial: TrialStart) -> _State:
        if trial.id not in self.states:
            seen = self.tracker.find(trial)
            self.states[trial.id] = _State(trial, seen.last_epoch, seen.status)
        return self.states[trial.id]

    def _open(self, state: _State) -> None:
        if not state.is_open:
            self.tracker.begin(state.trial)
            state.is_open = True

    def _end(self, state: _State, end: TrialEnd) -> None:
        self.tracker.end(state.trial, end)
        state.status, state.is_open = end.status, False
