"""Damaged files: how much of the damage to a trial's files, and to decoded images, is noticed before it is believed."""

from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resflow import workspace
from resflow.bench import stand_ins
from resflow.bench.contest import Say
from resflow.data import cache
from resflow.data.dataset import load_dataset
from resflow.data.decode import DECODE_VERSION, Decoded
from resflow.data.meta import find_problem
from resflow.errors import ResflowError
from resflow.records.packing import pack
from resflow.records.run import load_run
from resflow.workflow.plan import make_plan

STUDY: dict[str, Any] = {
    "name": "damage",
    "question": "Is damage to files noticed?",
    "baseline": "18",
    "factors": {"depth": [18]},
    "network": {"width": 0.25},
    "recipe": {"epochs": 3},
    "execution": {"device": "cpu"},
    "seeds": 1,
}
EPOCHS, IMAGES, SIZE = 3, 40, 16
PATIENCE_S = 10  # after which a reader is taken for hanging
NOTICED, HARMLESS, SILENT, CRASHED, HUNG = OUTCOMES = ("noticed", "harmless", "silent", "crashed", "hung")
Damage = Callable[[Path, random.Random], None]


class HangingError(Exception):
    """A reader that did not come back."""


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _zero(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    content[start : start + 64] = bytes(len(content[start : start + 64]))
    path.write_bytes(content)


def _replace_by_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_pipe(path: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _remove(path: Path, draw: random.Random) -> None:
    path.unlink()


KINDS: dict[str, Damage] = {
    "cut short": _cut,
    "64 bytes of zeros": _zero,
    "a folder in its place": _replace_by_folder,
    "a pipe in its place": _replace_by_pipe,
    "gone": _remove,
}


def run(flips: int, others: int, seed: int, say: Say) -> dict[str, Any]:
    """Flip a bit `flips` times, and damage a file in another way `others` times a kind; return what came of it.

    A file of each of three things is drawn at a time: a trial's record with its tables, the same packed into a run's
    archive, and a cache of decoded images.
    """
    draw, rows = random.Random(seed), []
    with tempfile.TemporaryDirectory() as base:
        for what, make in MAKERS.items():
            place = Path(base) / what.replace(" ", "-")
            files, read = make(place)
            for kind, damage, times in (("a bit flipped", _flip, flips), *((k, d, others) for k, d in KINDS.items())):
                say(f"{what}: {kind}, {times} times")
                counts = Counter(_try(place, draw.choice(files), damage, read, draw) for _ in range(times))
                outcomes = {outcome: counts[outcome] for outcome in OUTCOMES}
                rows.append({"what": what, "damage": kind, "times": times, "outcomes": outcomes})
    return {
        "benchmark": "damage",
        "damages": rows,
        "settings": {"rounds": 1, "flips": flips, "others": others, "seed": seed},
    }


Reader = Callable[[], tuple[str, bytes]]  # what is told of damage, and all that was read


def _make_archive(place: Path) -> tuple[list[str], Reader]:
    _, read = _make_record(place)
    pack(place)
    return [str(workspace.archive_path(place).relative_to(place))], read


def _make_record(place: Path) -> tuple[list[str], Reader]:
    (trial,) = make_plan(STUDY, prepare=False).trials
    stand_ins.write_records(place, [trial], EPOCHS)

    def read() -> tuple[str, bytes]:
        run = load_run(place)
        if run.broken or not run.records:
            return "; ".join(run.broken.values()) or "no trial has run", b""  # as every command says of such a run
        tables = run.histories(), run.predictions_of(trial.id), run.diagnostics_of([trial.id])
        return "", pickle.dumps([run.records[0].model_dump_json(), *(table.to_csv() for table in tables)])

    folder = next(place.glob("trials/*"))
    return [str(path.relative_to(place)) for path in folder.iterdir()], read


def _make_images(place: Path) -> tuple[list[str], Reader]:
    def drawn() -> Iterator[Decoded]:
        for number in range(IMAGES):
            pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            yield Decoded.drawn(f"{number}.png", pixels)

    names, labels = [f"{number}.png" for number in range(IMAGES)], [number % 2 for number in range(IMAGES)]
    contents = cache.Contents(names, labels, ("a", "b"), drawn(), {})
    cache.write_folder(place, "drawn", "identity", SIZE, contents, progress=False)

    def read() -> tuple[str, bytes]:
        if problem := find_problem(place, ("drawn", "identity", SIZE, DECODE_VERSION)):
            return problem, b""
        data = load_dataset(place)
        parts = (data.images, data.labels, data.train, data.validation, data.test)
        return "", pickle.dumps([data.names, data.class_names, *(np.asarray(part).tobytes() for part in parts)])

    return [path.name for path in place.iterdir()], read


MAKERS: dict[str, Callable[[Path], tuple[list[str], Reader]]] = {
    "a trial's record": _make_record,
    "a packed run": _make_archive,
    "decoded images": _make_images,
}


def _try(place: Path, file: str, damage: Damage, read: Reader, draw: random.Random) -> str:
    """Damage a file, read what it belongs to, put the file back, and return the outcome."""
    before, path = read()[1], place / file
    kept = path.read_bytes()
    try:
        damage(path, draw)
        try:
            with _patience():
                told, found = read()
        except ResflowError:
            return NOTICED
        except HangingError:
            return HUNG
        except Exception:  # whatever a reader lets through is what is looked for here
            return CRASHED
        return NOTICED if told else HARMLESS if found == before else SILENT
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(kept)


@contextmanager
def _patience() -> Iterator[None]:
    """Raise HangingError in what does not end in time."""

    def give_up(number: int, frame: Any) -> None:
        raise HangingError(os.strerror(errno.ETIME))

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
