"""Ray on this machine alone: for nobody else to reach, to read or to find afterwards.

Its servers listen on the loopback and ask for a token of this session. Its files, the token and the temporary files of
its workers lie in a private folder, which a janitor removes with all of Ray's processes once the driver has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import math
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray._private.worker
from ray._private import ray_constants
from ray._private.node import Node
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from resflow import provenance, scratch, workspace
from resflow.errors import ResflowError, TrainingError
from resflow.runner import janitor
from resflow.study.resources import GIGABYTE, object_store_bytes

# Below its folder Ray makes sockets such as r/session_2026-01-02_03-04-05_678901_1234567/sockets/plasma_store.
LONGEST_FOLDER = (103 if sys.platform == "darwin" else 107) - 67  # bytes: what a socket's address holds, less that
SUPERFLUOUS = ("start_api_server", "start_monitor", "start_log_monitor")  # methods of Ray's Node
CLEANUP_S = 15  # that the janitor may take
ROOM = 200e6  # bytes that Ray's files take, more or less


@contextmanager
def start(cores: int, options: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[None]:
    """Start Ray here, and end it; its processes see some variables more. Raises TrainingError where it fails.

    The variables are no runtime environment of Ray's: the workers that it starts by itself have none, and every trial
    would wait for another process.
    """
    memory = provenance.environment()["memory_gb"]
    with _session() as (session, temporary):
        try:
            with elsewhere(), _surroundings(session, temporary, variables), _few_processes(), own_handler():
                # address: never somebody's cluster that RAY_ADDRESS or `ray start` left to be found
                ray.init(
                    address="local",
                    num_cpus=cores,
                    object_store_memory=int(object_store_bytes(memory * GIGABYTE if memory else math.inf)),
                    include_dashboard=False,
                    _temp_dir=str(session / "r"),
                    **options,
                )
            _check_loopback()
        except BaseException as error:
            _end()
            if isinstance(error, SystemExit):  # Ray's own answer to SIGTERM, while it starts
                signal.raise_signal(signal.SIGTERM)
                raise KeyboardInterrupt from error
            if isinstance(error, ResflowError) or not isinstance(error, Exception):
                raise
            raise TrainingError(_explain(error, session)) from error
        try:
            yield
        finally:
            _end()


def find_dead() -> str | None:
    """Return the name of a process without which Ray cannot go on, and which has died; None where all live."""
    node = ray._private.worker._global_node
    dead = {kind for kind, _ in node.dead_processes()} if node is not None else set()
    return next(
        (kind for kind in (ray_constants.PROCESS_TYPE_GCS_SERVER, ray_constants.PROCESS_TYPE_RAYLET) if kind in dead),
        None,
    )


def _end() -> None:
    """Shut Ray down. Where a process of its own has died it would wait for it: the others are ended first."""
    with own_handler():
        if find_dead():
            ray._private.worker._global_node.kill_all_processes(check_alive=False)
        ray.shutdown()
    forget_colours()


def forget_colours() -> None:
    """Keep colorama, which comes with Ray, from writing a control code where this process ends, be it into a pipe."""
    if initialise := sys.modules.get("colorama.initialise"):
        atexit.unregister(initialise.reset_all)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Stand in an empty folder: Ray has every worker look for modules first in the one where it was started.

    A file of the user's that is called like a package, `keras.py` say, would be imported in its place.
    """
    folder = workspace.cache(workspace.EMPTY)  # stays: Ray's processes stand in it
    workspace.make_cache_folder(folder)
    with contextlib.chdir(folder):
        yield


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _session() -> Iterator[tuple[Path, Path]]:
    """Make the folder of a session, and that of its workers' temporary files, which is the same where a name fits."""
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(scratch.private_folder())
        session = temporary
        if len(os.fsencode(temporary)) > LONGEST_FOLDER:
            session = stack.enter_context(scratch.private_folder(Path("/tmp")))
        command = [sys.executable, "-I", "-S", janitor.__file__, str(session), str(temporary)]
        try:
            process = subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            raise TrainingError(_explain(error, session)) from error
        try:
            yield session, temporary
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(CLEANUP_S)


@contextmanager
def _few_processes() -> Iterator[None]:
    """Have Ray start without its web page, autoscaler and collector of logs, which nobody asks for here.

    Each is a Python process that imports for a second while workers do, and Ray's end waits for it.
    """
    before = {name: getattr(Node, name) for name in SUPERFLUOUS if hasattr(Node, name)}
    for name in before:
        setattr(Node, name, lambda *arguments, **options: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)


@contextmanager
def _surroundings(session: Path, temporary: Path, more: Mapping[str, str]) -> Iterator[None]:
    """Hold what Ray's processes inherit while they start, and what this one has to know of the session."""
    token = session / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    (temporary / "t").mkdir()
    variables: dict[str, str | None] = {
        **more,
        janitor.SESSION: str(session),
        "TMPDIR": str(temporary / "t"),
        "RAY_TMPDIR": None,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": None,
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ADDRESS": None,
        "RAY_REDIS_ADDRESS": None,
        # Ray takes the loopback on systems where it supports no clusters: an address of 127.0.0.1 that it is
        # given for this machine it replaces by the one that other machines reach.
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",
    }
    before = {name: os.environ.get(name) for name in variables}
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    _put(variables)
    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")  # has this process read the variables again, as Ray does when it sets them itself
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        # A terminal that closes tells every process of its group: the driver alone is to hear it.
        with _blocked(signal.SIGHUP):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        _put(before)


@contextmanager
def own_handler() -> Iterator[None]:
    """Have SIGTERM do afterwards what it did before: Ray takes it when it starts, and drops it when it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _put(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Keep a signal waiting in this thread, and from the processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_loopback() -> None:
    for node in ray.nodes():
        address = node["NodeManagerAddress"]
        if not ipaddress.ip_address(address).is_loopback:
            raise TrainingError(
                f"Ray {ray.__version__} listens on {address}, where other machines reach it; it was to listen on the "
                "loopback alone. Install a version that resflow was tested with, or run on a cluster of yours with "
                "--address."
            )


def _explain(error: Exception, session: Path) -> str:
    """Say what kept Ray from starting, as far as this process can see it, and what to do."""
    if causes := list(_causes(session)):
        return f"Ray did not start. {' '.join(causes)} Nothing that has finished is lost: run the same command again."
    said = _last_words(session / "r")
    words = f"Its last words: {said} " if said else ""
    return (
        f"Ray did not start: {first_line(error)} {words}A machine under heavy load does this: run the same command "
        "again when it is calmer. Nothing that has finished is lost."
    )


LIMITS = (  # below which Ray may not start: of what, its unit with its name, what Ray may take, ulimit's option
    (resource.RLIMIT_AS, "of address space", 1e9, "GB", 32e9, "-v"),
    (resource.RLIMIT_FSIZE, "in a file", 1e9, "GB", 32e9, "-f"),
    (resource.RLIMIT_NPROC, "processes and threads", 1, "", 1000, "-u"),
    (resource.RLIMIT_NOFILE, "open files", 1, "", 1000, "-n"),
)


def _causes(session: Path) -> Iterator[str]:
    for limit, what, unit, name, needed, option in LIMITS:
        bound = resource.getrlimit(limit)[0]
        if bound != resource.RLIM_INFINITY and bound < needed:
            yield f"A limit of {bound / unit:,.4g} {f'{name} {what}'.strip()} holds here (ulimit {option}): raise it."
    for place in {session, Path("/dev/shm")}:
        with contextlib.suppress(OSError):
            if (free := shutil.disk_usage(place).free) < ROOM:
                yield f"{place} has {free / 1e6:,.0f} MB left: make room there."


def _last_words(folder: Path) -> str:
    """Return the last line that one of Ray's processes wrote about an error."""
    words = ""
    for path in sorted(folder.glob("session_*/logs/*.err")) + sorted(folder.glob("session_*/logs/*.out")):
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
            told = [line for line in lines if " E " in line or " C " in line or "Error" in line]
            words = told[-1][:300] if told else words
    return words
