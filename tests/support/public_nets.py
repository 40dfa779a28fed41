"""The public ResNets of torchvision, timm and keras.applications with random weights, to hold resflow's against.

Batch norm gets random statistics too: with means of 0 and variances of 1 much that could be wrong would not show.

`python tests/public_nets.py` writes tests/fixtures/thin_resnet*.safetensors: torchvision's topologies with every
channel count divided by 32, their weights, an input and torch's logits. It needs torch and torchvision or timm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parents[1] / "fixtures"
DEPTHS = (18, 34, 50)  # 101 has no block that 50 lacks
THIN = 32  # what the fixtures' channel counts are divided by
THIN_CLASSES, THIN_SIZE = 10, 48


def drawn(kind: str, shape: tuple[int, ...], draw: np.random.Generator, outputs: int = -1) -> np.ndarray:
    """Random values that keep a signal's size over many blocks. `kind` is Keras' name of the weight.

    A kernel's values sum to zero for each output (its axis is `outputs`): what all images have in common would
    drown what tells them apart.
    """
    if kind == "kernel":
        inputs = tuple(axis for axis in range(len(shape)) if axis != outputs % len(shape))
        values = draw.normal(0, (2 * shape[outputs] / np.prod(shape)) ** 0.5, shape)
        return (values - values.mean(axis=inputs, keepdims=True)).astype(np.float32)
    if kind in ("gamma", "moving_variance"):
        low, high = (0.5, 1.0) if kind == "gamma" else (0.5, 1.5)
        return draw.uniform(low, high, shape).astype(np.float32)
    return draw.normal(0, 0.2, shape).astype(np.float32)  # beta, moving_mean, bias


def images(count: int, size: int, seed: int) -> np.ndarray:
    """Patches of random colours under noise, float32 (count, size, size, 3): noise alone would average away."""
    draw = np.random.default_rng(seed)
    patches = draw.normal(0, 1, (count, 5, 5, 3)).repeat(-(-size // 5), axis=1).repeat(-(-size // 5), axis=2)
    return (patches[:, :size, :size] + draw.normal(0, 0.5, (count, size, size, 3))).astype(np.float32)


def difference(mine: Any, theirs: np.ndarray) -> float:
    """The largest difference of two sets of logits, relative to the second's scale: their standard deviation."""
    return float(np.abs(np.asarray(mine) - theirs).max() / theirs.std())


# --- torch


def torch_net(library: str, name: str) -> Any:
    """A net of torchvision or timm by its name, without weights."""
    if library == "torchvision":
        import torchvision

        return getattr(torchvision.models, name)(weights=None)
    import timm

    return timm.create_model(name, pretrained=False)


def randomise_torch(net: Any, seed: int) -> dict[str, np.ndarray]:
    """Fill a torch net with `drawn` values; return what it holds, by its own names."""
    import torch

    draw = np.random.default_rng(seed)
    kinds = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "bias"}
    for name, values in net.state_dict().items():
        if values.ndim:
            kind = kinds.get(name.split(".")[-1], "kernel" if values.ndim > 1 else "gamma")
            values.copy_(torch.from_numpy(drawn(kind, tuple(values.shape), draw, outputs=0)))
    net.eval()
    return {name: values.numpy() for name, values in net.state_dict().items()}


def torch_logits(net: Any, inputs: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return net(torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())).numpy()


def thinned(net: Any) -> Any:
    """The same net with 1/THIN of the channels: strides, padding and epsilons stay those of the public one."""
    from torch import nn

    for name, child in net.named_children():
        thin = lambda channels: channels if channels == 3 else channels // THIN  # noqa: E731
        if isinstance(child, nn.Conv2d):
            sizes = {"kernel_size": child.kernel_size, "stride": child.stride, "padding": child.padding}
            setattr(net, name, nn.Conv2d(thin(child.in_channels), thin(child.out_channels), **sizes, bias=False))
        elif isinstance(child, nn.BatchNorm2d):
            setattr(net, name, nn.BatchNorm2d(thin(child.num_features), child.eps, child.momentum))
        elif isinstance(child, nn.Linear):
            setattr(net, name, nn.Linear(thin(child.in_features), THIN_CLASSES))
        else:
            thinned(child)
    return net


def write_fixtures(library: str = "torchvision") -> None:
    """Weights are rounded to float16 before the logits are computed, and stored so: half the bytes."""
    import torch
    from safetensors.numpy import save_file

    FIXTURES.mkdir(exist_ok=True)
    inputs, logits = images(2, THIN_SIZE, seed=0), {}
    for depth in DEPTHS:
        net = thinned(torch_net(library, f"resnet{depth}"))
        weights = {
            name: values.astype(np.float16) for name, values in randomise_torch(net, depth).items() if values.ndim
        }
        net.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()}, strict=False)
        save_file(weights, FIXTURES / f"thin_resnet{depth}.safetensors")
        logits[f"resnet{depth}"] = torch_logits(net, inputs)
    np.savez(FIXTURES / "thin_logits.npz", **logits)


# --- keras.applications


def keras_net(depth: int, size: int, seed: int) -> Any:
    """ResNet50 or ResNet101 of keras.applications with a head of 1000 logits, filled with `drawn` values."""
    import keras

    build = {50: keras.applications.ResNet50, 101: keras.applications.ResNet101}[depth]
    net = build(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    draw = np.random.default_rng(seed)
    for layer in net.layers:
        for weight in layer.weights:
            weight.assign(drawn(weight.name, tuple(weight.shape), draw))
    return net


def from_keras(net: Any) -> dict[str, np.ndarray]:
    """The weights of keras.applications' ResNet under PyTorch's names and in its order of axes.

    What resflow's layers lack folds into batch norm: a convolution's bias into the moving mean, the difference
    of the epsilons (1.001e-5 there, 1e-5 here) into the moving variance.
    """
    kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    named, biases = {}, {}
    for layer in net.layers:
        values = {weight.name: weight.numpy() for weight in layer.weights}
        if layer.name.endswith("_conv"):
            named[_torch_name(layer.name, "conv") + ".weight"] = values["kernel"].transpose(3, 2, 0, 1)
            biases[layer.name.removesuffix("_conv")] = values["bias"]
        elif layer.name.endswith("_bn"):
            values["moving_mean"] = values["moving_mean"] - biases[layer.name.removesuffix("_bn")]
            values["moving_variance"] = values["moving_variance"] + np.float32(layer.epsilon - 1e-5)
            named |= {f"{_torch_name(layer.name, 'bn')}.{kinds[kind]}": value for kind, value in values.items()}
        elif values:
            named |= {"fc.weight": values["kernel"].T, "fc.bias": values["bias"]}
    return named


def _torch_name(layer: str, kind: str) -> str:
    """conv1_conv -> conv1, conv2_block1_0_bn -> layer1.0.downsample.1, conv3_block2_1_conv -> layer2.1.conv1."""
    if layer.startswith("conv1_"):
        return f"{kind}1"
    stage, block, place, _ = layer.split("_")
    at = f"layer{int(stage[-1]) - 1}.{int(block.removeprefix('block')) - 1}"
    return f"{at}.downsample.{kind == 'bn':d}" if place == "0" else f"{at}.{kind}{place}"


if __name__ == "__main__":
    write_fixtures()
