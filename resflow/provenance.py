"""The machine and the software that a trial runs on, and the question whether it can run here at all."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resflow import gpu_driver
from resflow.errors import MissingExtraError

PACKAGES = ("resflow", "tensorflow", "keras", "ray", "numpy", "pandas")


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def environment() -> dict[str, Any]:
    """Describe this process's machine and software; what cannot be known is None."""
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "git_commit": git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def git_commit() -> str | None:
    """Return the commit of resflow's own checkout, with `-dirty` where files differ; None for an installed package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        run = functools.partial(subprocess.run, capture_output=True, text=True, cwd=root, timeout=10)
        commit = run(["git", "rev-parse", "--short=12", "HEAD"])
        if commit.returncode:
            return None
        dirty = run(["git", "status", "--porcelain", "--", "resflow", "studies"]).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("-dirty" if dirty else "")


def load_average() -> float | None:
    """Return how many processes wanted to run over the last minute, on average; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def count_processors() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def count_gpus() -> int:
    """Count the NVIDIA GPUs that a process here may use, by CUDA's driver; CUDA_VISIBLE_DEVICES narrows them."""
    return gpu_driver.count()


def gpu_memory() -> int | None:
    """Return the bytes of the first GPU that a process here may use, by CUDA's driver; None where it sees none."""
    try:
        return gpu_driver.total_memory()
    except gpu_driver.DriverError:
        return None


def require_training() -> None:
    """Raise MissingExtraError where this installation can plan and report only."""
    missing = [name for name in ("tensorflow", "keras", "ray") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"training needs {' and '.join(missing)}, which this installation lacks: it can plan and report only. "
            "Install the rest with: pip install 'resflow[train]', or '.[train]' in a clone ([gpu] for NVIDIA GPUs)."
        )


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keep an import of TensorFlow off the screen, whose C++ says a few lines of itself whatever its log level is.

    Where the import fails, what was written to the process' standard error is shown, and the error raises as ever.
    """
    if sys.stderr is None:  # the process began without one: 2 may be any file that it has opened since
        yield
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as said:
        try:
            os.dup2(said.fileno(), 2)
            yield
        except BaseException:
            sys.stderr.flush()
            os.dup2(screen, 2)
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
