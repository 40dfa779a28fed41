"""Private folders go with their process, and nobody else's folder goes with them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resflow import scratch
from resflow.errors import ResflowError

HOLD = """
import sys, time
from pathlib import Path
from resflow import scratch
with scratch.private_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_folder_is_for_its_owner_and_goes_at_the_end(tmp_path: Path) -> None:
    with scratch.private_folder(tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else_is(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    held = Path(holder.stdout.readline().strip())
    own = tmp_path / f"{scratch.PREFIX}results"  # somebody's folder that is merely called alike
    own.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / scratch.LOCK).touch()
    (tmp_path / f"{scratch.PREFIX}link").symlink_to(elsewhere)
    try:
        with scratch.private_folder(tmp_path):
            assert held.is_dir()  # its process lives
    finally:
        holder.kill()
        holder.communicate()
    assert held.is_dir()
    with scratch.private_folder(tmp_path):
        assert not held.exists()
        assert own.is_dir()
        assert (elsewhere / scratch.LOCK).is_file()


def test_temporary_files_of_a_process_lie_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = tempfile.tempdir
    with scratch.private_temporary_files():
        (folder,) = tmp_path.iterdir()
        assert tempfile.gettempdir() == str(folder)
        os.close(tempfile.mkstemp()[0])
    assert tempfile.tempdir == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["no/such/folder", "file", "/proc"])
def test_a_tmpdir_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / place))
    with pytest.raises(ResflowError, match=f"{place}.*TMPDIR"), scratch.private_folder():
        pass


@pytest.mark.parametrize(("home", "sheltered"), [("/proc", True), ("", False)])
def test_matplotlib_has_a_place_where_the_home_folder_is_none(
    home: str, sheltered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home or str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")  # what is set below goes with the test
        monkeypatch.delenv(name)
    with scratch.private_temporary_files():
        assert ("MPLCONFIGDIR" in os.environ) == sheltered
