"""What C++ says during an import stays off the screen; what comes after, and errors, do not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import resflow
from resflow import provenance


def test_standard_error_is_silent_inside_alone(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with provenance.quiet_import():
        os.write(2, b"inside ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_an_import_that_fails_raises_and_shows_what_was_said(capfd: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        with provenance.quiet_import():
            os.write(2, b"libcuda is of another age\n")
            import no_such_module  # noqa: F401

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load()
    os.write(2, b"after")
    assert capfd.readouterr().err == "libcuda is of another age\nafter"


def test_a_system_without_a_load_average_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (provenance.load_average() or 0) >= 0
    monkeypatch.setattr(os, "getloadavg", lambda: (_ for _ in ()).throw(OSError("cannot be obtained")))
    assert provenance.load_average() is None
    monkeypatch.delattr(os, "getloadavg")
    assert provenance.load_average() is None


def test_a_process_without_standard_error_imports_as_well() -> None:
    code = "from resflow import provenance\nwith provenance.quiet_import():\n    import json\nprint(json.dumps(1))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2)
    ) as process:
        assert process.communicate()[0] == b"1\n"


LOUD = {"tensorflow", "keras", "keras_tuner"}


def test_every_module_has_tensorflow_from_where_it_is_silent() -> None:
    root = Path(resflow.__file__).parent
    for path in root.rglob("*.py"):
        if path.is_relative_to(root / "bench" / "contenders"):
            continue  # programs of their own, whose output is read
        tree = ast.parse(path.read_text(encoding="utf-8"))
        quiet = {
            inner
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and "quiet_import" in ast.dump(block.items[0])
            for inner in ast.walk(block)
        }
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert node in quiet or not LOUD & {name.split(".")[0] for name in names}, f"{path}:{node.lineno}"


def test_tensorflow_says_nothing_when_it_is_imported() -> None:
    code = "import resflow.tuning.search; from resflow.quiet_tensorflow import tf; tf.constant(1) + 1"
    loud = {"TF_CPP_MIN_LOG_LEVEL": "0"}  # whatever is said before its level is read
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **loud})
    assert (done.returncode, done.stdout) == (0, "")
    assert "cuInit" not in done.stderr
    assert "oneDNN" not in done.stderr
