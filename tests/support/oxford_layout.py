"""The official Oxford layout made of tiny drawn JPEGs, for tests without photos and without a network."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

PER_CLASS, CLASSES = 3, 102
COUNT = PER_CLASS * CLASSES


def drawn(number: int, width: int = 40, height: int = 30) -> np.ndarray:
    """Noise: it does not compress, so that archives are long enough to be cut in the middle."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo("jpg/")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def members() -> dict[str, bytes]:
    return {f"jpg/image_{n:05d}.jpg": encoded(drawn(n), quality=90) for n in range(1, COUNT + 1)}


def write_annotations(folder: Path) -> None:
    """Image n is of class ceil(n / 3); of each class the first trains, then validation, then test."""
    numbers = np.arange(1, COUNT + 1).reshape(CLASSES, PER_CLASS)
    savemat(folder / "imagelabels.mat", {"labels": np.repeat(np.arange(1, CLASSES + 1), PER_CLASS)[None]})
    fields = ("trnid", "valid", "tstid")
    savemat(folder / "setid.mat", {name: numbers[:, i][None] for i, name in enumerate(fields)})


def make_layout(folder: Path) -> dict[str, str]:
    """Write the three files and return their md5s by name."""
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder / "102flowers.tgz", members())
    write_annotations(folder)
    names = ("102flowers.tgz", "imagelabels.mat", "setid.mat")
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names}
