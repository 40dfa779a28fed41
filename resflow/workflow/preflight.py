"""Problems of a plan that would end its trials, told before the first of them starts.

`resflow plan` lists them and `resflow study` refuses to start: a batch larger than the data, weights of another
network, a folder that cannot be written, a disk without room, limits of the process. What only Ray can tell is told
when it starts (`runner.ray_session`).
"""

from __future__ import annotations

import math
import resource
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from resflow import provenance, workspace
from resflow.errors import TrainingError
from resflow.records.run import finished_records
from resflow.study import costs
from resflow.study.memory import FLOAT, SLOTS
from resflow.study.originals import tell_enlarged
from resflow.study.resources import GIGABYTE, TrialResources, object_store_bytes
from resflow.study.search_space import Choice
from resflow.study.split_notes import tell_split
from resflow.study.trial import Trial
from resflow.weights.load import find_misfits
from resflow.weights.saved import trials_to_run
from resflow.workflow.forecast import count_slots
from resflow.workflow.plan import Plan, check_place

OF_A_RECORD = 200_000  # bytes on disk of a trial of some thousands of test images and its part of the report (results/)
SPARE = 100_000_000  # bytes that stay free: logs, Ray's files, the report
BESIDE_STORE = 4 * GIGABYTE  # of address space: Ray itself starts with 3 GB in all, TensorFlow's workers take more
LEAST_FILES = 64  # open files: Ray fails at 32


def check_plan(plan: Plan, storage: str | None = None, address: str | None = None) -> None:
    """Raise TrainingError with every problem of a plan, RecordError where its folder is no place for it.

    `storage` and `address` as in `RunOptions`: trials of a cluster do not run on this machine.
    """
    check_place(plan)
    problems = list(find_problems(plan, storage, address))
    if problems:
        raise TrainingError(
            "nothing has started, since trials would fail:\n" + "\n".join(f"  {one}" for one in problems)
        )


def find_problems(plan: Plan, storage: str | None = None, address: str | None = None) -> Iterator[str]:
    """Yield a line a problem: what it is, and what to do."""
    trials = _all_trials(plan)
    yield from _batches(plan, trials)
    yield from _weights(trials)
    places = [plan.run, plan.state, workspace.cache(), Path(tempfile.gettempdir())]
    places += [Path(storage)] if storage and "://" not in storage else []
    unusable = [problem for place in places if (problem := _unwritable(place))]
    yield from unusable
    if not unusable:
        yield from _room(plan, storage)
    if address is None:
        yield from find_machine_problems(plan)


def tell_data(plan: Plan) -> list[str]:
    """Say what of the photos and their split must not be overlooked, as far as they are decoded."""
    trials = _all_trials(plan)
    sizes = {(trial.facts.originals, trial.data.image_size) for trial in trials}
    enlarged = tell_enlarged((originals.median, size) for originals, size in sizes if originals)
    split = [sentence for trial in trials for _, sentence in tell_split(trial.facts.notes)]
    return [text for text in dict.fromkeys((enlarged, *split)) if text]


def _all_trials(plan: Plan) -> list[Trial]:
    return [*plan.trials, *(plan.searches.templates.values() if plan.searches else ())]


def _batches(plan: Plan, trials: Sequence[Trial]) -> Iterator[str]:
    """Find batches that no epoch has images for: the last, incomplete one of an epoch is left out."""
    largest: dict[tuple[int, int], str] = {}
    for trial in trials:
        if trial.recipe.batch_size > trial.counts[0]:
            largest.setdefault((trial.recipe.batch_size, trial.counts[0]), trial.arm)
    searched = plan.study.file.tune.space.get("batch_size") if plan.study.file.tune else None
    if searched is not None and trials:
        most = max(searched.labelled.values()) if isinstance(searched, Choice) else searched.high
        fewest = min(trial.counts[0] for trial in trials)
        if most > fewest:
            largest.setdefault((int(most), fewest), "the search")
    for (batch, images), arm in largest.items():
        yield f"batch_size {batch} of {arm} is more than the {images} training images: set it to {images} or fewer"


def _weights(trials: Sequence[Trial]) -> Iterator[str]:
    seen = set()
    for trial in trials:
        key = (trial.architecture, trial.pretrained)
        if trial.pretrained is None or key in seen or trial.network.partial_weights:
            continue
        seen.add(key)
        if misfits := find_misfits(trial.pretrained, trial.architecture):
            yield (
                f"the weights {trial.pretrained.origin} are not of the network of {trial.arm}: {misfits}. Choose the "
                "family, depth, shortcut and width that they were trained with, or partial_weights: true"
            )


def _existing(place: Path) -> Path:
    """Return the nearest folder above a place that is there."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


def _unwritable(place: Path) -> str:
    """Try to write where a folder is to be; return the problem, or an empty text."""
    folder = _existing(place)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        what = place if folder == place.absolute() else f"{place} (to be made in {folder})"
        hint = {workspace.cache(): "RESFLOW_CACHE moves it", Path(tempfile.gettempdir()): "TMPDIR moves it"}.get(place)
        return f"cannot write into {what}: {error.strerror or error}. {hint or 'Make it writable, or choose another'}"


def _room(plan: Plan, storage: str | None) -> Iterator[str]:
    """Compare what the trials that are left will write with what is free on each disk."""
    known = finished_records(plan.run) if workspace.is_run(plan.run) else {}
    waiting = trials_to_run(plan.trials, known, plan.state)
    if not waiting:
        return
    sizes = [FLOAT * trial.parameters for trial in waiting]
    running = max(FLOAT * (1 + SLOTS[trial.recipe.optimizer]) * trial.parameters for trial in waiting)
    kept = sum(size for size, trial in zip(sizes, waiting, strict=True) if trial.keep_weights != "none")
    features = workspace.cache(workspace.FEATURES)
    made = sum(path.stat().st_size for path in features.rglob("*") if path.is_file()) if features.is_dir() else 0
    needs = [
        (plan.run, OF_A_RECORD * len(waiting), "records"),
        (plan.state, kept, "kept networks"),
        (features, max(0, costs.feature_bytes(waiting) - made), "features of frozen backbones"),
        (Path(tempfile.gettempdir()), max(sizes) if kept else 0, "networks on their way"),
    ]
    if storage is None or "://" not in storage:
        needs.append((Path(storage) if storage else plan.state, running * count_slots(waiting), "checkpoints"))
    disks: dict[int, list[tuple[Path, int, str]]] = defaultdict(list)
    for place, size, what in needs:
        if size:
            disks[_existing(place).stat().st_dev].append((_existing(place), size, what))
    for parts in disks.values():
        total, free = sum(size for _, size, _ in parts) + SPARE, shutil.disk_usage(parts[0][0]).free
        if total > free:
            each = ", ".join(f"{size / GIGABYTE:.2f} GB of {what}" for _, size, what in parts)
            yield (
                f"the disk of {parts[0][0]} has {free / GIGABYTE:.2f} GB free, and the trials will write {each}: free "
                f"{(total - free) / GIGABYTE:.2f} GB, or choose other places with --out, --storage and RESFLOW_CACHE"
            )


def find_machine_problems(plan: Plan) -> Iterator[str]:
    """Yield what this machine, or this process' limits, lack for a plan: it may be one for another machine."""
    trials = _all_trials(plan)
    if not trials:
        return
    trial = trials[0]
    share = TrialResources.from_trial(trial)
    cores, memory = provenance.count_processors(), provenance.environment()["memory_gb"] or 0
    if share.gpus and not provenance.count_gpus():
        yield "device gpu was asked for, and this machine has no GPU that CUDA's driver knows: --set device=cpu"
    if share.cpus > cores:
        yield f"a trial asks for {share.cpus:g} CPUs, this machine has {cores}: --set threads={cores} (and cpus)"
    if memory and share.memory > memory * GIGABYTE:
        yield f"a trial asks for {share.memory / GIGABYTE:g} GB of memory, this machine has {memory:g}: --set memory=…"
    yield from _limits(memory)


def _limits(memory: float) -> Iterator[str]:
    """Find limits of this process (`ulimit -a`) under which Ray does not start on a machine of so many gigabytes.

    Its object store is one file in memory, as large as `object_store_bytes` says or as /dev/shm.
    """
    store = min(object_store_bytes(memory * GIGABYTE), _size_of_shared_memory())
    for limit, least, said, unit in (
        (resource.RLIMIT_AS, store + BESIDE_STORE, "address space (ulimit -v)", GIGABYTE),
        (resource.RLIMIT_FSIZE, store, "size of a file (ulimit -f)", GIGABYTE),
        (resource.RLIMIT_NOFILE, LEAST_FILES, "number of open files (ulimit -n)", 1),
    ):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY and soft < least:
            word = " GB" if unit > 1 else ""
            yield f"the {said} is limited to {soft / unit:.3g}{word}: Ray needs {least / unit:.3g}{word} here"


def _size_of_shared_memory() -> float:
    try:
        return float(shutil.disk_usage("/dev/shm").total)
    except OSError:
        return math.inf
