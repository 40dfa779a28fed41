"""Each epoch and each end reaches a tracker once, however often and in whichever pieces a trial runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resflow.trackers.tracker import INTERRUPTED, Row, Seen, StudyEnd, TrialEnd, TrialStart
from resflow.trackers.trial_log import TrialLog

TRIAL = TrialStart("a1", "run", "study", "arm", 1, 0, {"depth": "18"})
EPOCHS = 8
HISTORY = [{"epoch": float(epoch), "train_loss": 1 / epoch} for epoch in range(1, EPOCHS + 1)]
END = TrialEnd("completed", metrics={"test_top1": 0.5})


@dataclass
class Memory:
    """A tracker that must be asked in order: a run is open before it is written, and epochs follow one another."""

    destination: str = "here"
    rows: list[Row] = field(default_factory=list)
    ends: list[TrialEnd] = field(default_factory=list)
    is_open: bool = False
    writes: int = 0

    def find(self, trial: TrialStart) -> Seen:
        assert not self.is_open
        return Seen(len(self.rows), self.ends[-1].status if self.ends else "")

    def begin(self, trial: TrialStart) -> None:
        assert not self.is_open
        self.is_open, self.writes = True, self.writes + 1

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        assert self.is_open
        assert [row["epoch"] for row in rows] == list(range(len(self.rows) + 1, len(self.rows) + len(rows) + 1))
        self.rows += rows
        self.writes += 1

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        assert self.is_open
        self.is_open, self.writes = False, self.writes + 1
        self.ends.append(end)

    def log_study(self, study: StudyEnd) -> None:
        self.writes += 1

    def close(self) -> None:
        assert not self.is_open


def afterwards(tracker: Memory) -> Memory:
    log = TrialLog(tracker)
    log.end(TRIAL, HISTORY, END)
    log.close()
    return tracker


@st.composite
def sessions(draw: Any) -> list[tuple[bool, list[tuple[int, int]]]]:
    """Processes that ran a trial one after the other: whether each had the tracker, and its workers' epochs.

    A worker goes on at its checkpoint, which is some epochs behind what was said, or at the beginning.
    """
    made, reached = [], 0
    for _ in range(draw(st.integers(1, 4))):
        workers = []
        for _ in range(draw(st.integers(1, 3))):
            first = draw(st.integers(0, reached))
            reached = draw(st.integers(first, EPOCHS))
            workers.append((first, reached))
        made.append((draw(st.booleans()), workers))
    return made


@given(sessions())
def test_a_trial_that_was_cut_off_is_written_as_one_that_is_over(ran: Any) -> None:
    tracker = Memory()
    for has_tracker, workers in ran:
        if has_tracker:
            log = TrialLog(tracker)
            for first, last in workers:
                log.begin(TRIAL)
                for row in HISTORY[first:last]:
                    log.log_epochs(TRIAL, [row])
            log.close()
            assert tracker.ends[-1].status == INTERRUPTED
    once = afterwards(tracker)
    assert (once.rows, once.ends[-1]) == (HISTORY, END)
    writes = once.writes
    assert afterwards(once).writes == writes  # nothing is left to write


@given(st.lists(st.integers(1, EPOCHS), unique=True))
def test_live_and_afterwards_write_the_same(cuts: list[int]) -> None:
    tracker, places = Memory(), [0, *sorted(cuts), EPOCHS]
    log = TrialLog(tracker)
    log.begin(TRIAL)
    for first, last in pairwise(places):
        log.log_epochs(TRIAL, HISTORY[first:last])
    log.end(TRIAL, HISTORY, END)
    log.close()
    over = afterwards(Memory())
    assert (tracker.rows, tracker.ends) == (over.rows, over.ends) == (HISTORY, [END])


def test_a_failed_trial_that_is_tried_again_ends_anew() -> None:
    tracker = Memory()
    log = TrialLog(tracker)
    log.begin(TRIAL)
    log.end(TRIAL, HISTORY[:3], TrialEnd("failed", "no memory"))
    log.close()
    assert [end.status for end in afterwards(tracker).ends] == ["failed", "completed"]
    assert tracker.rows == HISTORY


def test_a_completed_trial_that_runs_again_for_its_network_is_not_left_running() -> None:
    tracker = afterwards(Memory())
    log = TrialLog(tracker)
    log.begin(TRIAL)
    log.log_epochs(TRIAL, HISTORY)
    log.end(TRIAL, HISTORY, END)
    assert (tracker.rows, tracker.is_open, tracker.ends) == (HISTORY, False, [END, END])
