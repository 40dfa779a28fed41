"""XLA's cache on disk: one a processor and TensorFlow, used by a second process, bounded, cleared."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import tiny

from resflow import provenance
from resflow.study.settings import Execution
from resflow.training import xla_cache as compiled
from resflow.workflow import doctor as upkeep


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    return tmp_path / "compiled"


def test_each_processor_and_tensorflow_has_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = compiled.folder()
    assert here.parent == place
    monkeypatch.setattr(compiled.metadata, "version", lambda package: "1.0")
    other = compiled.folder()
    monkeypatch.setattr(provenance, "environment", lambda: {"cpu": "Z80"})
    assert len({here, other, compiled.folder()}) == 3


def test_the_users_own_flags_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug")
    assert compiled.flags() == f"--tf_xla_clustering_debug {compiled.FLAG}={compiled.folder()}"
    monkeypatch.setenv("TF_XLA_FLAGS", f"{compiled.FLAG}=elsewhere")
    assert compiled.flags() == f"{compiled.FLAG}=elsewhere"


def test_what_was_written_longest_ago_goes_first(place: Path) -> None:
    compiled.prune(0)  # nothing there yet
    for age, name in enumerate(("new", "middle", "old")):
        path = place / "some-processor" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    compiled.prune(300)
    assert len(list((place / "some-processor").iterdir())) == 3
    compiled.prune(250)
    assert {p.name for p in (place / "some-processor").iterdir()} == {"new", "middle"}
    compiled.prune(99)
    assert not list((place / "some-processor").iterdir())


def test_clean_removes_it(place: Path) -> None:
    (place / "some-processor").mkdir(parents=True)
    (place / "some-processor" / "code").write_bytes(bytes(100))
    (kept,) = upkeep.places("compiled")
    assert kept.size == 100
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
        written.append({p: p.stat().st_mtime_ns for p in compiled.folder().iterdir()})
    assert written[0]
    assert written[0] == written[1]
    one, other = outcomes
    assert one.record.status == "completed"
    assert one.record.metrics == other.record.metrics
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
