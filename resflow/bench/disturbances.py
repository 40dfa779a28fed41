"""What happens to a run: processes that are killed or hang, disks that refuse, files that are cut, clocks that jump."""

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
RECORD_CUT, CLOCK = "record cut", "clock jumps"
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
    RECORD_CUT: _record_cut,
    "checkpoint cut": _checkpoint_cut,
    CLOCK: _clock_jumps,
}
