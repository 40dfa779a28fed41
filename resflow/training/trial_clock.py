"""The clock of a trial: its own seconds, apart from those of work whose outcome other trials use as well.

Graphs and the features of frozen backbones are made by the first trial that needs them. Were its seconds counted as its
own, what a trial takes would say in which order trials ran.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from resflow.records.record import SharedCost


class SharedWork:
    """The time of work whose outcome trials share; `computed` and `waited` are those of the present trial.

    `total` returns the seconds that all of it took that this trial uses, None where nobody knows them; by default it is
    what this object has seen.
    """

    def __init__(self, key: str = "", total: Callable[[], float | None] | None = None) -> None:
        self.key, self.so_far = key, 0.0
        self.total: Callable[[], float | None] = total or (lambda: self.so_far)
        self.begin()

    def begin(self) -> None:
        """Begin the account of another trial."""
        self.computed = self.waited = 0.0

    def add(self, seconds: float) -> None:
        """Count seconds that this trial worked for all."""
        self.computed += seconds
        self.so_far += seconds

    def wait(self, seconds: float) -> None:
        """Count seconds that this trial waited for what others compute, or checked it."""
        self.waited += seconds

    def computing(self) -> AbstractContextManager[None]:
        """Count the block as work for all."""
        return _timed(self.add)

    def fetching(self) -> AbstractContextManager[None]:
        """Count the block as waiting for what other trials compute, and as checking it."""
        return _timed(self.wait)


@contextmanager
def _timed(count: Callable[[float], None]) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        count(time.perf_counter() - start)


class InputWait:
    """The time in which a device had nothing to do because its next batch was not there."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.last: Any = None  # a result of what the device was given last

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count a block that waits for a batch, from when the device has done what it was given before."""
        if self.last is not None:
            self.last.numpy()
        with _timed(self._add):
            yield

    def _add(self, seconds: float) -> None:
        self.seconds += seconds


class TrialClock:
    """The seconds of one trial, from its construction on. `shared` has the work that it shares by its kind."""

    def __init__(self) -> None:
        self.start, self.shared = time.perf_counter(), dict[str, SharedWork]()
        self.own_before, self.computed_before = 0.0, dict[str, float]()

    def go_on(self, own: float, computed: Mapping[str, float]) -> None:
        """Go on from the `own` and `computed` seconds of a process that was cut off."""
        self.own_before, self.computed_before = own, dict(computed)

    @property
    def own(self) -> float:
        """The trial's own seconds so far."""
        away = sum(work.computed + work.waited for work in self.shared.values())
        return self.own_before + time.perf_counter() - self.start - away

    @property
    def computed(self) -> dict[str, float]:
        """The seconds so far that the trial worked for all, by kind."""
        seconds = dict(self.computed_before)
        for kind, work in self.shared.items():
            seconds[kind] = seconds.get(kind, 0.0) + work.computed
        return seconds

    def costs(self) -> dict[str, SharedCost]:
        """Return what the trial's record says of the work that it shares, by kind."""
        return {kind: self._cost(kind, seconds) for kind, seconds in self.computed.items()}

    def _cost(self, kind: str, computed: float) -> SharedCost:
        work = self.shared.get(kind, SharedWork(total=lambda: None))
        total = work.total()
        return SharedCost(
            seconds=None if total is None else round(total, 3), computed_seconds=round(computed, 3), key=work.key
        )
