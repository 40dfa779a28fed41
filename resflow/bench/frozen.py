"""The time of the head study by `resflow study`, which computes a frozen backbone once a view, and by frozen_script.py.

The ratio is split into its causes, and the numbers of the two are compared.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resflow import workspace
from resflow.bench import process
from resflow.bench.contest import Say, ratio
from resflow.bench.study import run_resflow_study
from resflow.data import cache
from resflow.errors import ResflowError
from resflow.study import costs
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.workflow.plan import Plan, make_plan

STUDY = Path(__file__).with_name("frozen.yaml")
VARIANTS = ("augmented", "clean")  # profiles of the study
LOSSES = ("batch_loss", "validation_loss")
TIMED = ("steps", "training_evaluation", "validation_evaluation")  # of an epoch of the script
SUMMARY = (
    "ratio_vs_script",
    "ratio_without_training_evaluation",
    "wall_s",
    "causes",
    "parts_s",
    "images_through_the_backbone",
    "trials_at_a_time",
)
SCALING = (
    "start once; building, compiling and the test once a trial; of an epoch the median of a trial's after its first; "
    "of a trial the mean of the timed ones"
)


def run(settings: Mapping[str, Any], rounds: int, trials: int, epochs: int, say: Say) -> dict[str, Any]:
    """Measure both, in turn, with augmentation and without; the figures are those of the round of the median ratio.

    `trials` and `epochs` are how many of the script's are timed; the rest is scaled. resflow starts with no features
    on disk, then once more with all of them there: the difference is what computing them took.
    Raises StudyError for a bad setting, ResflowError for one that the script cannot do or where a trial fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = _make_weights(settings, folder, say)
        spec = {"study": str(STUDY), "settings": {**settings, "network.weights": file}}
        specs = {variant: {**spec, "profile": variant} for variant in VARIANTS}
        plans = {variant: _check(_plan(spec)) for variant, spec in specs.items()}
        arms = choose_spread([arm.name for arm in plans[VARIANTS[0]].study.arms], trials)
        answers: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
        for number, variant in itertools.product(range(1, rounds + 1), VARIANTS):
            timed_spec = {**specs[variant], "arms": arms, "epochs": epochs}
            title = f"round {number}/{rounds}, {variant}"
            answers[variant].append(_run_round(timed_spec, plans[variant].trials, title, say))
        differences = {}
        for variant in VARIANTS:
            say(f"{variant}: the first epoch's losses of every head")
            losses = process.ask("frozen_script", {**specs[variant], "job": "same"})
            differences[variant] = compare_losses(answers[variant][-1]["trials"], losses)
    plan = plans[VARIANTS[0]]
    medians = {variant: median_round(rounds_) for variant, rounds_ in answers.items()}
    return {
        "benchmark": "frozen",
        **{key: {variant: answer[key] for variant, answer in medians.items()} for key in SUMMARY},
        "first_epoch_loss_difference": differences,
        "script_timed": {
            "trials": len(arms),
            "of_trials": len(plan.trials),
            "epochs": epochs,
            "of_epochs": plan.trials[0].recipe.epochs,
            "arms": arms,
            "scaling": SCALING,
            "wall_s": {variant: answer["script_timed_s"] for variant, answer in medians.items()},
        },
        "rounds": {
            key: {variant: [answer[key] for answer in rounds_] for variant, rounds_ in answers.items()}
            for key in ("ratio_vs_script", "wall_s")
        },
        "settings": {**_settings(plan), "rounds": rounds},
    }


def _make_weights(settings: Mapping[str, Any], folder: str, say: Say) -> str:
    """Make random weights for the study's backbone, and return their file."""
    unloaded = {**settings, "network.weights": "none", "recipe.finetune": "scratch"}
    spec = {"study": str(STUDY), "profile": VARIANTS[0], "settings": unloaded}
    _check(_plan(spec, prepare=False), but="finetune")
    say("random weights for the backbone")
    file = str(Path(folder) / "random.safetensors")
    process.ask("frozen_script", {**spec, "job": "random_weights", "file": file})
    return file


def _settings(plan: Plan) -> dict[str, Any]:
    first = plan.trials[0]
    return {
        "study": plan.study.name,
        "arms": [arm.name for arm in plan.study.arms],
        "seeds": list(plan.study.seeds),
        "network": first.network.model_dump(mode="json"),
        "recipe": first.recipe.model_dump(mode="json"),
        "data": first.data.model_dump(),
        "images": dict(zip(cache.PARTS, first.counts, strict=True)),
        "execution": first.execution.model_dump(),
    }


def _plan(spec: Mapping[str, Any], prepare: bool = True) -> Plan:
    return make_plan(load_study(spec["study"], spec["profile"], spec["settings"]), prepare=prepare)


def _check(plan: Plan, but: str = "") -> Plan:
    """Return a plan. Raises ResflowError for a setting, `but` aside, that the script's few lines do not cover."""
    for trial in plan.trials:
        recipe = trial.recipe
        expected = {"finetune": "frozen", "bn": "inference", "weight_decay": 0.0, "label_smoothing": 0.0}
        expected |= {"early_stopping": None, "test_weights": "last", "validation_views": "clean", "head_epochs": 0}
        odd = [name for name, value in expected.items() if name != but and getattr(recipe, name) != value]
        odd += ["optimizer"] if recipe.optimizer not in ("sgd", "adam") else []
        odd += ["schedule"] if recipe.schedule == "plateau" else []
        odd += ["variant"] if trial.network.variant == "v2" else []
        odd += ["normalisation"] if trial.data.normalisation not in ("auto", "weights") else []
        odd += ["precision"] if trial.execution.precision != "float32" else []
        odd += [] if trial.execution.features else ["features"]
        if odd:
            raise ResflowError(
                f"bench frozen: arm {trial.arm} sets {', '.join(odd)}, which the script it is compared with cannot "
                "do: expected a frozen backbone of v1 or v1.5 with its weights' normalisation, sgd or adam in float32, "
                "no decay, smoothing, plateau or early stopping, clean validation images, the last weights."
            )
    return plan


def median_round(rounds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the round whose ratio is the median; of an even number of rounds, the lower one."""
    return sorted(rounds, key=lambda answer: answer["ratio_vs_script"])[(len(rounds) - 1) // 2]


def choose_spread(names: Sequence[str], count: int) -> list[str]:
    """Return so many of the names, evenly spaced; the first and the last are among them where there are two."""
    count = min(count, len(names))
    return [names[round(place * (len(names) - 1) / max(1, count - 1))] for place in range(count)]


def _run_round(spec: dict[str, Any], trials: Sequence[Trial], title: str, say: Say) -> dict[str, Any]:
    say(f"{title}: script")
    start = time.perf_counter()
    answer = process.ask("frozen_script", {**spec, "job": "timed"})
    wall = time.perf_counter() - start - answer["preparing"]
    script = scale(wall, answer["trials"], len(trials), trials[0].recipe.epochs)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(workspace.cache(workspace.IMAGES))  # the images are there, features are not
        studies = []
        for state in ("no features yet", "all features there"):
            say(f"{title}: resflow study, {state}")
            studies.append(run_resflow_study(STUDY, spec["settings"], spec["profile"], {"RESFLOW_CACHE": folder}))
    cold, warm = studies
    resflow = {
        **{part: warm[part] for part in ("start_and_end", "building_and_compiling")},
        "heads": warm["epochs"],
        "features": cold["wall_s"] - warm["wall_s"],
    }
    passes = count_passes(trials)
    script_wall = sum(script.values())
    return {
        "ratio_vs_script": ratio(script_wall, cold["wall_s"]),
        "ratio_without_training_evaluation": ratio(script_wall - script["training_evaluation"], cold["wall_s"]),
        "wall_s": {
            "resflow": round(cold["wall_s"], 2),
            "resflow_again": round(warm["wall_s"], 2),
            "script": round(script_wall, 2),
        },
        "script_timed_s": round(wall, 2),
        "causes": split_causes(script, resflow, passes, cold["at_a_time"]),
        "parts_s": {"resflow": _rounded(resflow), "script": _rounded(script)},
        "images_through_the_backbone": passes,
        "trials_at_a_time": round(cold["at_a_time"], 2),
        "trials": cold["trials"],
    }


def _rounded(parts: Mapping[str, float]) -> dict[str, float]:
    return {part: round(seconds, 2) for part, seconds in parts.items()}


def scale(wall: float, timed: Sequence[Mapping[str, Any]], trials: int, epochs: int) -> dict[str, float]:
    """Return the script's wall seconds of all trials and epochs by part, from a process that ran some (SCALING)."""
    later = [trial["history"][1:] or trial["history"] for trial in timed]
    each = {part: [statistics.median(epoch[part] for epoch in own) for own in later] for part in TIMED}
    first = [sum(trial["history"][0][part] for part in TIMED) for trial in timed]
    usual = [sum(own) for own in zip(*each.values(), strict=True)]
    compiling = [max(0.0, one - other) for one, other in zip(first, usual, strict=True)]
    building = [trial["building"] + extra for trial, extra in zip(timed, compiling, strict=True)]
    return {
        "start": wall - sum(trial["seconds"] for trial in timed),
        "building_and_compiling": trials * statistics.fmean(building),
        **{part: trials * epochs * statistics.fmean(own) for part, own in each.items()},
        "test": trials * statistics.fmean(trial["test"] for trial in timed),
    }


def count_passes(trials: Sequence[Trial]) -> dict[str, int]:
    """Count images through the backbone: by resflow each view once, by the script whenever a trial needs one."""
    views: dict[tuple[Any, ...], int] = {}
    script = 0
    for trial in trials:
        train, validation, test = trial.counts
        fitted = train // trial.recipe.batch_size * trial.recipe.batch_size
        script += trial.recipe.epochs * (fitted + train + validation) + test
        views |= costs.feature_views(trial)
    return {"resflow": sum(views.values()), "script": script}


def split_causes(
    script: Mapping[str, float], resflow: Mapping[str, float], passes: Mapping[str, int], slots: float
) -> dict[str, float]:
    """Split the ratio of wall seconds into factors, whose product it is; above 1 is what resflow gains by.

    From the script to resflow one cause at a time, in this order: each view goes through the backbone once, at the
    script's speed; heads are trained on features, in one process; start, building and compiling are resflow's; so
    is the forward pass, in one process; as many trials run at a time as did, `slots`.
    """
    fixed = script["start"] + script["building_and_compiling"]
    forward = sum(script.values()) - fixed
    shared = forward * passes["resflow"] / passes["script"]
    heads, building = resflow["heads"] * slots, resflow["building_and_compiling"] * slots
    steps = {
        "script": sum(script.values()),
        "sharing_features": fixed + shared,
        "training_heads": fixed + shared + heads,
        "start_and_building": resflow["start_and_end"] + building + shared + heads,
        "forward_pass": resflow["start_and_end"] + building + resflow["features"] * slots + heads,
        "trials_at_a_time": sum(resflow.values()),
    }
    return {cause: round(steps[before] / steps[cause], 3) for before, cause in itertools.pairwise(steps)}


def compare_losses(
    resflow: Mapping[str, Mapping[str, Any]], script: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return the largest |difference| of first epochs' losses over the script's trials: batches' mean, validation."""
    return {
        key: max(abs(resflow[trial]["history"][0][key] - losses[key]) for trial, losses in script.items())
        for key in LOSSES
    }
