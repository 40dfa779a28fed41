"""Finding pretrained weights before anything is built, loading them by name and shape, writing networks.

Nothing here imports TensorFlow or Keras: `load_weights` and `save_weights` take a built network.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resflow import architectures, atomic, workspace
from resflow.architectures import Architecture
from resflow.errors import WeightsError, nearest
from resflow.study.pretrained import Normalisation, Pretrained
from resflow.weights import alterations, files, hub, metadata, names
from resflow.weights.description import Description

RUN = "run:"
KERNEL_RANK = 4  # of convolutions

logger = logging.getLogger(__name__)


def find_weights(setting: str, family: str, depth: int, state: Path = workspace.STATE) -> Pretrained:
    """Find the weights that a setting names, check the file, and say how a network must fit it.

    `imagenet` is downloaded the first time. Needs no TensorFlow. Raises WeightsError where there is no such file, or
    it is damaged, or says something senseless of itself; MissingExtraError where a library is not installed.
    """
    if setting == "imagenet":
        path, origin = hub.fetch(family, depth)
        said = _look_into(path, files.stamp(path)).description
        return Pretrained(
            path, files.digest(path), str(origin), hub.NORMALISATION, hub.STEM_POOL, hub.VARIANT, said.notes
        )
    if setting.startswith(RUN):
        path, name = _kept_path(setting, state), setting
    else:
        path = Path(setting).expanduser().absolute()
        name = path.name
    said = _look_into(path, files.stamp(path)).description
    return Pretrained(path, files.digest(path), name, said.normalisation, said.stem_pool, said.variant, said.notes)


@dataclass(frozen=True)
class _Look:
    """What a file says of itself and shows, and the shapes of its backbone's tensors, as Keras has their axes."""

    description: Description
    shapes: tuple[tuple[int, ...], ...]


@functools.lru_cache(maxsize=64)  # a plan asks once a trial
def _look_into(path: Path, _stamp: tuple[int, ...]) -> _Look:
    contents = files.read(path)
    naming = names.detect_naming(contents.tensors)
    tensors = [
        values.transpose(naming.to_keras.get(values.ndim, range(values.ndim)))
        for name, values in contents.tensors.items()
        if not naming.in_head(name)
    ]
    said = contents.description.notes
    kernels = [values for values in tensors if values.ndim == KERNEL_RANK and values.size]
    notes = replace(said, altered=alterations.find_alteration(said.altered, (said.note, said.origin), kernels))
    return _Look(replace(contents.description, notes=notes), tuple(values.shape for values in tensors))


def _kept_path(setting: str, state: Path) -> Path:
    run, _, trial = setting.removeprefix(RUN).partition("/")
    if not all(_is_plain(name) for name in (run, trial)):
        raise WeightsError(
            f"weights '{setting}': expected run:RUN/TRIAL with the plain names of a run and of one of its trials, such "
            "as run:depth-cpu-synthetic/1a2b3c4d5e6f. `resflow status` lists them."
        )
    path = workspace.network_path(state / run, trial)
    if not path.is_file():
        guess = nearest(trial, [other.stem for other in path.parent.glob(f"*{workspace.SAFETENSORS}")])
        raise WeightsError(
            f"run {run} has kept no weights of trial {trial}: expected {path}.{guess} Weights are kept with "
            "`--set keep_weights=last` (or best): run that study so again."
        )
    return path.absolute()


def _is_plain(name: str) -> bool:
    """Tell whether a name is one part of a path and no way out of a folder."""
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def find_misfits(pretrained: Pretrained, arch: Architecture) -> str:
    """Say by how many tensors a file's backbone differs from a network's, by their shapes alone; empty where none does.

    Before a network is built this finds weights of another one; `load_weights` then looks at every name.
    """
    wanted = Counter(tensor_shapes(arch))
    there = Counter(_look_into(pretrained.path, files.stamp(pretrained.path)).shapes)
    missing, strange = wanted - there, there - wanted
    if not missing and not strange:
        return ""
    parts = [
        f"{shapes.total()} of {total.total()} tensors of the {what}, such as one of {max(shapes, key=math.prod)}"
        for shapes, total, what in (
            (missing, wanted, "network are not in the file"),
            (strange, there, "file have no place in the network"),
        )
        if shapes
    ]
    return "; ".join(parts)


def tensor_shapes(arch: Architecture) -> Iterator[tuple[int, ...]]:
    """Yield the shape of every tensor of a backbone: kernels (rows, columns, inputs, outputs), and the scale, offset,
    mean and variance of each batch normalisation."""
    norms = [architectures.feature_channels(arch)] if arch.variant == "v2" else []  # that before the pooling
    for conv in architectures.convolutions(arch):
        yield (conv.kernel, conv.kernel, conv.inputs, conv.outputs)
        norms += [conv.norm_channels] if conv.norm_channels else []
    for channels in norms:
        yield from [(channels,)] * 4


def load_weights(model: Any, pretrained: Pretrained, head: bool = False, partial: bool = False) -> None:
    """Set the weights of a network of `models.build`: its backbone, and with `head` what stands behind it.

    All tensors match by name and shape, or nothing is set and WeightsError lists every one that is missing, that the
    network has no place for, or that has another shape. With `partial` those that match are set, one at least, and
    the others are logged as a warning. Without `head` the network's head keeps its values, and the file's is not
    looked at.
    """
    if files.digest(pretrained.path) != pretrained.digest:
        raise WeightsError(
            f"{pretrained.path} has changed since it was planned with: expected {pretrained.digest}. Run the same "
            "command again."
        )
    contents = files.read(pretrained.path)
    naming = names.detect_naming(contents.tensors)
    places = {
        naming.name(layer.name, weight.name): (layer, weight)
        for layer in model.layers
        for weight in layer.weights
        if head or not names.is_head(layer.name)
    }
    tensors = {name: values for name, values in contents.tensors.items() if head or not naming.in_head(name)}
    expected = {name: naming.shape(tuple(weight.shape)) for name, (_, weight) in places.items()}
    fitting = [name for name, shape in expected.items() if name in tensors and tensors[name].shape == shape]
    if len(fitting) < max(len(expected), len(tensors)):
        _report(_list_mismatches(expected, tensors), len(fitting), model.name, pretrained.origin, partial)
    for name in fitting:
        layer, weight = places[name]
        values = tensors[name].transpose(naming.to_keras[len(weight.shape)])
        weight.assign(_adapt(values, layer, weight.name, contents.description))


def _adapt(values: np.ndarray, layer: Any, weight: str, description: Description) -> np.ndarray:
    """Make values of another convention do in resflow's network what they did in theirs."""
    if weight == "moving_variance" and description.epsilon is not None:
        return values + np.float32(description.epsilon - layer.epsilon)  # in inference only their sum counts
    if layer.name == "stem" and description.layout == "BGR":
        return values[:, :, ::-1]
    return values


def _list_mismatches(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray]) -> str:
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {tensors[name].shape} for {shape}"
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    return "".join(f"\n  {len(each)} {kind}: {', '.join(each)}" for kind, each in problems.items() if each)


def _report(mismatches: str, fitting: int, network: str, origin: str, partial: bool) -> None:
    if not partial or not fitting:
        raise WeightsError(
            f"the weights {origin} are not those of {network}:{mismatches}\nChoose the family, depth, shortcut and "
            "width that they were trained with."
            + (" Not one tensor fits, so that there is nothing to load in part either." if partial else "")
        )
    logger.warning("%d tensors of %s were loaded into %s, but not:%s", fitting, origin, network, mismatches)


def save_weights(
    model: Any,
    path: Path,
    *,
    normalisation: Normalisation,
    architecture: Mapping[str, Any],
    class_names: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    naming: names.Naming = names.OWN,
) -> None:
    """Write all weights of a network as safetensors for `find_weights` and `load_weights`: whole or not at all.

    `architecture` has the fields of `architectures.Architecture`. Raises WeightsError where the disk refuses.
    """
    tensors = {
        naming.name(layer.name, weight.name): naming.from_keras(weight.numpy())
        for layer in model.layers
        for weight in layer.weights
    }
    epsilon = next(layer.epsilon for layer in model.layers if hasattr(layer, "epsilon"))
    title = "{family}-{depth}-{shortcut} {variant}".format_map(architecture)
    inside = {
        "format": files.OWN_FORMAT,
        **metadata.dump(normalisation, architecture.get("stem_pool", "both"), epsilon, title),
        "network": json.dumps(dict(architecture), sort_keys=True),
        "classes": json.dumps(list(class_names), ensure_ascii=False),
    }
    if clashes := sorted(set(inside) & set(extra or {})):
        raise ValueError(f"extra metadata cannot replace {', '.join(clashes)}")
    try:
        with atomic.file(path) as draft:
            files.write_safetensors(draft, tensors, {**inside, **(extra or {})})
    except OSError as error:
        raise WeightsError(
            f"cannot write the weights {path}: {error}. Free space or make the folder writable, and run the same "
            "command again."
        ) from error
