"""What the driver is asked, and what is made of its answers. No GPU is needed: a library takes the driver's place."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.driver import MB, FakeDriver

from resflow import gpu_driver


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(8 * 2**30, 2**38), context=st.integers(0, 2**30))
def test_a_context_costs_what_is_free_no_more(monkeypatch: pytest.MonkeyPatch, size: int, context: int) -> None:
    driver = FakeDriver(size, context).install(monkeypatch)
    assert gpu_driver.total_memory() == size
    assert gpu_driver.context_memory() == context
    assert driver.contexts == 0  # none stays


def test_what_others_take_meanwhile_is_no_part_of_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver().install(monkeypatch)
    once = iter([5000 * MB])
    real = FakeDriver._cuCtxCreate_v2

    def create(self: FakeDriver, *arguments: object) -> None:
        real(self, *arguments)
        self.size -= next(once, 0) if self.contexts == 2 else 0

    monkeypatch.setattr(FakeDriver, "_cuCtxCreate_v2", create)
    assert gpu_driver.context_memory() == driver.context


def test_a_context_is_given_back_where_the_driver_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(failing="cuMemGetInfo_v2").install(monkeypatch)
    with pytest.raises(gpu_driver.DriverError, match="cuMemGetInfo_v2 gave error 100"):
        gpu_driver.context_memory()
    assert driver.contexts == 0


def test_a_gpu_is_described_with_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeDriver(name="NVIDIA H100").install(monkeypatch)
    version = tmp_path / "version"
    monkeypatch.setattr(gpu_driver, "VERSION", version)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC\n")
    described = gpu_driver.describe()
    assert described == {
        "name": "NVIDIA H100",
        "compute_capability": "9.0",
        "memory": 24 * 2**30,
        "driver": "550.54.15",
        "cuda": "12.4",
    }
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n")
    assert gpu_driver.describe()["driver"] == "570.86.10"
    version.unlink()
    assert gpu_driver.describe() == {**described, "driver": None}


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet"])
def test_without_a_gpu_there_is_nothing_to_describe(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    FakeDriver(failing=failing).install(monkeypatch)
    assert gpu_driver.describe() == {}
    assert gpu_driver.count() == (0 if failing == "cuInit" else 1)


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpu_driver.count() == 0
    with pytest.raises(gpu_driver.DriverError, match="cannot open shared object file"):
        gpu_driver.total_memory()
