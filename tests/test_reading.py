import os
import socket

import pytest

from resflow import reading, workspace
from resflow.errors import RecordError


def test_a_regular_file_is_read_whole_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert reading.read(path, 100) == b"x" * 100
    with pytest.raises(reading.UnusableFileError, match="at most"):
        reading.read(path, 99)


def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        for name in ("pipe", "folder", "link", "socket", "missing", "/dev/zero", "/dev/null"):
            with pytest.raises(OSError, match=name):
                reading.read(tmp_path / name)


def test_a_file_that_does_not_tell_its_size_is_bounded_too():
    with pytest.raises(reading.UnusableFileError, match="more than"):
        reading.read(reading.Path("/proc/self/maps"), 10)  # says that it has no bytes


@pytest.mark.parametrize("name", ["record.json", "deep/er/figure", "folder"])
def test_links_out_of_a_folder_are_refused_and_named(tmp_path, name):
    outside, run = tmp_path / "precious", tmp_path / "run"
    outside.mkdir()
    (run / "deep" / "er").mkdir(parents=True)
    (run / name).symlink_to(outside if name == "folder" else outside / "file")
    with pytest.raises(RecordError, match=name):
        workspace.refuse_links_out(run)


def test_links_within_a_folder_and_to_it_are_followed(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "file").write_text("")
    (tmp_path / "scratch" / "same").symlink_to("file")
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    workspace.refuse_links_out(tmp_path / "run")
    workspace.refuse_links_out(tmp_path / "missing")
