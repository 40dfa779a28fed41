"""A study as trials: arms x seeds, each with an execution spec and an id hashed from what changes its outcome."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any

from resflow import architectures, provenance
from resflow.architectures import Architecture
from resflow.errors import StudyError
from resflow.study import placement
from resflow.study.arms import Arm
from resflow.study.level_columns import OPTIONAL, VARIES, column_names
from resflow.study.load import Study
from resflow.study.originals import Originals
from resflow.study.pretrained import Pretrained
from resflow.study.settings import SECTIONS, Augmentation, Data, Execution, Head, Network, Recipe, Resources
from resflow.study.split_notes import SplitNotes
from resflow.study.variation import Streams

NUMERICS_VERSION = 4  # raise by hand when the same settings begin to give other numbers
ADAM_VERSION = 1  # likewise, for trials of adam and adamw alone
JIT_STEPS = 2000  # a guess for GPUs, none was at hand: a minute of compilation against a tenth of a second a step


@dataclass(frozen=True)
class DataFacts:
    """The facts that a trial needs of its data."""

    source: str  # the source's name, without a path
    fingerprint: str  # of the images, labels and split
    classes: int
    counts: tuple[int, int, int]  # images to train, validate and test on
    originals: Originals | None = None  # where they are decoded already; no part of the id, and neither is the next
    split: str = ""  # resolved
    notes: SplitNotes = field(default_factory=SplitNotes)


@dataclass(frozen=True)
class TrialContext:
    """The surroundings that all trials of an arm share: they are settled once, before the first trial is made."""

    facts: DataFacts
    execution: Execution  # device resolved
    pretrained: Pretrained | None  # what the backbone starts from, where that is not random


@dataclass(frozen=True)
class Candidate:
    """A trial of a tuning phase: `values` are an oracle's, as JSON has them."""

    search: str  # the id of the arm's search
    number: int  # 1, 2, … within it
    values: dict[str, Any]
    epochs: int  # so many of the recipe's it trains for
    course: str  # the id under which its checkpoints lie: longer candidates of the same settings go on from it


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
    recipe: Recipe
    data: Data  # its source by name, without a path
    facts: DataFacts
    execution: Execution  # as in TrialContext, and so is the next
    pretrained: Pretrained | None
    tuned: bool = False  # whether a tuning phase chose its settings
    candidate: Candidate | None = None  # of a tuning phase: it never sees the test images
    keep_weights: str = "none"  # best or last: which epoch's network is kept; no part of the id
    diagnostics: bool = True  # whether its record has some; they change no number of it
    resources: Resources = field(default_factory=Resources)  # no part of the id either
    held: dict[str, int] = field(default_factory=dict)  # as in Streams, and so is the next
    varies: str = ""

    @property
    def init_seed(self) -> int:
        """The seed of initial values."""
        return self.held.get("init", self.seed)

    @property
    def order_seed(self) -> int:
        """The seed of batches' order, augmentation and dropout."""
        return self.held.get("order", self.seed)

    @property
    def context(self) -> TrialContext:
        """The surroundings that it shares with all trials of its arm."""
        return TrialContext(self.facts, self.execution, self.pretrained)

    @property
    def fingerprint(self) -> str:
        return self.facts.fingerprint

    @property
    def classes(self) -> int:
        return self.facts.classes

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.facts.counts

    @cached_property
    def architecture(self) -> Architecture:
        """The network with its stem resolved, whose pooling is that of its pretrained weights."""
        arch = self.network.architecture(self.data.image_size)
        return replace(arch, stem_pool=self.pretrained.stem_pool) if self.pretrained else arch

    @cached_property
    def parameters(self) -> int:
        return _size(self.architecture, self.data.image_size, self.classes, self.network.head)[0]

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass of one image."""
        return _size(self.architecture, self.data.image_size, self.classes, self.network.head)[1]

    @property
    def epochs(self) -> int:
        """Epochs that it trains for, unless it stops early."""
        return self.candidate.epochs if self.candidate else self.recipe.epochs

    def evaluates(self, epoch: int) -> bool:
        """Tell whether training and validation images are evaluated after an epoch."""
        return epoch % self.recipe.evaluate_every == 0 or epoch == self.epochs

    def augmented_parts(self, epoch: int) -> tuple[str, ...]:
        """Return the parts whose images an epoch takes under new draws of the augmentation."""
        if self.recipe.augmentation == Augmentation():
            return ()
        validates = self.recipe.validation_views == "augmented" and self.evaluates(epoch)
        return ("train", "validation") if validates else ("train",)

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint."""
        return self.candidate.course if self.candidate else self.id

    @property
    def shares_features(self) -> bool:
        """True where the backbone's outputs are the same for every head, so that they are computed once."""
        return placement.shares_features(self.execution, self.recipe, self.network)

    def settings(self) -> dict[str, Any]:
        """Return all that was asked for by section, as the record keeps it."""
        return {name: getattr(self, name).model_dump(mode="json") for name in SECTIONS}


@functools.cache  # equal for every seed of an arm
def _size(arch: Architecture, image_size: int, classes: int, head: Head) -> tuple[int, int]:
    """Return trainable parameters, and multiply-adds of one forward pass of one image."""
    pixels = architectures.map_size(arch, image_size) ** 2 if head.pooling == "flatten" else 1
    features = architectures.feature_channels(arch) * pixels
    return (
        architectures.parameters(arch, classes, head.hidden, features),
        architectures.multiply_adds(arch, image_size, classes, head.hidden, features),
    )


Find = Callable[[Network], Pretrained]


def expand_trials(
    study: Study, facts: Callable[[Data, int], DataFacts], find: Find | None = None, gpus: int | None = None
) -> list[Trial]:
    """Return every trial, arm by arm within a seed, so that the first seed is compared first.

    `facts` tells those of some data under a split seed. `find` locates pretrained weights; a study that asks for some
    needs it. `gpus` as in `resolve_execution`.
    Raises StudyError where an arm's settings do not go with its weights.
    """
    weights = {arm.name: find(arm.network) if find and arm.loads_weights else None for arm in study.arms}
    for arm in study.arms:
        _check_weights(arm, weights[arm.name])
    wanted = dict.fromkeys((arm.data, one.split_seed) for one in study.streams for arm in study.arms)
    facts_of = {(data, split_seed): facts(data, split_seed) for data, split_seed in wanted}  # once each: may decode
    counts = [(arm, facts_of[arm.data, one.split_seed].counts) for one in study.streams for arm in study.arms]
    steps = (train // arm.recipe.batch_size * arm.recipe.epochs for arm, (train, _, _) in counts)
    data_bytes = max(placement.input_bytes(arm, images, study.file.execution) for arm, images in counts)
    share = placement.least_share(study.file.resources.gpus)
    execution = resolve_execution(study.file.execution, min(steps), gpus, data_bytes, share)
    return [
        make_trial(study, arm, one, TrialContext(facts_of[arm.data, one.split_seed], execution, weights[arm.name]))
        for one in study.streams
        for arm in study.arms
    ]


def resolve_execution(
    execution: Execution, steps: int, gpus: int | None = None, data_bytes: float = inf, share: float = 1.0
) -> Execution:
    """Settle every `auto`, alike for all trials.

    `steps` are the fewest optimiser steps that any trial takes; `gpus` are those there are [default: this machine's];
    `data_bytes` and the `share` of a GPU are those of `placement.resolve_inputs`.
    Raises StudyError for a precision that the device lacks.
    Lowerings are a CPU matter: cuDNN chooses its own on GPUs. XLA compiles where it repays its compilation within
    the shortest trial: never on CPUs, where its convolutions are slower than oneDNN's (results/bench/).
    """
    gpus = provenance.count_gpus() if gpus is None else gpus
    device = execution.device if execution.device != "auto" else ("gpu" if gpus else "cpu")
    if execution.precision == "tensorfloat32" and device == "cpu":
        raise StudyError(
            "precision tensorfloat32 is of GPUs, and trials run on the CPU: set precision to float32, or device to gpu."
        )
    lowering = execution.lowering if device == "cpu" else "native"
    jit = execution.jit if execution.jit != "auto" else device == "gpu" and steps >= JIT_STEPS
    inputs = placement.resolve_inputs(execution, device, data_bytes, share)
    return execution.model_copy(update={"device": device, "lowering": lowering, "jit": jit, "inputs": inputs})


def make_trial(study: Study, arm: Arm, streams: Streams, context: TrialContext, purpose: str = "") -> Trial:
    """Return the trial of an arm and a seed with its streams.

    `purpose` sets those apart that are equal in all settings and yet not the same, such as candidates.
    """
    network, facts = arm.network, context.facts
    if context.pretrained is not None:
        network = network.model_copy(update={"weights": context.pretrained.origin})
    return Trial(
        id=trial_id(arm, streams, context, purpose),
        study=study.name,
        arm=arm.name,
        levels=arm.levels,
        seed=streams.seed,
        split_seed=streams.split_seed,
        network=network,
        recipe=arm.recipe,
        data=arm.data.model_copy(update={"source": facts.source}),
        facts=facts,
        execution=context.execution,
        pretrained=context.pretrained,
        tuned=arm.tuned,
        keep_weights=study.file.keep_weights,
        diagnostics=study.file.diagnostics,
        resources=study.file.resources,
        held=streams.held,
        varies=streams.varies,
    )


def _check_weights(arm: Arm, pretrained: Pretrained | None) -> None:
    """Raise StudyError where weights were trained as another network, or do not say what they were fed."""
    if pretrained is None:
        return
    if pretrained.variant is not None and pretrained.variant != arm.network.variant:
        raise StudyError(
            f"arm {arm.name}: the weights {pretrained.origin} were trained as variant {pretrained.variant}, the arm is "
            f"variant {arm.network.variant}: set variant to {pretrained.variant}."
        )
    if pretrained.normalisation is None and arm.data.normalisation in ("auto", "weights"):
        raise StudyError(
            f"arm {arm.name}: the weights {pretrained.origin} do not say how their images were normalised. Say it in "
            "their metadata (the key `input`, see resflow/models/README.md), or set normalisation to dataset or raw."
        )


def trial_id(arm: Arm, streams: Streams, context: TrialContext, purpose: str = "") -> str:
    """Hash what changes the outcome: settings, data, weights, seeds, execution, numerics; never a name or path.

    Streams count by what they are drawn from, and not by the seed that a study calls them by. Settings at their
    defaults stay out, so that a setting added later leaves old ids valid; who changes a default raises
    NUMERICS_VERSION.
    """
    recipe, pretrained = arm.recipe, context.pretrained
    if pretrained is None:  # `scratch` leaves the weights out: no other trial than one that has none
        recipe = recipe.model_copy(update={"finetune": Recipe().finetune})
    network = arm.network.model_copy(update={"weights": "none"})  # their digest stands for them
    execution = context.execution
    if execution.inputs == "host":  # as it was before there was a choice
        execution = execution.model_copy(update={"inputs": Execution().inputs})
    usual = "weights" if pretrained else "dataset"
    purpose = purpose or ("tuned" if arm.tuned else "")
    init, order = (streams.held.get(stream, streams.seed) for stream in ("init", "order"))
    outcome = {
        "numerics": NUMERICS_VERSION,
        "data": context.facts.fingerprint,
        "seed": init,
        "split_seed": streams.split_seed,
        **({"order": order} if order != init else {}),
        **({"weights": pretrained.digest} if pretrained else {}),
        **({"adam": ADAM_VERSION} if recipe.optimizer != "sgd" else {}),
        **({"normalisation": arm.normalisation} if arm.normalisation != usual else {}),
        **({"purpose": purpose} if purpose else {}),
        **{
            name: section.model_dump(mode="json", exclude_defaults=True)
            for name, section in (("network", network), ("recipe", recipe), ("execution", execution))
        },
    }
    return hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest()[:12]


def plan_rows(trials: list[Trial], optional: Collection[int] = ()) -> list[dict[str, Any]]:
    """Return a row a trial: id, arm, seed, a column a factor with its label, parameters, multiply_adds, epochs.

    Where some seeds are `optional`, a column of that name has `yes` for theirs, and is empty otherwise. Where trials
    vary one stream alone, the column VARIES names it, and is empty of the study's own seeds.

    A factor that is called like another column, `epochs`, stands as `level_columns.column_names` calls it.
    """
    rows, apart = [], any(trial.varies for trial in trials)
    for trial in trials:
        keys = {"id": trial.id, "arm": trial.arm, "seed": trial.seed}
        numbers = {
            "parameters": trial.parameters,
            "multiply_adds": trial.multiply_adds,
            "epochs": trial.recipe.epochs,
        }
        names = column_names(trial.levels, {*keys, *numbers})
        marks = {OPTIONAL: "yes" if trial.seed in optional else ""} if optional else {}
        marks |= {VARIES: trial.varies} if apart else {}
        rows.append({**keys, **{names[factor]: label for factor, label in trial.levels.items()}, **numbers, **marks})
    return rows
