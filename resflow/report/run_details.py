"""The circumstances of a run, key by key: data, settings, versions, hardware, time, and the command that repeats it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from resflow.analysis.analyse import Analysis
from resflow.analysis.design import Design
from resflow.records.facts import TOLERATED_WAIT
from resflow.records.gpu_choice import read_choice
from resflow.records.metrics import metric
from resflow.report.formatting import duration, known, level
from resflow.study.variation import USUAL, name_streams


def how(analysis: Analysis) -> list[tuple[str, str]]:
    """Return how a run came about, key by key; values that differ between records stand side by side."""
    study, records = analysis.run.study, analysis.records
    data, networks = _distinct(r.data for r in records), _distinct(r.network for r in records)
    provenance = [r.provenance for r in records]
    rows = [
        ("Data", _join(data, "source")),
        ("Images", _images(data)),
        ("Originals", _originals(data)),
        ("Normalisation", _normalisations(data)),
        ("Weights", _weights(networks)),
        (
            "Split",
            f"{_join(data, 'split')}, split seed {_values(r.split_seed for r in records)}" if records else "",
        ),
        ("Split hash", _join(data, "split_hash")),
        ("Data fingerprint", _join(data, "fingerprint")),
        ("Chance", _chance(analysis)),
        ("Seeds", ", ".join(str(seed) for seed in sorted(analysis.trials["seed"].unique()))),
        ("Varied by seeds", _varied(analysis.design)),
        ("Profile", str(study.get("profile") or "none")),
        (
            "Factors",
            "; ".join(f"{name}: {', '.join(labels)}" for name, labels in analysis.design.factors.items()),
        ),
    ]
    rows += [(f"{group.capitalize()} settings", _settings(analysis, group)) for group in ("network", "recipe", "data")]
    rows += [
        ("Execution", _mapping(_distinct(r.execution for r in records))),
        ("Stem", _join(networks, "stem")),
        ("Versions", _mapping(_distinct(p.get("versions") or {} for p in provenance))),
        ("Python", _join(provenance, "python")),
        ("Hardware", _hardware(provenance)),
        ("Trials a GPU", _sharing(analysis)),
        ("Git commit", _join(provenance, "git_commit")),
        ("Unchecked records", _unchecked(analysis)),
        ("Records taken over from", _values(p["taken_over"] for p in provenance if "taken_over" in p)),
        ("Ran", _span(provenance)),
        ("Time of all trials", _time(analysis)),
        ("Waited for input", _input_wait(provenance)),
        ("Command", command(analysis)),
    ]
    return [(key, value) for key, value in rows if value]


def _varied(design: Design) -> str:
    """Say what seeds vary, and what varies alone on seeds of its own; nothing of what is usual."""
    alone = f"; beside them {name_streams(design.parts)}, one at a time" if design.parts else ""
    return "" if design.follows == USUAL and not alone else name_streams(design.follows) + alone


def _time(analysis: Analysis) -> str:
    """Return the time of all trials, each shared work counted once: of the trials that did it."""
    own, spent = (sum(getattr(record, name) for record in analysis.records) for name in ("seconds", "spent_seconds"))
    shared = f", of it {duration(spent - own)} of work that they share" if spent > own else ""
    return duration(spent) + shared if analysis.records else ""


def _input_wait(provenance: Iterable[dict[str, Any]]) -> str:
    """Say how long the device of a trial waited for input at most; nothing where that is short, or not known."""
    most = max((p.get("input_wait") or 0.0 for p in provenance), default=0.0)
    return f"{most:.0%} of a trial's epochs, at most" if most > TOLERATED_WAIT else ""


def _unchecked(analysis: Analysis) -> str:
    """Say how many records have no digests; nothing where all do."""
    number, total = sum(not record.sealed for record in analysis.records), len(analysis.records)
    if not number:
        return ""
    return f"{number} of {total}: written before records had digests, so only damage that contradicts itself is noticed"


def _chance(analysis: Analysis) -> str:
    chance = analysis.chance
    if not known(chance.level):
        return chance.why
    judged = metric(chance.judged_by)
    return f"{judged.label} {level(judged, chance.level)} {judged.unit}: {chance.why}"


def command(analysis: Analysis) -> str:
    """Return the command that repeats the run: the one that study.yaml carries, or that of the study as it ran."""
    study = analysis.run.study
    if study.get("command"):
        return str(study["command"])
    if not study:
        return ""
    file = f"results/{analysis.run.folder.resolve().name}/study.yaml"
    return f"resflow study {shlex.quote(file)} --out NEW-FOLDER"


def _distinct(mappings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each mapping once: thousands of trials share a few."""
    return list({json.dumps(one, default=str): one for one in mappings}.values())


def _values(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(_plain(value) for value in values if value is not None and value != ""))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _join(mappings: list[dict[str, Any]], key: str) -> str:
    return _values(mapping.get(key) for mapping in mappings)


def _mapping(mappings: list[dict[str, Any]]) -> str:
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    return ", ".join(f"{key} {value}" for key in keys if (value := _join(mappings, key)))


def _images(data: list[dict[str, Any]]) -> str:
    size = _join(data, "image_size")
    parts = [f"{size} × {size} pixels"] if size else []
    parts += [f"{value} classes" for value in [_join(data, "classes")] if value]
    parts += [f"{_join(data, key)} {name}" for key, name in _SPLITS.items() if _join(data, key)]
    return ", ".join(parts)


def _originals(data: list[dict[str, Any]]) -> str:
    """Sizes of the photos before they were resized; several where arms differ in their source."""
    sides = [one["originals"] for one in data if one.get("originals")]
    return _values(
        f"shorter side {one['smallest']} to {one['largest']} pixels, median {one['median']}" for one in sides
    )


def _normalisations(data: list[dict[str, Any]]) -> str:
    """Means and deviations of the pixels' normalisation, in 0..255; several where arms differ."""
    sections = [d["normalisation"] for d in data if isinstance(d.get("normalisation"), dict)]
    return _values(
        f"(pixel − {_triple(one.get('mean'))}) / {_triple(one.get('deviation'))}, RGB in 0..255" for one in sections
    )


def _triple(values: Any) -> str:
    return f"({', '.join(f'{value:.5g}' for value in values)})" if isinstance(values, list | tuple) else "?"


def _weights(networks: list[dict[str, Any]]) -> str:
    """Names of pretrained weights, the first digits of their files' sha256, and what the files say of themselves."""
    return _values(
        ", ".join(
            [f"{one['weights']} (sha256 {str(one.get('weights_digest'))[:12]})"]
            + [f"{key}: {one[f'weights_{key}']}" for key in ("origin", "note", "altered") if one.get(f"weights_{key}")]
        )
        for one in networks
        if one.get("weights")
    )


_GPU = {
    "name": "{}",
    "compute_capability": "compute capability {}",
    "driver": "driver {}",
    "built_for_cuda": "TensorFlow for CUDA {}",
    "built_for_cudnn": "cuDNN {}",
}
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


def _settings(analysis: Analysis, group: str) -> str:
    """The settings of one group that all trials share, from the records, or from study.yaml before any."""
    sections = _distinct(record.settings.get(group) or {} for record in analysis.records)
    if not sections:
        study = analysis.run.study
        sections = [dict(study.get(group) or (study.get("settings") or {}).get(group) or {})]
    keys = dict.fromkeys(key for section in sections for key in section)
    parts = []
    for key in keys:
        different = list(dict.fromkeys(_plain(section[key]) for section in sections if key in section))
        if key not in analysis.design.factors and different != ["null"]:
            parts.append(f"{key} {different[0]}" if len(different) == 1 else f"{key} by arm")
    return ", ".join(parts)


def _hardware(provenance: list[dict[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(text for p in provenance if (text := ", ".join(_machine(p)))))


def _machine(p: dict[str, Any]) -> Iterator[str]:
    for key, form in (("cpu", "{}"), ("cores", "{} cores"), ("memory_gb", "{} GB"), ("device", "device {}")):
        if p.get(key) is not None:
            yield form.format(p[key])
    gpu = p.get("gpu") or {}
    for key, form in _GPU.items():
        if gpu.get(key) is not None:
            yield form.format(gpu[key])


def _sharing(analysis: Analysis) -> str:
    """Say how many trials shared a GPU, and what they were worth together beside one alone; empty unless measured."""
    choice = read_choice(analysis.run.folder)
    if choice is None:
        return ""
    alone = choice.throughput.get(1)
    if not alone:
        return f"{choice.trials_per_gpu}, for trials too short or too few to measure more"
    gains = ", ".join(f"{count} worth {value / alone:.3g}" for count, value in choice.throughput.items())
    return f"{choice.trials_per_gpu}, the fastest together: {gains} times one alone"


def _span(provenance: list[dict[str, Any]]) -> str:
    started = sorted(str(p["started"]) for p in provenance if p.get("started"))
    finished = sorted(str(p["finished"]) for p in provenance if p.get("finished"))
    return f"{started[0]} to {finished[-1]}" if started and finished else ""
