"""Disturbances of a run: processes are killed or hang, disks refuse, files are cut, clocks jump."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "RESFLOW_CHAOS"  # an environment variable by which a run's processes are found
RECORD_CUT, CLOCK, PIPE = "record cut", "clock jumps", "broken pipe"
TRAINS, WRITES, RAYLET, GCS = "ray::ImplicitFunc", "ray::RecordWriter", "/raylet ", "/gcs_server "  # in command lines


class CannotError(Exception):
    """This machine does not allow a disturbance."""


@dataclass
class Running:
    """A command under way, whose processes are known among others by its mark."""

    driver: subprocess.Popen[bytes]
    mark: str
    place: Path
    run: Path

    def list_processes(self, text: str) -> list[int]:
        """Return the ids of its processes whose command line holds a text, in no order."""
        return [pid for pid, line in find_marked(self.mark).items() if text in line]


Disturbance = Callable[[Running, random.Random], None]


def find_marked(mark: str) -> dict[int, str]:
    """Return the command line of each living process that inherited a mark, by the process's id."""
    lines = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                lines[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return lines


def _signal_one(running: Running, number: signal.Signals, text: str, draw: random.Random) -> None:
    pids = running.list_processes(text)
    if pids:
        with suppress(ProcessLookupError):
            os.kill(draw.choice(sorted(pids)), number)


def _hang_worker(running: Running, draw: random.Random) -> None:
    _signal_one(running, signal.SIGSTOP, TRAINS, draw)


def _take_memory(running: Running, draw: random.Random) -> None:
    """Give a worker no more memory than it has: its next allocation fails."""
    for pid in draw.sample(pids := running.list_processes(TRAINS), min(1, len(pids))):
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            bound = pages * os.sysconf("SC_PAGE_SIZE")
            resource.prlimit(pid, resource.RLIMIT_AS, (bound, bound))


def _kill_one(text: str) -> Disturbance:
    """Return a disturbance that kills one process whose command line holds a text."""
    return lambda running, draw: _signal_one(running, signal.SIGKILL, text, draw)


def _kill_driver(running: Running, draw: random.Random) -> None:
    running.driver.kill()


def _send(number: signal.Signals) -> Disturbance:
    """Return a disturbance that sends a signal to the driver alone."""
    return lambda running, draw: running.driver.send_signal(number)


def _send_to_all(number: signal.Signals) -> Disturbance:
    """Return a disturbance that sends a signal to the driver's whole group, as a terminal does."""
    return lambda running, draw: os.killpg(running.driver.pid, number)


def _interrupt_twice(running: Running, draw: random.Random) -> None:
    for _ in range(2):
        running.driver.send_signal(signal.SIGINT)
        time.sleep(draw.uniform(0, 2))


def _cut_record(running: Running, draw: random.Random) -> None:
    _kill_driver(running, draw)
    running.driver.wait()
    _cut([path for path in (running.run / "trials").glob("[!.]*/*") if path.is_file()], draw)


def _cut_checkpoint(running: Running, draw: random.Random) -> None:
    _kill_driver(running, draw)
    running.driver.wait()
    _cut(list((running.place / ".resflow").glob("*/checkpoints/*.safetensors")), draw)


def _cut(paths: list[Path], draw: random.Random) -> None:
    for path in draw.sample(sorted(paths), min(1, len(paths))):
        with suppress(FileNotFoundError):
            os.truncate(path, draw.randrange(max(1, path.stat().st_size)))


def _fill_disk(running: Running, draw: random.Random) -> None:
    filler = running.place / "filler"
    if not os.path.ismount(running.place):
        raise CannotError("a disk of its own can be mounted by root alone")
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))
    time.sleep(draw.uniform(1, 8))
    filler.unlink()


def _limit_file_size(running: Running, draw: random.Random) -> None:
    """Let no process of the run write a file beyond a few kilobytes any more."""
    bound = draw.randrange(20_000)
    for pid in find_marked(running.mark):
        with suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (bound, bound))


def _close_pipe(running: Running, draw: random.Random) -> None:
    """Stop reading what the command prints, as `| head` does."""
    assert running.driver.stdout is not None
    running.driver.stdout.close()


def _remount_read_only(running: Running, draw: random.Random) -> None:
    if not os.path.ismount(running.place):
        raise CannotError("a disk of its own can be mounted by root alone")
    subprocess.run(["mount", "-o", "remount,ro", str(running.place)], check=False, capture_output=True)
    time.sleep(draw.uniform(1, 8))
    subprocess.run(["mount", "-o", "remount,rw", str(running.place)], check=True, capture_output=True)


def _set_clock(running: Running, draw: random.Random) -> None:
    """Set the clock under which the command was started: the file of `faketime` does."""
    if shutil.which("faketime") is None:
        raise CannotError("needs the program faketime")
    days = draw.choice((-400, -1, 1, 400))
    (running.place / "clock").write_text(f"{days:+d}d\n")


KINDS: dict[str, Disturbance] = {
    "driver killed": _kill_driver,
    "worker killed": _kill_one(TRAINS),
    "raylet killed": _kill_one(RAYLET),
    "gcs killed": _kill_one(GCS),
    "record writer killed": _kill_one(WRITES),
    "Ctrl-C": _send_to_all(signal.SIGINT),
    "Ctrl-C twice": _interrupt_twice,
    "SIGTERM": _send(signal.SIGTERM),
    "terminal closed": _send_to_all(signal.SIGHUP),
    PIPE: _close_pipe,
    "file size limit": _limit_file_size,
    "worker hangs": _hang_worker,
    "worker out of memory": _take_memory,
    "disk full": _fill_disk,
    "disk read-only": _remount_read_only,
    RECORD_CUT: _cut_record,
    "checkpoint cut": _cut_checkpoint,
    CLOCK: _set_clock,
}
