"""Weights & Biases: a run a trial, in the group of its run and of the arm's job type; the report is an artifact.

The project is WANDB_PROJECT's, else `resflow`; WANDB_MODE, WANDB_ENTITY, WANDB_DIR and the rest are the client's own.
Without WANDB_DIR its files lie beside the folders of runs: W&B puts links into them that lead out of a run's own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import CommError

from resflow.trackers.tracker import Row, Seen, StudyEnd, TrialEnd, TrialStart

PROJECT, HIDDEN = "resflow", ".wandb"
STEP, STATUS, REASON, REPORT = "_step", "status", "reason", "report"  # in a run's summary
LONGEST_ID = 128
SETTINGS: dict[str, Any] = {  # a run is its figures: no code, no screen, nothing of the machine
    "console": "off",
    "disable_git": True,
    "host": "resflow",
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "init_timeout": 30,
}
READ_S = 30  # that W&B's reader of a file may take


class WeightsAndBiases:
    """A project of W&B's, or files beside `state` that `wandb sync` uploads."""

    def __init__(self, state: Path) -> None:
        given = os.environ.get("WANDB_DIR")
        self.root = Path(given or state.parent)
        folder = self.root / ("wandb" if given else HIDDEN)
        folder.mkdir(parents=True, exist_ok=True)  # the client takes either, and else writes to /tmp
        self.project = os.environ.get("WANDB_PROJECT") or PROJECT
        self.mode = wandb.setup().settings.mode
        self.destination = f"the project {self.project}"
        if self.mode == "offline":
            self.destination = f"{folder}, for wandb sync"
        self.runs: dict[str, Any] = {}  # by id of an open trial

    def find(self, trial: TrialStart) -> Seen:
        summary = self._read_summary(_id(trial.run, trial.id))
        return Seen(int(summary.get(STEP, 0)), summary.get(STATUS, ""))

    def begin(self, trial: TrialStart) -> None:
        self.runs[trial.id] = self._open(
            _id(trial.run, trial.id),
            name=trial.name,
            group=trial.run,
            job_type=trial.arm,
            config={**trial.tags, **trial.parameters},
            tags=[f"seed {trial.seed}"],
        )

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        for row in rows:
            figures = {name: value for name, value in row.items() if name != "epoch"}
            self.runs[trial.id].log(figures, step=int(row["epoch"]), commit=True)

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        run = self.runs.pop(trial.id)
        run.summary.update({**end.metrics, STATUS: end.status, REASON: end.reason})
        run.finish(exit_code=0 if end.is_good else 1)

    def log_study(self, study: StudyEnd) -> None:
        name = _id(study.run, "study")
        if self._read_summary(name).get(REPORT) == study.digest:
            return
        run = self._open(name, name=study.run, group=study.run, job_type="study", notes=study.question)
        artifact = wandb.Artifact(name, type="report")
        for file, path in study.files.items():
            artifact.add_file(str(path), name=file)
        run.log_artifact(artifact)
        run.summary.update({REPORT: study.digest})
        run.finish()

    def close(self) -> None:
        """Do nothing: a run that is finished is written."""

    def _open(self, run_id: str, **facts: Any) -> Any:
        return wandb.init(
            project=self.project,
            id=run_id,
            dir=str(self.root),
            resume="allow",
            reinit="create_new",  # beside the runs that are open
            settings=wandb.Settings(**SETTINGS),  # its own: a run leaves its tags in them
            **facts,
        )

    def _read_summary(self, name: str) -> Mapping[str, Any]:
        """Return the summary of a run; empty where there is none."""
        if self.mode == "offline":
            return self._read_files(name)
        if self.mode == "disabled":
            return {}
        try:
            return dict(wandb.Api().run(f"{self.project}/{name}").summary)
        except (CommError, ValueError):  # no such run; where nobody answers, opening it says so
            return {}

    def _read_files(self, name: str) -> Mapping[str, Any]:
        """Return the summary that a run's own files give together: each process has written one."""
        summary: dict[str, Any] = {}
        for path in sorted(self.root.glob(f"*wandb/offline-run-*-{name}/*.wandb")):  # by their time
            reader = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
            read = subprocess.run(reader, capture_output=True, text=True, check=True, timeout=READ_S)
            summary |= json.loads(read.stdout)["summary"]
        return summary


def _id(run: str, part: str) -> str:
    """Return an id as W&B takes it, the same for the same part of a run."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', run)[: LONGEST_ID - len(part) - 1]}-{part}"
