"""A study as it is written: every key of a study file, its type, and what it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from resflow.study.arms import Entry
from resflow.study.search_space import Seed, Tune
from resflow.study.settings import Data, Execution, Network, Recipe, Resources, Section
from resflow.study.variation import USUAL, Vary

# The study's own, whatever its size: no profile and no `--set` changes them.
FIXED = ("name", "question", "claim", "titles", "metric", "published", "profiles", "profile", "command", "fingerprints")

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SCHEMA_ID = "urn:resflow:study"

Decided = Literal["helps", "hurts", "equivalent"]


class Expectation(Section):
    """Comparisons that a claim rests on: it holds where every one of them has an expected verdict."""

    comparison: str = Field(description="baseline, a factor, or FACTOR:FACTOR, as in contrasts")
    at: dict[str, str] = Field({}, description="factor -> level: only comparisons of arms that have it")
    verdict: Decided | Annotated[list[Decided], Field(min_length=1)] = Field(description="one, or any of several")


class Claim(Section):
    """What a study puts to the test, and the comparisons that decide it: its answer is yes, no, or neither."""

    text: str = Field(min_length=1, description="the claim in one sentence, such as: Shortcuts help")
    needs: list[Expectation] = Field(min_length=1, description="verdicts that it rests on, all of them")


class LevelTitle(Section):
    """A level in prose: `18 layers`; and what holds where it does: `at 18 layers`, `without shortcuts`."""

    name: str = Field(min_length=1, description="what has the level: plain nets")
    where: str | None = Field(None, min_length=1, description="what holds there: without shortcuts")


class Titles(Section):
    """A factor in prose."""

    title: str | None = Field(None, min_length=1, description="the factor: depth, head")
    unit: str | None = Field(None, min_length=1, description="of levels that are numbers: layers")
    more: str | None = Field(None, min_length=1, description="what higher numbers make: deeper nets")
    levels: dict[str, str | LevelTitle] = Field({}, description="level -> its name in prose: residual nets")


class Published(Section):
    """A figure of others that a study sets its arms beside; it takes part in no test."""

    what: str = Field(min_length=1, description="whose figure it is, in a few words")
    metric: Literal["validation_top1", "test_top1"] = Field("test_top1", description="what it was measured by")
    correct: int = Field(ge=0, description="images that were classified correctly")
    images: int = Field(ge=1, description="of so many")

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Published:
        if self.correct > self.images:
            raise ValueError(f"correct {self.correct} must be no more than images {self.images}")
        return self


class SequentialSeeds(Section):
    """Seeds that are added until every declared comparison is decided, by a test that holds at every look."""

    at_least: int = Field(3, ge=3, le=1000, description="seeds that run anyway")
    at_most: int = Field(ge=4, le=1000, description="seeds after which an undecided comparison stays so")
    until: Literal["decided"] = Field("decided", description="what ends it: each declared comparison has its verdict")

    @model_validator(mode="after")
    def _room_between(self) -> SequentialSeeds:
        if self.at_most <= self.at_least:
            raise ValueError(f"at_most {self.at_most} must be above at_least {self.at_least}")
        return self


class StudyFile(Section):
    """A study as it is written. Settings that are neither fixed nor factors keep their defaults."""

    name: str = Field(pattern=NAME_PATTERN, description="lower-case letters, digits, - and _")
    question: str = Field(min_length=1, description="what the study asks, in one sentence")
    claim: Claim | None = Field(None, description="a claim that the study's comparisons decide: Yes, No, It depends")
    titles: dict[str, Titles] = Field({}, description="factor -> how its levels are called in sentences")
    baseline: Entry = Field(description="the arm that others are compared with: its name, or its levels")
    factors: dict[str, Annotated[list[Any] | dict[str, Any], Field(min_length=1)]] = Field(
        min_length=1, description="a setting's name -> its levels, or label -> level"
    )
    arms: Literal["all", "one_at_a_time"] | Annotated[list[Entry], Field(min_length=1)] = Field(
        "all", description="every combination, the baseline with one factor changed at a time, or a list"
    )
    exclude: list[Entry] = Field([], description="arms to leave out: names, or levels that they share")
    network: Network = Field(Network(), description="the network's fixed settings, as in He et al. 2015")
    recipe: Recipe = Field(Recipe(), description="the training's fixed settings")
    data: Data = Field(Data(), description="the images, their size and their split")
    execution: Execution = Field(
        Execution(), description="how trials are computed; equal for all arms, part of their ids"
    )
    resources: Resources = Field(Resources(), description="what is set aside for each trial; it changes no result")
    seeds: Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Seed], Field(min_length=1)] | SequentialSeeds = Field(
        3, description="how many (1, 2, …), or which, or {at_least: 3, at_most: 20, until: decided}: as needed"
    )
    vary: Vary = Field(
        list(USUAL),
        description="what follows a trial's seed: init (initial values), order (of batches, with augmentation and "
        "dropout), split (where resflow draws it); the rest is as under the first seed. {parts: [init, order]} also "
        "runs seeds that vary one of them alone",
    )
    split_seed: Seed = Field(0, description="draws the split where the source has none; never the trial's seed")
    metric: Literal["test_top1", "test_top5", "test_mean_class_accuracy", "train_top1"] = Field(
        "test_top1", description="what arms are compared by: of the test images, or of the training images"
    )
    margin: float | None = Field(
        None, gt=0, lt=1, description="differences within ± this fraction of accuracy count as equivalent"
    )
    contrasts: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="the comparisons that answer the question, the first one first: baseline, a factor (its levels at "
        "fixed levels of the others), FACTOR:FACTOR (how the first one's differences change with the second) "
        "[default: all]. Holm's correction is over these",
    )
    tune: Tune | None = Field(None, description="search each arm's settings first, with one budget for all arms")
    keep_weights: Literal["none", "best", "last"] = Field(
        "none",
        description="trained networks to keep, outside results/: none, each trial's at its lowest validation loss, or "
        "after its last epoch; no part of a trial's id",
    )
    diagnostics: bool = Field(
        True,
        description="look inside each network: gradients in training, responses after it; changes no number",
    )
    published: Published | None = Field(None, description="a published figure that the report sets beside the arms")
    profiles: dict[str, dict[str, Any] | None] = Field({}, description="name -> keys that it overrides")
    profile: str | None = Field(None, description="written by resflow into a run's study.yaml: which profile ran")
    command: str | None = Field(None, description="written by resflow into a run's study.yaml: how to repeat it")

    fingerprints: list[str] | None = Field(None, description="written by resflow into a run's study.yaml: of its data")

    @model_validator(mode="after")
    def _a_cpu_for_each_thread(self) -> StudyFile:
        cpus, threads = self.resources.cpus, self.execution.threads
        if cpus is not None and cpus < threads:
            raise ValueError(f"cpus {cpus:g} must be no fewer than threads {threads}: set both, or threads alone")
        return self


PROFILE_KEYS = tuple(key for key in StudyFile.model_fields if key not in FIXED)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of study files, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return {**head, **StudyFile.model_json_schema(), "title": "A study of resflow"}
