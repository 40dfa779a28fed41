"""The memory of a GPU: what of it a trial on a share may take, what one has taken, and errors of too little of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from filelock import FileLock

from resflow import gpu_driver, workspace
from resflow.errors import TrainingError

MEGABYTE = 2**20
OUT_OF_MEMORY = "out_of_gpu_memory"  # in a record's provenance: bytes at the peak, of a trial that failed for it
EXHAUSTED = (  # in the messages of TensorFlow, XLA, CUDA and its libraries
    "RESOURCE_EXHAUSTED",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "Dst tensor is not initialized",  # of a copy to a GPU without room for it
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
OF_HOST = ("device:CPU", "by allocator cpu", "by allocator mklcpu")  # the machine's own memory ran out


def megabytes(share: float) -> int:
    """Return the bound of TensorFlow's allocator on a share of the first visible GPU. Raises TrainingError."""
    lock = workspace.cache(workspace.GPU_LOCK)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):  # the contexts of processes that measure at the same time would be taken for one's own
            whole, context = gpu_driver.total_memory(), gpu_driver.context_memory()
    except gpu_driver.DriverError as error:
        raise TrainingError(
            f"a share of a GPU was asked for, but the NVIDIA driver does not tell its memory ({error}). "
            "`resflow doctor` tells what is seen; --set gpus=1 gives a trial a GPU of its own."
        ) from error
    bound = int(share * whole - context) // MEGABYTE
    if bound <= 0:
        raise TrainingError(
            f"gpus {share:g}: that share of a GPU with {whole // MEGABYTE} MB leaves nothing beside the "
            f"{context // MEGABYTE} MB that CUDA takes in each process. Set gpus to more."
        )
    return bound


def peak() -> int:
    """Return the most bytes that this process has had from TensorFlow's allocator of its GPU so far."""
    from resflow.quiet_tensorflow import tf

    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


def describe(share: float) -> dict[str, Any]:
    """Describe this process's GPU for the record of a trial on a share of it, and what it has taken.

    With its driver stand the CUDA and the cuDNN that TensorFlow was built for. Empty where there is no GPU.
    """
    from resflow.quiet_tensorflow import tf

    if not tf.config.list_physical_devices("GPU"):
        return {}
    build = tf.sysconfig.get_build_info()
    built = {f"built_for_{name}": build.get(f"{name}_version") for name in ("cuda", "cudnn")}
    settings = {"share": share, "xla_flags": os.environ.get("XLA_FLAGS", "")}
    return {**gpu_driver.describe(), **built, **settings, "peak_bytes": peak()}


def tell_shortage(error: Exception, share: float) -> str:
    """Say that a trial's share of a GPU had too little memory for it, and what it had taken by then."""
    part = "a whole GPU" if share == 1 else f"{share:g} of a GPU"
    return f"out of GPU memory with {part}, at a peak of {peak() / 1e9:.3g} GB: {type(error).__name__}: {error}"


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error says that the memory of a GPU ran out, and not that of the machine."""
    return any(_says_exhausted(one) for one in _chain(error))


def _says_exhausted(error: BaseException) -> bool:
    message = str(error)
    of_host = any(words in message for words in OF_HOST)
    return any(words in message for words in EXHAUSTED) or (
        type(error).__name__ == "ResourceExhaustedError" and not of_host
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
