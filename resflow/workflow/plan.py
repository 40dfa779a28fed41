"""From what the user typed to trials with their data and their run's folder: shared by every command that plans."""

from __future__ import annotations

import html
import io
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from resflow import atomic, workspace
from resflow.data.cache import Spent, never
from resflow.data.dataset import data_fingerprint, load_dataset, resolve_split
from resflow.data.meta import DRAWN_SPLITS
from resflow.data.sources.open import open_source
from resflow.errors import RecordError, StudyError
from resflow.records.run import load_run, with_factor_values
from resflow.records.run_files import PLAN_KEYS, PLAN_NUMBERS, read_study
from resflow.study import trial
from resflow.study.level_columns import column_names, with_levels
from resflow.study.load import Origin, Study, load_study
from resflow.study.published import Publisher, write_paths
from resflow.study.settings import Data
from resflow.study.split_notes import JOINED, SplitNotes
from resflow.study.trial import DataFacts, Trial
from resflow.study.variation import follow
from resflow.tuning.phase import Phase, Searches, final_study, make_searches, phase_from_records
from resflow.weights import load
from resflow.workflow.run_place import find_run, own_run


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

    def frame(self) -> pd.DataFrame:
        """Return a row a trial: id, arm, a column for each factor with values of its own type, seed, parameters,
        multiply_adds (of one forward pass of one image), epochs."""
        rows = pd.DataFrame(trial.plan_rows(self.trials)) if self.trials else pd.DataFrame(columns=list(PLAN_KEYS))
        names = column_names(self.study.factors, (*PLAN_KEYS, *PLAN_NUMBERS))
        return with_factor_values(rows, {names[factor]: levels for factor, levels in self.study.factors.items()})

    def _repr_html_(self) -> str:
        """Show the plan in a notebook as its trials."""
        count = f"{len(self.trials)} trials of {len(self.study.arms)} arms"
        table = self.frame().to_html(max_rows=20, index=False, border=0)
        head = f"<strong>{html.escape(self.study.name)}</strong>: {count}, records in {html.escape(str(self.run))}"
        return f"<p>{head}</p>{table}"


def make_plan(
    study: Study | str | os.PathLike[str] | Mapping[str, Any],
    data: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    prepare: bool = True,
    gpus: int | None = None,
    spent: Spent = never,
) -> Plan:
    """Expand a study into trials. What is no Study yet is loaded by `load_study`.

    `data` is another source than the study's; `data_dir` holds the source's official files where it has some; `out` is
    the run's folder, results/STUDY-PROFILE-DATA by default. With `prepare` the data is downloaded and decoded where
    needed; without it nothing is, where what is known anyway suffices. `gpus` are those of a cluster, where trials do
    not run on this machine. `spent` says why no more time may go into decoding, which then ends in a DataError. Raises
    StudyError, DataError and WeightsError.
    """
    loaded = study if isinstance(study, Study) else load_study(study)
    loaded = loaded if data is None else loaded.with_data(data)
    place = None if data_dir is None else Path(data_dir)
    located = Located(place, spent)
    _check_split_varies(loaded, located)
    trials = trial.expand_trials(
        loaded,
        lambda wanted, split_seed: _facts(wanted, split_seed, located, prepare),
        lambda network: load.find_weights(
            network.weights.replace("{depth}", str(network.depth)), network.family, network.depth, workspace.STATE
        ),
        gpus,
    )
    folders = {t.id: located.folders[t.fingerprint] for t in trials} if prepare else {}
    run = find_run(loaded, trials[0]) if out is None else Path(out)
    command = _command(loaded.origin, loaded.profile, run, out, place, gpus is not None)
    if run == own_run(loaded) and not loaded.origin.settings:
        command = loaded.file.command or command  # the one that made the run
    plan = Plan(loaded, trials, folders, run, command)
    if loaded.file.tune is None:
        return plan
    plan = replace(plan, searches=make_searches(loaded, trials))
    return with_tuned_trials(plan, tuning_phase(plan))


def tuning_phase(plan: Plan) -> Phase:
    """The tuning phase of a plan's study as far as it has come, whatever the run's own files say of it."""
    assert plan.searches is not None
    folder = plan.run / workspace.TUNING
    records = load_run(folder).records if (folder / workspace.TRIALS).is_dir() else ()
    return phase_from_records(plan.searches.table(), records)


def with_tuned_trials(plan: Plan, found: Phase) -> Plan:
    """The plan whose trials are those that are compared, by what its tuning phase has found so far."""
    assert plan.searches is not None
    final, like = final_study(plan.searches.study, found.winners()), plan.searches.templates
    arms = [(arm, like[arm.written]) for arm in final.arms]
    trials = [trial.make_trial(final, arm, streams, one.context) for streams in final.streams for arm, one in arms]
    places = {one.fingerprint: plan.folders[one.id] for one in like.values() if one.id in plan.folders}
    folders = {t.id: places[t.fingerprint] for t in [*trials, *like.values()] if t.fingerprint in places}
    return replace(plan, study=final, trials=trials, folders=folders)


def plan_of_run(run: Path, command: str, data_dir: Path | None, gpus: int | None = None, spent: Spent = never) -> Plan:
    """The plan of a run that is there, from its own study.yaml; it keeps the command that made it."""
    plan = make_plan(run / workspace.STUDY, data_dir=data_dir, out=run, gpus=gpus, spent=spent)
    return replace(plan, command=command or plan.command)


class Located:
    """The data of a plan: each source is opened once, and prepared once at each size, whatever splits it has."""

    def __init__(self, data_dir: Path | None, spent: Spent) -> None:
        self.folders: dict[str, Path] = {}  # by fingerprint
        self.open = cache(lambda name: open_source(name, data_dir))
        self.prepare = cache(lambda name, image_size: self.open(name).prepare(image_size, spent=spent))


def _check_split_varies(study: Study, located: Located) -> None:
    """Raise StudyError where the split is to follow the seed, and is not drawn."""
    if "split" not in follow(study.file.vary):
        return
    for data in dict.fromkeys(arm.data for arm in study.arms):
        source = located.open(data.source)
        split = resolve_split(data.split, source.splits, source.name)
        if split not in DRAWN_SPLITS:
            raise StudyError(
                f"vary: the {split} split of {source.name} is given, not drawn, so it cannot follow the seed. Leave "
                "split out of vary, or name data whose split resflow draws."
            )


def _facts(wanted: Data, split_seed: int, located: Located, prepare: bool) -> DataFacts:
    source = located.open(wanted.source)
    split = resolve_split(wanted.split, source.splits, source.name)
    identity = data_fingerprint(source, wanted.image_size, split, split_seed, wanted.train)
    known = None if prepare else source.outline(split)
    if known is None:
        located.folders[identity] = located.prepare(wanted.source, wanted.image_size)
        dataset = load_dataset(located.folders[identity], split, split_seed, wanted.train)
        known = dataset.classes, dataset.counts
        return DataFacts(source.name, identity, *known, dataset.originals, split, dataset.notes)
    classes, (train, validation, test) = known
    joined = wanted.train == JOINED
    counts = (train + validation, 0, test) if joined else (train, validation, test)
    return DataFacts(source.name, identity, classes, counts, split=split, notes=SplitNotes(joined=joined))


def _command(
    origin: Origin, profile: str | None, run: Path, out: Any, data_dir: Path | None = None, on_cluster: bool = False
) -> str:
    """Return the command that gives this run again, with names in place of paths that are of this machine.

    A study that was written in Python has no file but the one that its run keeps. Of a cluster it says no more than
    that it is one: whether it has GPUs decides on the device.
    """
    publish = Publisher().publish
    place = publish(os.path.relpath(run) if run.is_relative_to(Path.cwd()) else str(run))
    if origin.name:
        words = ["resflow", "study", publish(origin.name)]
        words += ["--profile", profile] if profile else []
        words += data_words(origin.source, data_dir)
        settings = dict(origin.settings)
        words += ["--seeds", str(settings.pop("seeds"))] if isinstance(settings.get("seeds"), int) else []
        words += setting_words(settings)
        words += [] if out is None else ["--out", place]
    else:
        words = ["resflow", "study", f"{place}/{workspace.STUDY}", *data_words(None, data_dir), "--out", place]
    return shlex.join([*words, *(["--address", "auto"] if on_cluster else [])])


def data_words(source: str | None, data_dir: Path | None) -> list[str]:
    """Return the words of a command that name its data."""
    publish = Publisher().publish
    words = ["--data", publish(source)] if source else []
    return words if data_dir is None else [*words, "--data-dir", publish(str(data_dir))]


def setting_words(settings: Mapping[str, Any]) -> list[str]:
    """Return the words of a command that lay settings over its study."""
    publish = Publisher().publish
    return [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(publish(value))}")]


def check_place(plan: Plan) -> None:
    """Raise RecordError where a plan's folder is no place for it: others' files, links out of it, another's run."""
    workspace.claim_run(plan.run)
    for folder in (plan.run, plan.state):
        workspace.refuse_links_out(folder)
    if not workspace.is_run(plan.run):
        return
    path = plan.run / workspace.STUDY
    study = read_study(path)[0] if path.exists() else {}
    name, known = study.get("name", plan.study.name), study.get("fingerprints")
    if name != plan.study.name:
        raise RecordError(
            f"{plan.run} holds a run of the study {name}, not of {plan.study.name}: choose another folder with --out."
        )
    if not isinstance(known, list):  # of before they stood there
        known = [record.data.get("fingerprint") for record in load_run(plan.run).records]
    before = set(known) - {None}
    if before and not before & _fingerprints(plan):
        raise RecordError(
            f"{plan.run} holds a run on other data (fingerprint {min(map(str, before))[:12]}; here it is "
            f"{min(_fingerprints(plan))[:12]}): other photos, another split of them or another size. Choose another "
            "folder with --out, or name that run's own data."
        )


def _fingerprints(plan: Plan) -> set[str]:
    searched = plan.searches.templates.values() if plan.searches else ()
    return {one.fingerprint for one in (*plan.trials, *searched)}


def write_plan(plan: Plan) -> None:
    """Write plan.csv and study.yaml into the run's folder. Raises RecordError where that cannot be."""
    written = plan.searches.study if plan.searches else plan.study
    publisher = Publisher()
    notes = publisher.publish({**written.resolved(), "command": None, "fingerprints": sorted(_fingerprints(plan))})
    notes["command"] = plan.command  # is one already
    text = io.StringIO()
    yaml = YAML(pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.dump(notes, text)
    try:
        write_paths(plan.state, publisher.paths)
        atomic.write(plan.run / workspace.STUDY, text.getvalue())  # first: it marks the folder as a run's
        known = trial.plan_rows(plan.trials, plan.study.optional_seeds)
        rows = pd.DataFrame(known) if known else pd.DataFrame(columns=list(PLAN_KEYS))
        atomic.write(plan.run / workspace.PLAN, rows.to_csv(index=False))
        if plan.searches:
            levels = {arm.name: arm.levels for arm in plan.searches.study.arms}
            table = with_levels(plan.searches.table(), levels)
            atomic.write(plan.run / workspace.TUNING / workspace.SEARCHES, table.to_csv(index=False))
    except OSError as error:
        raise RecordError(
            f"cannot write into {plan.run}: {error}. Make it writable, or choose another folder with --out."
        ) from error
