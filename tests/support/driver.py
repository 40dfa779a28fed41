"""A stand-in for libcuda.so.1: one GPU, whose memory each context takes a part of."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from resflow.gpu_driver import LIBRARY

MB = 2**20
NO_DEVICE = 100


class FakeDriver:
    """Answers as the driver does for a device of so many bytes; `failing` is a function that refuses."""

    def __init__(
        self, size: int = 24 * 2**30, context: int = 300 * MB, failing: str = "", name: str = "A card"
    ) -> None:
        self.size, self.context, self.failing, self.name = size, context, failing, name
        self.contexts = 0
        self.asked: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> FakeDriver:
        """Take the place of the driver's library in this process."""
        real = ctypes.CDLL
        patch.setattr(
            ctypes, "CDLL", lambda name, *more, **named: self if name == LIBRARY else real(name, *more, **named)
        )
        return self

    def __getattr__(self, name: str) -> Any:
        answer = getattr(FakeDriver, f"_{name}", None)
        if answer is None:
            raise AttributeError(f"undefined symbol: {name}")

        def call(*arguments: Any) -> int:
            self.asked.append(name)
            if name == self.failing:
                return NO_DEVICE
            answer(self, *arguments)
            return 0

        return call

    def _cuInit(self, flags: int) -> None:  # noqa: N802
        pass

    def _cuDeviceGet(self, device: Any, ordinal: int) -> None:  # noqa: N802
        device._obj.value = ordinal

    def _cuDeviceGetCount(self, number: Any) -> None:  # noqa: N802
        number._obj.value = 1

    def _cuDeviceTotalMem_v2(self, size: Any, device: Any) -> None:  # noqa: N802
        size._obj.value = self.size

    def _cuDeviceGetName(self, text: Any, length: int, device: Any) -> None:  # noqa: N802
        text.value = self.name.encode()

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> None:  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]

    def _cuDriverGetVersion(self, version: Any) -> None:  # noqa: N802
        version._obj.value = 12040

    def _cuCtxCreate_v2(self, handle: Any, flags: int, device: Any) -> None:  # noqa: N802
        self.contexts += 1

    def _cuCtxDestroy_v2(self, handle: Any) -> None:  # noqa: N802
        self.contexts -= 1

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:  # noqa: N802
        assert self.contexts, "free memory is told to a process with a context alone"
        free._obj.value, total._obj.value = self.size - self.contexts * self.context, self.size
