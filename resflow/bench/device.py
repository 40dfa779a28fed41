"""The device of a contest: what it asks of trials, and whether it is there."""

from __future__ import annotations

from typing import Any

from resflow import gpu_driver, provenance
from resflow.errors import ResflowError

DEVICES = ("cpu", "gpu")
LIMIT = 150.0  # seconds that an opponent on a GPU may take: it compiles, and time there is dear


def check(device: str) -> None:
    """Raise ResflowError where there is no such device."""
    if device == "gpu" and provenance.count_gpus() == 0:
        raise ResflowError(
            "--device gpu: the NVIDIA driver shows none here. `resflow doctor` tells what is seen; "
            "--device cpu measures the CPU."
        )


def execution(device: str, inputs: str = "device") -> dict[str, Any]:
    """Return settings of trials on a device. On a GPU XLA compiles, and images lie in its memory unless `inputs` says
    `host`; on a CPU all is as the product chooses."""
    on_gpu = {"execution.jit": True, "execution.inputs": inputs} if device == "gpu" else {}
    return {"execution.device": device, **on_gpu}


def default_precision(device: str) -> str:
    return "mixed_bfloat16" if device == "gpu" else "float32"


def describe(device: str) -> dict[str, Any]:
    """Return what a result tells of its device: `device`, and of a GPU its name, driver and the rest as `gpu`."""
    return {"device": device, **({"gpu": gpu_driver.describe()} if device == "gpu" else {})}
