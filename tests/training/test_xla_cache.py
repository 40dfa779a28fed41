"""XLA's cache on disk: one a processor, GPU and TensorFlow, used by a second process, bounded, cleared."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import tiny
from support.driver import FakeDriver

from resflow import provenance, workspace
from resflow.study.settings import Execution
from resflow.training import xla_cache
from resflow.workflow.doctor import removable_places


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    return tmp_path / "compiled"


def test_each_processor_gpu_and_tensorflow_has_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = xla_cache.folder()
    assert here.parent == place
    monkeypatch.setattr(xla_cache.metadata, "version", lambda package: "1.0")
    other = xla_cache.folder()
    monkeypatch.setattr(provenance, "environment", lambda: {"cpu": "Z80"})
    assert len({here, other, xla_cache.folder()}) == 3
    cards = set()
    for name in ("A", "B"):
        FakeDriver(name=name).install(monkeypatch)
        cards.add(xla_cache.folder())
    assert len(cards | {here, other}) == 4


def test_the_users_own_flags_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug")
    assert xla_cache.flags() == f"--tf_xla_clustering_debug {xla_cache.FLAG}={xla_cache.folder()}"
    monkeypatch.setenv("TF_XLA_FLAGS", f"{xla_cache.FLAG}=elsewhere")
    assert xla_cache.flags() == f"{xla_cache.FLAG}=elsewhere"


def test_what_was_written_longest_ago_goes_first(place: Path) -> None:
    xla_cache.prune(0)  # nothing there yet
    for age, name in enumerate(("new", "middle", "old")):
        path = place / "some-processor" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    xla_cache.prune(300)
    assert len(list((place / "some-processor").iterdir())) == 3
    xla_cache.prune(250)
    assert {p.name for p in (place / "some-processor").iterdir()} == {"new", "middle"}
    xla_cache.prune(99)
    assert not list((place / "some-processor").iterdir())


def test_clean_removes_it(place: Path) -> None:
    workspace.make_cache_folder(place / "some-processor")
    (place / "some-processor" / "code").write_bytes(bytes(100))
    (kept,) = removable_places("compiled")
    assert kept.size == 100 + len(workspace.CACHE_MARK)
    kept.remove()
    assert not place.exists()


@pytest.mark.long
def test_a_second_process_takes_the_code_of_the_first(place: Path, tmp_path: Path) -> None:
    """It writes nothing more, and its record is equal to the bit."""
    folder, asked = tiny.prepare(), tmp_path / "settings"
    asked.write_bytes(pickle.dumps({"execution": Execution(device="cpu", jit=True), "epochs": 1}))
    outcomes, written = [], []
    for name in ("first", "second"):
        command = [sys.executable, tiny.__file__, str(folder), str(tmp_path / name), str(asked)]
        subprocess.run(command, check=True, timeout=240)
        outcomes.append(pickle.loads((tmp_path / name).read_bytes()))
        written.append({p: p.stat().st_mtime_ns for p in xla_cache.folder().iterdir()})
    assert written[0]
    assert written[0] == written[1]
    one, other = outcomes
    assert one.record.status == "completed"
    assert one.record.metrics == other.record.metrics
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
