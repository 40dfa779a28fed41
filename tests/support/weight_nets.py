"""Small networks and files of weights for the tests of `resflow.weights`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file, save_file
from support.public_nets import FIXTURES, THIN, THIN_CLASSES, THIN_SIZE

from resflow.architectures import Architecture
from resflow.models.build import build_network
from resflow.weights import load


def imagenet(depth: int, variant: str = "v1.5", width: float = 1.0, shortcut: str = "projection") -> Architecture:
    return Architecture("imagenet", depth, shortcut, variant, width, "imagenet")


def thin_architecture(depth: int, **changed: Any) -> Architecture:
    return replace(imagenet(depth, width=1 / THIN), **changed)


def built(arch: Architecture, size: int, classes: int, **options: Any) -> keras.Model:
    keras.backend.clear_session()
    return build_network(arch, size, classes, **options)


def thin(depth: int, classes: int = THIN_CLASSES, **changed: Any) -> keras.Model:
    return built(thin_architecture(depth, **changed), THIN_SIZE, classes)


def tensors(depth: int = 18) -> dict[str, np.ndarray]:
    """The fixture's tensors under PyTorch's names, as float32."""
    return {name: value.astype(np.float32) for name, value in load_file(fixture(depth)).items()}


def fixture(depth: int) -> Path:
    return FIXTURES / f"thin_resnet{depth}.safetensors"


def found(path: Path, depth: int = 18) -> load.Pretrained:
    return load.find_weights(str(path), "imagenet", depth)


def written(
    folder: Path, named: Mapping[str, np.ndarray], about: Mapping[str, str] | None = None, name: str = "net.safetensors"
) -> load.Pretrained:
    """Write tensors and metadata as a safetensors file, and find it."""
    path = folder / name
    save_file({name: np.ascontiguousarray(value) for name, value in named.items()}, path, dict(about or {}))
    return found(path)


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}


def equal(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    return mine.keys() == theirs.keys() and all(np.array_equal(value, theirs[name]) for name, value in mine.items())
