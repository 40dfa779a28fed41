"""Public weights for resflow's networks: safetensors files under PyTorch's names, matched by name and shape.

The names are those of torchvision and timm (`layer1.0.conv1.weight`, `downsample.0`, `fc`) and of the CIFAR nets
(`linear` for `fc`, perhaps a `module.` before each). They cover v1 and v1.5: both have the same tensors, and
which of the two a file was trained as its publisher must say. Pre-activation nets have no common naming.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resflow.errors import WeightsError

HEADS = ("fc", "linear")  # torchvision and timm; the CIFAR nets
WRAPPER = "module."  # what PyTorch's DataParallel puts before each name
NOT_WEIGHTS = "num_batches_tracked"  # a counter that PyTorch keeps beside the moving statistics
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Axes by rank: (kH, kW, I, O) and (I, O) in Keras, (O, I, kH, kW) and (O, I) in PyTorch.
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
TO_KERAS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
LAYER = re.compile(r"(?:stem|stage(?P<stage>\d)_block(?P<block>\d+)_(?:conv(?P<conv>\d)|shortcut))(?P<norm>_bn)?")


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file: name -> float32 array in PyTorch's layout, (O, I, kH, kW) for kernels.

    A `module.` before names and counters that are no weights are dropped. Raises WeightsError where the file
    is missing, damaged, or holds numbers that NumPy has no type for.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"no weights at {path}: expected a .safetensors file.") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no readable safetensors file: {error}. Fetch or convert it again.") from error
    except (KeyError, TypeError, AttributeError) as error:  # how safetensors.numpy refuses bfloat16 and float8
        raise WeightsError(
            f"{path} holds numbers of a type that NumPy lacks: {error}. Convert it to float32."
        ) from error
    named = {name.removeprefix(WRAPPER): values for name, values in tensors.items()}
    return {name: values.astype(np.float32) for name, values in named.items() if not name.endswith(NOT_WEIGHTS)}


def load(model: Any, tensors: Mapping[str, np.ndarray], head: bool = True) -> None:
    """Set a built network's weights from tensors in PyTorch's layout, all of them or none.

    With `head=False` the head keeps its values, and the tensors of another head are not looked at: everything
    before it must match all the same. Raises WeightsError, which lists every tensor that is missing, that the
    network has no place for, or that has another shape.
    """
    given = next((name for name in HEADS if f"{name}.weight" in tensors), HEADS[0])
    places = {
        _name(layer.name, weight.name, given): weight
        for layer in model.layers
        for weight in layer.weights
        if head or layer.name != "head"
    }
    ignored = set() if head else {f"{given}.weight", f"{given}.bias"}
    matched = {name: values for name, values in tensors.items() if name not in ignored}
    expected = {name: tuple(weight.shape[i] for i in TO_TORCH[len(weight.shape)]) for name, weight in places.items()}
    _check(expected, matched, model.name)
    for name, weight in places.items():
        weight.assign(matched[name].transpose(TO_KERAS[len(weight.shape)]))


def _name(layer: str, weight: str, head: str) -> str:
    """PyTorch's name of one weight of one layer of `models.build`."""
    if layer == "head":
        return f"{head}.{'weight' if weight == 'kernel' else 'bias'}"
    found = LAYER.fullmatch(layer)
    if found is None or (weight == "kernel") == bool(found["norm"]):
        raise WeightsError(
            f"layer {layer} has no place in PyTorch's naming of ResNets: expected a network of variant v1 or v1.5."
        )
    kind, part = ("bn", BATCH_NORM[weight]) if found["norm"] else ("conv", "weight")
    if found["stage"] is None:
        return f"{kind}1.{part}"
    block = f"layer{found['stage']}.{int(found['block']) - 1}"
    return f"{block}.{kind}{found['conv']}.{part}" if found["conv"] else f"{block}.downsample.{kind == 'bn':d}.{part}"


def _check(expected: Mapping[str, tuple[int, ...]], came: Mapping[str, np.ndarray], network: str) -> None:
    shapes = [
        f"{name} {came[name].shape} for {shape}"
        for name, shape in expected.items()
        if name in came and came[name].shape != shape
    ]
    problems = {
        "missing": [name for name in expected if name not in came],
        "unexpected": [name for name in came if name not in expected],
        "of another shape": shapes,
    }
    if any(problems.values()):
        listed = "".join(f"\n  {len(some)} {kind}: {', '.join(some)}" for kind, some in problems.items() if some)
        raise WeightsError(
            f"these weights are not those of {network}:{listed}\nChoose the family, depth, shortcut and width that "
            "they were trained with. Where only the head differs, load them without it (head=False)."
        )
