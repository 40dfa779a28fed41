"""A local Ray is for nobody else: not to reach, not to read, and not to find when its driver has ended."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import ray
from ray import cloudpickle
from support import local_session, tiny, work

from resflow.errors import RecordError, TrainingError
from resflow.records.run import finished_records
from resflow.runner import execute, janitor, local_ray, ray_session
from resflow.runner.execute import Progress, RunPlace
from resflow.runner.record_writer import RecordWriter, start_beside_driver
from resflow.runner.stopping import Stop

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="sockets and processes are found by Linux' /proc"),
]
LOOPBACK = ("0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F")  # 127.0.0.1, ::1, and one as other
LISTENS = "0A"
ASK = "import sys; from ray._raylet import GcsClient; print(GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None))"
cloudpickle.register_pickle_by_value(work)  # workers do not see the folder of tests


def listening_addresses(pids: list[int]) -> set[str]:
    """Return the addresses, in the kernel's own hexadecimal, on which processes listen."""
    sockets = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # it has ended
            sockets |= {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == LISTENS and f"socket:[{row[9]}]" in sockets}


@dataclass
class Seen:
    session: Path
    temporary: Path  # of its workers
    addresses: set[str]
    modes: list[int]  # of its folder and its token
    processes: int
    strangers: list[subprocess.CompletedProcess[str]]  # who ask without a token, with a wrong one, with the right one


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Path]:
    """What a session shows while it runs, on a machine whose user has turned tokens off and has no usable home."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        heard = list[int]()
        before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        with local_ray.start(1, ray_session.OPTIONS, ray_session.WORKERS):
            signal.raise_signal(signal.SIGTERM)
            writer = start_beside_driver(RecordWriter, "run", str(tmp_path_factory.mktemp("state")))
            ray.get(writer.log.remote("trial", "a line"))
            session = Path(ray.get_runtime_context().get_temp_dir()).parent
            pids = janitor.list_processes(str(session))
            strangers = [
                subprocess.run(
                    [sys.executable, "-c", ASK, ray.get_runtime_context().gcs_address],
                    env={**os.environ, **variables},
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                for variables in (
                    {},
                    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a guess"},
                    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(session / "token")},
                )
            ]
            modes = [stat.S_IMODE(place.stat().st_mode) for place in (session, session / "token")]
            temporary = Path(ray.get(ray.remote(num_cpus=0)(tempfile.gettempdir).remote()))
            found = Seen(session, temporary, listening_addresses([os.getpid(), *pids]), modes, len(pids), strangers)
        assert os.environ["RAY_AUTH_MODE"] == "disabled"  # as the user has it
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == 2 * [signal.SIGTERM]  # while it runs and afterwards
        signal.signal(signal.SIGTERM, before)
    return found, home


def test_it_listens_on_the_loopback_alone(seen: tuple[Seen, Path]) -> None:
    assert seen[0].processes >= 3  # all of Ray's, not only those that the driver has started itself
    assert seen[0].addresses
    assert seen[0].addresses <= set(LOOPBACK)


def test_its_files_and_its_token_are_its_owners_alone(seen: tuple[Seen, Path]) -> None:
    assert seen[0].modes == [0o700, 0o600]
    assert seen[0].temporary.is_relative_to(seen[0].session)
    assert list(seen[1].iterdir()) == []  # no token, nor anything else, in the home


def test_who_has_no_token_is_refused(seen: tuple[Seen, Path]) -> None:
    without, wrong, right = seen[0].strangers
    for refused in (without, wrong):
        assert refused.returncode != 0
        assert "AuthenticationError" in refused.stderr
        assert "session_name" not in refused.stdout
    assert "session_name" in right.stdout


def test_nothing_is_left_when_it_has_ended(seen: tuple[Seen, Path]) -> None:
    assert not seen[0].session.exists()
    assert janitor.list_processes(str(seen[0].session)) == []


def test_nothing_is_left_when_its_driver_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("deep" * 20)  # longer than a socket's address may be
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    driver = subprocess.Popen([sys.executable, local_session.__file__], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    session = Path(driver.stdout.readline().strip()).parent
    assert session.is_dir()
    assert len(janitor.list_processes(str(session))) >= 3
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 10
    while (janitor.list_processes(str(session)) or session.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert janitor.list_processes(str(session)) == []
    assert not session.exists()
    assert list(deep.iterdir()) == []


def test_a_worker_of_a_cluster_has_a_folder_of_its_own(tmp_path: Path) -> None:
    body = (
        "import tempfile\n"
        "from resflow.runner import worker\n"
        "for _ in range(2):\n"  # trials
        "    worker._keep_temporary_files_private()\n"
        "    print(tempfile.gettempdir())\n"
    )
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", body], env=variables, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == second
    assert Path(first).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_control_process_that_dies_ends_the_run_soon(tmp_path: Path) -> None:
    folder, stop, killed = tiny.prepare(), Stop(), list[float]()
    trial = tiny.trial(folder)

    def show(progress: Progress) -> None:
        if progress.running.get(trial.id) and not killed:
            killed.append(time.monotonic())
            ray._private.worker._global_node.all_processes["gcs_server"][0].process.kill()

    hangs = partial(work.hang_once, place=tmp_path)
    place = RunPlace(tmp_path / "run", tmp_path / "state")
    assert execute.execute(place, [trial], {trial.id: folder}, show, stop, hangs) == []
    assert stop.reason == "Ray's process gcs_server has died"
    assert time.monotonic() - killed[0] < 20


def test_a_record_that_the_disk_refuses_ends_the_run_with_its_cause(tmp_path: Path) -> None:
    folder, started = tiny.prepare(), set[str]()
    trials = [tiny.trial(folder, seed) for seed in range(1, 9)]
    place = RunPlace(tmp_path / "run", tmp_path / "state")

    def show(progress: Progress) -> None:
        place.run.mkdir(exist_ok=True)
        (place.run / "trials").touch()  # where the records' folder should be
        started.update(progress.running)

    with pytest.raises(RecordError, match=r"cannot write the record of trial \w+ below .*run the same command again"):
        execute.execute(place, trials, {trial.id: folder for trial in trials}, show, work=work.complete)
    assert started
    assert len(started) < len(trials)  # it does not go through all of them
    (place.run / "trials").unlink()
    (place.run / "trials").mkdir()
    assert finished_records(place.run) == {}  # none of them has failed


@pytest.mark.parametrize(
    ("limit", "said"), [("RLIMIT_AS", "6 GB of address space"), ("RLIMIT_FSIZE", "6 GB in a file")]
)
def test_what_keeps_ray_from_starting_is_named(
    monkeypatch: pytest.MonkeyPatch, limit: str, said: str, tmp_path: Path
) -> None:
    bounds = {getattr(resource, limit): (6e9, 6e9)}
    monkeypatch.setattr(local_ray.resource, "getrlimit", lambda asked: bounds.get(asked, (resource.RLIM_INFINITY,) * 2))

    def fails(**asked: object) -> None:
        raise ValueError("The current node timed out during startup")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(TrainingError, match=f"Ray did not start. A limit of {said} holds here") as told:
        local_ray.start(1, {}, {}).__enter__()
    assert "calmer" not in str(told.value)


def test_a_janitor_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*command: object, **options: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(local_ray.subprocess, "Popen", fails)
    with pytest.raises(TrainingError, match="Ray did not start"):
        local_ray.start(1, {}, {}).__enter__()
