"""The share of a GPU's memory that TensorFlow may take. No GPU is needed: a library takes the driver's place."""

from __future__ import annotations

import os
import types
from dataclasses import replace
from typing import Any

import pytest
import tensorflow as tf
from support import tiny
from support.driver import MB, FakeDriver

from resflow import environment, gpu_driver
from resflow.errors import TrainingError
from resflow.study.settings import Execution, Resources
from resflow.training import gpu_memory, train


def test_a_share_is_what_is_left_beside_cudas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDriver(24 * 2**30, context=450 * MB).install(monkeypatch)
    assert gpu_memory.megabytes(0.5) == 12 * 1024 - 450
    with pytest.raises(TrainingError, match=r"gpus 0.01: that share of a GPU with 24576 MB leaves nothing .* 450 MB"):
        gpu_memory.megabytes(0.01)


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceTotalMem_v2", "cuCtxCreate_v2", "cuMemGetInfo_v2"])
def test_a_driver_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    FakeDriver(failing=failing).install(monkeypatch)
    with pytest.raises(TrainingError, match=rf"does not tell its memory \({failing} gave error 100\)"):
        gpu_memory.megabytes(0.5)


ON_GPU = (
    "OOM when allocating tensor with shape[256,64,112,112] and type float on "
    "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc [Op:Conv2D]"
)
OF_TENSORFLOW = [
    tf.errors.ResourceExhaustedError(None, None, ON_GPU),
    tf.errors.ResourceExhaustedError(None, None, "Out of memory while trying to allocate 12884901888 bytes. [Op:step]"),
    tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3.00GiB."),
    tf.errors.InternalError(
        None, None, "Failed to allocate 2147483648 bytes on device 0: CUDA_ERROR_OUT_OF_MEMORY: out of memory"
    ),
    tf.errors.InternalError(
        None,
        None,
        "Failed copying input tensor from /job:localhost/replica:0/task:0/device:CPU:0 to "
        "/job:localhost/replica:0/task:0/device:GPU:0 in order to run _EagerConst: Dst tensor is not initialized.",
    ),
    RuntimeError("Could not create cudnn handle: CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.mark.parametrize("error", OF_TENSORFLOW, ids=str)
def test_a_gpu_without_memory_is_told_from_other_failures(error: Exception) -> None:
    assert gpu_memory.is_exhausted(error)
    wrapped = ValueError("the step failed")
    wrapped.__cause__ = error
    assert gpu_memory.is_exhausted(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("shapes do not match"),
        MemoryError("Unable to allocate 3.00 GiB for an array"),
        tf.errors.InternalError(None, None, "cuDNN launch failure"),
        tf.errors.ResourceExhaustedError(
            None,
            None,
            "OOM when allocating tensor with shape[9] and type float on "
            "/job:localhost/replica:0/task:0/device:CPU:0 by allocator mklcpu",
        ),
    ],
    ids=str,
)
def test_other_failures_are_none_of_a_gpus_memory(error: Exception) -> None:
    assert not gpu_memory.is_exhausted(error)


@pytest.mark.usefixtures("tensorflow_on_one_thread")
@pytest.mark.parametrize(("share", "bound"), [(1.0, None), (0.5, 12 * 1024 - 300)])
@pytest.mark.parametrize("precision", ["float32", "tensorfloat32", "mixed_bfloat16"])
def test_tensorflow_is_bound_before_it_takes_memory(
    monkeypatch: pytest.MonkeyPatch, share: float, bound: int | None, precision: Any
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
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
            enable_tensor_float_32_execution=lambda on: told.append(("tensorfloat32", on)),
        ),
    )
    FakeDriver(24 * 2**30, context=300 * MB).install(monkeypatch)
    monkeypatch.setattr(train.tf, "config", config)
    train.configure(Execution(device="gpu", threads=4, jit=False, precision=precision), share)
    memory, products = ("the GPU", "grows" if bound is None else [bound]), precision == "tensorfloat32"
    assert told == [4, 1, memory, ("tensorfloat32", products), "deterministic"]
    assert os.environ["XLA_FLAGS"].split() == list(environment.GPU_FLAGS)


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_a_record_names_the_gpu_and_its_software(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.prepare()
    trial = tiny.trial(folder, execution=Execution(device="gpu", lowering="native", jit=False), epochs=1)
    assert gpu_memory.describe(1.0) == {}  # there is none here
    FakeDriver(name="NVIDIA H100").install(monkeypatch)
    monkeypatch.setattr(train.tf.config, "list_physical_devices", lambda kind: ["the GPU"])
    monkeypatch.setattr(gpu_memory, "peak", lambda: 5)
    gpu = train.train_trial(replace(trial, resources=Resources(gpus=0.25)), folder).record.provenance["gpu"]
    assert {name: gpu[name] for name in ("name", "compute_capability", "cuda", "share", "peak_bytes")} == {
        **{"name": "NVIDIA H100", "compute_capability": "9.0", "cuda": "12.4", "share": 0.25, "peak_bytes": 5}
    }
    build = tf.sysconfig.get_build_info()
    assert (gpu["built_for_cuda"], gpu["built_for_cudnn"]) == (build["cuda_version"], build["cudnn_version"])


@pytest.mark.usefixtures("tensorflow_on_one_thread")
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_record_says_what_share_was_too_small(monkeypatch: pytest.MonkeyPatch, device: Any) -> None:
    folder = tiny.prepare()
    trial = tiny.trial(folder, execution=Execution(device=device, lowering="native", jit=False))
    trial = replace(trial, resources=Resources(gpus=0.25))

    def run(self: Any, *given: Any) -> None:
        raise OF_TENSORFLOW[0]

    monkeypatch.setattr(train.Fit, "run", run)
    monkeypatch.setattr(gpu_memory, "peak", lambda: 3_100_000_000)
    record = train.train_trial(trial, folder).record
    assert record.status == "failed"
    if device == "gpu":
        assert record.reason.startswith(
            "out of GPU memory with 0.25 of a GPU, at a peak of 3.1 GB: ResourceExhaustedError: OOM when allocating"
        )
        assert record.provenance[gpu_memory.OUT_OF_MEMORY] == 3_100_000_000
    else:
        assert record.reason.startswith("ResourceExhaustedError: OOM when allocating")
        assert gpu_memory.OUT_OF_MEMORY not in record.provenance
        assert "gpu" not in record.provenance


def test_a_checkpoint_is_of_one_kind_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on elsewhere would have the digits of two, and its record would name one."""
    cpu = tiny.trial(tiny.prepare())
    gpu = replace(cpu, execution=Execution(device="gpu", lowering="native", jit=False))
    kinds = []
    for name in ("A", "B"):
        FakeDriver(name=name).install(monkeypatch)
        kinds.append(train._numerics(gpu, None)["gpu"])
        assert "gpu" not in train._numerics(cpu, None)
    assert kinds == [f"{name}, compute capability 9.0, driver {gpu_driver.describe()['driver']}" for name in "AB"]
