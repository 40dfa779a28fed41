"""The share of a GPU's memory that TensorFlow may take. No GPU is needed: a library takes the driver's place."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import pytest

from resflow.errors import TrainingError
from resflow.study.settings import Execution
from resflow.training import gpu_memory, train


class Driver:
    """Answers as libcuda.so.1 does for a device of so many bytes."""

    def __init__(self, size: int, failing: str = "") -> None:
        self.size, self.failing = size, failing
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.asked.append(name)
            if name == "cuDeviceTotalMem_v2":
                arguments[0]._obj.value = self.size
            return 100 if name == self.failing else 0

        return call


def test_a_share_is_what_is_left_beside_cudas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(24 * 2**30)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert gpu_memory.total() == 24 * 2**30
    assert driver.asked == ["cuInit", "cuDeviceGet", "cuDeviceTotalMem_v2"]
    assert gpu_memory.megabytes(0.5) == 12 * 1024 - gpu_memory.CONTEXT_MB
    with pytest.raises(TrainingError, match=r"gpus 0.01: that share of a GPU with 24576 MB leaves nothing"):
        gpu_memory.megabytes(0.01)


def test_a_driver_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(1, failing="cuInit"))
    with pytest.raises(TrainingError, match=r"does not tell its memory \(cuInit gave error 100\)"):
        gpu_memory.total()

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(TrainingError, match="cannot open shared object file"):
        gpu_memory.total()


@pytest.mark.usefixtures("tensorflow_on_one_thread")
@pytest.mark.parametrize(("share", "bound"), [(1.0, None), (0.5, 12 * 1024 - gpu_memory.CONTEXT_MB)])
def test_tensorflow_is_bound_before_it_takes_memory(
    monkeypatch: pytest.MonkeyPatch, share: float, bound: int | None
) -> None:
    told: list[Any] = []
    config = types.SimpleNamespace(
        threading=types.SimpleNamespace(
            set_intra_op_parallelism_threads=told.append, set_inter_op_parallelism_threads=told.append
        ),
        list_physical_devices=lambda kind: ["the GPU"],
        LogicalDeviceConfiguration=lambda memory_limit: memory_limit,
        set_logical_device_configuration=lambda device, limits: told.append((device, limits)),
        experimental=types.SimpleNamespace(
            set_memory_growth=lambda device, on: told.append((device, "grows")),
            enable_op_determinism=lambda: told.append("deterministic"),
        ),
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(24 * 2**30))
    monkeypatch.setattr(train.tf, "config", config)
    train.configure(Execution(device="gpu", threads=4, jit=False), share)
    assert told == [4, 1, ("the GPU", "grows" if bound is None else [bound]), "deterministic"]
