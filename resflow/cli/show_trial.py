"""One trial as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from resflow import workspace
from resflow.cli.console import say_error, table
from resflow.errors import RecordError
from resflow.records.metrics import METRICS
from resflow.records.record import Record
from resflow.records.run import Run, load_run
from resflow.report.formatting import count, duration
from resflow.weights.files import states_digest
from resflow.workspace import network_path, trial_folder

LAST = 5  # epochs


def trial(folders: Sequence[Path], begin: str, *, named: bool) -> Iterator[Table]:
    """Tables of the one trial below these runs whose id begins so. Raises RecordError where there is none, or more.

    Of runs that nobody `named` those that cannot be read are passed over, with a message.
    """
    read = list(_read(folders, named))
    found = [(run, record) for run in read for record in run.records if begin and record.id.startswith(begin)]
    if not found:
        broken = [message for run in read for name, message in run.broken.items() if begin and name.startswith(begin)]
        raise RecordError(
            broken[0]
            if broken
            else f"no record of a trial '{begin}' in {_names(folders)}: `resflow status RUN` lists them."
        )
    if len({record.id for _, record in found}) > 1:
        ids = ", ".join(sorted({record.id for _, record in found})[:8])
        raise RecordError(f"'{begin}' begins the ids of several trials: {ids}. Give more of it.")
    run, record = found[0]
    yield table(("", ""), list(_facts(run, record)))
    history = run.histories([record.id])
    if len(history):
        shown = history.drop(columns=["id", "arm", "seed"]).tail(LAST)
        rows = [[f"{value:.4g}" for value in row] for row in shown.itertuples(index=False)]
        yield table(list(shown.columns), rows, right=list(shown.columns))


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
    state = workspace.state_folder(run.folder)
    yield "trial", f"{run.folder.name}/{record.id}"
    yield "arm", f"{record.arm}, seed {record.seed}, split seed {record.split_seed}"
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
    for section, values in record.settings.items():
        yield section, _line(values)
    yield "data", _line({key: value for key, value in record.data.items() if key != "class_names"})
    yield "execution", _line(record.execution)
    if not record.sealed:
        yield "unchecked", "written before records had digests: only damage that contradicts itself is noticed"
    ran = record.provenance
    yield "ran", " ".join(str(ran[key]) for key in ("started", "host", "device", "git_commit") if ran.get(key))
    places = {"record": trial_folder(run.folder, record.id), "log": workspace.log_path(state, record.id)}
    places["network"] = network_path(state, record.id)
    for name, place in places.items():
        if place.exists():
            checked = name != "network" or states_digest(place)
            yield name, str(place) if checked else f"{place} (unchecked: it was kept without a digest, before 0.2)"


def _line(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
