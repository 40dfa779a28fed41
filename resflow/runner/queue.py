"""The order of a run's trials: the one that a free process takes next."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Sized
from typing import Any, Protocol

from resflow.study import costs
from resflow.study.trial import Trial


class TrialSource(Sized, Protocol):
    """The origin of the runner's trials; its length is how many may still come, 0 where it is at its end."""

    @property
    def trials(self) -> Mapping[str, Trial]:
        """All trials that were handed out so far, at least, by id; grows in place."""

    @property
    def running(self) -> Sized:
        """The trials that were handed out and have not ended."""

    @property
    def total(self) -> int:
        """The number of trials that there will be, as far as is known."""

    def next(self, arm: str | None = None) -> Trial | None:
        """Hand out the next trial, of this arm where one is left; None where others have to end first."""

    def ended(self, trial_id: str) -> None:
        """Take note that a trial has ended."""

    def config(self, trial: Trial) -> dict[str, Any]:
        """Return the message to a worker: `trial`, the id, and whatever else it needs to make the trial."""


def affinity_key(trial: Trial) -> Hashable:
    """Return the key that two trials share where the process of the first has the graph and features of the second."""
    return trial.arm, costs.feature_group(trial) if trial.shares_features else None


class TrialQueue:
    """Trials in the order of `costs.sort_trials`, but for a process whose trial has ended one of the same graph.

    Tracing and compiling a graph takes as long as epochs do. So processes that start take different arms, and share
    one only where nothing else is left.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.waiting = costs.sort_trials(trials)
        self.trials = {trial.id: trial for trial in trials}
        self.graphs = {trial.id: affinity_key(trial) for trial in trials}
        self.running: dict[str, Hashable] = {}  # by id
        self.warm: list[Hashable] = []  # graphs of processes that have become free, the last one first

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def total(self) -> int:
        return len(self.trials)

    def config(self, trial: Trial) -> dict[str, Any]:
        return {"trial": trial.id}

    def next(self, arm: str | None = None) -> Trial:
        """Hand out the trial to start now, of this arm where one is left. Raises IndexError where none is left."""
        alike = (place for place, trial in enumerate(self.waiting) if trial.arm == arm)
        place = next(alike, None)
        trial = self.waiting.pop(self._choose() if place is None else place)
        self.running[trial.id] = self.graphs[trial.id]
        return trial

    def ended(self, trial_id: str) -> None:
        """Take note that a trial's process is free; more than once does no harm."""
        graph = self.running.pop(trial_id, None)
        if graph is not None:
            self.warm.insert(0, graph)

    def _choose(self) -> int:
        """Return the position in `waiting` of the next trial: of a warm graph, else of one that no process has."""
        graphs = [self.graphs[trial.id] for trial in self.waiting]
        warm = [self.warm.pop(0)] if self.warm else []
        busy = set(self.running.values())
        for fits in (lambda graph: graph in warm, lambda graph: graph not in busy):
            for position, graph in enumerate(graphs):
                if fits(graph):
                    return position
        return 0
