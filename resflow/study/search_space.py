"""The tuning phase of a study as it is written: the space, the oracle, and the budget of an arm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import ceil, floor, inf, log
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, TypeAdapter, ValidationError, model_validator

from resflow.study.settings import Section

Seed = Annotated[int, Field(ge=0, lt=2**32)]
FIRST_SEED = 1_000_000  # of candidates, unless the study lists some: far from any trial's
CANDIDATES = 12  # an arm, unless the study says how many
EDGE = 0.1  # of a range's length: a winner so near to an end may have left better values outside
Number = int | float


class Conditional(Section):
    """A hyperparameter that may count under some choices alone."""

    when: dict[str, Any] = Field(
        {}, description="choices above under which this counts: name -> a label, or a list of them"
    )

    def wanted(self) -> dict[str, list[str]]:
        """Return the name of a choice -> its labels under which this hyperparameter counts."""
        return {
            name: [label_of(value) for value in (values if isinstance(values, list) else [values])]
            for name, values in self.when.items()
        }


class Range(Conditional):
    """Numbers between two bounds, both included."""

    low: Number = Field(description="the least value")
    high: Number = Field(description="the greatest value")
    sampling: Literal["linear", "log", "reverse_log"] = Field("linear", description="reverse_log: dense near high")
    step: Number | None = Field(None, gt=0, description="linear: the distance of two values; log: their ratio")

    @model_validator(mode="after")
    def _something_between(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        if self.sampling != "linear" and self.low <= 0:
            raise ValueError(f"{self.sampling} sampling needs a low above 0, got {self.low}")
        if self.sampling == "reverse_log" and self.step is not None:
            raise ValueError("step goes with linear and log sampling")
        if self.sampling == "log" and self.step is not None and self.step <= 1:
            raise ValueError(f"the step of log sampling is a ratio above 1, got {self.step}")
        return self

    def place(self, value: float) -> float:
        """Return the place of a value on the scale that is sampled: 0 at low, 1 at high."""
        if self.sampling == "log":
            return log(value / self.low) / log(self.high / self.low)
        if self.sampling == "reverse_log":  # as keras-tuner has it: high + low - value is log-uniform
            return 1 - log((self.high + self.low - value) / self.low) / log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def edge(self, value: Any) -> str:
        """Return `low` or `high` where a value lies within EDGE of that end, else an empty text."""
        place = self.place(float(value))
        return "low" if place <= EDGE else "high" if place >= 1 - EDGE else ""

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    @property
    def whole(self) -> bool:
        """True where its values are whole numbers, as both bounds are then."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> float:
        """Return the number of values, infinite in a continuous range."""
        if self.step is not None:
            steps = (
                log(self.high / self.low, self.step) if self.sampling == "log" else (self.high - self.low) / self.step
            )
            return floor(steps + 1e-9) + 1
        return self.high - self.low + 1 if self.whole else inf

    def value(self, answer: Any) -> Any:
        return answer


class Choice(Conditional):
    """A few values, each with a label."""

    choice: Annotated[list[Any], Field(min_length=2)] | Annotated[dict[str, Any], Field(min_length=2)] = Field(
        description="values, or label -> value"
    )

    @model_validator(mode="after")
    def _no_label_twice(self) -> Choice:
        labels = [label_of(value) for value in self.choice] if isinstance(self.choice, list) else [*self.choice]
        if len(set(labels)) < len(labels):
            raise ValueError(f"the same choice stands twice in {', '.join(labels)}")
        return self

    @property
    def labelled(self) -> dict[str, Any]:
        """Label -> value."""
        return self.choice if isinstance(self.choice, dict) else {label_of(value): value for value in self.choice}

    def edge(self, value: Any) -> str:
        return ""

    def ends(self) -> list[Any]:
        return list(self.labelled.values())

    def value(self, answer: Any) -> Any:
        return self.labelled[answer]


def _names_choices(value: Any) -> bool:
    return isinstance(value, Mapping) and "choice" in value


Parameter = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choice, Tag("choice")],
    Discriminator(lambda value: "choice" if isinstance(value, Choice) or _names_choices(value) else "range"),
]


class Tune(Section):
    """A tuning phase: every arm gets the same space, the same oracle with the same seed, and the same budget.

    Candidates see the training and the validation images alone; the best one's settings go to the arm's trials.
    """

    space: dict[str, Parameter] = Field(
        min_length=1, description="a setting of the recipe or the head, learning_rate or head.dropout say -> its values"
    )
    oracle: Literal["random", "bayesian", "hyperband"] = Field("random", description="keras-tuner's, one for each arm")
    candidates: PositiveInt | None = Field(
        None, le=10_000, description=f"an arm [default: {CANDIDATES}]; hyperband counts its own"
    )
    epochs: PositiveInt | None = Field(None, description="of a candidate, at most [default: those of the recipe]")
    seeds: Annotated[int, Field(ge=1, le=100)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        1, description=f"of a candidate, whose score is their mean: how many ({FIRST_SEED}, …), or which"
    )
    batch: PositiveInt | None = Field(
        None,
        description="candidates of an arm at a time, whose results its oracle hears together: so a search does not "
        "depend on the machine [default: all of a random search, else 1]",
    )
    pruning: Literal["none", "asha"] = Field(
        "none", description="end candidates that fall behind early (ASHA); trials never: they are compared"
    )
    grace_epochs: PositiveInt = Field(1, description="asha: epochs before a candidate may end")
    factor: int = Field(3, ge=2, le=10, description="asha and hyperband: one in so many goes on")
    seed: Seed = Field(0, description="of the oracles, the same for every arm: so random candidates are the same")
    untuned: bool = Field(True, description="run each arm with its own settings as well, on the same seeds")

    @model_validator(mode="after")
    def _hyperband_has_its_own_rules(self) -> Tune:
        if self.oracle == "hyperband" and self.candidates is not None:
            raise ValueError("hyperband counts its own candidates, from epochs and factor: leave candidates out")
        if self.oracle == "hyperband" and self.pruning != "none":
            raise ValueError("hyperband ends candidates early itself: leave pruning out")
        if isinstance(self.seeds, list) and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"the same seed is listed twice in {self.seeds}")
        return self

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        if isinstance(self.seeds, list):
            return tuple(self.seeds)
        return tuple(range(FIRST_SEED, FIRST_SEED + self.seeds))

    def rungs(self, epochs: int) -> list[int]:
        """Return the epochs of every candidate of an arm whose recipe has so many."""
        if self.oracle != "hyperband":
            return [epochs] * (self.candidates or CANDIDATES)
        return hyperband(epochs, self.factor)

    def digest(self) -> str:
        """Return a hash of all that decides which candidates are tried."""
        text = json.dumps(self.model_dump(mode="json", exclude={"untuned"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def hyperband(epochs: int, factor: int) -> list[int]:
    """Return the epochs of each candidate in a Hyperband (Li et al. 2018, arXiv 1603.06560), as keras-tuner has it."""
    brackets, rest = 0, float(epochs)
    while rest >= 1:
        rest, brackets = rest / factor, brackets + 1
    lengths: list[int] = []
    for bracket in range(brackets):
        end = ceil(1 + log(epochs, factor)) / (bracket + 1)
        for turn in range(bracket + 1):
            size, length = ceil(end * factor ** (bracket - turn)), ceil(epochs / factor ** (bracket - turn))
            lengths += [length] * size
    return lengths


def count_points(space: Mapping[str, Parameter]) -> float:
    """Count the candidates that can differ; infinite where each holds a number out of a continuous range."""
    return _points(list(space.items()), {})


def _points(parameters: list[tuple[str, Parameter]], choices: dict[str, str]) -> float:
    if not parameters:
        return 1
    (name, parameter), *further = parameters
    if any(choices.get(parent) not in labels for parent, labels in parameter.wanted().items()):
        return _points(further, choices)
    if isinstance(parameter, Choice):
        return sum(_points(further, {**choices, name: label}) for label in parameter.labelled)
    return parameter.points() * _points(further, choices)


def settings_of(space: Mapping[str, Parameter], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return setting -> value of a candidate, whose oracle answers with numbers and the labels of choices."""
    return {name: space[name].value(answer) for name, answer in answers.items()}


def edges_of(space: Mapping[str, Parameter], answers: Mapping[str, Any]) -> dict[str, str]:
    """Return hyperparameter -> `low` or `high` of those that lie at an end of their range."""
    edges = {name: space[name].edge(answer) for name, answer in answers.items() if name in space}
    return {name: edge for name, edge in edges.items() if edge}


def label_of(value: Any) -> str:
    """Return the label of a level or a choice that is written without one: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def read_space(values: Any) -> dict[str, Parameter]:
    """Read the space of a study that was checked before, from a run's study.yaml; empty where it makes no sense."""
    try:
        return TypeAdapter(dict[str, Parameter]).validate_python(values)
    except ValidationError:
        return {}
