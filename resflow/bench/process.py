"""A contender as a process: a module of `contenders` that takes one JSON document and answers with one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resflow.errors import ResflowError


def ask(
    module: str, spec: Mapping[str, Any], python: str | None = None, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run resflow.bench.contenders.<module> on `spec` and return its answer.

    `spec["threads"]`, where given, bounds the OpenMP threads as well. `python` is another interpreter, which
    sees this package and none of the packages beside it; `variables` join its environment.
    Raises ResflowError where the contender fails.
    """
    command = [python or sys.executable, "-m", f"resflow.bench.contenders.{module}", json.dumps(spec)]
    with tempfile.TemporaryDirectory() as empty:
        env = {**environment(spec.get("threads")), **(variables or {})}
        if python is not None:
            (Path(empty) / "resflow").symlink_to(Path(__file__).parents[1])
            env["PYTHONPATH"] = empty
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=env)
        except OSError as error:
            raise ResflowError(f"cannot start {command[0]}: {error}. Name a Python interpreter.") from error
    if done.returncode:
        raise ResflowError(f"benchmark: {module} failed: {last_line(done.stderr)}. Nothing was measured.")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def environment(threads: int | None = None) -> dict[str, str]:
    """Return this process's variables for a contender: no GPU, no log lines, `threads` OpenMP threads."""
    bound = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} if threads else {}
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", **bound}


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
