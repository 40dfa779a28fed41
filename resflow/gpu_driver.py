"""The answers of CUDA's driver about the first GPU that this process sees; CUDA_VISIBLE_DEVICES says which that is.

The driver's own library is asked, for TensorFlow has no call for these, and NVIDIA's management library numbers GPUs in
another order than CUDA does.
"""

from __future__ import annotations

import ctypes
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBRARY = "libcuda.so.1"
VERSION = Path("/proc/driver/nvidia/version")
MAJOR, MINOR = 75, 76  # CUdevice_attribute of the compute capability
TRIES = 5  # of a measurement: other processes take and give memory meanwhile


class DriverError(Exception):
    """The driver is missing, or refuses: why, in its own words."""


class Driver:
    """The driver's library, ready to be asked. Raises DriverError where it is missing or refuses."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DriverError(str(error)) from error
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver. Raises DriverError for whatever it returns but success."""
        try:
            code = getattr(self.library, name)(*arguments)
        except AttributeError as error:
            raise DriverError(str(error)) from error
        if code:
            raise DriverError(f"{name} gave error {code}")

    def number(self, name: str, *arguments: Any, kind: Any = ctypes.c_int) -> int:
        """Return the number that a function writes where its first argument points."""
        value = kind()
        self.call(name, ctypes.byref(value), *arguments)
        return int(value.value)

    def device(self) -> ctypes.c_int:
        """Return the driver's handle of the first visible GPU."""
        return ctypes.c_int(self.number("cuDeviceGet", 0))

    @contextmanager
    def context(self) -> Iterator[None]:
        """Hold a context of its own on the first visible GPU."""
        handle = ctypes.c_void_p()
        self.call("cuCtxCreate_v2", ctypes.byref(handle), 0, self.device())
        try:
            yield
        finally:
            self.call("cuCtxDestroy_v2", handle)

    def free(self) -> int:
        """Return the bytes that are free on the GPU of the current context, whoever has the others."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return int(free.value)


def count() -> int:
    """Count the GPUs that a process here may use; 0 where there is no driver."""
    try:
        return Driver().number("cuDeviceGetCount")
    except DriverError:
        return 0


def total_memory() -> int:
    """Return the bytes of the first visible GPU. Raises DriverError."""
    driver = Driver()
    return driver.number("cuDeviceTotalMem_v2", driver.device(), kind=ctypes.c_size_t)


def context_memory() -> int:
    """Measure the bytes that CUDA takes for a process beside what the process asks for. Raises DriverError.

    The driver tells free memory to a process with a context alone. So a first one looks on while a second is made.
    """
    driver, costs = Driver(), []
    with driver.context():
        for _ in range(TRIES):
            before = driver.free()
            with driver.context():
                costs.append(before - driver.free())
    return max(0, int(statistics.median(costs)))


def describe() -> dict[str, Any]:
    """Describe the first visible GPU and its driver, for records; empty where there is none.

    `cuda` is the newest version of CUDA that the driver speaks.
    """
    try:
        driver = Driver()
        device, name = driver.device(), ctypes.create_string_buffer(256)
        driver.call("cuDeviceGetName", name, len(name), device)
        major, minor = (driver.number("cuDeviceGetAttribute", attribute, device) for attribute in (MAJOR, MINOR))
        return {
            "name": name.value.decode(errors="replace"),
            "compute_capability": f"{major}.{minor}",
            "memory": driver.number("cuDeviceTotalMem_v2", device, kind=ctypes.c_size_t),
            "driver": _version(),
            "cuda": _dotted(driver.number("cuDriverGetVersion")),
        }
    except DriverError:
        return {}


def kind() -> str:
    """Name what of the first visible GPU decides on digits and on compiled code; empty where there is none."""
    gpu = describe()
    return f"{gpu['name']}, compute capability {gpu['compute_capability']}, driver {gpu['driver']}" if gpu else ""


def _version() -> str | None:
    """Return the version of the kernel's driver; None where the system does not say."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", VERSION.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def _dotted(version: int) -> str:
    """Write CUDA's number of a version, 12040, as 12.4."""
    return f"{version // 1000}.{version % 1000 // 10}"
