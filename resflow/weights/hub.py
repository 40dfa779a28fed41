"""ImageNet weights from the Hugging Face hub: downloaded once, held to one commit, checked ever after.

    <cache>/weights/timm--resnet50.tv_in1k/model.safetensors
    <cache>/weights/timm--resnet50.tv_in1k/origin.json    Origin: written last, when the file is whole and checked

<cache> is that of `workspace.cache`. HF_ENDPOINT, HF_HUB_OFFLINE and whatever else huggingface_hub reads hold, but for
the user's token: it is sent to https://huggingface.co alone, never to another HF_ENDPOINT. A transfer ends a megabyte
after the size that the hub announces, which is MOST_BYTES at most.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resflow import atomic, reading, workspace
from resflow.data import cache
from resflow.errors import DataError, WeightsError
from resflow.reading import MEGABYTE
from resflow.study.pretrained import Normalisation
from resflow.weights import files

FAMILY, DEPTHS = "imagenet", (18, 34, 50, 101)
REPOSITORY = "timm/resnet{depth}.tv_in1k"  # torchvision's own first weights, one recipe for all four depths
FILE = "model.safetensors"
# As their config.json has it: RGB in 0..1 less a mean, over a deviation. Stride in the 3x3, PyTorch's padding.
NORMALISATION = Normalisation(
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
)
OFFICIAL = "https://huggingface.co"  # the one endpoint that HF_TOKEN is for
MOST_BYTES = 2**30  # of a file; the largest has 179 MB
VARIANT, STEM_POOL = "v1.5", "both"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """The place on the hub that a file came from. `sha256` is the hub's own word; None where it gave none."""

    repository: str
    revision: str  # the commit
    sha256: str | None
    size: int | None  # bytes

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def fetch(family: str, depth: int) -> tuple[Path, Origin]:
    """Return the file for a network, downloading it the first time. Raises WeightsError."""
    if family != FAMILY or depth not in DEPTHS:
        raise WeightsError(
            f"there are no ImageNet weights for {family} {depth}: expected family {FAMILY} and a depth of "
            f"{', '.join(map(str, DEPTHS))}. Choose one of these, or give a file: `weights: FILE`."
        )
    repository = REPOSITORY.format(depth=depth)
    folder = workspace.cache(workspace.WEIGHTS, repository.replace("/", "--"))
    path, note = folder / FILE, folder / "origin.json"
    if not (path.is_file() and note.is_file()):  # else no lock is needed, and the folder may be read-only
        try:
            with cache.writing(folder, f"the weights {repository}"), cache.locked(folder / "download.lock"):
                if not (path.is_file() and note.is_file()):
                    _download(repository, path, note)
        except DataError as error:  # the cache's word for a disk that refuses
            raise WeightsError(str(error)) from error
    origin = _read_origin(note)
    _check(path, origin)
    return path, origin


def _download(repository: str, path: Path, note: Path) -> None:
    """Bring the file of the noted commit, or of the newest one and note it."""
    if note.is_file():
        origin = _read_origin(note)
        _transfer(origin, path)
        _check_arrived(path, origin)
        return
    origin = _find_newest(repository)
    if origin.sha256 is None:
        logger.warning("the hub gives no sha256 for %s: what arrives is checked by its size alone", origin)
    _transfer(origin, path)
    _check_arrived(path, origin)
    atomic.write(note, json.dumps(asdict(origin), indent=1) + "\n")


def _find_newest(repository: str) -> Origin:
    library = _import_hub()
    try:
        answer = library.get_hf_file_metadata(library.hf_hub_url(repository, FILE), token=_token())
    except Exception as error:  # its own, or one of its HTTP library, which is another one in each major version
        raise _failed(repository, error) from error
    if not answer.commit_hash:
        raise _failed(repository, ValueError("the server does not answer as a hub does: it names no commit"))
    if (answer.size or 0) > MOST_BYTES:
        raise _failed(
            repository, ValueError(f"it announces {answer.size:,} bytes, and at most {MOST_BYTES:,} are taken")
        )
    digest = answer.etag if answer.etag and re.fullmatch(r"[0-9a-f]{64}", answer.etag) else None
    return Origin(repository, answer.commit_hash, digest, answer.size)


def _transfer(origin: Origin, path: Path) -> None:
    library = _import_hub()
    bar = _bounded_bar(MOST_BYTES if origin.size is None else origin.size + MEGABYTE)  # `_check_arrived` is exact
    try:
        library.hf_hub_download(
            origin.repository, FILE, revision=origin.revision, local_dir=path.parent, token=_token(), tqdm_class=bar
        )
    except Exception as error:  # hf_xet's RuntimeError too
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # the disk refuses: `cache.writing` reports it
        raise _failed(origin.repository, error) from error


def _token() -> bool | None:
    """Return huggingface_hub's word for the user's token where that is meant for the endpoint, else that for none."""
    endpoint = files.import_library("huggingface_hub.constants").ENDPOINT
    return None if endpoint == OFFICIAL else False


def _bounded_bar(limit: int) -> type:
    """Return a progress bar that ends a transfer of more than `limit` bytes: all that the library lets look on."""

    class Bounded(files.import_library("huggingface_hub.utils").tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.taken = options.get("initial", 0)
            super().__init__(*arguments, **options)

        def update(self, n: float | None = 1) -> bool | None:
            self.taken += n or 0
            if self.taken > limit:
                raise ValueError(f"it sends more than the {limit:,} bytes that are expected")
            shown: bool | None = super().update(n)
            return shown

    return Bounded


def _check_arrived(path: Path, origin: Origin) -> None:
    """Remove what is not the announced file: a later try must not take it for good."""
    if difference := _difference(path, origin):
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"what arrived for {origin} is not the announced file: {difference}. It was not kept. A proxy or a wrong "
            f"mirror does this: try again, or {_otherwise(origin.repository)}"
        )


def _check(path: Path, origin: Origin) -> None:
    if difference := _difference(path, origin):
        raise WeightsError(
            f"{path} is no longer the file {origin} that was downloaded: {difference}. Remove it and run the same "
            "command again: the same commit is fetched anew."
        )


def _difference(path: Path, origin: Origin) -> str:
    size = path.stat().st_size
    if origin.size is not None and size != origin.size:
        return f"expected {origin.size:,} bytes, found {size:,}"
    if origin.sha256 is not None and (sha256 := files.sha256(path)) != origin.sha256:
        return f"expected sha256 {origin.sha256}, found {sha256}"
    return ""


def _read_origin(note: Path) -> Origin:
    try:
        origin = Origin(**json.loads(reading.read(note)))
        if not all(isinstance(text, str) for text in (origin.repository, origin.revision)):
            raise ValueError("no text where a commit should stand")
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{note} does not say where {FILE} beside it came from ({error}). Remove the folder {note.parent} and run "
            "the same command again: the weights are fetched anew."
        ) from error
    return origin


def _import_hub() -> Any:
    # Only the request for the file goes out, without a word on this machine's packages. Read at its first import.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return files.import_library("huggingface_hub", "downloading weights")


def _failed(repository: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"cannot fetch the weights {repository} from the Hugging Face hub: {_reason(error)}. With a network, try "
        f"again; without one, {_otherwise(repository)}"
    )


def _otherwise(repository: str) -> str:
    return (
        f"download {FILE} of {repository} elsewhere and give it as `weights: FILE` (with {FILE}.json beside it, "
        "which says how pixels are normalised); for a mirror of the hub set HF_ENDPOINT."
    )


def _reason(error: BaseException) -> str:
    """Make one line of what may be a chain of errors, without an address that may hold a password."""
    for link in _chain(error):
        if type(link).__name__ == "OfflineModeIsEnabled":
            return "HF_HUB_OFFLINE forbids it"
        status = getattr(getattr(link, "response", None), "status_code", None)
        if status is not None:
            return f"it answered {status}"
    *_, first = _chain(error)
    text = getattr(first, "strerror", None) or (str(first).strip().splitlines() or [type(first).__name__])[0]
    return re.sub(r"//[^/@\s]*@", "//", text).rstrip(".")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
