"""The devices that trials ran on: digits of one setting are equal on one kind of GPU with one driver and software."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from resflow.records.record import Record

SOFTWARE = {"driver": "driver", "built_for_cuda": "CUDA", "built_for_cudnn": "cuDNN"}


def kind(record: Record) -> str:
    """Name a record's device and what beside the settings decides on its digits; CPUs have one name."""
    if record.execution.get("device") != "gpu":
        return "the CPU"
    gpu = record.provenance.get("gpu") or {}
    if not gpu.get("name"):
        return "a GPU that its record does not name"
    software = [f"{word} {gpu[key]}" for key, word in SOFTWARE.items() if gpu.get(key)]
    return f"{gpu['name']} ({', '.join(software)})" if software else str(gpu["name"])


def tell_differences(records: Sequence[Record]) -> str:
    """Say on which devices trials ran whose outcomes are compared; empty where all ran on one kind."""
    kinds = Counter(kind(record) for record in records if record.status == "completed")
    if len(kinds) < 2:
        return ""
    each = "; ".join(f"{count} on {name}" for name, count in kinds.most_common())
    return (
        f"Trials ran on {len(kinds)} kinds of device: {each}. Equal trials give other last digits there, so that a "
        "difference between two of them is not of their settings alone."
    )
