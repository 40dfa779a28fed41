"""From what the user typed to trials with their data and their run's folder: shared by every command that plans."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from resflow import architectures, atomic, provenance, workspace
from resflow.data.dataset import data_fingerprint, resolve_split
from resflow.data.dataset import load_dataset as load_dataset
from resflow.data.sources.open import open_source
from resflow.errors import RecordError
from resflow.records.record import Record
from resflow.records.run import PLAN_KEYS, load_run
from resflow.study import costs, trial
from resflow.study import load as study
from resflow.study.load import Study
from resflow.study.resources import GIGABYTE, TrialResources
from resflow.study.settings import Data
from resflow.study.trial import DataFacts, Trial
from resflow.tuning.phase import Phase, Searches, final_study, make_searches, phase_from_records
from resflow.weights import load

RAYS_SHARE = 0.3  # of a machine's memory, which Ray keeps for its object store


@dataclass(frozen=True)
class Plan:
    """A study that is ready to run: its trials, where their data lies (by trial id), its run's folder.

    Of a study that tunes, the tuned trials are those of the arms whose search is complete.
    """

    study: Study
    trials: list[Trial]
    folders: dict[str, Path]  # empty where the data was not to be prepared
    run: Path
    command: str
    searches: Searches | None = None  # of a study that tunes

    @property
    def state(self) -> Path:
        """The ignored folder of logs, kept networks and Ray's files."""
        return workspace.state_folder(self.run)


def make_plan(
    name: str,
    profile: str | None = None,
    source: str | None = None,
    data_dir: Path | None = None,
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    prepare: bool = True,
    gpus: int | None = None,
) -> Plan:
    """Resolve a study and expand it into trials.

    With `prepare` the data is downloaded and decoded where needed; without it only what is known anyway is
    used, where that suffices. `gpus` are those of a cluster, where trials do not run on this machine.
    Raises StudyError and DataError.
    """
    overrides: dict[str, Any] = {}
    if source is not None:
        overrides |= {"data.source": source, "data.split": "auto"}
    if seeds is not None:
        overrides["seeds"] = seeds
    loaded = study.load_study(name, profile, {**overrides, **(settings or {})})
    located: dict[str, Path] = {}  # by fingerprint
    trials = trial.expand_trials(
        loaded,
        lambda wanted: _facts(wanted, loaded.file.split_seed, data_dir, prepare, located),
        lambda network: load.find_weights(
            network.weights.replace("{depth}", str(network.depth)), network.family, network.depth, workspace.STATE
        ),
        gpus,
    )
    folders = {t.id: located[t.fingerprint] for t in trials} if prepare else {}
    run = out or workspace.RESULTS / _run_name(loaded, trials, settings or {})
    made = Plan(loaded, trials, folders, run, _command(name, profile, source, seeds, settings or {}, out))
    if loaded.file.tune is None:
        return made
    made = replace(made, searches=make_searches(loaded, trials))
    return with_tuned_trials(made, tuning_phase(made))


def tuning_phase(plan: Plan) -> Phase:
    """The tuning phase of a plan's study as far as it has come, whatever the run's own files say of it."""
    assert plan.searches is not None
    folder = plan.run / workspace.TUNING
    records = load_run(folder).records if (folder / workspace.TRIALS).is_dir() else ()
    return phase_from_records(plan.searches.table(), records)


def estimate_search_seconds(plan: Plan, found: Phase, rate: float) -> float:
    """Estimate the seconds that the candidates which are still to come take, one after the other."""
    assert plan.searches is not None
    searches, seconds_ = plan.searches, 0.0
    for arm in found.unfinished:
        rungs, seeds = searches.rungs(arm), searches.tune.chosen_seeds
        like = {epochs: searches.candidate(arm, 1, {}, epochs, seeds[0]) for epochs in set(rungs)}
        work = {epochs: costs.estimate_work([one])[one.id] for epochs, one in like.items()}
        share = 1 - len(found.tried[arm]) / len(rungs)
        seconds_ += share * len(seeds) * sum(work[epochs] for epochs in rungs) / rate
    return seconds_


def with_tuned_trials(plan: Plan, found: Phase) -> Plan:
    """The plan whose trials are those that are compared, by what its tuning phase has found so far."""
    assert plan.searches is not None
    final, like = final_study(plan.searches.study, found.winners()), plan.searches.templates
    arms = [(arm, like[arm.written]) for arm in final.arms]
    trials = [
        trial.make_trial(final, arm, seed, one.facts, one.execution, one.pretrained)
        for seed in final.seeds
        for arm, one in arms
    ]
    places = {one.fingerprint: plan.folders[one.id] for one in like.values() if one.id in plan.folders}
    folders = {t.id: places[t.fingerprint] for t in [*trials, *like.values()] if t.fingerprint in places}
    return replace(plan, study=final, trials=trials, folders=folders)


def plan_of_run(run: Path, command: str, data_dir: Path | None, gpus: int | None = None) -> Plan:
    """The plan of a run that is there, from its own study.yaml; it keeps the command that made it."""
    plan = make_plan(str(run / workspace.STUDY), data_dir=data_dir, out=run, gpus=gpus)
    return replace(plan, command=command or plan.command)


def _facts(wanted: Data, split_seed: int, data_dir: Path | None, prepare: bool, located: dict[str, Path]) -> DataFacts:
    source = open_source(wanted.source, data_dir)
    split = resolve_split(wanted.split, source.splits, source.name)
    identity = data_fingerprint(source, wanted.image_size, split, split_seed)
    known = None if prepare else source.outline(split)
    if known is None:
        located[identity] = source.prepare(wanted.image_size)
        dataset = load_dataset(located[identity], split, split_seed)
        known = dataset.classes, dataset.counts
    return DataFacts(source.name, identity, *known)


def _run_name(loaded: Study, trials: Sequence[Trial], settings: Mapping[str, Any]) -> str:
    """study-profile-data, and a short hash of what `--set` changed in the trials."""
    unseen = ("keep_weights", "diagnostics")  # the same run with and without
    settings = {key: value for key, value in settings.items() if key not in unseen}
    source = re.sub(r"[^A-Za-z0-9_]+", "_", trials[0].data.source)
    parts = [loaded.name, loaded.profile or "full", source]
    if settings:
        parts.append(hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6])
    return "-".join(parts)


def _command(
    name: str,
    profile: str | None,
    source: str | None,
    seeds: int | None,
    settings: Mapping[str, Any],
    out: Path | None,
) -> str:
    """The command that gives this run again, without the paths of this machine's data."""
    words = ["resflow", "study", name]
    words += ["--profile", profile] if profile else []
    words += ["--data", source] if source else []
    words += ["--seeds", str(seeds)] if seeds else []
    for key, value in settings.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    words += ["--out", str(out)] if out else []
    return shlex.join(words)


def write_plan(plan: Plan) -> None:
    """Write plan.csv and study.yaml into the run's folder. Raises RecordError where that cannot be."""
    written = plan.searches.study if plan.searches else plan.study
    notes = {**written.resolved(), "command": plan.command}
    text = io.StringIO()
    yaml = YAML(pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.dump(notes, text)
    try:
        plan.run.mkdir(parents=True, exist_ok=True)
        rows = pd.DataFrame(trial.plan_rows(plan.trials)) if plan.trials else pd.DataFrame(columns=list(PLAN_KEYS))
        atomic.write(plan.run / workspace.PLAN, rows.to_csv(index=False))
        if plan.searches:
            atomic.write(plan.run / workspace.TUNING / workspace.SEARCHES, plan.searches.table().to_csv(index=False))
        atomic.write(plan.run / workspace.STUDY, text.getvalue())
    except OSError as error:
        raise RecordError(
            f"cannot write into {plan.run}: {error}. Make it writable, or choose another folder with --out."
        ) from error


def unpaired_twins(trials: Sequence[Trial]) -> list[str]:
    """Pairs of a plain and a residual arm, equal in all other factors, whose parameters differ; by how much."""
    arms = list({t.arm: t for t in trials}.values())
    pairs = [
        (residual, plain)
        for plain in arms
        for residual in arms
        if plain.network.shortcut == "none" != residual.network.shortcut
        and _but_shortcut(plain) == _but_shortcut(residual)
    ]
    said = [(one, other, architectures.unpaired(one.parameters, other.parameters)) for one, other in pairs]
    return [f"{residual.arm} − {plain.arm}: {difference}" for residual, plain, difference in said if difference]


def _but_shortcut(trial: Trial) -> dict[str, str]:
    return {factor: label for factor, label in trial.levels.items() if factor != "shortcut"}


def count_slots(trials: Sequence[Trial]) -> int:
    """Trials that run at a time on this machine."""
    memory = provenance.environment()["memory_gb"]
    there = {"CPU": provenance.count_processors(), "GPU": provenance.count_gpus()}
    there |= {"memory": memory * (1 - RAYS_SHARE) * GIGABYTE} if memory else {}
    return max(1, TrialResources.from_trial(trials[0]).fit(there))


def estimate_seconds(trials: Sequence[Trial], records: Mapping[str, Record]) -> tuple[dict[str, float], str]:
    """Estimate each trial's seconds, and say from what.

    The rate (multiply-adds a second) is that of the run's own finished trials, or else a measured figure of
    another machine.
    """
    if not trials:
        return {}, "none is planned yet"
    work = costs.estimate_work(trials)
    done = [(t, records[t.id]) for t in trials if t.id in records and records[t.id].status == "completed"]
    spent = sum(record.seconds for _, record in done)
    if spent:
        rate, basis = sum(work[t.id] for t, _ in done) / spent, f"from {len(done)} finished trials of this run"
    else:
        rate = costs.ASSUMED_RATE[trials[0].execution.device]
        basis = f"assuming {rate:.1e} multiply-adds a second; better once a trial has finished here"
    return {t.id: work[t.id] / rate for t in trials}, basis
