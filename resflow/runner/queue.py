"""Which trial a process that is free takes next."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Sized
from typing import Any, Protocol

from resflow.study import costs
from resflow.study.trial import Trial


class TrialSource(Sized, Protocol):
    """Where the runner's trials come from; its length is how many may still come, 0 where it is at its end."""

    @property
    def trials(self) -> Mapping[str, Trial]:
        """All that were handed out so far, at least, by id; grows in place."""

    @property
    def running(self) -> Sized:
        """Those that were handed out and have not ended."""

    @property
    def total(self) -> int:
        """How many there will be, as far as is known."""

    def next(self) -> Trial | None:
        """The next one to run, None where others have to end first."""

    def ended(self, trial_id: str) -> None:
        """Hear that one has ended."""

    def config(self, trial: Trial) -> dict[str, Any]:
        """What a worker is told of one: `trial`, its id, and what else it needs to make it."""


def same_graph(trial: Trial) -> Hashable:
    """What two trials share where the second needs no new graph, nor other features, in the process of the first."""
    return trial.arm, costs.feature_group(trial) if trial.shares_features else None


class TrialQueue:
    """Hands trials out in the order of `costs.in_order`, but to a process whose trial has ended one of the same graph.

    Tracing and compiling a graph takes as long as epochs do. So processes that start take different arms, and share
    one only where nothing else is left.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.waiting = costs.sort_trials(trials)
        self.trials = {trial.id: trial for trial in trials}
        self.graphs = {trial.id: same_graph(trial) for trial in trials}
        self.running: dict[str, Hashable] = {}  # by id
        self.warm: list[Hashable] = []  # graphs of processes that have become free, the last one first

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def total(self) -> int:
        return len(self.trials)

    def config(self, trial: Trial) -> dict[str, Any]:
        return {"trial": trial.id}

    def next(self) -> Trial:
        """The trial to start now. Raises IndexError where none is left."""
        place = self._place()
        trial = self.waiting.pop(place)
        self.running[trial.id] = self.graphs[trial.id]
        return trial

    def ended(self, trial_id: str) -> None:
        """Take note that a trial's process is free; more than once does no harm."""
        graph = self.running.pop(trial_id, None)
        if graph is not None:
            self.warm.insert(0, graph)

    def _place(self) -> int:
        graphs = [self.graphs[trial.id] for trial in self.waiting]
        wanted = [self.warm.pop(0)] if self.warm else []
        busy = set(self.running.values())
        for fits in (lambda graph: graph in wanted, lambda graph: graph not in busy):
            for place, graph in enumerate(graphs):
                if fits(graph):
                    return place
        return 0
