"""What W&B's own reader finds in the files of its offline mode, and what resflow asks its server for."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resflow import workspace
from resflow.records.run import load_run
from resflow.trackers.describe import describe_end, describe_record, read_epochs
from resflow.trackers.known import TRACKERS
from resflow.trackers.process import TrackerProcess
from resflow.trackers.tracker import Seen
from resflow.workflow.run_contract import Silent
from resflow.workflow.tracking import log_run

pytest.importorskip("wandb", reason="needs resflow[wandb], which the lock file leaves out")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),  # W&B's own
]


@pytest.fixture(scope="module")
def logged(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """W&B's folder of a run that was logged twice, without a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("wandb"))
        for name in ("WANDB_DIR", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        patch.setenv("WANDB_MODE", "offline")
        assert log_run(finished_run, ["wandb"], Silent()) == 4
        folder = Path(".resflow/.wandb").absolute()
        assert not list(workspace.state_folder(finished_run).rglob("*.wandb"))
        before = sorted(folder.rglob("*.wandb"))
        log_run(finished_run, ["wandb"], Silent())
        assert sorted(folder.rglob("*.wandb")) == before
        yield folder


def read(folder: Path, part: str) -> dict[str, list[Any]]:
    """All that the only file of a run has, by kind."""
    (file,) = folder.glob(f"offline-run-*-depths-{part}/*.wandb")
    return read_file(file)


def read_file(file: Path) -> dict[str, list[Any]]:
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    found: dict[str, list[Any]] = {}
    for line in subprocess.run(reader, capture_output=True, text=True, check=True).stdout.splitlines():
        entry = json.loads(line)
        found.setdefault(entry["type"], []).append(entry[entry["type"]])
    return found


def test_each_trial_is_a_run_in_the_group_of_its_study(logged: Path, finished_run: Path) -> None:
    run = load_run(finished_run)
    assert len(list(logged.rglob("*.wandb"))) == len(run.records) + 1
    for record in run.records:
        found = read(logged, record.id)
        (facts,) = found["run"]
        assert (facts["project"], facts["run_group"], facts["job_type"]) == ("resflow", "depths", record.arm)
        assert (facts["display_name"], facts["tags"]) == (f"{record.arm} seed {record.seed}", [f"seed {record.seed}"])
        assert facts["host"] != platform.node()
        config = facts["config"]["update"]
        assert (config["depth"], config["network.depth"]) == (record.levels["depth"], int(record.levels["depth"]))
        rows = read_epochs(run, [record])[record.id]
        said = [entry["item"] for entry in found["history"] if "train_loss" in entry["item"]]
        assert [item["_step"] for item in said] == [row["epoch"] for row in rows]
        for name in ("learning_rate", "train_loss", "validation_top1"):
            assert [item[name] for item in said] == [row[name] for row in rows]
        summary: dict[str, Any] = {}
        for entry in found["summary"]:
            summary |= entry["update"]
        assert (summary["status"], summary["reason"]) == (record.status, record.reason)
        assert summary.get("test_top1") == record.metrics.get("test_top1")
        assert found["exit"][-1].get("exit_code", 0) == (record.status != "completed")


def test_the_report_is_an_artifact_of_the_study(logged: Path) -> None:
    found = read(logged, "study")
    (facts,) = found["run"]
    assert (facts["run_group"], facts["job_type"]) == ("depths", "study")
    assert "tags" not in facts
    (artifact,) = found["artifact"]
    names = {entry["path"] for entry in artifact["manifest"]["contents"]}
    assert {"report.html", "README.md", "trials.csv", "figures/accuracy.png"} <= names


def test_a_trial_that_was_cut_off_goes_on_behind_its_last_epoch(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process has a client of its own, as each study has."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "there"))
    run = load_run(finished_run)
    record = next(record for record in run.records if record.status == "completed")
    trial, rows = describe_record(record, finished_run), read_epochs(run, [record])[record.id]
    for message in (("log_epochs", trial, rows[:2]), ("end", trial, rows, describe_end(record))):
        tracker = TrackerProcess("wandb", TRACKERS["wandb"], tmp_path / "state")
        tracker.send("begin", trial)
        tracker.send(*message)
        tracker.finish()
        assert tracker.problem == ""
    files = sorted((tmp_path / "there").rglob("*.wandb"))
    steps = [[entry["step"]["num"] for entry in read_file(file)["history"]] for file in files]
    assert steps == [[1, 2], [3, 4, 5, 6]]


def test_a_server_is_asked_what_it_has(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is at hand: the client's own question stands for one."""
    import wandb
    from wandb.errors import CommError

    from resflow.trackers.wandb import WeightsAndBiases

    records = load_run(finished_run).records
    there, not_there = (describe_record(record, finished_run) for record in records[:2])
    asked: list[str] = []

    class Api:
        def run(self, path: str) -> Any:
            asked.append(path)
            if not_there.id in path:
                raise CommError("Could not find run")
            return SimpleNamespace(summary={"_step": 3, "status": "interrupted"})

    monkeypatch.setenv("WANDB_PROJECT", "flowers")
    monkeypatch.setattr(wandb, "Api", Api)
    tracker = WeightsAndBiases(tmp_path)
    tracker.mode = "online"
    assert tracker.find(there) == Seen(3, "interrupted")
    assert tracker.find(not_there) == Seen()
    assert asked == [f"flowers/depths-{there.id}", f"flowers/depths-{not_there.id}"]
