"""What C++ says during an import stays off the screen; what comes after, and errors, do not."""

from __future__ import annotations

import os

import pytest

from resflow import provenance


def test_standard_error_is_silent_inside_alone(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with provenance.quiet_import():
        os.write(2, b"inside ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_an_import_that_fails_raises_and_the_screen_is_there_again(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), provenance.quiet_import():
        import no_such_module  # noqa: F401
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_a_system_without_a_load_average_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (provenance.load_average() or 0) >= 0
    monkeypatch.setattr(os, "getloadavg", lambda: (_ for _ in ()).throw(OSError("cannot be obtained")))
    assert provenance.load_average() is None
    monkeypatch.delattr(os, "getloadavg")
    assert provenance.load_average() is None
