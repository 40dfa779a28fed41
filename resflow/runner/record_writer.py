"""The one process that writes the results of all workers.

It runs on the driver's machine, so that workers need no file system that they share with it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resflow import workspace
from resflow.errors import RecordError
from resflow.records.packing import find_record
from resflow.records.record import Outcome, write_record
from resflow.weights.saved import whole
from resflow.workspace import network_path


class RecordWriter:
    """Writer of records, kept networks and logs, one at a time; writing a record twice does no harm.

    A trial that has completed before runs again for its network alone: should that fail, its record stays.
    """

    def __init__(self, run: str, state: str) -> None:
        self.run, self.state = Path(run), Path(state)
        self.logs = self.state / workspace.LOGS
        self.logs.mkdir(parents=True, exist_ok=True)

    def write(self, outcome: Outcome) -> None:
        if outcome.record.status == "completed" or not self._has_completed(outcome.record.id):
            write_record(self.run, outcome)

    def keep(self, trial_id: str, content: bytes) -> None:
        with whole(network_path(self.state, trial_id)) as draft:
            draft.write_bytes(content)

    @ray.method(max_task_retries=0)  # a line tried again could be there twice
    def log(self, trial_id: str, line: str) -> None:
        with suppress(OSError), workspace.log_path(self.state, trial_id).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")  # a full disk costs a line, not the trial

    def _has_completed(self, trial_id: str) -> bool:
        try:
            return find_record(self.run, trial_id).status == "completed"
        except RecordError:
            return False


def start_beside_driver(actor: type, *arguments: Any) -> Any:
    """Start an actor beside the driver; where its process dies, Ray starts it again."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(actor)
    return remote.remote(*arguments)


class LogForwarder(logging.Handler):
    """Handler that sends a trial's log to the record writer line by line: a killed worker's last words are there."""

    def __init__(self, writer: Any, trial_id: str) -> None:
        super().__init__()
        self.writer, self.trial_id, self.last = writer, trial_id, None
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.last = self.writer.log.remote(self.trial_id, self.format(record))

    def close(self) -> None:
        """Wait until the last line has arrived."""
        with suppress(Exception):  # Ray's, whatever they are: the log is no reason to fail
            ray.get(self.last, timeout=60)
        super().close()
