"""A small study that is disturbed again and again, and goes on by the same command: what is lost by it.

Each disturbance meets a run at a random moment. Afterwards nothing that is left of it may differ from the run that
nobody disturbed, and in the end all of it has to be there.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from resflow import records
from resflow.bench import process
from resflow.bench.contest import Say
from resflow.errors import RecordError, ResflowError
from resflow.records import Record

STUDY = Path(__file__).with_name("chaos.yaml")
MAIN = "from resflow.cli import main; main()"
MARK = "RESFLOW_CHAOS"  # an environment variable by which a run's processes are found
PATIENCE_S = 15  # of the watchdog
LONGEST_S = 600  # that one command may take; longer is stuck
DISK_MB = 200
CHANGING = {"seconds", "provenance"}  # of a record
TRAINS, RAYLET = "ray::ImplicitFunc", "/raylet"  # how processes of Ray are called


class CannotError(Exception):
    """A disturbance that this machine does not allow."""


@dataclass
class Running:
    """A command under way, found among other processes by its mark."""

    driver: subprocess.Popen[bytes]
    mark: str
    place: Path
    run: Path

    def processes(self, called: str) -> list[int]:
        """Those of this command whose command line holds a text, in no order."""
        return [pid for pid, name in marked(self.mark).items() if called in name]


def marked(mark: str) -> dict[int, str]:
    """The command line of each living process that inherited a mark."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def _kill(running: Running, number: signal.Signals, called: str, draw: random.Random) -> None:
    found = running.processes(called)
    if found:
        with suppress(ProcessLookupError):
            os.kill(draw.choice(sorted(found)), number)


def _worker_killed(running: Running, draw: random.Random) -> None:
    _kill(running, signal.SIGKILL, TRAINS, draw)


def _worker_hangs(running: Running, draw: random.Random) -> None:
    _kill(running, signal.SIGSTOP, TRAINS, draw)


def _worker_out_of_memory(running: Running, draw: random.Random) -> None:
    """No more memory than it has: its next allocation fails."""
    for pid in draw.sample(found := running.processes(TRAINS), min(1, len(found))):
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            bound = pages * os.sysconf("SC_PAGE_SIZE")
            resource.prlimit(pid, resource.RLIMIT_AS, (bound, bound))


def _raylet_killed(running: Running, draw: random.Random) -> None:
    _kill(running, signal.SIGKILL, RAYLET, draw)


def _driver_killed(running: Running, draw: random.Random) -> None:
    running.driver.kill()


def _driver_asked_to_end(running: Running, draw: random.Random) -> None:
    running.driver.terminate()


def _ctrl_c_twice(running: Running, draw: random.Random) -> None:
    for _ in range(2):
        running.driver.send_signal(signal.SIGINT)
        time.sleep(draw.uniform(0, 2))


def _record_cut(running: Running, draw: random.Random) -> None:
    _driver_killed(running, draw)
    running.driver.wait()
    _cut([path for path in (running.run / "trials").glob("[!.]*/*") if path.is_file()], draw)


def _checkpoint_cut(running: Running, draw: random.Random) -> None:
    _driver_killed(running, draw)
    running.driver.wait()
    _cut(list((running.place / ".resflow").glob("*/checkpoints/*.safetensors")), draw)


def _cut(paths: list[Path], draw: random.Random) -> None:
    for path in draw.sample(sorted(paths), min(1, len(paths))):
        with suppress(FileNotFoundError):
            os.truncate(path, draw.randrange(max(1, path.stat().st_size)))


def _disk_full(running: Running, draw: random.Random) -> None:
    filler = running.place / "filler"
    if not os.path.ismount(running.place):
        raise CannotError("a disk of its own can be mounted by root alone")
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))
    time.sleep(draw.uniform(1, 8))
    filler.unlink()


def _read_only(running: Running, draw: random.Random) -> None:
    if not os.path.ismount(running.place):
        raise CannotError("a disk of its own can be mounted by root alone")
    subprocess.run(["mount", "-o", "remount,ro", str(running.place)], check=False, capture_output=True)
    time.sleep(draw.uniform(1, 8))
    subprocess.run(["mount", "-o", "remount,rw", str(running.place)], check=True, capture_output=True)


def _clock_jumps(running: Running, draw: random.Random) -> None:
    """Nothing more: the command was started under a clock that the file of `faketime` sets."""
    if shutil.which("faketime") is None:
        raise CannotError("needs the program faketime")
    days = draw.choice((-400, -1, 1, 400))
    (running.place / "clock").write_text(f"{days:+d}d\n")


KINDS: dict[str, Callable[[Running, random.Random], None]] = {
    "driver killed": _driver_killed,
    "worker killed": _worker_killed,
    "raylet killed": _raylet_killed,
    "SIGTERM": _driver_asked_to_end,
    "Ctrl-C twice": _ctrl_c_twice,
    "worker hangs": _worker_hangs,
    "worker out of memory": _worker_out_of_memory,
    "disk full": _disk_full,
    "disk read-only": _read_only,
    "record cut": _record_cut,
    "checkpoint cut": _checkpoint_cut,
    "clock jumps": _clock_jumps,
}


@dataclass
class Tally:
    """What came of the disturbances. `lost` and the like are ids of trials, each with what disturbed before."""

    tried: Counter[str] = field(default_factory=Counter)
    not_tried: dict[str, str] = field(default_factory=dict)  # kind -> why
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left_behind: int = 0  # processes that outlived their driver by ten seconds


def run(
    interruptions: int, seed: int, kinds: Mapping[str, Any], say: Say, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Disturb runs so many times, each kind in turn at moments drawn from `seed`; finish each run and compare.

    `settings` change the study, as KEY=VALUE.

    Raises ResflowError where the undisturbed run itself fails.
    """
    start, draw, tally = time.monotonic(), random.Random(seed), Tally()
    with tempfile.TemporaryDirectory() as base, _disk(Path(base)) as place:
        os.environ["RESFLOW_CACHE"] = f"{base}/cache"
        say("the undisturbed run")
        study = ["study", str(STUDY), *(word for setting in settings for word in ("--set", setting))]
        usual = _undisturbed(place, study)
        wanted = _outcomes(place / "reference")
        order = _order(list(kinds), interruptions, draw)
        while order:
            tally.runs += 1
            _one_run(place, study, f"run{tally.runs}", order, wanted, usual, draw, tally, say)
    return {
        "benchmark": "chaos",
        "interruptions": sum(tally.tried.values()),
        "by_kind": dict(sorted(tally.tried.items())),
        "not_tried": tally.not_tried,
        "runs": tally.runs,
        "trials": len(wanted) * tally.runs,
        "lost": len(tally.lost),
        "duplicated": len(tally.again),
        "differing": len(tally.differing),
        "stuck": len(tally.stuck),
        "left_behind": tally.left_behind,
        "trouble": [*tally.lost, *tally.again, *tally.differing, *tally.stuck],
        "wall_s": round(time.monotonic() - start, 1),
        "settings": {
            "study": "chaos",
            "interruptions": interruptions,
            "seed": seed,
            "trials": len(wanted),
            "rounds": 1,
        },
    }


def _order(kinds: list[str], count: int, draw: random.Random) -> list[str]:
    """Every kind as often as any other, in a random order."""
    order: list[str] = []
    while len(order) < count:
        order += draw.sample(kinds, len(kinds))
    return order[:count]


@contextmanager
def _disk(base: Path) -> Iterator[Path]:
    """A small disk of its own where this user may mount one, else a folder."""
    place = base / "place"
    place.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "resflow", str(place)]
    mounted = subprocess.run(asked, check=False, capture_output=True).returncode == 0
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


def _undisturbed(place: Path, study: Sequence[str]) -> float:
    """Run the study to its end; returns its seconds."""
    start = time.monotonic()
    running = _start(place, "reference", *study)
    if _wait(running):
        raise ResflowError("the undisturbed run of the chaos study failed: run `resflow study` on it to see why.")
    return time.monotonic() - start


def _start(place: Path, name: str, *words: str, faked: bool = False) -> Running:
    mark = uuid.uuid4().hex
    command = [sys.executable, "-c", MAIN, *words, *(["--out", name] if words[0] == "study" else [])]
    variables = {**process.environment(), MARK: mark, "RESFLOW_PATIENCE_S": str(PATIENCE_S)}
    if faked:
        (place / "clock").write_text("+0d\n")
        variables |= {"FAKETIME_TIMESTAMP_FILE": str(place / "clock"), "FAKETIME_NO_CACHE": "1"}
        variables |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        command = ["faketime", "-f", "+0d", *command]
    with (place.parent / "last.log").open("wb") as log:
        driver = subprocess.Popen(command, cwd=place, env=variables, stdout=log, stderr=log, start_new_session=True)
    return Running(driver, mark, place, place / name)


def _wait(running: Running) -> int:
    """The exit code; raises subprocess.TimeoutExpired where the command is stuck."""
    return running.driver.wait(timeout=LONGEST_S)


def _one_run(
    place: Path,
    study: Sequence[str],
    name: str,
    order: list[str],
    wanted: Mapping[str, Any],
    usual: float,
    draw: random.Random,
    tally: Tally,
    say: Say,
) -> None:
    """Disturb one run until it is complete, or nothing is left of `order`; then let it end, and compare."""
    finished: dict[str, int] = {}  # id -> bytes of its log, of trials that are not to run again
    last = "nothing"
    while order:
        last = kind = order.pop(0)
        say(f"{name}: {kind} ({len(order)} to come)")
        complete = _disturbed(place, study, name, kind, usual, draw, tally)
        _compare(place / name, name, kind, wanted, finished, tally)
        if complete:
            break
    for words in (study, ["retry", name]):  # the failed trial of a worker without memory is to run again
        if wanted.keys() == _outcomes(place / name).keys():
            break
        running = _start(place, name, *words)
        try:
            _wait(running)
        except subprocess.TimeoutExpired:
            tally.stuck.append(f"{name}, going on after {last}")
        _end(running)
    _compare(place / name, name, last, wanted, finished, tally)
    missing = wanted.keys() - _outcomes(place / name).keys()
    tally.lost += [f"{name}/{trial_id} after {last}" for trial_id in sorted(missing)]
    shutil.rmtree(place / name, ignore_errors=True)
    shutil.rmtree(place / ".resflow" / name, ignore_errors=True)


def _disturbed(
    place: Path, study: Sequence[str], name: str, kind: str, usual: float, draw: random.Random, tally: Tally
) -> bool:
    """Start the run, disturb it at a random moment, wait for its end; True where it is complete."""
    running = _start(place, name, *study, faked=kind == "clock jumps" and bool(shutil.which("faketime")))
    moment = draw.uniform(0.1, 1.0) * usual
    try:
        with suppress(subprocess.TimeoutExpired):
            running.driver.wait(timeout=moment)
        if running.driver.poll() is None:
            KINDS[kind](running, draw)
            tally.tried[kind] += 1
        code = _wait(running)
    except CannotError as error:
        tally.not_tried[kind] = str(error)
        code = _wait(running)
    except subprocess.TimeoutExpired:
        tally.stuck.append(f"{name}, {kind}")
        code = -1
    tally.left_behind += _end(running)
    return code == 0


def _end(running: Running) -> int:
    """Wait for the processes of a driver that is gone, and end those that stay; returns how many did."""
    deadline = time.monotonic() + 10
    while (left := marked(running.mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def _outcomes(run: Path) -> dict[str, tuple[Record, pd.DataFrame, pd.DataFrame | None]]:
    """Every record that can be read, with its history and predictions; failed ones are none: they run again."""
    try:
        found = records.load(run)
    except RecordError:
        return {}
    outcomes = {}
    for record in found.records:
        if record.status != "failed":
            folder = records.trial_folder(run, record.id)
            predicted = folder / "predictions.parquet"
            outcomes[record.id] = (
                record,
                pd.read_csv(folder / "history.csv").drop(columns="seconds"),
                pd.read_parquet(predicted) if predicted.is_file() else None,
            )
    return outcomes


def _compare(
    run: Path, name: str, kind: str, wanted: Mapping[str, Any], finished: dict[str, int], tally: Tally
) -> None:
    """Note what differs from the undisturbed run, what went missing, and what ran though it had a record."""
    there = _outcomes(run)
    logs = run.parent / ".resflow" / name / "logs"
    for trial_id, found in there.items():
        if not same(found, wanted[trial_id]):
            tally.differing.append(f"{name}/{trial_id} after {kind}")
    spoiled = kind in ("record cut",)  # the disturbance itself takes one away
    for trial_id in finished.keys() - there.keys():
        if not spoiled:
            tally.lost.append(f"{name}/{trial_id} by {kind}")
        finished.pop(trial_id)
    for trial_id in there:
        log = logs / f"{trial_id}.log"
        size = log.stat().st_size if log.is_file() else 0
        if trial_id in finished and size != finished[trial_id]:
            tally.again.append(f"{name}/{trial_id} after {kind}")
        finished[trial_id] = size


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two outcomes are equal to the bit, but for times and machines."""
    records_equal = one[0].model_dump(exclude=CHANGING) == other[0].model_dump(exclude=CHANGING)
    tables = [
        (a is None and b is None) or (a is not None and b is not None and a.equals(b))
        for a, b in zip(one[1:], other[1:], strict=True)
    ]
    return records_equal and all(tables)
