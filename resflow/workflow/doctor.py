"""A machine's offer and the files that resflow keeps on it: `resflow doctor` and `resflow clean`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resflow import gpu_driver, provenance, workspace
from resflow.environment import overruled
from resflow.errors import ResflowError, one_of

# In a process of its own: TensorFlow keeps the GPUs that it has once looked at.
ASK_TENSORFLOW = """import json, tensorflow as tf
gpus, build = tf.config.list_physical_devices('GPU'), tf.sysconfig.get_build_info()
print(json.dumps({'gpus': len(gpus), **{name: build.get(f'{name}_version') for name in ('cuda', 'cudnn')}}))"""


BUILT = {"cuda": "CUDA", "cudnn": "cuDNN"}


@dataclass(frozen=True)
class Place:
    """Files that resflow can make again. `remove` deletes them; results are never a Place."""

    path: Path
    what: str
    size: int  # bytes

    def remove(self) -> None:
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise ResflowError(f"cannot remove {self.path}: {error}. Remove it by hand.") from error


CACHED = {
    "images": (workspace.IMAGES, "decoded images"),
    "downloads": (workspace.DOWNLOADS, "downloaded archives"),
    "compiled": (workspace.COMPILED, "XLA's compilations"),
    "features": (workspace.FEATURES, "frozen backbones' features"),
    "weights": (workspace.WEIGHTS, "downloaded weights"),
}
OF_RUNS = {"logs": {workspace.LOGS: "logs of trials", workspace.RAY: "Ray's files"}}
KEPT = {"kept": {workspace.NETWORKS: "kept networks"}}


def removable_places(what: str = "all") -> list[Place]:
    """Return what is there of a part of what resflow keeps, or of all of it. Raises ResflowError for an unknown one.

    Kept networks are a part that goes when it is named, and never with `all`: only training makes them again. A folder
    that resflow has not marked as its cache, or that is reached by a link, is left to its owner.
    """
    known = [*CACHED, *OF_RUNS, *KEPT]
    if what != "all" and what not in known:
        raise ResflowError(one_of(what, [*known, "all"], "part of what resflow keeps"))
    parts = [part for part in known if part not in KEPT] if what == "all" else [what]
    marked = [(workspace.cache(CACHED[part][0]), CACHED[part][1]) for part in parts if part in CACHED]
    places = [(path, said) for path, said in marked if workspace.is_marked(path)]
    for run in _state_folders():
        for names in ((OF_RUNS | KEPT)[part] for part in parts if part not in CACHED):
            places += [(run / name, said) for name, said in names.items() if _is_real(run / name)]
    return [Place(path, said, _size(path)) for path, said in places]


def unmarked_places() -> list[Path]:
    """Return the parts of the cache that `removable_places` leaves out: resflow did not make these folders."""
    places = [workspace.cache(name) for name, _ in CACHED.values()]
    return [place for place in places if place.is_dir() and not workspace.is_marked(place)]


def _state_folders() -> list[Path]:
    return [run for run in sorted(workspace.STATE.iterdir()) if _is_real(run)] if workspace.STATE.is_dir() else []


def _is_real(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink()


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def examine(start_ray: bool = True) -> Iterator[str]:
    """Yield the lines of `resflow doctor`."""
    environment = provenance.environment()
    yield f"Python       {environment['python']} on {environment['system']}"
    yield f"Processor    {environment['cpu']}, {provenance.count_processors()} cores for this process"
    yield f"Memory       {environment['memory_gb']} GB"
    for package, version in environment["versions"].items():
        yield f"{package:<12} {version}"
    yield f"GPUs         {provenance.count_gpus()} by the NVIDIA driver"
    yield from _gpu_lines()
    tensorflow = _ask_tensorflow()
    seen = tensorflow["gpus"] if tensorflow else None
    if tensorflow is None:
        yield "             TensorFlow is not installed"
    else:
        built = " and ".join(f"{word} {tensorflow[key]}" for key, word in BUILT.items() if tensorflow.get(key))
        yield f"             {seen} by TensorFlow{f', which was built for {built}' if built else ''}"
    if start_ray:
        ray = _ray_resources()
        if ray is None:
            yield "             Ray is not installed"
        else:
            yield f"             {ray.get('GPU', 0):g} by Ray, which offers {ray.get('CPU', 0):g} cores"
            if seen is not None and seen != ray.get("GPU", 0):
                yield (
                    "PROBLEM      TensorFlow and Ray see different numbers of GPUs: trials on the GPUs that "
                    "TensorFlow lacks would fail. Install the extra 'gpu' (pip install 'resflow[gpu]')."
                )
    for name, value in sorted(overruled.items()):
        yield f"Overruled    {name}={value}: it could change numbers, or break trials"
    yield f"Cache        {workspace.cache()} (RESFLOW_CACHE moves it)"
    kept = [*removable_places(), *removable_places("kept")]
    for place in kept:
        yield f"             {place.size / 1e6:,.1f} MB of {place.what} in {place.path}"
    for path in unmarked_places():
        yield f"             {path} was there before resflow: used, and never cleaned"
    if not kept:
        yield "             nothing kept yet"


def _gpu_lines() -> Iterator[str]:
    """Describe the first GPU, its driver, and what CUDA takes of its memory in each process."""
    gpu = gpu_driver.describe()
    if not gpu:
        return
    yield f"             {gpu['name']}, compute capability {gpu['compute_capability']}, {gpu['memory'] / 1e9:.1f} GB"
    yield f"             driver {gpu['driver'] or 'of an unknown version'}, for CUDA up to {gpu['cuda']}"
    try:
        yield f"             {gpu_driver.context_memory() / 1e9:.2f} GB of it for CUDA in each process"
    except gpu_driver.DriverError as error:
        yield f"PROBLEM      the NVIDIA driver does not tell the memory of its GPU ({error}): trials cannot share it."


def _ask_tensorflow() -> dict[str, Any] | None:
    """Return TensorFlow's count of `gpus`, and the `cuda` and `cudnn` that it was built for; None without it."""
    if find_spec("tensorflow") is None:
        return None
    asked = subprocess.run(
        [sys.executable, "-c", ASK_TENSORFLOW],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ResflowError(f"TensorFlow is installed but does not import: {last[0]}. Reinstall 'resflow[train]'.")
    answer: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    return answer


def _ray_resources() -> dict[str, float] | None:
    if find_spec("ray") is None:
        return None
    from resflow.runner import ray_session

    return ray_session.visible_resources()
