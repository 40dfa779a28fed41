"""Trials on a cluster: several raylets on this machine, each with the resources that it says it has."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from support import tiny, work

from resflow.errors import TrainingError
from resflow.records.run import finished_records
from resflow.runner import execute, ray_session
from resflow.runner.execute import Progress, RunPlace
from resflow.study.resources import TrialResources
from resflow.study.settings import Execution, Resources
from resflow.study.trial import Trial
from resflow.training import train

pytestmark = pytest.mark.timeout(900)  # Ray's processes start slowly where others keep the cores busy
cloudpickle.register_pickle_by_value(work)  # workers do not see the folder of tests


@pytest.fixture
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    ray_cluster = Cluster()
    yield ray_cluster
    ray_cluster.shutdown()


@pytest.mark.long  # eight processes
def test_half_a_gpu_each_puts_two_trials_on_every_gpu(cluster: Any, folder: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=8, num_gpus=4)
    (tmp_path / "met").mkdir()
    one = tiny.trial(folder, execution=Execution(device="gpu"))
    trials = [replace(one, id=f"trial{n}", resources=Resources(gpus=0.5)) for n in range(8)]
    done = execute.execute(
        RunPlace(tmp_path / "run", tmp_path / "state", address=cluster.address),
        trials,
        {trial.id: folder for trial in trials},
        lambda progress: None,
        work=functools.partial(work.meet, place=tmp_path / "met", count=8),
    )
    assert [record.provenance["met"] for record in done] == [8] * 8
    assert Counter(record.provenance["gpus"] for record in done) == {str(gpu): 2 for gpu in range(4)}
    assert finished_records(tmp_path / "run") == {record.id: record for record in done}


@dataclass
class Machines:
    """Adds a machine when a trial is under way, and takes it away when two are; `fetched` is what it got by then."""

    cluster: Any
    cache: Path
    node: Any = None
    fetched: list[str] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        epochs = [progress.epoch(key) for key in progress.running]
        if self.node is None and any(epochs):
            self.node = self.cluster.add_node(num_cpus=1, env_vars={"RESFLOW_CACHE": str(self.cache)})
        if len(epochs) == 2 and min(epochs) > 1 and not self.fetched:
            self.fetched = [path.name for path in (self.cache / "data").iterdir() if path.is_dir()]
            self.cluster.remove_node(self.node, allow_graceful=False)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its callbacks down


@pytest.mark.long
@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_a_node_that_joins_is_used_and_one_that_dies_loses_nothing(cluster: Any, folder: Path, tmp_path: Path) -> None:
    """Two trials on one CPU: the second starts on the node that joins, and goes on elsewhere when that node is gone."""
    cluster.add_node(num_cpus=1)
    cache = tmp_path / "cache of the node"
    long, short = trials = [tiny.trial(folder, seed, epochs=epochs) for seed, epochs in ((1, 1500), (2, 300))]
    screen = Machines(cluster, cache)
    done = execute.execute(
        RunPlace(tmp_path / "run", tmp_path / "state", storage=str(tmp_path / "checkpoints"), address=cluster.address),
        trials,
        {trial.id: folder for trial in trials},
        screen,
    )
    assert screen.fetched == [folder.name]  # the node got its images from the driver
    logs = {trial.id: (tmp_path / "state" / "logs" / f"{trial.id}.log").read_text() for trial in trials}
    assert {trial_id: log.count("worker process") for trial_id, log in logs.items()} == {long.id: 1, short.id: 2}
    ended = {record.id: record for record in done}
    assert ended[long.id].epochs_run == 1500
    assert ended[short.id].metrics == train.train_trial(short, folder).record.metrics


@pytest.mark.long
def test_more_than_any_machine_has_waits_for_one_that_has_it(
    cluster: Any, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.add_node(num_cpus=1)
    stop = execute.Stop(time_budget=5)
    trial = replace(tiny.trial(folder), resources=Resources(cpus=3))
    place = RunPlace(tmp_path / "run", tmp_path / "state", address=cluster.address)
    assert execute.execute(place, [trial], {trial.id: folder}, lambda progress: None, stop) == []
    assert "a trial asks for 3 CPUs, and no machine has that: at most 1 CPUs" in caplog.text
    assert "Trials wait until such a machine joins the cluster" in caplog.text
    assert stop.reason.startswith("the time budget")


@pytest.mark.parametrize("address", ["nowhere", "ray://127.0.0.1:10001", "127.0.0.1:port", ""])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(TrainingError, match=r"expected auto .* or HOST:PORT"):
        ray_session.check_address(address)


def test_a_cluster_that_does_not_answer_is_told() -> None:
    with pytest.raises(TrainingError, match=r"no Ray cluster answers at 127.0.0.1:1"):
        ray_session.visible_resources("127.0.0.1:1")


@pytest.mark.long
def test_a_worker_that_hangs_is_replaced(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESFLOW_PATIENCE_S", "10")
    monkeypatch.setattr("resflow.runner.watchdog.TIMES", 0)
    trial: Trial = tiny.trial(folder)
    (record,) = execute.execute(
        RunPlace(tmp_path / "run", tmp_path / "state"),
        [trial],
        {trial.id: folder},
        lambda progress: None,
        work=functools.partial(work.hang_once, place=tmp_path),
    )
    assert record.status == "completed"
    assert record.provenance["hung"] != record.provenance["ended"]
    assert json.loads((tmp_path / "run" / "trials" / trial.id / "record.json").read_text())["status"] == "completed"


@pytest.mark.long
def test_a_stranger_cannot_join_a_session_of_resflow(tmp_path: Path) -> None:
    """Whoever reaches Ray's port can run code: without the token of this user's home it must not be let in."""
    code = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); print('joined')"
    with ray_session.connect(TrialResources(1)):
        command = [sys.executable, "-c", code, ray.get_runtime_context().gcs_address]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        stranger = subprocess.run(command, env={**variables, "HOME": str(tmp_path)}, capture_output=True, text=True)
        assert stranger.returncode != 0
        assert "joined" not in stranger.stdout
        friend = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
        assert "joined" in friend.stdout, friend.stderr
