"""The memory of a GPU, and what of it a trial on a share of the GPU may take."""

from __future__ import annotations

import ctypes

from resflow.errors import TrainingError

CONTEXT_MB = 600  # a guess, no GPU was at hand: CUDA's context and cuDNN's kernels, which TensorFlow's bound leaves out
MEGABYTE = 2**20
LIBRARY = "libcuda.so.1"


def megabytes(share: float) -> int:
    """Return the bound of TensorFlow's allocator on a share of the first visible GPU. Raises TrainingError."""
    whole = total() // MEGABYTE
    bound = int(share * whole) - CONTEXT_MB
    if bound <= 0:
        raise TrainingError(
            f"gpus {share:g}: that share of a GPU with {whole} MB leaves nothing beside the {CONTEXT_MB} MB that CUDA "
            "takes in each process. Set gpus to more."
        )
    return bound


def total() -> int:
    """Return the bytes of the first GPU that this process sees. Raises TrainingError.

    The driver is asked, so that CUDA_VISIBLE_DEVICES holds.

    TensorFlow has no call for it, and management libraries number GPUs in another order than CUDA does.
    """
    size, device = ctypes.c_size_t(), ctypes.c_int()
    try:
        cuda = ctypes.CDLL(LIBRARY)
        for name, *arguments in (
            ("cuInit", 0),
            ("cuDeviceGet", ctypes.byref(device), 0),
            ("cuDeviceTotalMem_v2", ctypes.byref(size), device),
        ):
            if code := getattr(cuda, str(name))(*arguments):
                raise OSError(f"{name} gave error {code}")
    except (OSError, AttributeError) as error:
        raise TrainingError(
            f"a share of a GPU was asked for, but the NVIDIA driver does not tell its memory ({error}). "
            "`resflow doctor` tells what is seen; --set gpus=1 gives a trial a GPU of its own."
        ) from error
    return int(size.value)
