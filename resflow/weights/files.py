"""Files of weights as named float32 arrays: safetensors, NumPy's .npz, Keras' .weights.h5. No pickle is ever loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resflow import reading, workspace
from resflow.errors import MissingExtraError, WeightsError
from resflow.weights import metadata, names
from resflow.weights.description import Description

WRAPPER = "module."  # the prefix that PyTorch's DataParallel gives each name
NOT_WEIGHTS = "num_batches_tracked"  # a counter that PyTorch keeps beside the moving statistics
EXPECTED = "a file that ends in .safetensors, .npz or .weights.h5"
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
MOST_BYTES = 8 * 2**30  # of a file, and of all tensors: a compressed one may claim to hold more than any memory
MOST_HEADER = 100 * 2**20  # bytes, as safetensors itself has it
SAFETENSORS = workspace.SAFETENSORS
ABOUT, OWN_FORMAT, OWN_DIGEST = "__metadata__", "resflow", "sha256"  # keys and a value of a safetensors header
CHUNK = 2**20  # bytes that are hashed at a time
# The errors that the three readers raise for files that are damaged or are something else.
DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,  # a shape that a damaged header made up
    zipfile.BadZipFile,
    zlib.error,
)
# A layer's variables by how many it has: Keras 3 numbers them and keeps no names.
VARIABLES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


@dataclass(frozen=True)
class Contents:
    """The tensors of a file as float32 under its own names (see `names`), and the description of them."""

    tensors: dict[str, np.ndarray]
    description: Description


def read(path: Path) -> Contents:
    """Read a file of weights and check it. Raises WeightsError where it is missing, damaged or of another kind."""
    _require(path)
    sha256(path)  # what resflow wrote must still be that
    if path.suffix not in READERS:
        pickle = " That may be a pickle, which can run any code when it is loaded." if path.suffix in PICKLES else ""
        raise WeightsError(
            f"{path} is no kind of file that weights are read from: expected {EXPECTED}.{pickle} Convert it, to "
            "safetensors for instance."
        )
    try:
        tensors, inside = READERS[path.suffix](path)
    except DAMAGE as error:
        raise WeightsError(
            f"{path} is no readable {path.suffix} file: {str(error) or type(error).__name__}. "
            "Fetch or convert it again."
        ) from error
    return Contents(_check_tensors(tensors, path), metadata.parse(metadata.merge_sidecar(path, inside), path))


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], inside: Mapping[str, str]) -> None:
    """Write tensors and metadata as safetensors: the same ones give the same bytes, and so the same digest.

    safetensors itself writes the keys of metadata in an order that it draws anew each time. Its format is the length
    of the header in eight bytes, the header as JSON with spaces up to a multiple of eight, and the tensors:
    https://huggingface.co/docs/safetensors#format. Raises OSError where the disk refuses.

    A file of resflow's own says the sha256 that it would have if it did not say it: by that it is known again.
    """
    content = memoryview(import_library("safetensors.numpy").save(dict(tensors), dict(inside)))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start]))
    header[ABOUT] = dict(sorted(inside.items()))
    if inside.get("format") == OWN_FORMAT:
        own = hashlib.sha256(_dump_header(header))
        own.update(content[start:])
        header[ABOUT] = dict(sorted({**inside, OWN_DIGEST: own.hexdigest()}.items()))
    with path.open("wb") as file:
        file.writelines((_dump_header(header), content[start:]))


def _dump_header(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def states_digest(path: Path) -> bool:
    """Tell whether a file says its own digest, so that damage shows. Those that resflow kept before 0.2 do not."""
    try:
        with reading.open_regular(path) as file:
            return _read_own_header(file) is not None
    except OSError:
        return False


def _read_own_header(file: BinaryIO) -> dict[str, Any] | None:
    """Read the header of a safetensors file that says its digest; None where it is no such file."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MOST_HEADER:
        return None
    try:
        header = json.loads(file.read(length))
        about = header[ABOUT]
        return header if about["format"] == OWN_FORMAT and isinstance(about[OWN_DIGEST], str) else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def digest(path: Path) -> str:
    """Return the hex sha256 of a file, or of that and its sidecar's bytes: a sidecar changes what is loaded."""
    own = sha256(path)
    beside = metadata.sidecar(path)
    return hashlib.sha256(own.encode() + reading.read(beside)).hexdigest() if beside.is_file() else own


def sha256(path: Path) -> str:
    """Return the hex sha256 of a file, computed once a process for each state of the file.

    Of one that says its own digest it is what that says. Raises WeightsError where a file is not what was written.
    """
    return _sha256(path, stamp(path))


def stamp(path: Path) -> tuple[int, ...]:
    """Return numbers that change when a file or its sidecar is written. Raises WeightsError where there is no file."""
    _require(path)
    stats = [file.stat() for file in (path, metadata.sidecar(path)) if file.is_file()]
    return tuple(number for stat in stats for number in (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@functools.lru_cache(maxsize=4096)  # the networks of a run are asked for more than once
def _sha256(path: Path, _stamp: tuple[int, ...]) -> str:
    try:
        with reading.open_regular(path, MOST_BYTES) as file:
            header = _read_own_header(file) if path.suffix == SAFETENSORS else None
            if header is None:
                file.seek(0)
                return hashlib.file_digest(file, "sha256").hexdigest()
            said = header[ABOUT].pop(OWN_DIGEST)
            own = hashlib.sha256(_dump_header(header))
            while chunk := file.read(CHUNK):
                own.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}. Make it readable.") from error
    if own.hexdigest() != said:
        raise WeightsError(
            f"{path} is no readable {path.suffix} file: it is damaged, since its sha256 is {own.hexdigest()} and it "
            f"says {said}. Copy, export or train the network again."
        )
    return said


def _require(path: Path) -> None:
    if not path.is_file():
        there = "a folder" if path.is_dir() else "no regular file" if path.exists() else "nothing"
        raise WeightsError(
            f"no weights at {path}: expected imagenet, run:RUN/TRIAL or {EXPECTED}, found {there}. Correct the path."
        )


def _check_tensors(tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    checked: dict[str, np.ndarray] = {}
    for full_name, values in tensors.items():
        name = full_name.removeprefix(WRAPPER)
        if name.endswith(NOT_WEIGHTS):
            continue
        if name in checked:
            raise WeightsError(f"{path} holds {name} twice, with and without '{WRAPPER}'. Keep one of them.")
        if not np.issubdtype(values.dtype, np.floating):
            raise WeightsError(f"{path}: {full_name} holds {values.dtype}, expected floats. Convert it to float32.")
        with np.errstate(over="ignore"):  # beyond float32: not finite, refused below
            checked[name] = np.asarray(values, np.float32)
        if not np.isfinite(checked[name]).all():
            raise WeightsError(f"{path}: {full_name} holds numbers that are not finite. Fetch it or train it again.")
    return checked


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    safetensors = import_library("safetensors")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            inside = file.metadata() or {}
            try:
                return {name: file.get_tensor(name) for name in list(file.keys())}, inside
            except (LookupError, TypeError, AttributeError) as error:  # how NumPy refuses bfloat16 and float8
                raise WeightsError(
                    f"{path} holds numbers of a type that NumPy lacks: {error}. Convert it to float32."
                ) from error
    except safetensors.SafetensorError as error:
        raise ValueError(error) from error


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with reading.open_regular(path) as file:  # NumPy would leave a damaged one open
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no zip archive")
        with zipfile.ZipFile(file) as archive:
            _check_size(sum(member.file_size for member in archive.infolist()))
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    if strange := [name for name, values in arrays.items() if not isinstance(values, np.ndarray)]:
        raise ValueError(f"{strange[0]} in it is no array")
    return arrays, {}


def _check_size(claimed: int) -> None:
    if claimed > MOST_BYTES:
        raise ValueError(f"it claims to hold {claimed:,} bytes, more than the bound of {MOST_BYTES:,}")


def _read_h5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with import_library("h5py").File(path, "r") as file:
        root = file.get("model_weights", file)  # where Keras 2 saved a whole model
        layers = _group_by_layer(root, _place_in_keras2 if "layer_names" in root.attrs else _place_in_keras3)
    if not layers:
        raise ValueError("it holds no layer's weights")
    if "conv1_bn" in layers and "conv1_conv" in layers:
        inside = {"architecture": "keras.applications v1", "bn_eps": "1.001e-5"}  # as that package builds them
        return names.from_applications(layers), inside
    return {names.OWN.name(layer, weight): value for layer, own in layers.items() for weight, value in own.items()}, {}


def _group_by_layer(root: Any, place: Callable[[str, Any], tuple[str, str] | None]) -> dict[str, dict[str, np.ndarray]]:
    """Read every dataset of an HDF5 group by (layer, weight); links to elsewhere are not followed."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    total = 0

    def visit(path: str, item: Any) -> None:
        if not hasattr(item, "shape"):  # a group
            return
        nonlocal total
        total += item.size * item.dtype.itemsize
        _check_size(total)
        if item.external or item.is_virtual:
            raise ValueError(f"{path} lies in another file")
        if (names_of_item := place(path, item)) is not None:
            layer, weight = names_of_item
            if weight in layers.setdefault(layer, {}):
                raise ValueError(f"two layers are called {layer}")
            layers[layer][weight] = np.asarray(item[()])

    root.visititems(visit)
    return layers


def _place_in_keras2(path: str, item: Any) -> tuple[str, str]:
    """Return (layer, weight): conv1_conv/conv1_conv/kernel:0 is the kernel of conv1_conv."""
    parts = path.split("/")
    return parts[-2], parts[-1].partition(":")[0]


def _place_in_keras3(path: str, item: Any) -> tuple[str, str] | None:
    """Return (layer, weight): layers/conv2d_3/vars/0 is the first variable of the layer that vars names."""
    parts = path.split("/")
    if parts[0] == "optimizer":
        return None
    name = item.parent.attrs.get("name")
    if name is None:
        raise WeightsError(
            f"{item.file.filename} does not name its layers: expected a .weights.h5 of a newer Keras. Load it with "
            "the Keras that wrote it, and save it again with Keras 3.12 or newer."
        )
    count, index = len(item.parent), int(parts[-1])
    weights = VARIABLES.get(count, ())
    return (name.decode() if isinstance(name, bytes) else str(name)), weights[index] if weights else str(index)


def import_library(name: str, purpose: str = "a file of such weights") -> Any:
    """Import a library that only some weights need. Raises MissingExtraError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {name.partition('.')[0]}, which this installation lacks. Install it with the rest that "
            "training needs: pip install 'resflow[train]', or '.[train]' in a clone ([gpu] for NVIDIA GPUs)."
        ) from error


READERS: dict[str, Callable[[Path], tuple[dict[str, np.ndarray], dict[str, Any]]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".h5": _read_h5,
}
