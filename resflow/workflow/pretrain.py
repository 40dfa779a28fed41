"""`resflow pretrain`: a study of one arm and one seed, whose kept network is copied to where it is wanted."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from resflow import workspace
from resflow.errors import StudyError, TrainingError, WeightsError
from resflow.records.record import Record
from resflow.records.run import finished_records
from resflow.runner.stopping import exclusive_run
from resflow.study.load import load_study
from resflow.weights.saved import KEPT, trials_to_run, trials_without_network, whole
from resflow.workflow.plan import Plan, data_words, make_plan, setting_words, write_plan
from resflow.workflow.run import check_and_warn
from resflow.workflow.run_contract import Reporter, RunOptions
from resflow.workspace import network_path, trial_folder

DEPTH_KEYS = ("depth", "network.depth")


def plan_pretraining(
    source: str, data_dir: Path | None, depth: int, seed: int, settings: Mapping[str, Any], out: Path
) -> Plan:
    """Plan the one trial. The same options give the same run, which trains nothing twice.

    `settings` are those of `--set`; a depth among them stands over `depth`. Raises StudyError where they ask for more
    than one trial or for no kept network, and WeightsError where `out` is no place for one.
    """
    if out.suffix != KEPT or out.is_dir():
        raise WeightsError(f"--out {out}: expected a file that ends in {KEPT}, such as backbone{KEPT}.")
    depth = next((settings[key] for key in DEPTH_KEYS if key in settings), depth)
    given = {key: value for key, value in settings.items() if key not in DEPTH_KEYS}
    overrides = {"factors.depth": {"backbone": depth}, "seeds": [seed], **given}
    template = Path(str(resources.files("resflow"))) / "templates" / "pretrain.yaml"
    make = partial(make_plan, load_study(template, settings=overrides), source, data_dir)
    made = make(prepare=False)  # what is wrong is told before photos are decoded
    if len(made.trials) != 1:
        raise StudyError(
            f"pretrain trains one network, and these settings make {len(made.trials)} trials: choose the seed with "
            "--seed; for more than one network write a study (`resflow init`) with keep_weights: last."
        )
    if made.trials[0].keep_weights == "none":
        raise StudyError("pretrain is for the network that it keeps: set keep_weights to last or best, not to none.")
    words = ["resflow", "pretrain", *data_words(source, data_dir), "--depth", str(depth), "--out", out.name]
    return replace(make(), command=shlex.join([*words, "--seed", str(seed), *setting_words(given)]))


def run_pretraining(plan: Plan, out: Path, reporter: Reporter) -> Record:
    """Train, as far as no record and network are there yet, and copy the network to `out`: whole or not at all.

    Raises TrainingError where the trial failed or diverged.
    """
    (trial,) = plan.trials
    check_and_warn(plan, RunOptions(), reporter)
    with exclusive_run(plan.run):
        write_plan(plan)
        if trials_to_run(plan.trials, finished_records(plan.run), plan.state):
            from resflow.runner.execute import RunPlace, execute

            with reporter.watch(1) as show:
                execute(RunPlace(plan.run, plan.state), plan.trials, plan.folders, show)
    record, log = finished_records(plan.run).get(trial.id), workspace.log_path(plan.state, trial.id)
    if record is None:
        raise TrainingError("the training was interrupted: start it again with the same command.")
    if record.status != "completed":
        raise TrainingError(
            f"the trial {record.status}: {record.reason}\n  log: {log}\n  to run it again, remove "
            f"{trial_folder(plan.run, record.id)} and repeat the command; a lower learning_rate may help"
        )
    if trials_without_network([trial], {trial.id: record}, plan.state):
        raise TrainingError(f"the trial completed, but its network could not be kept: {log} tells why.")
    with whole(out) as draft:
        shutil.copyfile(network_path(plan.state, trial.id), draft)
    return record
