"""How the trials of a run shared a GPU under `gpus: auto`: a file in the run's folder, which is part of no id."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, PositiveInt

from resflow import atomic, reading, workspace

Bytes = Annotated[int, Field(ge=0)]


class GpuChoice(BaseModel):
    """What was chosen, and what decided on it.

    `throughput` has multiply-adds a second of all trials together, by their number on the GPU; what is not there was
    not measured, for want of memory, cores or trials, or because a smaller number was faster already.
    """

    gpu: dict[str, Any]  # as the driver describes it
    context_bytes: Bytes  # that CUDA takes for each process
    estimated_bytes: Bytes  # of the largest trial, by `study.memory`
    peak_bytes: Bytes | None = None  # of the largest trial, by the first one's peak; None before that
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of a GPU's memory
    trials_per_gpu: PositiveInt = 1
    throughput: dict[PositiveInt, float] = {}

    def write(self, run: Path) -> None:
        """Write this choice into a run's folder."""
        atomic.write(run / workspace.GPU_SHARING, self.model_dump_json(indent=1) + "\n")


def read_choice(run: Path) -> GpuChoice | None:
    """Return the choice that a run has made; None where there is none, or none that can be read: it is made again."""
    try:
        return GpuChoice.model_validate_json(reading.read(run / workspace.GPU_SHARING))
    except (OSError, ValueError):
        return None
