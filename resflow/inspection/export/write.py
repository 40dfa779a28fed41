"""Write a trained network as a folder of files that other programs open, with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resflow import atomic
from resflow.analysis.analyse import analyse
from resflow.data.decode import DECODE_VERSION
from resflow.errors import WeightsError
from resflow.inspection.export.formats import FORMATS, KERAS, ONNX, OUTPUT, PREPROCESSING, SAFETENSORS, SUFFIXES, TORCH
from resflow.inspection.export.keras_file import write_keras
from resflow.inspection.export.model_card import Origin, write_card
from resflow.inspection.export.onnx_file import import_onnx, write_onnx
from resflow.inspection.export.torch_file import write_definition
from resflow.inspection.network import rebuild_network
from resflow.weights import files, names
from resflow.weights.description import TrainedNetwork
from resflow.weights.saved import ABOUT, MODEL, SavedNetwork, is_export, read_description, whole, write_network, writing
from resflow.workspace import README


def export_network(
    source: SavedNetwork, folder: Path, form: str, run: Path | None = None, force: bool = False
) -> list[Path]:
    """Write the files of one of FORMATS, the model card, and last model.json: each whole or not at all; return them.

    The card has results where `run` is the folder of the run that holds the network's record. A form that an export of
    another network left in the folder goes: a folder holds one network. Raises WeightsError where the disk refuses, or
    where there is no more than a Keras file to start from; MissingExtraError where the form needs a library that is not
    installed; and ResflowError where the folder holds files of these names that are no export, or were changed since:
    with `force` they are replaced, or removed.
    """
    if source.path.suffix == KERAS:
        raise WeightsError(f"{source.path} is exported already: expected RUN/TRIAL or a {SAFETENSORS} file.")
    if ONNX in FORMATS[form]:
        import_onnx()
    models = [folder / f"{MODEL}{suffix}" for suffix in SUFFIXES]
    card, about = folder / README, folder / f"{MODEL}{ABOUT}"
    atomic.refuse_to_replace([*models, card, about], force, ours=is_export)
    origin = _find_origin(source.network, run)
    model = rebuild_network(source).model
    _clear_other(folder, source.network)
    description = _describe(source.network)
    paths = [folder / f"{MODEL}{suffix}" for suffix in FORMATS[form]]
    for path in paths:
        _write_model(path, model, source.network, description)
    _write_text(card, write_card(source.network, [path.suffix for path in models if path.is_file()], origin))
    listed = {path.name: files.sha256(path) for path in (*models, card) if path.is_file()}
    _write_text(about, json.dumps({**description, "files": listed}, indent=1, ensure_ascii=False) + "\n")
    return [*paths, card, about]


def _find_origin(network: TrainedNetwork, run: Path | None) -> Origin | None:
    """Find the record of a network; None where there is no run, or none of this trial in it. Raises RecordError."""
    if run is None or not run.is_dir():
        return None
    analysis = analyse(run)
    record = next((record for record in analysis.records if record.id == network.trained.trial), None)
    return Origin(analysis, record) if record else None


def _clear_other(folder: Path, network: TrainedNetwork) -> None:
    """Remove the files of another network."""
    with suppress(WeightsError):
        if read_description(folder / f"{MODEL}{ABOUT}") == network:
            return
    for path in (folder / f"{MODEL}{suffix}" for suffix in SUFFIXES):
        with writing(path):
            path.unlink(missing_ok=True)


def _describe(network: TrainedNetwork) -> dict[str, Any]:
    """Return what a reader of the files must know of the network: classes, normalisation, preprocessing, output."""
    rules = {"preprocessing": PREPROCESSING, "output": OUTPUT, "decode_version": DECODE_VERSION}
    return {"format": files.OWN_FORMAT, **network.model_dump(mode="json"), **rules}


def _write_model(path: Path, model: Any, network: TrainedNetwork, description: Mapping[str, Any]) -> None:
    if path.suffix == SAFETENSORS:
        write_network(path, model, network, names.PYTORCH)
    elif path.suffix == TORCH:
        _write_text(path, write_definition(network))
    else:
        write = write_keras if path.suffix == KERAS else write_onnx
        with whole(path) as draft:
            write(draft, model, network.normalisation, description)


def _write_text(path: Path, text: str) -> None:
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
