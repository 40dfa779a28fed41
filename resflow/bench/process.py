"""A contender as a process: a module of `contenders` that takes one JSON document and answers with one line of JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from resflow.errors import ResflowError

GRACE = 10.0  # seconds to end in order


def ask(
    module: str,
    spec: Mapping[str, Any],
    python: str | None = None,
    variables: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Run resflow.bench.contenders.<module> on `spec` and return its answer.

    `spec["threads"]`, where given, bounds the OpenMP threads as well; it sees GPUs where `spec["device"]` is gpu.
    `python` is another interpreter, which sees this package and none of the packages beside it; `variables` join its
    environment, and `limit` are the seconds that it may take. Raises ResflowError where the contender fails.
    """
    command = [python or sys.executable, "-m", f"resflow.bench.contenders.{module}", json.dumps(spec)]
    with tempfile.TemporaryDirectory() as empty:
        env = {**environment(spec.get("threads"), spec.get("device", "cpu")), **(variables or {})}
        if python is not None:
            (Path(empty) / "resflow").symlink_to(Path(__file__).parents[1])
            env["PYTHONPATH"] = empty
        try:
            done = run_limited(command, env, limit)
        except OSError as error:
            raise ResflowError(f"cannot start {command[0]}: {error}. Name a Python interpreter.") from error
        except subprocess.TimeoutExpired as error:
            raise ResflowError(f"benchmark: {module} had not ended after {limit:.0f} s.") from error
    if done.returncode:
        raise ResflowError(f"benchmark: {module} failed: {last_line(done.stderr)}. Nothing was measured.")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def run_limited(
    command: list[str], env: Mapping[str, str], limit: float | None = None, output: int | IO[str] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, or end it after `limit` seconds with all that it has started.

    Raises subprocess.TimeoutExpired then. `output` takes both streams where it is a file.
    """
    errors = subprocess.PIPE if output == subprocess.PIPE else subprocess.STDOUT
    group = subprocess.Popen(command, text=True, env=env, stdout=output, stderr=errors, start_new_session=True)
    try:
        out, err = group.communicate(timeout=limit)
    except BaseException:
        _end(group)
        raise
    return subprocess.CompletedProcess(command, group.returncode, out, err)


def _end(group: subprocess.Popen[str]) -> None:
    """End a process and all of its group, in order if it can: groups that it has started itself are its matter."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(group.pid, number)
        with suppress(subprocess.TimeoutExpired):
            group.wait(GRACE)
    group.communicate()


def environment(threads: int | None = None, device: str = "cpu") -> dict[str, str]:
    """Return this process's variables for a contender: no log lines, `threads` OpenMP threads, on the CPU no GPU."""
    bound = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} if threads else {}
    hidden = {} if device == "gpu" else {"CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **hidden, "TF_CPP_MIN_LOG_LEVEL": "3", **bound}


def answer(job: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run a contender's main program: `job` on the JSON of the command line; print its answer."""
    print(json.dumps(job(json.loads(sys.argv[1]))))


def can_import(module: str, python: str | None = None) -> bool:
    """Return True where an interpreter, or this one, can import a module. Raises ResflowError if it cannot start."""
    try:
        done = subprocess.run([python or sys.executable, "-c", f"import {module}"], capture_output=True)
    except OSError as error:
        raise ResflowError(f"cannot start {python}: {error}. Name a Python interpreter.") from error
    return done.returncode == 0


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")
