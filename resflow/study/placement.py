"""Where decoded images lie while a trial trains: with the host, or all of them in the device's memory."""

from __future__ import annotations

from collections.abc import Iterable

from resflow import provenance
from resflow.study.arms import Arm
from resflow.study.settings import Execution, Inputs, Network, Recipe

PART = 0.25  # of a trial's share of a GPU's memory, that images may take; the rest is the network's
MEASURED_SHARE = 1 / 8  # of a GPU, that a trial has room for at least, where a measurement will settle it
ASSUMED_MEMORY = (
    16e9  # bytes of a GPU that this machine cannot see, such as a cluster's: small ones for training have it
)


def fit_on_device(image_bytes: int, bound: float) -> bool:
    """Tell whether decoded images may lie in a device's memory, of which they may take `bound` bytes."""
    return image_bytes <= bound


def gpu_share(gpus: float | str | None) -> float:
    """Return a trial's share of a GPU by its study's `gpus`: a small one where that is yet to be measured."""
    if gpus is None:
        return 1.0
    return gpus if isinstance(gpus, float) else MEASURED_SHARE


def resolve_inputs(execution: Execution, device: str, image_bytes: int | None, share: float) -> Inputs:
    """Settle `inputs: auto`: on the device where that is a GPU and a trial's share of its memory has room for them.

    `image_bytes` are the most that any trial decodes, None where no trial computes a whole network. `share` is that
    of a GPU.
    """
    if execution.inputs != "auto":
        return execution.inputs
    if device != "gpu" or image_bytes is None:
        return "host"
    memory = provenance.gpu_memory() or ASSUMED_MEMORY
    return "device" if fit_on_device(image_bytes, PART * share * memory) else "host"


def shares_features(execution: Execution, recipe: Recipe, network: Network) -> bool:
    """Tell whether the backbone's outputs are the same for every head, so that they are computed once.

    Not with `partial_weights`: what they leave random is the seed's.
    """
    still = recipe.finetune == "frozen" and recipe.bn == "inference"
    return execution.features and still and not network.partial_weights


def largest_images(arms: Iterable[tuple[Arm, tuple[int, int, int]]], execution: Execution) -> int | None:
    """Return the most bytes of decoded images of arms that compute whole networks, None where there are none.

    Each arm comes with its images to train, validate and test on.
    """
    sizes = [
        sum(counts) * arm.data.image_size**2 * 3
        for arm, counts in arms
        if not shares_features(execution, arm.recipe, arm.network)
    ]
    return max(sizes, default=None)
