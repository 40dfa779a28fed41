"""Where inputs lie while a trial trains: with the host, or all of them in the device's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resflow import architectures, provenance
from resflow.study.arms import Arm
from resflow.study.settings import Execution, Inputs, Network, Recipe

if TYPE_CHECKING:
    from resflow.study.trial import Trial

PART = 0.25  # of a trial's share of a GPU's memory, that inputs may take; the rest is the network's
MEASURED_SHARE = 1 / 8  # of a GPU, that a trial has room for at least, where a measurement will settle it
ASSUMED_MEMORY = 16e9  # bytes of a GPU that this machine cannot see, a cluster's: small ones for training have it


def least_share(gpus: float | str | None) -> float:
    """Return a trial's share of a GPU by its study's `gpus`: a small one where that is yet to be measured."""
    if gpus is None:
        return 1.0
    return gpus if isinstance(gpus, float) else MEASURED_SHARE


def resolve_inputs(execution: Execution, device: str, data_bytes: float, share: float) -> Inputs:
    """Settle `inputs: auto`: on the device where that is a GPU and a trial's share of its memory has room for them.

    `data_bytes` are the most that any trial's inputs take, `share` is a trial's part of a GPU.
    """
    if execution.inputs != "auto":
        return execution.inputs
    memory = provenance.gpu_memory() or ASSUMED_MEMORY
    return "device" if device == "gpu" and data_bytes <= PART * share * memory else "host"


def shares_features(execution: Execution, recipe: Recipe, network: Network) -> bool:
    """Tell whether the backbone's outputs are the same for every head, so that they are computed once.

    Not with `partial_weights`: what they leave random is the seed's.
    """
    still = recipe.finetune == "frozen" and recipe.bn == "inference"
    return execution.features and still and not network.partial_weights


def input_bytes(arm: Arm | Trial, counts: tuple[int, int, int], execution: Execution) -> int:
    """Return the bytes on the device of what an arm's trials train, validate and test on, `counts` images each.

    That is every image as it was decoded, or its features, and those of one epoch's views beside them.
    """
    size = arm.data.image_size
    if not shares_features(execution, arm.recipe, arm.network):
        return sum(counts) * size**2 * 3
    architecture = arm.network.architecture(size)
    places = architectures.map_size(architecture, size) ** 2 if arm.network.head.pooling == "flatten" else 1
    return (sum(counts) + counts[0]) * places * architectures.feature_channels(architecture) * 4
