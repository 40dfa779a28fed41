"""A study as trials: arms x seeds, each with an execution spec and an id hashed from what changes its outcome."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resflow import architectures, provenance
from resflow.architectures import Architecture
from resflow.settings import Data, Execution, Network, Recipe
from resflow.study import Arm, Study

NUMERICS_VERSION = 2  # raise by hand when the same settings begin to give other numbers
JIT_STEPS = 2000  # a guess for GPUs, none was at hand: a minute of compilation against a tenth of a second a step
TRAINING_COST = 3  # a training step costs a forward pass and a backward pass of twice its multiply-adds
# `Trial.work` a second of one trial, for `plan`'s estimate until a record of the run tells better. cpu: over the 24
# records of results/depth-cpu-oxford_flowers102 (one thread of two, AMD EPYC). gpu: a guess, no GPU was at hand.
ASSUMED_RATE = {"cpu": 1.1e10, "gpu": 1e12}


@dataclass(frozen=True)
class Trial:
    """One training run to be."""

    id: str
    study: str
    arm: str
    levels: dict[str, str]
    seed: int
    split_seed: int
    network: Network
    architecture: Architecture  # the network, its stem resolved
    recipe: Recipe
    data: Data  # its source by name, without a path
    fingerprint: str  # of the images, labels and split
    execution: Execution  # device resolved
    classes: int
    train_images: int
    parameters: int
    multiply_adds: int  # one forward pass of one image

    def settings(self) -> dict[str, Any]:
        """Everything that was asked for, as the record keeps it."""
        return {name: getattr(self, name).model_dump(mode="json") for name in ("network", "recipe", "data")}

    def work(self) -> float:
        """Multiply-adds of the whole training, the evaluations of each epoch on as many images twice included."""
        return self.multiply_adds * self.train_images * self.recipe.epochs * (TRAINING_COST + 2)


@dataclass(frozen=True)
class DataFacts:
    """What a trial must know of its data before anything is decoded."""

    source: str  # the source's name, without a path
    fingerprint: str
    classes: int
    train_images: int


def resolve_execution(asked: Execution, steps: int) -> Execution:
    """Settle every `auto`, alike for all trials; `steps` are the fewest optimiser steps that any of them takes.

    Lowerings are a CPU matter: cuDNN chooses its own on GPUs. XLA compiles where it repays its compilation within
    the shortest trial: never on CPUs, where its convolutions are slower than oneDNN's (results/bench/).
    """
    device = asked.device if asked.device != "auto" else ("gpu" if provenance.gpus() else "cpu")
    lowering = asked.lowering if device == "cpu" else "native"
    jit = asked.jit if asked.jit != "auto" else device == "gpu" and steps >= JIT_STEPS
    return asked.model_copy(update={"device": device, "lowering": lowering, "jit": jit})


def expand(study: Study, facts: Callable[[Data], DataFacts]) -> list[Trial]:
    """Return every trial, arm by arm within a seed, so that the first seed is compared first."""
    known = {data: facts(data) for data in dict.fromkeys(arm.data for arm in study.arms)}  # once each: may hash files
    steps = (known[a.data].train_images // a.recipe.batch_size * a.recipe.epochs for a in study.arms)
    execution = resolve_execution(study.file.execution, min(steps))
    return [_trial(study, arm, seed, known[arm.data], execution) for seed in study.seeds for arm in study.arms]


def _trial(study: Study, arm: Arm, seed: int, data: DataFacts, execution: Execution) -> Trial:
    arch = arm.architecture()
    parameters, multiply_adds = _size(arch, arm.data.image_size, data.classes)
    return Trial(
        id=trial_id(arm.network, arm.recipe, data.fingerprint, seed, study.file.split_seed, execution),
        study=study.name,
        arm=arm.name,
        levels=arm.levels,
        seed=seed,
        split_seed=study.file.split_seed,
        network=arm.network,
        architecture=arch,
        recipe=arm.recipe,
        data=arm.data.model_copy(update={"source": data.source}),
        fingerprint=data.fingerprint,
        execution=execution,
        classes=data.classes,
        train_images=data.train_images,
        parameters=parameters,
        multiply_adds=multiply_adds,
    )


@functools.cache  # equal for every seed of an arm
def _size(arch: Architecture, image_size: int, classes: int) -> tuple[int, int]:
    return architectures.parameters(arch, classes), architectures.multiply_adds(arch, image_size, classes)


def trial_id(
    network: Network,
    recipe: Recipe,
    fingerprint: str,
    seed: int,
    split_seed: int,
    execution: Execution,
) -> str:
    """Hash what changes the outcome: settings, data, seeds, execution, numerics; never a name, path or profile.

    Settings at their defaults stay out, so that a setting added later leaves old ids valid; who changes a
    default raises NUMERICS_VERSION.
    """
    outcome = {
        "numerics": NUMERICS_VERSION,
        "data": fingerprint,
        "seed": seed,
        "split_seed": split_seed,
        **{
            name: section.model_dump(mode="json", exclude_defaults=True)
            for name, section in (("network", network), ("recipe", recipe), ("execution", execution))
        },
    }
    return hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest()[:12]


def plan_rows(trials: list[Trial]) -> list[dict[str, Any]]:
    """A row a trial: id, arm, seed, a column a factor, parameters, multiply_adds, epochs."""
    return [
        {
            "id": trial.id,
            "arm": trial.arm,
            "seed": trial.seed,
            **trial.levels,
            "parameters": trial.parameters,
            "multiply_adds": trial.multiply_adds,
            "epochs": trial.recipe.epochs,
        }
        for trial in trials
    ]
