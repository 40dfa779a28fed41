"""The model card of an exported network: a README.md with the metadata that the Hugging Face Hub reads.

Every figure in it is of the run's records: the trial's own, and the mean of its arm over seeds with its interval.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from resflow import __version__
from resflow.analysis import seed_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.labels import SYNTHETIC, labels
from resflow.inspection.export.formats import FORMATS, KERAS, ONNX, OUTPUT, PREPROCESSING, SAFETENSORS, TORCH
from resflow.inspection.export.rendering import render
from resflow.inspection.export.torch_file import torchvision_name
from resflow.records.metrics import Metric, metric
from resflow.records.record import Record
from resflow.report import run_details
from resflow.report.formatting import known, level, level_interval
from resflow.report.headline import headline
from resflow.weights.description import TrainedNetwork

TASK = "image-classification"  # as the Hub calls it
OWN_PHOTOS = "imagefolder"  # as the Hub calls a data set that is a folder of pictures
LIBRARIES = {KERAS: "keras", TORCH: "pytorch", SAFETENSORS: "pytorch", ONNX: "onnx"}
ALWAYS = ("test_top1", "test_mean_class_accuracy")  # beside the study's own metric


@dataclass(frozen=True)
class Origin:
    """Where a network comes from: its run as analysed, and its record in it."""

    analysis: Analysis
    record: Record


@dataclass(frozen=True)
class Score:
    """A metric of a trial, and the same of its arm over seeds."""

    metric: Metric
    value: float
    arm: seed_statistics.Mean


def write_card(network: TrainedNetwork, suffixes: Collection[str], origin: Origin | None) -> str:
    """Write the card of a network whose folder has files with these endings; without an origin it has no metrics."""
    analysis = origin.analysis if origin else None
    scores = list(_scores(origin)) if origin else []
    return render(
        "README.md.j2",
        front_matter=_front_matter(network, suffixes, origin, scores),
        network=network,
        arch=network.architecture,
        trained=network.trained,
        size=network.image_size,
        torchvision=torchvision_name(network),
        keras=KERAS in suffixes,
        torch=TORCH in suffixes,
        safetensors=SAFETENSORS in suffixes,
        onnx=ONNX in suffixes,
        version=__version__,
        preprocessing=PREPROCESSING,
        output=OUTPUT,
        question=str(analysis.run.study.get("question") or "") if analysis else "",
        headline=headline(analysis) if analysis else None,
        scores=[_row(score) for score in scores],
        data=_data(network, origin.record if origin else None),
        versions=_versions(origin.record) if origin else "",
        labels=labels(analysis) if analysis else [],
        commands=list(_commands(origin, suffixes)) if origin else [],
    )


def _data(network: TrainedNetwork, record: Record | None) -> list[tuple[str, str]]:
    """Return what the network was trained on, key by key, as far as it is known."""
    trained, data, start = network.trained, record.data if record else {}, record.network if record else {}
    split = " ".join(str(data[key]) for key in ("split", "split_hash") if data.get(key))
    counts = ", ".join(f"{data[part]} {part}" for part in ("train", "validation", "test") if data.get(part))
    began = "random values" if trained.finetune == "scratch" else f"pretrained weights, fine-tuning {trained.finetune}"
    weights = ", ".join(str(start[key]) for key in ("weights", "weights_origin") if start.get(key))
    rows = (("Source", trained.source), ("Split", split), ("Images", counts), ("Start", began), ("Weights", weights))
    return [(key, value) for key, value in rows if value]


def _commands(origin: Origin, suffixes: Collection[str]) -> Iterator[str]:
    """Yield the command that trained the network, and those that wrote the files."""
    yield run_details.command(origin.analysis)
    for form in ("keras", "safetensors", "torch", "onnx"):
        within_torch = form == "safetensors" and TORCH in suffixes
        if set(FORMATS[form]) <= set(suffixes) and not within_torch:
            yield f"resflow export {origin.analysis.run.folder.resolve().name}/{origin.record.id} --format {form}"


def _versions(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in (record.provenance.get("versions") or {}).items())


def _front_matter(
    network: TrainedNetwork, suffixes: Collection[str], origin: Origin | None, scores: list[Score]
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    trained, source = network.trained, network.trained.source
    is_public = source != SYNTHETIC and ":" not in source  # not drawn, and no folder or file of the user's own
    data = origin.record.data if origin else {}
    place: dict[str, Any] = {
        "task_type": TASK,
        "dataset_type": source if is_public else SYNTHETIC if source == SYNTHETIC else OWN_PHOTOS,
        "dataset_name": source,
        "dataset_split": "test",
        "dataset_args": {key: data[key] for key in ("split", "split_hash") if data.get(key)} or None,
    }
    results = [EvalResult(**place, **values) for score in scores for values in _metric_values(score, trained.seed)]
    return ModelCardData(
        library_name=next(name for suffix, name in LIBRARIES.items() if suffix in suffixes),
        pipeline_tag=TASK,
        tags=["resflow", "resnet", TASK],
        datasets=[source] if is_public else None,
        metrics=sorted({str(result.metric_type) for result in results}) or None,
        model_name=f"{trained.study}-{trained.arm}-seed{trained.seed}",
        eval_results=results or None,
    ).to_yaml()


def _scores(origin: Origin) -> Iterator[Score]:
    """Yield the study's metric and the usual ones, as far as the trial has them."""
    trials, design = origin.analysis.trials, origin.analysis.design
    arm = trials[(trials["arm"] == origin.record.arm) & (trials["status"] == "completed")]
    for column in dict.fromkeys((design.metric.column, *ALWAYS)):
        if column in origin.record.metrics:
            one = metric(column)
            mean = seed_statistics.level_interval(arm[column], one.low, one.high, sequential=design.sequential)
            yield Score(one, origin.record.metrics[column], mean)


def _metric_values(score: Score, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the metadata of a metric: of this network, and of its arm, with the interval where there is one."""
    kind, label, mean = "accuracy" if score.metric.unit == "%" else "loss", score.metric.label, score.arm
    yield {"metric_type": kind, "metric_name": f"{label}, seed {seed}", "metric_value": _digits(score.value)}
    spread = {}
    if known(mean.low):
        spread = {"confidence": seed_statistics.CONFIDENCE, "low": _digits(mean.low), "high": _digits(mean.high)}
    yield {
        "metric_type": kind,
        "metric_name": f"{label}, mean of the arm over seeds",
        "metric_value": _digits(mean.mean),
        "metric_args": {"seeds": mean.n, **spread},
    }


def _digits(value: float) -> float:
    """Round as tables do."""
    return float(f"{value:.6g}")


def _row(score: Score) -> tuple[str, ...]:
    """Return the cells of a metric in the card's table."""
    one, mean = score.metric, score.arm
    interval = level_interval(one, mean.low, mean.high) if known(mean.low) else mean.note
    return one.axis_label, level(one, score.value), level(one, mean.mean), interval, str(mean.n)
