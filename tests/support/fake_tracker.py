"""Trackers without a client: one that keeps what it is told in a file, and others that fail as clients do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resflow.trackers.known import Known
from resflow.trackers.tracker import Row, Seen, StudyEnd, TrialEnd, TrialStart


def known(name: str) -> Known:
    """How a process of its own finds a tracker of this module; the package is one that is there."""
    return Known("json", __name__, name)


def calls(state: Path, name: str = "Recording") -> list[list[Any]]:
    """All that a tracker below this folder was told: method, trial's id, facts."""
    path = state / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def calls_of(state: Path, trial_id: str, name: str = "Recording") -> list[list[Any]]:
    """What was written of a trial; epochs one by one, however many came together."""
    of_trial = [call for call in calls(state, name) if call[1] == trial_id]
    return [
        [method, facts]
        for method, _, *rest in of_trial
        for facts in (rest[0] if method == "log_epochs" else [*rest] or [None])
    ]


class Recording:
    """A tracker that works. What it has it knows from its file, so that the next process finds it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.name = type(self).__name__
        self.path = state / f"{self.name}.jsonl"
        self.destination = str(self.path)

    def find(self, trial: TrialStart) -> Seen:
        last, status = 0, ""
        for method, facts in calls_of(self.state, trial.id, self.name):
            last = int(facts["epoch"]) if method == "log_epochs" else last
            status = facts["status"] if method == "end" else status
        return Seen(last, status)

    def begin(self, trial: TrialStart) -> None:
        self._keep("begin", trial.id, asdict(trial))

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        self._keep("log_epochs", trial.id, [dict(row) for row in rows])

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        self._keep("end", trial.id, asdict(end))

    def log_study(self, study: StudyEnd) -> None:
        if not any(call[0] == "log_study" and call[2] == study.digest for call in calls(self.state, self.name)):
            self._keep("log_study", study.run, study.digest)

    def close(self) -> None:
        pass

    def _keep(self, *call: Any) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(f"{json.dumps(call)}\n")


class Unreachable(Recording):
    def __init__(self, state: Path) -> None:
        raise ConnectionRefusedError("nobody listens at 127.0.0.1:1\nand more of that")


class Raising(Recording):
    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        raise RuntimeError("no room")

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        raise RuntimeError("no room")


class Hanging(Recording):
    def begin(self, trial: TrialStart) -> None:
        time.sleep(10_000)


class Dying(Recording):
    def begin(self, trial: TrialStart) -> None:
        os._exit(7)


class Printing(Recording):
    def begin(self, trial: TrialStart) -> None:
        print("a client's own words")
        super().begin(trial)


class Variables(Recording):
    """Tells the variables of its process as its destination."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.destination = json.dumps(dict(os.environ))
