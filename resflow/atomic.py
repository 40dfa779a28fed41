"""The one way to write: a draft beside the place, synced to the disk, then renamed into it.

A reader meets what was there before or what is there now, never half of it. Drafts are hidden, `.NAME.<8 hex digits>`;
a process that was killed in writing leaves its draft behind, which `sweep` removes. Modes are as the umask says.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resflow.errors import ResflowError

if TYPE_CHECKING:
    import pandas as pd


FORMULA = ("=", "+", "-", "@", "\t", "\n")  # with which a cell begins that spreadsheets compute


def _draft(path: Path, suffix: str = "") -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{suffix}")


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """Give a draft to write to, of the same ending; it becomes `path` when the block ends well, and is gone otherwise.

    The folder is made where it is not there. Raises OSError where the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, path.suffix)
    try:
        draft.touch()
        mode = draft.stat().st_mode  # by the umask: some writers make a file of their own, of mode 0600
        yield draft
        draft.chmod(mode)
        sync(draft)
        draft.replace(path)
    finally:
        with suppress(OSError):  # a disk that refuses all: the error that came first is told
            draft.unlink(missing_ok=True)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give an empty draft folder; it takes the place of `path` when the block ends well, and is gone otherwise.

    Its files lie flat in it. Raises OSError where the disk refuses.
    """
    draft, before = _draft(path), _draft(path)
    try:
        draft.mkdir(parents=True)
        yield draft
        for part in [*draft.iterdir(), draft]:
            sync(part)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            path.unlink()  # a damaged run may have a file, a pipe or a link in a folder's place
        elif path.exists():
            path.rename(before)  # a reader finds no folder for a moment, and never half of one
        draft.rename(path)
        sync(path.parent)
    finally:
        for gone in (draft, before):
            shutil.rmtree(gone, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a folder: readers meet all of it or none. Raises OSError where the disk refuses."""
    draft = _draft(path)
    path.rename(draft)
    shutil.rmtree(draft, ignore_errors=True)


def write(path: Path, content: bytes | str) -> None:
    """Put a file in place whole; text is UTF-8. One that already holds these bytes is left alone."""
    data = content.encode() if isinstance(content, str) else content
    if not holds(path, data):
        with file(path) as draft:
            draft.write_bytes(data)


def holds(path: Path, content: bytes) -> bool:
    """Tell whether a file holds these bytes."""
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def refuse_to_replace(paths: Iterable[Path], force: bool, ours: Callable[[Path], bool] = lambda path: False) -> None:
    """Raise ResflowError where there is a file that resflow did not write, unless it is to be replaced.

    `ours` tells of a file that is there whether resflow wrote it; what it cannot tell of is somebody's.
    """
    others = [path for path in paths if os.path.lexists(path) and not force and not ours(path)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ResflowError(
            f"{', '.join(map(str, others[:3]))}{more} would be replaced: nothing was written. Choose another place, or "
            "say --force."
        )


def sweep(place: Path, name: str = "*") -> None:
    """Remove the drafts of `name` in a folder: what processes left behind that were killed in writing.

    Whoever calls it holds the lock of what is written there, or knows that nobody else writes.
    """
    for draft in place.glob(f".{name}.*"):
        if not re.search(r"\.[0-9a-f]{8}(\.\w+)?$", draft.name):
            continue
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV that repeats to the byte: six digits, line feeds, and no text that is a formula to a spreadsheet.

    Names of arms and levels and reasons of failures may be a stranger's, and these tables are opened in spreadsheets:
    text that begins like a formula gets an apostrophe before it, as they write text. Numbers stay numbers.
    """
    texts = [name for name in frame.columns if _may_hold_text(frame[name])]
    plain = frame.assign(**{name: [_no_formula(value) for value in frame[name]] for name in texts})
    plain = plain.rename(columns=_no_formula)
    return plain.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def _may_hold_text(column: pd.Series) -> bool:
    from pandas.api import types

    return not (types.is_numeric_dtype(column) or types.is_bool_dtype(column))


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # a cell with a lone one would be two to readers
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(FORMULA) else text
    return text
