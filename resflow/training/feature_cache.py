"""Features: the outputs of frozen backbones, computed once, kept on disk, shared by every trial that can use them.

The features of an image depend on the image, its view (clean, or one epoch's augmentation of one seed), the
normalisation and the backbone: on nothing that heads or their recipes change. So each view of each part is one file,
made by whichever process needs it first:

    <cache>/features/<backbone and data>/<part>[-<view>].pooled.npy   (images, channels) float32
    <cache>/features/<backbone and data>/<part>[-<view>].map.npy      (images, size, size, channels), for heads that
                                                                      flatten; its pooled twin is made beside it
    <cache>/features/<backbone and data>/<part>[-<view>].seconds      what it took to make them

Files are written whole or not at all, under a lock each: two processes share the work of an epoch's views. Behind the
array each has the SHA-256 of what is before it, which a process compares before it uses the file; a file that does not
fit it, or has none, counts as missing. No more than `limit()` bytes are kept; what was used longest ago goes first, and
is made again where it is needed. What it took stays, so that every trial that uses a view can tell what it cost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from resflow import architectures, atomic, reading, workspace
from resflow.data import pipeline
from resflow.data.dataset import Dataset
from resflow.errors import TrainingError
from resflow.models.build import build_backbone, fold
from resflow.quiet_tensorflow import tf
from resflow.study.costs import AHEAD
from resflow.study.pretrained import Normalisation
from resflow.study.trial import NUMERICS_VERSION, Trial
from resflow.training.batches import HostBatches
from resflow.training.trial_clock import SharedWork
from resflow.weights.load import load_weights

BATCH, BATCH_PIXELS = 32, 128 * 64**2  # of a forward pass, at least: small images go faster in larger batches
LIMIT_GB = 20.0
CHUNK = 2**20  # bytes that are compared at a time
PARTS = ("train", "validation", "test")
SEAL = hashlib.sha256().digest_size  # bytes behind an array
_backbones: dict[str, Any] = {}  # the last one that this process computed with
_believed: set[tuple[Path, int, int, int]] = set()  # the state of each file that this process has compared

log = logging.getLogger("resflow.features")


def root() -> Path:
    """Return the folder of every backbone's features."""
    return workspace.cache(workspace.FEATURES)


def limit() -> float:
    """Return how many bytes are kept on disk; RESFLOW_FEATURES_GB changes it. Raises TrainingError."""
    gigabytes = os.environ.get("RESFLOW_FEATURES_GB", str(LIMIT_GB))
    try:
        return float(gigabytes) * 1e9
    except ValueError as error:
        raise TrainingError(f"RESFLOW_FEATURES_GB is {gigabytes!r}: expected gigabytes, such as 20.") from error


class Features(HostBatches):
    """The inputs of one trial with a frozen backbone: batches of features in place of batches of images.

    `last_epoch` is the last one that an earlier process has trained.
    """

    def __init__(self, trial: Trial, dataset: Dataset, normalisation: Normalisation, last_epoch: int = 0) -> None:
        super().__init__(trial, dataset, normalisation)
        self.kind = "map" if trial.network.head.pooling == "flatten" else "pooled"
        channels = architectures.feature_channels(trial.architecture)
        size = architectures.map_size(trial.architecture, trial.data.image_size)
        self.shape = (size, size, channels) if self.kind == "map" else (channels,)
        self.key = _key(trial, normalisation)
        self.folder = root() / self.key
        augmentation = trial.recipe.augmentation
        self.augmented = augmentation != type(augmentation)()
        draws = hashlib.sha256(json.dumps(augmentation.model_dump(), sort_keys=True).encode()).hexdigest()[:8]
        self.view = f"{draws}-seed{trial.order_seed}"
        self.work: SharedWork = SharedWork(self.key, self._seconds)
        self.last_epoch = self._end_of_group(last_epoch)  # whose views it has asked for
        self.known: dict[tuple[str, int | None], float] = {}  # seconds by view, as far as they were read

    def training_batches(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of `pipeline.training_batches`, each image as its features."""
        self.prepare(epoch)
        n, batch_size = len(self.dataset.train), self.trial.recipe.batch_size
        steps = n // batch_size
        order = pipeline.order(self.trial.order_seed, epoch, n)[: steps * batch_size].reshape(steps, batch_size)
        rows, labels = self.rows("train", epoch), self.dataset.labels

        def batch(step: int) -> tuple[Any, Any]:
            index = self.dataset.train[order[step]]
            return pipeline.on_device(rows[order[step]]), pipeline.on_device(labels[index])

        return pipeline.ahead(batch, steps, waiting=self.wait)

    def evaluation_batches(self, part: str, epoch: int | None = None) -> Iterator[Any]:
        """Yield the features of a part in its order; `epoch` asks for that epoch's augmented view."""
        rows = self.rows(part, epoch)
        index = pipeline.padded(len(rows))
        return pipeline.ahead(lambda step: pipeline.on_device(rows[index[step]]), len(index), waiting=self.wait)

    def prepare(self, epoch: int) -> None:
        """Make the views of this epoch and the next ones, as far as no other process is at them."""
        self.last_epoch = self._end_of_group(epoch)
        if (epoch - 1) % AHEAD:  # they are made by all processes that wait for them
            return
        views = self._augmented_views(epoch, self.last_epoch)
        views = [*self._clean_views(), *views] if epoch == 1 else views
        busy = [view for view in views if not self._is_there(*view) and not self._make(*view, wait=False)]
        for view in busy:
            self._make(*view, wait=True)

    def _end_of_group(self, epoch: int) -> int:
        return min(math.ceil(epoch / AHEAD) * AHEAD, self.trial.recipe.epochs)

    def _clean_views(self) -> list[tuple[str, int | None]]:
        return [(part, None) for part in PARTS if len(getattr(self.dataset, part))]  # candidates have no test images

    def _augmented_views(self, first: int, last: int) -> list[tuple[str, int | None]]:
        epochs = range(first, last + 1)
        return [(part, epoch) for epoch in epochs for part in self.trial.augmented_parts(epoch)]

    def _path(self, part: str, epoch: int | None, suffix: str | None = None) -> Path:
        view = "" if epoch is None else f"-{self.view}-epoch{epoch}"
        return self.folder / f"{part}{view}.{suffix or f'{self.kind}.npy'}"

    def _seconds(self) -> float | None:
        """Return what all views took to make that the trial has asked for, in whichever run; None where one is unknown.

        It has asked for those of its earlier epochs as well, though another process may have trained them.
        """
        views = [*self._clean_views(), *self._augmented_views(1, self.last_epoch)]
        for view in views:
            if view not in self.known and (seconds := _read_seconds(self._path(*view, "seconds"))) is not None:
                self.known[view] = seconds
        return sum(self.known[view] for view in views) if self.known.keys() >= set(views) else None

    def _is_there(self, part: str, epoch: int | None) -> bool:
        with self.work.fetching():  # the first time in a process, all of it is compared
            return is_whole(self._path(part, epoch))

    def rows(self, part: str, epoch: int | None = None) -> np.ndarray:
        """Return the features of a part in its order, read-only; `epoch` asks for those of its augmented view."""
        epoch = epoch if self.augmented else None
        path = self._path(part, epoch)
        while True:  # another process may evict a file between two lines of this one
            with suppress(FileNotFoundError):
                if self._is_there(part, epoch):
                    rows: np.ndarray = np.load(path, mmap_mode="r")
                    return rows
            self._make(part, epoch, wait=True)

    def _make(self, part: str, epoch: int | None, wait: bool) -> bool:
        """Compute one view and keep it; False where another process is at it and this one is not to wait."""
        path = self._path(part, epoch)
        try:
            workspace.make_cache_folder(self.folder)
            with self.work.fetching():
                lock = FileLock(f"{path}.lock").acquire(timeout=-1 if wait else 0)
            with lock:
                if not self._is_there(part, epoch):
                    with self.work.computing():
                        files = self._compute_and_keep(part, epoch)
                    with self.work.fetching():  # it waits for others that make room
                        evict(spare=files)
        except Timeout:
            return False
        except OSError as error:
            raise TrainingError(
                f"cannot keep features in {root()}: {error}. Free space, move the cache with RESFLOW_CACHE, or keep "
                "less with RESFLOW_FEATURES_GB."
            ) from error
        return True

    def _compute_and_keep(self, part: str, epoch: int | None) -> Collection[Path]:
        start = time.perf_counter()
        files = {self._path(part, epoch, f"{kind}.npy"): rows for kind, rows in self._compute(part, epoch).items()}
        for path, rows in files.items():
            _write(path, rows)
            is_whole(path)  # compared here, where that is a part of the work
        atomic.write(self._path(part, epoch, "seconds"), f"{time.perf_counter() - start:.3f}\n")
        return files

    def _compute(self, part: str, epoch: int | None) -> dict[str, np.ndarray]:
        index = getattr(self.dataset, part)
        table = None if epoch is None else part_views(self.trial, part, epoch, len(index))
        forward = _backbone(self.trial, self.normalisation, self.key)
        outputs: dict[str, list[np.ndarray]] = {}
        batch = max(BATCH, BATCH_PIXELS // self.dataset.image_size**2)
        for start in range(0, len(index), batch):
            images = self.dataset.images[index[start : start + batch]]
            if table is not None:
                images = pipeline.transform(images, table[start : start + batch])
            maps, pooled = forward(tf.constant(images))
            outputs.setdefault("pooled", []).append(pooled.numpy())
            if self.kind == "map":
                outputs.setdefault("map", []).append(maps.numpy())
        return {kind: np.concatenate(batches).astype(np.float32) for kind, batches in outputs.items()}


def part_views(trial: Trial, part: str, epoch: int, images: int) -> np.ndarray | None:
    """Return the transformations of one part in one epoch: `pipeline.views` under the part's own draws."""
    purpose = "views" if part == "train" else f"{part} views"
    return pipeline.views(trial.recipe.augmentation, trial.order_seed, epoch, images, trial.data.image_size, purpose)


def _key(trial: Trial, normalisation: Normalisation) -> str:
    assert trial.pretrained is not None  # a frozen backbone without weights is refused when the study is read
    parts = {
        "numerics": NUMERICS_VERSION,
        "architecture": asdict(trial.architecture),
        "weights": trial.pretrained.digest,
        "normalisation": asdict(normalisation),
        "data": trial.fingerprint,
        "execution": trial.execution.model_dump(exclude={"inputs"}),  # features are computed from the host's images
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _backbone(trial: Trial, normalisation: Normalisation, key: str) -> Any:
    """Return the compiled forward pass, uint8 images -> (map, pooled); this process keeps one."""
    if key not in _backbones:
        _backbones.clear()
        execution, jit = trial.execution, trial.execution.jit is True
        net = build_backbone(trial.architecture, trial.data.image_size, execution.lowering, jit)
        assert trial.pretrained is not None  # as in `_key`
        load_weights(net, trial.pretrained)
        fold(net)
        mean, deviation = (tf.constant(v, tf.float32) for v in (normalisation.mean, normalisation.deviation))
        shape = (None, trial.data.image_size, trial.data.image_size, 3)

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False, jit_compile=jit)
        def forward(images: Any) -> Any:
            return net((tf.cast(images, tf.float32) - mean) / deviation, training=False)

        _backbones[key] = forward
    return _backbones[key]


def _write(path: Path, rows: np.ndarray) -> None:
    with atomic.file(path) as draft, draft.open("w+b") as file:
        np.save(file, rows)
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").digest())


def _read_seconds(path: Path) -> float | None:
    """Return the seconds in a file, None where there are none: of features that an older resflow made, say."""
    try:
        seconds = float(reading.read(path))
    except (OSError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def is_whole(path: Path) -> bool:
    """Tell whether a file of features is there and is what was written; take note that it is in use.

    All of it is read once a process. Its time of access tells how long ago it was used, that of writing stays.
    """
    try:
        with reading.open_regular(path) as file:
            stat = os.fstat(file.fileno())
            state = (path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if state not in _believed:
                if not _fits(file, stat.st_size - SEAL):
                    log.warning("%s is damaged, or of an older resflow: made anew", path)
                    return False
                _believed.add(state)
        os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("%s cannot be used: %s", path, error)
        return False
    return True


def _fits(file: BinaryIO, length: int) -> bool:
    digest = hashlib.sha256()
    while length > 0 and (chunk := file.read(min(length, CHUNK))):
        digest.update(chunk)
        length -= len(chunk)
    return length == 0 and file.read() == digest.digest()


def evict(spare: Collection[Path] = (), bound: float | None = None) -> None:
    """Remove the files that were used longest ago until no more than `limit()` bytes are left; never those to spare.

    A process that has one open reads on; one that looks for it later makes it again.
    """
    bound = limit() if bound is None else bound
    with FileLock(root() / ".lock"):
        files = []
        for path in root().rglob("*.npy"):
            with suppress(FileNotFoundError):  # a draft that has just become a file
                files.append((path.stat().st_atime, path.stat().st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= bound:
                return
            if path not in spare:
                total -= size
                path.unlink(missing_ok=True)
