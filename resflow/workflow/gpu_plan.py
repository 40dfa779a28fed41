"""The memory of a GPU as a plan sees it: what a trial is estimated to take, how many fit, what each would get."""

from __future__ import annotations

from resflow.errors import TrainingError
from resflow.records.gpu_choice import GpuChoice
from resflow.runner.gpu_sharing import COUNTS, examine_gpu, find_choice
from resflow.study.memory import DeviceMemory, estimate_memory, gpu_share
from resflow.study.resources import GIGABYTE, ROUNDING, TrialResources
from resflow.study.trial import Trial
from resflow.workflow.plan import Plan


def tell_gpu_memory(plan: Plan) -> str:
    """Say what the plan's largest trial takes of a GPU, by estimate, and how many fit; empty where none is used."""
    trials = [*plan.trials, *(plan.searches.templates.values() if plan.searches else ())]
    if not trials or trials[0].execution.device != "gpu":
        return ""
    estimates = {trial.arm: estimate_memory(trial) for trial in trials}
    arm = max(estimates, key=lambda name: estimates[name].peak)
    need = f"GPU memory: a trial of {arm}, the largest, is estimated to take {_parts(estimates[arm])}."
    try:
        choice = examine_gpu(trials)
    except TrainingError:
        return f"{need} No GPU is seen here. {_share(trials[0])}"
    known = find_choice(plan.run, choice)
    return f"{need} {_fit(known or choice)} {_share(trials[0], known)}{_warning(trials[0], choice)}"


def _parts(memory: DeviceMemory) -> str:
    named = {"activations": memory.activations, "evaluation": memory.evaluation, "data": memory.data}
    named["weights, gradients and optimiser"] = memory.weights + memory.gradients + memory.slots
    parts = ", ".join(f"{name} {_gigabytes(size)}" for name, size in named.items() if size)
    return f"{_gigabytes(memory.peak)} ({parts})"


def _fit(choice: GpuChoice) -> str:
    total, peak = choice.gpu["memory"], choice.peak_bytes or choice.estimated_bytes
    fit = int(1 / gpu_share(peak, choice.context_bytes, total) + ROUNDING)
    basis = "by the peak that was measured" if choice.peak_bytes else "by that estimate"
    return (
        f"{choice.gpu['name']} has {_gigabytes(total)}, of which CUDA takes {_gigabytes(choice.context_bytes)} for "
        f"each process: {fit} {'has' if fit == 1 else 'have'} room at a time {basis}, with 15 % to spare."
    )


def _share(trial: Trial, known: GpuChoice | None = None) -> str:
    if trial.resources.gpus != "auto":
        share = TrialResources.from_trial(trial).gpus
        return "Each gets a GPU of its own." if share == 1 else f"Each gets {share:g} of a GPU."
    if known and known.throughput:
        return f"gpus: auto has measured here that {known.trials_per_gpu} at a time are fastest."
    return f"gpus: auto measures {', '.join(map(str, COUNTS))} at a time, as far as they fit, and takes the fastest."


def _warning(trial: Trial, choice: GpuChoice) -> str:
    """Say where a share that the study sets is less than the estimate."""
    gets = TrialResources.from_trial(trial).gpus * choice.gpu["memory"] - choice.context_bytes
    if gets >= choice.estimated_bytes:
        return ""
    return (
        f" That is {_gigabytes(gets)} for TensorFlow, less than the estimate: set gpus to more, or batch_size to less."
    )


def _gigabytes(size: float) -> str:
    return f"{size / GIGABYTE:.3g} GB"
