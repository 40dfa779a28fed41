"""Metadata of a file of weights: the text in a safetensors file, or FILE.json beside any file.

    input             {"layout": "RGB" or "BGR", "scale": s, "mean": [3], "std": [3]}: the network saw
                      (pixel * s - mean) / std of pixels in 0..255, channels in that order
    max_pool_padding  SAME (TensorFlow's: right and below) or BOTH (PyTorch's: all sides)
    bn_eps            the epsilon of batch normalisation, such as 1e-5
    architecture      text; where it ends in v1, v1.5 or v2, that is the variant
    classes           text, for readers
    origin            text: where the weights come from; of networks that resflow trained, their training by default
    note              text: whatever else a reader must know of them
    altered           text: how they differ from what was trained, such as "stored in 8 bits", or "no" (`alterations`)

Every key may be left out. Where FILE.json has a key, it holds; null there means that nothing is said. A file of a
network that resflow trained has the parts of `TrainedNetwork` as well, each as JSON, inside the file alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from resflow import reading
from resflow.architectures import VARIANTS
from resflow.errors import WeightsError
from resflow.study import validation
from resflow.study.pretrained import Normalisation, Notes
from resflow.weights.description import Description, Trained, TrainedNetwork

POOLS = {"SAME": "same", "BOTH": "both"}
INPUT = ("layout", "scale", "mean", "std")
PARTS = ("network", "head", "classes", "image_size", "computed", "trained")  # of a TrainedNetwork, each as JSON
SHOWN = 100  # characters of a wrong value
MOST_TEXT = 1000  # characters of a text that goes into records


def sidecar(path: Path) -> Path:
    """Return where the metadata of a file lies if it lies beside it."""
    return path.with_name(f"{path.name}.json")


def merge_sidecar(path: Path, inside: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a file: its own, and over it that of its sidecar. Raises WeightsError."""
    beside = sidecar(path)
    try:
        content = json.loads(reading.read(beside))
    except FileNotFoundError:
        return dict(inside)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{beside} is no readable JSON: {error}. Correct it or remove it.") from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{beside} holds {_short_repr(content)}: expected an object of metadata. Correct it or remove it."
        )
    return {**inside, **content}


def parse(metadata: Mapping[str, Any], path: Path) -> Description:
    """Check the metadata of the file at `path`. Raises WeightsError for a key that says nothing sensible."""
    values = {key: value for key, value in metadata.items() if value is not None}
    layout, normalisation = _parse_input(values["input"], path) if "input" in values else ("RGB", None)
    pool = values.get("max_pool_padding", "BOTH")
    if not isinstance(pool, str) or pool not in POOLS:
        _refuse(path, "max_pool_padding", pool, " or ".join(POOLS))
    epsilon = _parse_epsilon(values["bn_eps"], path) if "bn_eps" in values else None
    architecture = values.get("architecture", "")
    if not isinstance(architecture, str):
        _refuse(path, "architecture", architecture, "text such as 'resnet50 v1.5'")
    variant = next((variant for variant in VARIANTS if architecture.rstrip().endswith(variant)), None)
    texts = {field.name: _parse_text(values.get(field.name, ""), field.name, path) for field in fields(Notes)}
    notes = Notes(**{**texts, "origin": texts["origin"] or _describe_training(values)})
    return Description(normalisation, layout, POOLS[pool], epsilon, variant, notes)


def dump(normalisation: Normalisation, stem_pool: str, epsilon: float, architecture: str) -> dict[str, str]:
    """Return the metadata from which `parse` makes the same again."""
    keys = {pool: key for key, pool in POOLS.items()}
    mean, std = ([float(part) for part in parts] for parts in (normalisation.mean, normalisation.deviation))
    return {
        "input": json.dumps({"layout": "RGB", "scale": 1.0, "mean": mean, "std": std}),
        "max_pool_padding": keys[stem_pool],
        "bn_eps": repr(epsilon),
        "architecture": architecture,
    }


def parse_network(inside: Mapping[str, str], path: Path) -> TrainedNetwork:
    """Read the trained network from the metadata inside the safetensors file at `path`.

    The normalisation is the sidecar's where there is one that gives it. Raises WeightsError where the file says
    nothing, or nothing sensible.
    """
    if missing := [key for key in PARTS if key not in inside]:
        raise WeightsError(
            f"{path} holds weights, but does not say of which network ({', '.join(missing)} missing): expected a file "
            "of `resflow export`, of `resflow pretrain`, or one that a study kept. As the start of a training any "
            f"weights can serve: --set weights={path}."
        )
    normalisation = parse(merge_sidecar(path, inside), path).normalisation
    if normalisation is None:
        raise WeightsError(
            f"{path} does not say how pixels are normalised: expected the key `input` in its metadata. Correct "
            f"{sidecar(path).name} beside it, or export the network again."
        )
    texts = {**{key: inside[key] for key in PARTS}, "normalisation": json.dumps(asdict(normalisation))}
    return parse_description(f"{{{', '.join(f'{json.dumps(key)}: {text}' for key, text in texts.items())}}}", path)


def parse_description(text: str, path: Path) -> TrainedNetwork:
    """Read a trained network from JSON, as model.json is. Raises WeightsError; `path` is where the text stands."""
    try:
        return TrainedNetwork.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        own_words = problem["type"] in (
            "missing",
            "json_invalid",
        )  # which say enough of these
        reason = problem["msg"] if own_words else validation.first_problem(error)
        raise WeightsError(
            f"what {path} says of its network makes no sense: {where or 'its text'}: {reason}. "
            "Export or train the network again."
        ) from error


def dump_network(network: TrainedNetwork) -> dict[str, str]:
    """Return what `parse_network` wants beside that which `load.save_weights` writes: `network` and `classes`."""
    parts = network.model_dump(mode="json")
    return {key: json.dumps(parts[key], ensure_ascii=False) for key in PARTS if key not in ("network", "classes")}


def _parse_input(value: Any, path: Path) -> tuple[str, Normalisation]:
    """Return the layout, and (pixel * scale - mean) / std as (pixel - mean') / deviation' in RGB order."""
    form = 'an object {"layout": "RGB" or "BGR", "scale": s, "mean": [3 numbers], "std": [3 numbers]}'
    parts = value
    if isinstance(value, str):  # inside a safetensors file all values are text
        try:
            parts = json.loads(value)
        except (ValueError, RecursionError):
            _refuse(path, "input", value, form)
    if not isinstance(parts, dict) or sorted(parts) != sorted(INPUT):
        _refuse(path, "input", value, form)
    layout = parts["layout"]
    if layout not in ("RGB", "BGR"):
        _refuse(path, "input.layout", layout, "RGB or BGR")
    scale = _number(parts["scale"])
    if scale is None or scale <= 0:
        _refuse(path, "input.scale", parts["scale"], "a number above 0: 1 for pixels of 0..255, 1/255 for 0..1")
    mean, std = (_parse_three(path, key, parts[key]) for key in ("mean", "std"))
    centre, deviation = (tuple(number / scale for number in numbers) for numbers in (mean, std))
    if not all(map(math.isfinite, centre + deviation)) or min(deviation) <= 0:
        _refuse(path, "input", value, "a std above 0, and mean / scale and std / scale that are finite numbers")
    if layout == "BGR":
        centre, deviation = centre[::-1], deviation[::-1]
    return layout, Normalisation((centre[0], centre[1], centre[2]), (deviation[0], deviation[1], deviation[2]))


def _parse_text(value: Any, key: str, path: Path) -> str:
    if not isinstance(value, str):
        _refuse(path, key, value, "text")
    return _one_line(value)


def _one_line(text: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 2 * MOST_TEXT]).split())
    return line if len(line) <= MOST_TEXT else f"{line[: MOST_TEXT - 1]}…"


def _describe_training(values: Mapping[str, Any]) -> str:
    """Say what a network was trained on where resflow trained it."""
    try:
        trained = Trained.model_validate_json(values.get("trained", ""))
    except (ValueError, TypeError):  # another program's word, or none
        return ""
    return _one_line(
        f"trained by resflow on {trained.source} ({trained.finetune}): study {trained.study}, arm {trained.arm}, "
        f"seed {trained.seed}, epoch {trained.epoch}"
    )


def _parse_three(path: Path, key: str, value: Any) -> tuple[float, ...]:
    numbers = [_number(part) for part in value] if isinstance(value, list) else []
    finite = tuple(number for number in numbers if number is not None)
    if len(numbers) != 3 or len(finite) != 3:
        _refuse(path, f"input.{key}", value, "three numbers, one a channel")
    return finite


def _parse_epsilon(value: Any, path: Path) -> float:
    try:
        epsilon = _number(float(value) if isinstance(value, str) else value)
    except ValueError:
        epsilon = None
    if epsilon is None or not 0 < epsilon < 1:
        _refuse(path, "bn_eps", value, "a number between 0 and 1, such as 1e-5")
    return epsilon


def _number(value: Any) -> float | None:
    """Return a finite number as float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _refuse(path: Path, key: str, value: Any, expected: str) -> NoReturn:
    raise WeightsError(
        f"the metadata of {path}: {key} is {_short_repr(value)}, expected {expected}. Say what holds, or null, "
        f"in {sidecar(path).name} beside it."
    )


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer too long to print; lists in lists
        return f"a {type(value).__name__} that is too long to print"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
