"""Kept networks: writing and reading them, the trials that lack one, finding the one that a user names.

    .resflow/<run>/weights/<trial id>.safetensors    the whole network of a trial
    DIR/model.safetensors, .keras, .json, …          an export of one (`inspection.export`)

A safetensors file says in its metadata what the network is built from again (`description.TrainedNetwork`), model.json
says it beside other files, with the sha256 of each. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resflow import architectures, atomic, reading, workspace
from resflow.errors import RecordError, WeightsError, nearest
from resflow.records.record import Record
from resflow.records.run import load_run
from resflow.study.trial import Trial
from resflow.weights import files, metadata, names
from resflow.weights.description import TrainedNetwork
from resflow.weights.load import save_weights
from resflow.workspace import network_path

MODEL = "model"  # the files of an exported folder, before their endings
KEPT, KERAS, ABOUT = workspace.SAFETENSORS, ".keras", ".json"


@dataclass(frozen=True)
class SavedNetwork:
    """A file that holds a trained network, read and checked."""

    path: Path
    network: TrainedNetwork


def write_network(path: Path, model: Any, network: TrainedNetwork, naming: names.Naming = names.OWN) -> None:
    """Write a built network with all that `read_network` wants: whole or not at all. Raises WeightsError."""
    save_weights(
        model,
        path,
        normalisation=network.normalisation,
        architecture=asdict(network.architecture),
        class_names=network.classes,
        extra=metadata.dump_network(network),
        naming=naming,
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk's refusal into one clear message."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"cannot write {path}: {error}. Free space, or choose a folder that can be written."
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a draft to write to; it becomes `path` when all is on the disk, or is gone. Raises WeightsError."""
    with writing(path), atomic.file(path) as draft:
        yield draft


def trials_to_run(trials: Iterable[Trial], records: Mapping[str, Record], state: Path) -> list[Trial]:
    """Return the trials that are to run: those without a record, and those of `trials_without_network`."""
    trials = list(trials)
    again = {trial.id for trial in trials_without_network(trials, records, state)}
    return [trial for trial in trials if trial.id not in records or trial.id in again]


def trials_without_network(trials: Iterable[Trial], records: Mapping[str, Record], state: Path) -> list[Trial]:
    """Return the completed trials whose network was to be kept and is not there, or is that of another epoch."""
    keeping = [trial for trial in trials if trial.keep_weights != "none" and trial.id in records]
    return [trial for trial in keeping if records[trial.id].status == "completed" and not _is_kept(trial, state)]


def _is_kept(trial: Trial, state: Path) -> bool:
    try:
        trained = read_network(network_path(state, trial.id)).network.trained
    except WeightsError:  # none, or a damaged one: either is made again
        return False
    return (trained.trial, trained.kept) == (trial.id, trial.keep_weights)


def read_network(path: Path) -> SavedNetwork:
    """Read the description of a network: from a .safetensors file that resflow wrote, or beside a .keras file.

    The file must be what was written, where it says what that is; its tensors are not looked at. Raises WeightsError.
    """
    if path.suffix == KERAS:
        if not path.is_file():
            raise WeightsError(f"no exported network at {path}: expected a {KERAS} file.")
        network, digests = _read_description(path.with_suffix(ABOUT))
        if digests.get(path.name, files.sha256(path)) != files.sha256(path):
            raise WeightsError(f"{path} is damaged: it is not what was written. Export the network again.")
        return SavedNetwork(path, network)
    network = metadata.parse_network(_read_metadata(path), path)
    _check_size(network, path)
    return SavedNetwork(path, network)


def _read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise WeightsError(f"no kept network at {path}: expected a {KEPT} file.")
    files.sha256(path)
    safetensors = files.import_library("safetensors")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is no readable {KEPT} file: {error}. Export or train the network again.") from error


def is_export(path: Path) -> bool:
    """Tell whether resflow wrote a file as it is: a network that it kept, or a file of an export."""
    try:
        if path.suffix == ABOUT:
            read_description(path)
        elif path.suffix in (KEPT, KERAS):
            read_network(path)
        return path.suffix in (KEPT, ABOUT) or _listed(path)
    except (WeightsError, OSError, ValueError):
        return False


def _listed(path: Path) -> bool:
    """Tell whether the description beside a file lists it as it is; one from before the list is of a Keras file."""
    _, digests = _read_description(path.with_name(f"{MODEL}{ABOUT}"))
    return digests.get(path.name) == files.sha256(path) if digests else path.suffix == KERAS


def read_description(path: Path) -> TrainedNetwork:
    """Read model.json. Raises WeightsError."""
    return _read_description(path)[0]


def _read_description(path: Path) -> tuple[TrainedNetwork, dict[str, Any]]:
    """Read model.json: the network, and the sha256 of the files beside it where it says those."""
    try:
        text = reading.read(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"cannot read {path}: {error}. It names the classes and the preprocessing of the network beside it: "
            "export the network again."
        ) from error
    network = metadata.parse_description(text, path)
    digests = json.loads(text).get("files")
    return network, digests if isinstance(digests, dict) else {}


def _check_size(network: TrainedNetwork, path: Path) -> None:
    """Refuse a network that cannot be in the file before memory is asked for it."""
    arch, head = network.architecture, network.head
    pixels = architectures.map_size(arch, network.image_size) ** 2 if head.pooling == "flatten" else 1
    features = architectures.feature_channels(arch) * pixels
    parameters = architectures.parameters(arch, len(network.classes), head.hidden, features)
    if 4 * parameters > path.stat().st_size:
        raise WeightsError(
            f"{path} is too small for the network that it describes, of {parameters:,} parameters. Export or train "
            "the network again."
        )


def locate_network(model: str, results: Path, state: Path) -> Path:
    """Return the file of MODEL: an exported folder, a file, or RUN/TRIAL. Raises WeightsError or RecordError."""
    path = Path(model).expanduser()
    if _names_trial(path):
        return locate_kept(_trial_name(path), results, state)
    if path.is_dir():
        return _locate_in_folder(path)
    if path.is_file() and path.suffix not in (KEPT, KERAS):
        raise WeightsError(f"{path} is no trained network: expected a folder of `resflow export`, or a {KEPT} file.")
    if path.is_file() or path.suffix in (KEPT, KERAS):
        return path  # a missing one is an error when it is read
    return locate_kept(model, results, state)


def locate_run(model: str, results: Path) -> Path | None:
    """Return the folder of the run that MODEL names, None where it names no trial of one, a file say."""
    path = Path(model).expanduser()
    if not _names_trial(path) and (path.exists() or path.suffix in (KEPT, KERAS)):
        return None
    return _run_folder(_trial_name(path).rpartition("/")[0], results)


def _names_trial(path: Path) -> bool:
    """Tell whether a path is that of a trial's record, in its own folder or packed."""
    packed = path.parent.name == workspace.TRIALS and workspace.is_run(path.parents[1])
    return packed or (path / workspace.RECORD).is_file()


def _trial_name(path: Path) -> str:
    """Write RUN/TRIAL, where a path may have trials/ between the two."""
    run = path.parents[1] if path.parent.name == workspace.TRIALS else path.parent
    return f"{run}/{path.name}"


def _run_folder(run: str, results: Path) -> Path:
    """Return the folder of a run by its name or folder."""
    return Path(run) if Path(run).is_dir() and not (results / run).is_dir() else results / run


def _locate_in_folder(folder: Path) -> Path:
    paths = [folder / f"{MODEL}{suffix}" for suffix in (KEPT, KERAS)]
    for path in paths:
        if path.is_file():
            return path
    raise WeightsError(
        f"{folder} is no exported network: expected {' or '.join(path.name for path in paths)} in it. "
        "`resflow export RUN/TRIAL` writes such a folder."
    )


def locate_kept(name: str, results: Path, state: Path) -> Path:
    """Return the kept network of RUN/TRIAL; RUN is a run's name or folder.

    Raises RecordError where there is no such trial, WeightsError with the command that trains it again where its
    network was not kept.
    """
    run, slash, trial = name.rstrip("/").rpartition("/")
    if not slash or not re.fullmatch(r"\w[\w.-]*", trial) or Path(run).name in ("", ".."):
        raise RecordError(
            f"no trained network '{name}': expected RUN/TRIAL such as depth-cpu-synthetic/1a2b3c4d5e6f, a folder of "
            f"`resflow export`, or a {KEPT} file. `resflow status` lists runs and trials."
        )
    run_name = Path(run).name
    folder = _run_folder(run, results)
    path = network_path(state / workspace.state_folder(folder).name, trial)
    if path.is_file():
        return path
    if not folder.is_dir():
        runs = [other.name for place in (results, state) if place.is_dir() for other in place.iterdir()]
        raise RecordError(f"no run called '{run_name}'.{nearest(run_name, runs)} `resflow status` lists the runs.")
    contents = load_run(folder)
    planned = contents.plan["id"] if len(contents.plan) else ()
    ids = list(dict.fromkeys([*planned, *(record.id for record in contents.records)]))
    if trial not in ids:
        raise RecordError(
            f"run {run_name} has no trial '{trial}'.{nearest(trial, ids)} `resflow status {run_name}` lists its trials."
        )
    raise WeightsError(
        f"trial {trial} of run {run_name} has kept no network. Train it again, and keep it, with:\n  "
        f"{retrain_command(contents.study)}\nWhat has a record already keeps it: on a CPU the same numbers come out."
    )


def retrain_command(study: Mapping[str, Any]) -> str:
    """Return the command that runs a study (as its study.yaml says) once more and keeps its networks."""
    command = str(study.get("command") or f"resflow study {study.get('name', 'STUDY')}")
    keeps = study.get("keep_weights", "none") != "none"
    return command if keeps else f"{command} --set keep_weights=last"
