"""What a local MLflow store, and a server on it, have of a run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resflow import workspace
from resflow.records.run import load_run
from resflow.trackers.describe import describe_record, read_epochs
from resflow.trackers.tracker import StudyEnd, TrialEnd
from resflow.trackers.trial_log import TrialLog
from resflow.workflow.run_contract import Silent
from resflow.workflow.tracking import log_run

pytest.importorskip("mlflow", reason="needs resflow[mlflow], which the lock file leaves out")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),  # MLflow's own
]
STATUSES = {"completed": "FINISHED", "failed": "FAILED"}


@pytest.fixture(scope="module")
def logged(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the local store of a run that was logged twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("mlflow"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for _ in range(2):
            assert log_run(finished_run, ["mlflow"], Silent()) == 4
        yield f"sqlite:///{workspace.state_folder(finished_run).absolute()}/mlflow/mlflow.db"


def all_runs(client: Any) -> list[Any]:
    (experiment,) = client.search_experiments(filter_string="name = 'depth'")
    return list(client.search_runs([experiment.experiment_id]))


def test_each_trial_is_a_run_below_that_of_the_study(logged: str, finished_run: Path) -> None:
    from mlflow import MlflowClient

    client, run = MlflowClient(logged), load_run(finished_run)
    runs = {found.data.tags["resflow.trial"]: found for found in all_runs(client)}
    assert runs.keys() == {"all", *(record.id for record in run.records)}
    parent = runs["all"]
    assert (parent.info.run_name, parent.info.status) == ("depths", "FINISHED")
    for record in run.records:
        found = runs[record.id]
        assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert found.info.run_name == f"{record.arm} seed {record.seed}"
        assert found.info.status == STATUSES[record.status]
        assert (found.data.tags["resflow.arm"], found.data.tags["resflow.seed"]) == (record.arm, str(record.seed))
        assert found.data.tags["resflow.reason"] == record.reason
        assert found.data.params["depth"] == record.levels["depth"]
        assert found.data.params["recipe.learning_rate"] == "0.05"
        rows = read_epochs(run, [record])[record.id]
        for name in ("learning_rate", "train_loss", "validation_top1", "seconds"):
            history = client.get_metric_history(found.info.run_id, name)
            assert [(metric.step, metric.value) for metric in history] == [(row["epoch"], row[name]) for row in rows]
        assert ("test_top1" in found.data.metrics) == (record.status == "completed")
        assert found.data.metrics.get("test_top1") == record.metrics.get("test_top1")


def test_the_report_lies_with_the_study(logged: str, finished_run: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(logged)
    (parent,) = [run for run in all_runs(client) if run.data.tags["resflow.trial"] == "all"]
    folder = Path(client.download_artifacts(parent.info.run_id, "", str(tmp_path)))
    for name in ("report.html", "README.md", "trials.csv", "figures/accuracy.png"):
        assert (folder / name).read_bytes() == (finished_run / name).read_bytes()


def test_a_server_shows_it(logged: str, finished_run: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", logged], stdout=log, stderr=log, cwd=tmp_path, env=quiet
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health")
        found = _ask(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=depth")
        asked = {"experiment_ids": [found["experiment"]["experiment_id"]]}
        runs = _ask(f"{address}/api/2.0/mlflow/runs/search", asked)["runs"]
        names = {f"{record.arm} seed {record.seed}" for record in load_run(finished_run).records}
        assert {run["info"]["run_name"] for run in runs} == {"depths", *names}
    finally:
        server.terminate()
        server.wait(60)


def _ask(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_a_trial_that_was_cut_off_goes_on_in_the_same_run(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from resflow.trackers.mlflow import MLflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = load_run(finished_run)
    record = next(record for record in run.records if record.status == "completed")
    trial, rows = describe_record(record, finished_run), read_epochs(run, [record])[record.id]
    log = TrialLog(MLflow(tmp_path))
    log.begin(trial)
    log.log_epochs(trial, rows[:2])
    log.close()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    assert {found.info.status for found in all_runs(client)} == {"KILLED"}
    again = TrialLog(MLflow(tmp_path))
    again.begin(trial)
    assert {found.info.status for found in all_runs(client)} == {"RUNNING"}
    again.log_epochs(trial, rows[2:])
    again.end(trial, rows, TrialEnd("completed", metrics={"test_top1": 0.5}))
    report = tmp_path / "report.html"
    report.write_text("a report")
    again.log_study(StudyEnd(trial.run, trial.study, "Why?", {"report.html": report}, "digest"))
    again.close()
    runs = all_runs(client)
    assert {found.info.status for found in runs} == {"FINISHED"}
    (only,) = [found for found in runs if found.data.tags["resflow.trial"] == record.id]
    assert [metric.step for metric in client.get_metric_history(only.info.run_id, "seconds")] == [1, 2, 3, 4, 5, 6]


def test_names_and_values_are_as_mlflow_takes_them(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from resflow.trackers.mlflow import MLflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trial = describe_record(load_run(finished_run).records[0], finished_run)
    many = {f"factor {number} é=%": "x" * 9000 for number in range(150)}
    odd = replace(trial, run='it\'s a "run"', parameters=many)
    log = TrialLog(MLflow(tmp_path))
    log.end(odd, [], TrialEnd("failed", "y" * 9000))
    log.close()
    seen = MLflow(tmp_path).find(odd)
    assert (seen.last_epoch, seen.status) == (0, "failed")
    assert MLflow(tmp_path).find(trial).status == ""  # of another run


def test_a_server_that_does_not_answer_is_said(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resflow.errors import TrackerError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    notes: list[str] = []

    class Listening(Silent):
        def note(self, text: str, title: str = "") -> None:
            notes.append(text)

    with pytest.raises(TrackerError, match="mlflow has not got all of"):
        log_run(finished_run, ["mlflow"], Listening())
    assert "127.0.0.1" in notes[-1]
