"""MLflow: an experiment a study, in it a run for each of the study's runs, and below that one a run a trial.

The server or store is MLFLOW_TRACKING_URI's, the experiment MLFLOW_EXPERIMENT_NAME's, where these are set.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from resflow.trackers.tracker import INTERRUPTED, Row, Seen, StudyEnd, TrialEnd, TrialStart

FOLDER = "mlflow"
TRIAL, RUN, STATUS, REASON, REPORT = (f"resflow.{name}" for name in ("trial", "run", "status", "reason", "report"))
ALL = "all"  # in place of a trial's id, of the run that trials lie below
NAME, PARENT, NOTE = "mlflow.runName", "mlflow.parentRunId", "mlflow.note.content"
MOST = 100  # parameters in one request, by MLflow's own limit; it takes more metrics


class MLflow:
    """A tracking server, or a store of its own in `state`."""

    def __init__(self, state: Path) -> None:
        given = os.environ.get("MLFLOW_TRACKING_URI")
        folder = state / FOLDER
        if not given:
            folder.mkdir(parents=True, exist_ok=True)
        self.destination = given or f"sqlite:///{folder / 'mlflow.db'}"
        self.artifacts = None if given else (folder / "artifacts").as_uri()
        self.client = MlflowClient(self.destination)
        self.runs: dict[str, str] = {}  # ids of trials and names of runs -> ids of their MLflow runs
        self.open_studies: set[str] = set()  # names of runs

    def find(self, trial: TrialStart) -> Seen:
        run = self._find_run(trial.study, trial.id, trial.run)
        if run is None:
            return Seen()
        self.runs[trial.id] = run.info.run_id
        steps = [metric.step for metric in self.client.get_metric_history(run.info.run_id, "seconds")]
        return Seen(max(steps, default=0), run.data.tags.get(STATUS, ""))

    def begin(self, trial: TrialStart) -> None:
        parent = self._open_study(trial.study, trial.run)
        if trial.id in self.runs:
            self.client.update_run(self.runs[trial.id], status="RUNNING")
            return
        tags = {f"resflow.{name}": value for name, value in trial.tags.items()}
        tags |= {TRIAL: trial.id, NAME: trial.name, PARENT: parent}
        run = self.client.create_run(self._experiment(trial.study), tags=tags)
        self.runs[trial.id] = run.info.run_id
        self._write(run.info.run_id, params=[Param(_key(name), str(v)) for name, v in trial.parameters.items()])

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        figures = [(name, v, int(row["epoch"])) for row in rows for name, v in row.items() if name != "epoch"]
        self._write(self.runs[trial.id], metrics=[_metric(*figure) for figure in figures])

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        run = self.runs[trial.id]
        self._write(run, metrics=[_metric(name, value, 0) for name, value in end.metrics.items()])
        self.client.set_tag(run, REASON, end.reason)
        self.client.set_tag(run, STATUS, end.status)
        self.client.set_terminated(run, _status(end))

    def log_study(self, study: StudyEnd) -> None:
        known = self._find_run(study.study, ALL, study.run)
        if known is None or known.data.tags.get(REPORT) != study.digest:
            run = self._open_study(study.study, study.run)
            for name, path in study.files.items():
                self.client.log_artifact(run, str(path), name.rpartition("/")[0] or None)
            self.client.set_tag(run, NOTE, study.question)
            self.client.set_tag(run, REPORT, study.digest)
        if study.run in self.open_studies:
            self.client.set_terminated(self.runs[study.run], "FINISHED")
            self.open_studies.remove(study.run)

    def close(self) -> None:
        for run in self.open_studies:
            self.client.set_terminated(self.runs[run], "KILLED")

    def _experiment(self, study: str) -> str:
        """Return the id of a study's experiment, which is made where it is not there."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or study
        known = self.client.get_experiment_by_name(name)
        return str(known.experiment_id if known else self.client.create_experiment(name, self.artifacts))

    def _find_run(self, study: str, trial: str, run: str) -> Any:
        """Return the MLflow run of a trial, by its id, or of ALL, in one of the study's runs; None where none is."""
        found = self.client.search_runs([self._experiment(study)], f"tags.`{TRIAL}` = '{trial}'")
        return next((one for one in found if one.data.tags.get(RUN) == run), None)

    def _open_study(self, study: str, run: str) -> str:
        """Return the id of the MLflow run that the trials of a run lie below."""
        if run not in self.open_studies:
            known = self._find_run(study, ALL, run)
            if known is None:
                known = self.client.create_run(self._experiment(study), tags={TRIAL: ALL, RUN: run, NAME: run})
            self.client.update_run(known.info.run_id, status="RUNNING")
            self.runs[run] = known.info.run_id
            self.open_studies.add(run)
        return self.runs[run]

    def _write(self, run: str, **entries: list[Any]) -> None:
        for kind, listed in entries.items():
            for first in range(0, len(listed), MOST):
                self.client.log_batch(run, **{kind: listed[first : first + MOST]}, synchronous=True)


def _metric(name: str, value: float, step: int) -> Metric:
    return Metric(name, value, time.time_ns() // 1_000_000, step)


def _key(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name)


def _status(end: TrialEnd) -> str:
    return "FINISHED" if end.is_good else "KILLED" if end.status == INTERRUPTED else "FAILED"
