"""What TensorBoard's own reader finds of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import fake_run

from resflow import workspace
from resflow.records.run import load_run
from resflow.trackers.describe import describe_record, read_epochs
from resflow.trackers.tensorboard import TensorBoard
from resflow.trackers.tracker import TrialEnd, TrialStart
from resflow.trackers.trial_log import TrialLog
from resflow.workflow.run_contract import Silent
from resflow.workflow.tracking import log_run


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads with its own code where a module of this name is there; TensorFlow would take seconds."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


def read(folder: Path) -> Any:
    """TensorBoard's own view of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def scalars(seen: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in seen.Scalars(tag)]


def text(seen: Any, tag: str) -> str:
    return seen.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


@pytest.fixture
def logged(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert log_run(finished_run, ["tensorboard"], Silent()) == 4
    return workspace.state_folder(finished_run) / "tensorboard"


def test_a_finished_run_is_there_once(logged: Path, finished_run: Path) -> None:
    before = sorted(logged.rglob("*"))
    log_run(finished_run, ["tensorboard"], Silent())
    assert sorted(logged.rglob("*")) == before
    run = load_run(finished_run)
    assert sum(path.is_dir() for path in logged.iterdir()) == len(run.records) + 1
    for record in run.records:
        (folder,) = logged.glob(f"*-{record.id}")
        assert folder.name == f"{record.arm}-seed{record.seed}-{record.id}"
        seen = read(folder)
        history = read_epochs(run, [record])[record.id]
        steps, values = zip(*scalars(seen, "epoch/validation_top1"), strict=True)
        assert list(steps) == [row["epoch"] for row in history]
        np.testing.assert_allclose(values, [row["validation_top1"] for row in history], rtol=1e-6)
        assert text(seen, "status") == record.status
        if record.status == "failed":
            assert text(seen, "reason") == record.reason
        else:
            ((_, value),) = scalars(seen, "test_top1")
            assert value == pytest.approx(record.metrics["test_top1"], rel=1e-6)


def test_factors_and_settings_are_hyperparameters(logged: Path, finished_run: Path) -> None:
    from tensorboard.plugins.hparams import api_pb2, metadata

    for record in load_run(finished_run).records:
        (folder,) = logged.glob(f"*-{record.id}")
        contents = read(folder).summary_metadata
        start = metadata.parse_session_start_info_plugin_data(
            contents[metadata.SESSION_START_INFO_TAG].plugin_data.content
        )
        assert start.hparams["depth"].string_value == record.levels["depth"]
        assert start.hparams["network.depth"].number_value == int(record.levels["depth"])
        assert start.hparams["seed"].string_value == str(record.seed)
        end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG].plugin_data.content)
        good = record.status == "completed"
        assert end.status == (api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE)


def test_the_report_is_a_run_of_its_own(logged: Path, finished_run: Path) -> None:
    seen = read(logged / finished_run.name)
    assert text(seen, "README.md") == (finished_run / "README.md").read_text(encoding="utf-8")
    (picture,) = seen.Images("figures/accuracy.png")
    assert picture.encoded_image_string == (finished_run / "figures" / "accuracy.png").read_bytes()


def test_an_older_report_gives_way_to_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = fake_run.write_run(tmp_path / "other", {"depth": {"18": 18}}, lambda levels: (0.5, 0.9), epochs=2)
    for words in ("first", "second"):
        for name in ("report.html", "README.md"):
            (other / name).write_text(words)
        log_run(other, ["tensorboard"], Silent())
        assert text(read(workspace.state_folder(other) / "tensorboard" / "other"), "README.md") == words


TRIAL = TrialStart("a1", "run", "study", "../../an arm/", 1, 0, {"depth": "18"})
ROWS = [{"epoch": float(epoch), "seconds": 1.0, "train_loss": 1 / epoch} for epoch in range(1, 7)]


def test_a_trial_goes_on_behind_half_an_event(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path)
    log = TrialLog(first)
    log.begin(TRIAL)
    log.log_epochs(TRIAL, ROWS[:3])
    log.close()
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == ".._.._an_arm_-seed1-a1"
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-5])  # a killed process leaves it so
    again = TrialLog(TensorBoard(tmp_path))
    again.end(TRIAL, ROWS, TrialEnd("completed", metrics={"test_top1": 0.5}))
    assert [step for step, _ in scalars(read(folder), "epoch/train_loss")] == [1, 2, 3, 4, 5, 6]


def test_a_trial_is_found_whatever_its_arm_is_called_now(tmp_path: Path, finished_run: Path) -> None:
    record = load_run(finished_run).records[0]
    trial = describe_record(record, finished_run)
    log = TrialLog(TensorBoard(tmp_path))
    log.end(trial, ROWS, TrialEnd("completed"))
    renamed = describe_record(record.model_copy(update={"arm": "other"}), finished_run)
    seen = TensorBoard(tmp_path).find(renamed)
    assert (seen.last_epoch, seen.status) == (6, "completed")


def test_nothing_imports_tensorflow() -> None:
    code = "import resflow.trackers.tensorboard, sys; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
