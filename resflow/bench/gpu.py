"""All that only a GPU can answer, in a few minutes: `resflow bench gpu`, which `make gpu` calls.

Steps are commands of their own with a time limit each, the most telling first. None stops the others, and a machine
that is lost half-way leaves what has ended: figures, logs, and one archive of all of it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from resflow import atomic
from resflow.bench import process
from resflow.bench.contest import Say
from resflow.bench.step import has_torch
from resflow.errors import RecordError, ResflowError, one_of

OUTCOMES, ARCHIVE, FIGURES = "outcomes.txt", "all.tar.gz", "figures"
TESTS = Path(__file__).parents[2] / "tests" / "test_gpu.py"
PASSED, FAILED, LEFT_OUT = "passed", "FAILED", "left out"
MINUTES = {"gpu": 5.0, "cpu": 30.0}  # of all steps: a GPU may be rented by the minute, and a CPU is slow
LEAST = 5.0  # seconds, in less than which no step is begun
PATIENCE = 4  # times a step's limit, on a CPU
PROBLEM = "PROBLEM"  # how a line of `resflow doctor` begins that tells of one


@dataclass(frozen=True)
class Step:
    """A command of this interpreter: the arguments after `python -m`. `missing` says why it cannot be run here."""

    name: str
    limit: float  # seconds
    words: tuple[str, ...]
    missing: str = ""


def list_steps(device: str, torch_python: str | None = None) -> list[Step]:
    """Return the steps on a device, the most telling first; on a CPU the same ones, smaller."""
    small = ("--width", "0.125", "--image-size", "32", "--batch-size", "8")
    few = ("--image-size", "32", "--images", "64")
    torch = ("--torch-python", torch_python) if torch_python else ()
    once = ("--rounds", "1", "--seconds", "2" if device == "gpu" else "0.2")
    # In minutes on a GPU, where each contender compiles anew: those that the goals are about.
    fed = only("torch_loader", "torch_on_device") if device == "gpu" and has_torch(torch_python) else ()
    compiled = only("torch_compile") if device == "gpu" and has_torch(torch_python) else ()
    sizes: dict[str, tuple[str, ...]] = {
        "repeat": ("--alone",) if device == "gpu" else ("--image-size", "32", "--epochs", "1"),
        "epoch": () if device == "gpu" else (*small, "--images", "64"),
        "step-resnet50": ("--image-size", "224", "--batch-size", "256") if device == "gpu" else small,
        "step-resnet18": () if device == "gpu" else small,
        "packing": ("--trials", "1", "--trials", "8") if device == "gpu" else few,
    }

    def bench(name: str, limit: float, *words: str) -> Step:
        where = ("--device", device, "--out", FIGURES)
        limit *= 1 if device == "gpu" else PATIENCE
        return Step(name, limit, ("resflow", "bench", name.partition("-")[0], *words, *sizes[name], *where))

    return [
        Step("doctor", 60, ("resflow", "doctor")),
        bench("repeat", 90),
        bench("epoch", 120, "--depth", "18", *once, *fed, *torch),
        bench("step-resnet50", 120, "--depth", "50", *once, *compiled, *torch),
        bench("packing", 120, *once[2:]),
        Step("tests", 180, ("pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(TESTS)), _untestable()),
        bench("step-resnet18", 180, "--depth", "18", *once, *torch),
    ]


def only(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--only", name))


def _untestable() -> str:
    if not TESTS.is_file():
        return "the tests are not beside this installation"
    return "" if find_spec("pytest") else "pytest is not installed"


def choose_steps(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """Return the steps of these names in their order, all where none is named. Raises ResflowError for no name."""
    known = [step.name for step in steps]
    for name in names:
        if name not in known:
            raise ResflowError(f"--step: {one_of(name, known, 'step')}")
    return [step for step in steps if not names or step.name in names]


def run(steps: Sequence[Step], device: str, out: Path, seconds: float, say: Say) -> bool:
    """Run steps into a folder for at most so many seconds; return whether any failed, or had no time left.

    Raises RecordError for a folder that holds other files.
    """
    _check_folder(out)
    (out / OUTCOMES).write_text("", encoding="utf-8")
    end, lines, failed = time.monotonic() + seconds, list[str](), False
    for step in steps:
        outcome, text = _take(step, device, out, end - time.monotonic())
        failed |= outcome != PASSED and not step.missing
        lines.append(f"{step.name:<14} {outcome:<8} {text}")
        say(lines[-1])
        try:
            atomic.write(out / OUTCOMES, "\n".join(lines) + "\n")
            _archive(out)
        except OSError as error:
            raise RecordError(f"cannot write into {out}: {error}. Choose another folder with --out.") from error
    return failed


def _check_folder(out: Path) -> None:
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / OUTCOMES).is_file())):
        raise RecordError(f"{out} holds other files: choose with --out a folder that is new, empty or of this command.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"cannot make {out}: {error}. Choose another folder with --out.") from error


def _take(step: Step, device: str, out: Path, left: float) -> tuple[str, str]:
    """Run a step with its output in a file of its name; return its outcome, and what is said of it."""
    if step.missing:
        return LEFT_OUT, step.missing
    if left < LEAST:
        return LEFT_OUT, "no time is left: --minutes gives more"
    words = [str((out / FIGURES).absolute()) if word == FIGURES else word for word in step.words]
    log, start, limit = out / f"{step.name}.log", time.monotonic(), min(step.limit, left)
    with log.open("w", encoding="utf-8") as file:
        try:
            done = process.run_limited([sys.executable, "-m", *words], process.environment(device=device), limit, file)
            code = done.returncode
        except subprocess.TimeoutExpired:
            return FAILED, f"had not ended after {limit:.0f} s: {log.name}"
    text = log.read_text(encoding="utf-8", errors="replace")
    problem = next((line for line in text.splitlines() if line.startswith(PROBLEM)), "")
    took = f"{time.monotonic() - start:.0f} s"
    if code or problem:
        return FAILED, f"{took}, exit code {code}: {problem or process.last_line(text)}"
    return PASSED, f"{took}: {process.last_line(text)}"


def _archive(out: Path) -> None:
    """Put all that is there into one archive beside it."""
    with atomic.file(out / ARCHIVE) as draft, tarfile.open(draft, "w:gz") as archive:
        for path in sorted(out.rglob("*")):
            if path.is_file() and ARCHIVE not in path.name:
                archive.add(path, path.relative_to(out), recursive=False)
