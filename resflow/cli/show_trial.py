"""One trial, or an arm, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from resflow import workspace
from resflow.cli.console import console, say_error, table, trials_table
from resflow.cli.live_view import means_table
from resflow.errors import RecordError, nearest
from resflow.records.metrics import METRICS, metric
from resflow.records.record import HISTORY_COLUMNS, Record
from resflow.records.run import Run, load_run
from resflow.report.formatting import count, duration
from resflow.study.variation import NAMES
from resflow.weights.files import states_digest
from resflow.workflow.status import arm_means, trial_state
from resflow.workspace import network_path, trial_folder

LAST = 5  # epochs
MOST = 20  # arms that an error names
WIDE, NARROW = 115, 78  # columns of a terminal that has room for the whole history of a trial, and for its losses


def show(folders: Sequence[Path], name: str, seed: int | None, *, named: bool) -> Iterator[RenderableType]:
    """Lay out the trial below these runs whose id begins so, or what `name` is in one of them: ARM or ARM/SEED.

    An arm of several trials is the settings that they share, and a row a trial. Raises RecordError where there is
    nothing of that name, or more than one trial. Of runs that nobody `named` those that cannot be read are passed
    over, with a message. Text is a path, which is to stay whole.
    """
    read = list(_read(folders, named))
    of_arm = _of_arm(read, name, seed)
    found = of_arm or [
        (run, record)
        for run in read
        for record in run.records
        if name and record.id.startswith(name) and seed in (None, record.seed)
    ]
    if not found:
        raise RecordError(_missing(read, folders, name, seed))
    places = list(dict.fromkeys(run.folder for run, _ in found))
    if len({record.id for _, record in found}) == 1:
        yield from _trial(*found[0])
    elif not of_arm:
        ids = ", ".join(sorted({record.id for _, record in found})[:8])
        raise RecordError(f"'{name}' begins the ids of several trials: {ids}. Give more of it.")
    elif len(places) > 1:
        raise RecordError(f"'{name}' is an arm of several runs: {_names(places)}. Say RUN/{name}.")
    else:
        yield from _arm(found[0][0], sorted((record for _, record in found), key=lambda record: record.seed))


def _of_arm(runs: Sequence[Run], name: str, seed: int | None) -> list[tuple[Run, Record]]:
    """Return the trials of an arm, or of ARM/SEED."""
    every = [(run, record) for run in runs for record in run.records]
    arm, _, number = name.rpartition("/")
    if seed is None and number.isdecimal() and any(record.arm == arm for _, record in every):
        name, seed = arm, int(number)
    return [(run, record) for run, record in every if record.arm == name and seed in (None, record.seed)]


def _missing(read: Sequence[Run], folders: Sequence[Path], name: str, seed: int | None) -> str:
    """Say what is not there: why a record cannot be read, or what else there is."""
    broken = [message for run in read for key, message in run.broken.items() if name and key.startswith(name)]
    if broken:
        return broken[0]
    planned = [arm for run in read if len(run.plan) for arm in run.plan["arm"]]
    arms = list(dict.fromkeys([*planned, *(record.arm for run in read for record in run.records)]))
    with_seed = "" if seed is None else f" with seed {seed}"
    known = f" Its arms are {', '.join(arms[:MOST])}{' …' if len(arms) > MOST else ''}." if len(folders) == 1 else ""
    return (
        f"no record of a trial or an arm '{name}'{with_seed} in {_names(folders)}: `resflow status RUN` lists them."
        f"{known}{nearest(name.partition('/')[0], arms)}"
    )


def _trial(run: Run, record: Record) -> Iterator[RenderableType]:
    found = {"photos": {key: value for key, value in record.data.items() if key != "class_names"}}
    sections = {**record.settings, **found, "execution": record.execution}
    yield table(("", ""), [*_settings(sections), *_facts(run, record)])  # a terminal shows the end
    history = run.histories([record.id])
    if len(history):
        shown = history[_columns()].dropna(axis="columns", how="all").tail(LAST)  # a final model validates nothing
        names = [metric(name).label if name in METRICS else name.replace("_", " ") for name in shown.columns]
        rows = [["–" if isnan(value) else f"{value:.4g}" for value in row] for row in shown.itertuples(index=False)]
        yield Text()
        yield table(names, rows, right=names, whole=names)
    yield Text()
    yield from _places(run, record)


def _columns() -> list[str]:
    """Return the columns of a history that the terminal has room for."""
    if console.width >= WIDE:
        return list(HISTORY_COLUMNS)
    losses = ("train_loss", "validation_loss") if console.width >= NARROW else ()
    return [name for name in HISTORY_COLUMNS if name in ("epoch", "train_top1", "validation_top1", *losses)]


def _places(run: Run, record: Record) -> Iterator[str]:
    """Yield a line for each thing that lies on disk of a trial."""
    state = workspace.state_folder(run.folder)
    packed = record.id in run.packed
    kept = workspace.archive_path(run.folder) if packed else trial_folder(run.folder, record.id)
    places = {"record": kept, "log": workspace.log_path(state, record.id)}
    places["network"] = network_path(state, record.id)
    for name, place in places.items():
        if place.exists():
            checked = name != "network" or states_digest(place)
            yield f"{name}: {place}{'' if checked else ' (unchecked: it was kept without a digest, before 0.2)'}"


def _arm(run: Run, records: Sequence[Record]) -> Iterator[RenderableType]:
    """Lay out an arm: the settings of its trials as far as they are the same, a row a trial, their mean."""
    metric = str(run.study.get("metric") or "test_top1")
    settings = [list(_settings(record.settings)) for record in records]
    yield table(("", ""), [row for row in settings[0] if all(row in others for others in settings)])
    yield Text()
    states = [replace(trial_state(one, metric), varies=run.varies.get(one.id, "")) for one in records]
    yield trials_table(states, metric)
    yield Text()
    own = [record for record in records if record.id not in run.varies]
    yield means_table(arm_means([records[0].arm], own, metric), metric)


def _read(folders: Sequence[Path], named: bool) -> Iterator[Run]:
    for folder in folders:
        try:
            yield load_run(folder)
        except RecordError as error:
            if named:
                raise
            say_error(f"Passed over: {error}", style="yellow")


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders[:5]) + (" …" if len(folders) > 5 else "")


def _facts(run: Run, record: Record) -> Iterator[tuple[str, str]]:
    yield "trial", f"{run.folder.name}/{record.id}"
    held = "".join(f", {NAMES[stream]} of seed {seed}" for stream, seed in record.held.items() if stream in NAMES)
    yield "arm", f"{record.arm}, seed {record.seed}{held}, split seed {record.split_seed}"
    yield "status", record.status + (f": {record.reason}" if record.reason else "")
    for name, value in record.metrics.items():
        known = METRICS.get(name)
        yield (known.label if known else name), f"{known.scale * value:.4g} {known.unit}" if known else f"{value:.4g}"
    yield "epochs", f"{record.epochs_run}" + (f", tested after {record.best_epoch}" if record.best_epoch else "")
    yield "time", duration(record.seconds)
    for kind, cost in record.shared.items():
        total = "unknown time" if cost.seconds is None else duration(cost.seconds)
        yield f"shared {kind}", f"{total}, of it {duration(cost.computed_seconds)} by this trial"
    yield "parameters", count(record.network.get("parameters"))
    if not record.sealed:
        yield "unchecked", "written before records had digests: only damage that contradicts itself is noticed"
    ran = record.provenance
    yield "ran", " ".join(str(ran[key]) for key in ("started", "host", "device", "git_commit") if ran.get(key))


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a row a setting, `name: value` as YAML has it; the first of a section has its name before it."""
    for section, values in settings.items():
        lines = [f"{name}: {value}" for name, value in _flat(values)]
        yield from zip([section, *[""] * len(lines)], lines, strict=False)


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names, as --set takes them, and values; what is not set is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", _yaml(value)


def _yaml(value: Any) -> str:
    """Write a value as YAML does, in one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_yaml(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
