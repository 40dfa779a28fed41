"""The time of a small study by `resflow study` and by study_script.py, its causes, and the agreement of the numbers."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resflow.bench import device as devices
from resflow.bench import process
from resflow.bench.contest import Contender, Say, ask_in_turn, median, ratio
from resflow.errors import ResflowError
from resflow.records.run import Run, load_run
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.workflow.plan import make_plan

STUDY = Path(__file__).with_name("study.yaml")
EARLY_STEPS = 2
MAIN = "from resflow.cli.main import main; main()"


def run(study: Path, settings: Mapping[str, Any], rounds: int, say: Say, device: str = "cpu") -> dict[str, Any]:
    """Measure both, in turn, and resflow's harness against a bare loop on the study's first trial.

    On a GPU resflow does as the product chooses, and the script's Keras compiles by XLA, as stock Keras does there.
    Raises StudyError for a bad study, ResflowError for one that the script cannot run or where a trial fails.
    """
    study, settings = study.absolute(), {"execution.device": device, **settings}
    for trial in make_plan(load_study(study, settings=settings), prepare=False).trials:
        _check(trial)
    plan = make_plan(load_study(study, settings=settings))  # decodes the images: neither of the two has to
    spec = {"study": str(study), "settings": settings, "device": device}
    studies, scripts = [], []
    for number in range(1, rounds + 1):
        say(f"round {number}/{rounds}: script")
        scripts.append(_run_script(spec))
        say(f"round {number}/{rounds}: resflow study")
        studies.append(run_resflow_study(study, settings, device=device))
    loops = ask_in_turn(
        [Contender(job, "resflow_jobs", {**spec, "job": job}) for job in ("bare", "trial")],
        max(rounds, 2),
        say,
    )
    say("losses step by step")
    wall, script_wall = median(studies, "wall_s"), median(scripts, "wall_s")
    bare = median(loops["bare"], "seconds")
    first = plan.trials[0]
    return {
        "benchmark": "study",
        "wall_s": {"resflow": round(wall, 2), "script": round(script_wall, 2)},
        "ratio_vs_script": ratio(script_wall, wall),
        "harness_overhead": round(median(loops["trial"], "seconds") / bare - 1, 4),
        "harness_s": {"trial": round(median(loops["trial"], "seconds"), 3), "bare": round(bare, 3)},
        "causes_s": {
            cause: {"resflow": round(median(studies, cause), 2), "script": round(median(scripts, cause), 2)}
            for cause in ("start_and_end", "building_and_compiling", "epochs")
        },
        "trials_at_a_time": round(median(studies, "at_a_time"), 2),
        "one_trial": _one_trial(scripts[-1]["trials"][0], loops["bare"][-1]),
        **compare_steps(process.ask("step_losses", spec)),
        **compare_trials(plan.trials, studies[-1]["trials"], {t["id"]: t for t in scripts[-1]["trials"]}),
        "rounds": {
            "resflow_s": [round(a["wall_s"], 2) for a in studies],
            "script_s": [round(a["wall_s"], 2) for a in scripts],
            **{f"{name}_s": [round(a["seconds"], 3) for a in answers] for name, answers in loops.items()},
        },
        "settings": {
            "study": plan.study.name,
            "arms": [arm.name for arm in plan.study.arms],
            "seeds": list(plan.study.seeds),
            "network": first.network.model_dump(),
            "recipe": first.recipe.model_dump(mode="json"),
            "data": first.data.model_dump(),
            "training_images": first.counts[0],
            **devices.describe(device),
            "execution": first.execution.model_dump(),
            "rounds": rounds,
        },
    }


def _check(trial: Trial) -> None:
    """Raise ResflowError for a trial that the script's few lines do not cover."""
    recipe, expected = trial.recipe, {"optimizer": "sgd", "label_smoothing": 0.0, "early_stopping": None}
    expected |= {"test_weights": "last", "augmentation": type(recipe.augmentation)()}
    odd = [name for name, value in expected.items() if getattr(recipe, name) != value]
    odd += ["schedule"] if recipe.schedule == "plateau" else []
    odd += ["precision"] if trial.execution.precision != "float32" else []
    if odd:
        raise ResflowError(
            f"bench study: arm {trial.arm} sets {', '.join(odd)}, which the script it is compared with cannot do: "
            "expected sgd in float32, no augmentation, smoothing, plateau or early stopping, the last weights."
        )


def _run_script(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure the script's wall seconds without those of reading the study: a script has its settings at hand."""
    start = time.perf_counter()
    answer = process.ask("study_script", spec)
    wall = time.perf_counter() - start - answer["preparing"]
    trials = answer["trials"]
    epochs = [[e["steps"] + e["evaluation"] for e in t["history"]] for t in trials]
    return {
        "wall_s": wall,
        **split_causes(wall, wall, [t["seconds"] for t in trials], epochs, slots=1),
        "trials": trials,
    }


def run_resflow_study(
    study: Path,
    settings: Mapping[str, Any],
    profile: str | None = None,
    variables: Mapping[str, str] | None = None,
    device: str = "cpu",
    out: Path | None = None,
) -> dict[str, Any]:
    """Run `resflow study` as a user types it, and measure the wall seconds of the process.

    Its run is in a folder of its own that is removed, or in `out`.
    """
    words = ["--profile", profile] if profile else []
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MAIN, "study", str(study), *words, "--out", str(out or f"{folder}/run")]
        environment = {**process.environment(device=device), **(variables or {})}
        begin, start = datetime.now(UTC), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
        wall = time.perf_counter() - start
        if done.returncode:
            raise ResflowError(f"benchmark: resflow study failed: {process.last_line(done.stderr or done.stdout)}")
        return {"wall_s": wall, **_measure(load_run(out or Path(folder) / "run"), wall, begin)}


def _measure(run: Run, wall: float, begin: datetime) -> dict[str, Any]:
    """Return a finished run's trials and the causes of its wall seconds. Raises ResflowError where a trial failed."""
    bad = [record for record in run.records if record.status != "completed"]
    if bad or not run.records:
        raise ResflowError(f"benchmark: {bad[0].reason if bad else 'no trial ran'}. Nothing was compared.")
    histories = run.histories()
    by_trial = {record.id: histories[histories["id"] == record.id] for record in run.records}
    # Records tell the time to the second: good enough for a span of minutes.
    first = min(datetime.fromisoformat(record.provenance["started"]) for record in run.records)
    last = max(datetime.fromisoformat(record.provenance["finished"]) for record in run.records)
    span = min(wall, max(1.0, (last - max(first, begin)).total_seconds()))
    seconds = [record.spent_seconds for record in run.records]
    at_a_time = max(1.0, sum(seconds) / span)
    epochs = [list(frame["seconds"]) for frame in by_trial.values()]
    return {
        "at_a_time": at_a_time,
        **split_causes(wall, span, seconds, epochs, at_a_time),
        "trials": {
            record.id: {"test_top1": record.metrics["test_top1"], "history": by_trial[record.id].to_dict("records")}
            for record in run.records
        },
    }


def split_causes(
    wall: float, span: float, trials: Sequence[float], epochs: Sequence[Sequence[float]], slots: float
) -> dict[str, float]:
    """Split wall seconds by cause; the three parts add up to `wall`.

    `trials` and `epochs` are seconds of each trial and of its epochs, `slots` how many ran at a time. The seconds of
    a first epoch beyond the median of the later ones are tracing and compiling, as are those that no epoch covers.
    """
    training = sum(sum(own) - max(0.0, own[0] - statistics.median(own[1:] or own)) for own in epochs) / slots
    inside = min(sum(trials) / slots, span)
    return {"start_and_end": wall - inside, "building_and_compiling": inside - training, "epochs": training}


def _one_trial(script: Mapping[str, Any], bare: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seconds of the first trial's steps and evaluations in a later epoch: the script has all cores."""
    later = script["history"][1:] or script["history"]
    return {
        part: {
            "resflow": round(statistics.median(bare[part][1:] or bare[part]), 3),
            "script": round(statistics.median(epoch[part] for epoch in later), 3),
        }
        for part in ("steps", "evaluation")
    }


def compare_steps(arms: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Return the largest |difference| of cross-entropy (nats) over arms: of early steps, and of the first epoch's mean.

    `arms` are the answer of contenders/step_losses.py. The second step follows one update, so that gradients, rates
    and L2 show in it; later, rounding grows by itself.
    first_epoch_loss_noise is resflow against itself, its initial weights changed in their last bit.
    """
    early = [max(abs(a["resflow"][i] - a["script"][i]) for a in arms.values()) for i in range(EARLY_STEPS)]
    noise = max(abs(statistics.fmean(a["resflow"]) - statistics.fmean(a["twin"])) for a in arms.values())
    return {"first_steps_loss_difference": early, "first_epoch_loss_noise": noise}


def compare_trials(
    trials: Sequence[Trial], resflow: Mapping[str, Mapping[str, Any]], script: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Compare losses of the first epoch, and the final accuracy of each arm beside its seeds' spread.

    first_epoch_loss_difference is the largest |difference| over trials of the mean training cross-entropy
    (nats) over the first epoch's batches. `within_spread` says that each arm's mean top-1 differs by no more
    than the range over its seeds, the wider of the two.
    """
    differences = [
        abs(resflow[t.id]["history"][0]["batch_loss"] - script[t.id]["history"][0]["batch_loss"]) for t in trials
    ]
    arms: dict[str, dict[str, float]] = {}
    for arm in dict.fromkeys(t.arm for t in trials):
        ours, theirs = ([side[t.id]["test_top1"] for t in trials if t.arm == arm] for side in (resflow, script))
        arms[arm] = {
            "resflow": round(statistics.mean(ours), 4),
            "script": round(statistics.mean(theirs), 4),
            "spread": round(max(max(ours) - min(ours), max(theirs) - min(theirs)), 4),
        }
    return {
        "first_epoch_loss_difference": max(differences),
        "final_test_top1": arms,
        "within_spread": all(abs(a["resflow"] - a["script"]) <= a["spread"] for a in arms.values()),
    }
