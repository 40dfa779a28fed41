"""Private folders for what a process writes for itself alone: they go with it, however it ends.

A folder is for its owner's eyes (mode 0700) and is held by a lock, which the system takes from a process that dies.
Whoever makes the next one removes those that nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from resflow.errors import ResflowError

PREFIX = "resflow-"
LOCK = ".held-by-resflow"  # and a folder without it is nobody's to remove


def base() -> Path:
    """Return where the system keeps temporary files. Raises ResflowError where TMPDIR names no place for them.

    Python itself would take another place, in silence.
    """
    named = os.environ.get("TMPDIR")
    if not named:
        return Path("/tmp")
    if not os.access(named, os.W_OK | os.X_OK) or not Path(named).is_dir():
        raise ResflowError(
            f"TMPDIR is {named}, and that is no folder that can be written: name one that can, or unset TMPDIR."
        )
    return Path(named).absolute()


@contextmanager
def private_folder(place: Path | None = None) -> Iterator[Path]:
    """Make a private folder in `place`, below `base` by default, and remove it at the end. Raises ResflowError."""
    place = place or base()
    _sweep(place)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        held = os.open(folder / f"{LOCK}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        (folder / f"{LOCK}.new").rename(folder / LOCK)  # whoever sees it finds it held
    except OSError as error:
        raise ResflowError(
            f"cannot make a folder for temporary files in {place}: {error}. Make room there, or name another place "
            "with TMPDIR."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


@contextmanager
def private_temporary_files() -> Iterator[None]:
    """Have this process's temporary files lie in a private folder: TensorFlow's copies of functions among them.

    Where none can be made they lie where Python puts them: who only asks for help needs none.
    """
    before = tempfile.tempdir
    with ExitStack() as stack:
        with suppress(ResflowError):
            tempfile.tempdir = str(stack.enter_context(private_folder()))
            _shelter_matplotlib(Path(tempfile.tempdir))
        try:
            yield
        finally:
            tempfile.tempdir = before


def _shelter_matplotlib(folder: Path) -> None:
    """Give matplotlib a place where the home folder is none: one of its own it would look for when this one is gone."""
    if "MPLCONFIGDIR" not in os.environ and not all(map(_can_be_made, ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"))):
        os.environ["MPLCONFIGDIR"] = str(folder)


def _can_be_made(variable: str) -> bool:
    try:
        place = Path(os.environ.get(variable) or Path.home()).absolute()
        with tempfile.TemporaryFile(dir=next(above for above in (place, *place.parents) if above.exists())):
            return True
    except (OSError, RuntimeError):  # RuntimeError: there is no home at all
        return False


def _sweep(place: Path) -> None:
    """Remove this user's private folders that no process holds any more."""
    with suppress(OSError):  # a folder that cannot be listed may still take another
        for entry in os.scandir(place):
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # another sweeper was first
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid() and _is_abandoned(Path(entry.path)):
                        shutil.rmtree(entry.path, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    held = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True
