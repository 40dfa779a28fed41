"""The share of a machine that Ray sets aside for a trial, and the number of trials that fit into what there is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resflow.study.trial import Trial

GIGABYTE = 1e9
ROUNDING = 1e-9  # a third of a GPU holds three trials
OBJECT_STORE, STORE_SHARE = 1e9, 0.3  # bytes that Ray keeps objects in, and of a machine's memory at most


def object_store_bytes(memory: float) -> float:
    """Return the bytes of a machine's memory that Ray keeps objects in: kept networks on their way, nothing larger."""
    return min(OBJECT_STORE, STORE_SHARE * memory)


@dataclass(frozen=True)
class TrialResources:
    """The share of one trial. Nothing in it changes a result."""

    cpus: float
    gpus: float = 0.0  # a share of one, or one
    memory: int = 0  # bytes of main memory; 0 where nothing is said

    @classmethod
    def from_trial(cls, trial: Trial) -> TrialResources:
        """Return a GPU where the trial trains on GPUs, and a CPU a thread, unless its study says otherwise.

        `gpus: auto` is no share yet: before it is measured a trial has to have a GPU of its own.
        """
        share, execution = trial.resources, trial.execution
        return cls(
            share.cpus or execution.threads,
            0.0 if execution.device != "gpu" else share.gpus if isinstance(share.gpus, float) else 1.0,
            int((share.memory or 0) * GIGABYTE),
        )

    def as_ray(self) -> dict[str, float]:
        """Return the amounts by Ray's names, for `tune.with_resources`."""
        amounts = {"cpu": self.cpus, "gpu": self.gpus, "memory": self.memory}
        return {name: amount for name, amount in amounts.items() if amount}

    def fit(self, node: Mapping[str, float]) -> int:
        """Return how many trials fit into a machine, whose resources have Ray's names; unknown memory is no limit."""
        counts = [math.floor(node.get("CPU", 0) / self.cpus + ROUNDING)]
        if self.gpus:
            counts.append(math.floor(node.get("GPU", 0)) * math.floor(1 / self.gpus + ROUNDING))
        if self.memory and "memory" in node:
            counts.append(math.floor(node["memory"] / self.memory))
        return min(counts)

    def places(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """Return how many trials can run at a time on some machines."""
        return sum(self.fit(node) for node in nodes)

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPUs" if self.cpus != 1 else "1 CPU"]
        parts += [f"{self.gpus:g} GPUs" if self.gpus != 1 else "1 GPU"] if self.gpus else []
        parts += [f"{self.memory / GIGABYTE:g} GB of memory"] if self.memory else []
        return ", ".join(parts)
