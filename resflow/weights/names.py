"""The names that files give the tensors of a residual network, and the order of their axes.

PyTorch's names are those of torchvision and timm (`layer1.0.conv1.weight`, `downsample.0`, `fc`) and of the CIFAR
nets (`linear` for `fc`). They cover v1 and v1.5, which have the same tensors. Public pre-activation nets have no common
naming and public heads no hidden layers: in what resflow exports, these have the names `norm` and `hidden.0` as well.
resflow's own names are `layer/weight` with Keras' axes and cover every network. keras.applications' layers are turned
into resflow's own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from resflow.errors import WeightsError

HEADS = ("fc", "linear")  # torchvision and timm; the CIFAR nets
HIDDEN, LAST_NORM = "hidden", "norm"  # a head's layers before its last; the batch norm before the pooling, of v2
DENSE = {"kernel": "weight", "bias": "bias"}
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
LAYER = re.compile(r"(?:stem|stage(?P<stage>\d)_block(?P<block>\d+)_(?:conv(?P<conv>\d)|shortcut))(?P<norm>_bn)?")
APPLICATIONS = re.compile(r"conv(?P<stage>\d)(?:_block(?P<block>\d+)_(?P<conv>\d))?_(?P<kind>conv|bn)")


@dataclass(frozen=True)
class Naming:
    """One way to name tensors. `to_keras` gives by rank the order that makes a file's axes those of Keras."""

    name: Callable[[str, str], str]  # of (layer, weight), both under resflow's names
    in_head: Callable[[str], bool]  # of a tensor's name
    to_keras: Mapping[int, tuple[int, ...]]

    def shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in a file of a weight that has this shape in Keras."""
        return tuple(weight[axis] for axis in np.argsort(self.to_keras[len(weight)]))

    def from_keras(self, values: np.ndarray) -> np.ndarray:
        """Return the values of a weight in Keras with a file's axes."""
        return np.ascontiguousarray(values.transpose(np.argsort(self.to_keras[values.ndim])))


def detect_naming(names: Collection[str]) -> Naming:
    """Detect the naming of a file from its tensors' names: PyTorch's have no slash."""
    if any("/" in name for name in names):
        return OWN
    head = next((head for head in HEADS if f"{head}.weight" in names), HEADS[0])
    return _torch_naming(head, preactivated=f"{LAST_NORM}.weight" in names)


def _torch_naming(head: str, preactivated: bool) -> Naming:
    return Naming(
        functools.partial(_torch_name, head=head, preactivated=preactivated),
        lambda name: name in (f"{head}.weight", f"{head}.bias") or name.startswith(f"{HIDDEN}."),
        {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)},  # from (O, I, kH, kW) and (O, I)
    )


def is_head(layer: str) -> bool:
    """Tell whether a layer of `models.build` stands behind the backbone."""
    return layer == "head" or layer.startswith("head_")


def _own_name(layer: str, weight: str) -> str:
    return f"{layer}/{weight}"


OWN = Naming(_own_name, lambda name: is_head(name.partition("/")[0]), {4: (0, 1, 2, 3), 2: (0, 1), 1: (0,)})


def _torch_name(layer: str, weight: str, head: str, preactivated: bool) -> str:
    if layer == "head":
        return f"{head}.{DENSE[weight]}"
    if hidden := re.fullmatch(r"head_hidden(\d+)", layer):
        return f"{HIDDEN}.{int(hidden[1]) - 1}.{DENSE[weight]}"
    if layer == "last_bn" and preactivated:
        return f"{LAST_NORM}.{BATCH_NORM[weight]}"
    match = LAYER.fullmatch(layer)
    if match is None or (weight == "kernel") == bool(match["norm"]):
        raise WeightsError(
            f"layer {layer} has no place in PyTorch's naming of ResNets: expected a network of variant v1 or v1.5. "
            "Choose such a network, or weights that resflow kept or exported."
        )
    kind, part = ("bn", BATCH_NORM[weight]) if match["norm"] else ("conv", "weight")
    if match["stage"] is None:
        return f"{kind}1.{part}"
    block = f"layer{match['stage']}.{int(match['block']) - 1}"
    return f"{block}.{kind}{match['conv']}.{part}" if match["conv"] else f"{block}.downsample.{kind == 'bn':d}.{part}"


PYTORCH = _torch_naming(HEADS[0], preactivated=True)  # in which resflow exports


def from_applications(layers: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Turn the layers of keras.applications' ResNets (v1) into tensors under resflow's own names.

    Their convolutions have biases, resflow's have none: each goes into the moving mean of the batch norm after it,
    where it does the same in inference. Layers that such a net has not keep their names.
    """
    tensors: dict[str, np.ndarray] = {}
    for layer, weights in layers.items():
        values = dict(weights)
        if layer.endswith("_bn"):
            bias = layers.get(f"{layer.removesuffix('_bn')}_conv", {}).get("bias")
            if bias is not None and "moving_mean" in values and bias.shape == values["moving_mean"].shape:
                values["moving_mean"] = values["moving_mean"] - bias
        elif layer.endswith("_conv") and f"{layer.removesuffix('_conv')}_bn" in layers:
            values.pop("bias", None)
        tensors |= {_own_name(_own_layer(layer), weight): value for weight, value in values.items()}
    return tensors


def _own_layer(layer: str) -> str:
    """Translate a layer's name: conv1_conv -> stem, conv2_block1_0_bn -> stage1_block1_shortcut_bn."""
    if layer == "predictions":
        return "head"
    match = APPLICATIONS.fullmatch(layer)
    if match is None:
        return layer
    norm = "_bn" if match["kind"] == "bn" else ""
    if match["block"] is None:
        return f"stem{norm}"
    place = "shortcut" if match["conv"] == "0" else f"conv{match['conv']}"
    return f"stage{int(match['stage']) - 1}_block{match['block']}_{place}{norm}"
