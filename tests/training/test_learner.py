"""Which trials share a compiled graph: all that differ in numbers alone, and no other ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pandas as pd
import pytest
from pydantic import ValidationError, create_model
from support import tiny

from resflow.errors import StudyError
from resflow.records.record import Outcome
from resflow.study.pretrained import Pretrained
from resflow.study.schema import StudyFile
from resflow.study.settings import (
    BACKBONE,
    NUMBER,
    SWITCH,
    Augmentation,
    Data,
    Execution,
    Head,
    Mark,
    Network,
    Recipe,
    Section,
)
from resflow.study.trial import Trial
from resflow.training import learner as learners
from resflow.training import train
from resflow.training.learner import graph_key

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
SECTIONS = ("network", "network.head", "recipe", "recipe.augmentation", "data", "execution")
VALUES = (tiny.SPLIT, 0.01, 3, 2, 1, 20, True, False, (0.25,), (3,))  # one of them, at least, is another of any setting
POOLED = (8,)  # the shape of pooled features


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def section(trial: Trial, path: str) -> Section:
    value: Any = trial
    for name in path.split("."):
        value = getattr(value, name)
    return value


def put(trial: Trial, path: str, changed: Section) -> Trial:
    """The trial with another section. Raises StudyError where that is no network."""
    outer, _, inner = path.partition(".")
    if inner:
        changed = getattr(trial, outer).model_copy(update={inner: changed})
    twin = replace(trial, **{outer: changed})
    assert twin.architecture
    return twin


def literals(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        yield from literals(part)
        if get_origin(annotation) is Literal:
            yield part


def other_values(trial: Trial, path: str, name: str) -> Iterator[Trial]:
    """The trial with other values of one setting."""
    now = section(trial, path)
    for value in (*VALUES, *literals(type(now).model_fields[name].annotation)):
        try:
            changed = type(now).model_validate({**dict(now), name: value})
            if getattr(changed, name) != getattr(now, name):
                yield put(trial, path, changed)
        except (ValidationError, StudyError):
            continue


def settings(trial: Trial, *marks: Mark) -> list[tuple[str, str]]:
    """Sections and names of the settings with exactly these marks."""
    return [
        (path, name)
        for path in SECTIONS
        for name, field in type(section(trial, path)).model_fields.items()
        if not isinstance(getattr(section(trial, path), name), Section)
        and {mark for mark in field.metadata if isinstance(mark, Mark)} == set(marks)
    ]


def test_every_setting_is_marked_or_in_the_key(folder: Path) -> None:
    trial = tiny.trial(folder, depth=50)  # of both families
    whole, head = graph_key(trial), graph_key(trial, POOLED)
    counted = 0
    for marks, whole_differs, head_differs in (
        ((), True, True),
        ((BACKBONE,), True, False),
        ((NUMBER,), False, False),
        ((SWITCH,), False, False),
        ((SWITCH, BACKBONE), True, False),
    ):
        for path, name in settings(trial, *marks):
            twin = next(other_values(trial, path, name))
            assert (graph_key(twin) != whole) == whole_differs, name
            assert (graph_key(twin, POOLED) != head) == head_differs, name
            counted += 1
    assert counted == sum(len(type(section(trial, path)).model_fields) for path in SECTIONS) - 2  # head, augmentation


def test_of_a_switch_only_whether_it_is_on_counts(folder: Path) -> None:
    for name, off, on in (("weight_decay", 0.0, (0.1, 0.2)), ("backbone_learning_rate", None, (0.1, 0.2))):
        first, second = (graph_key(tiny.trial(folder, **{name: value})) for value in on)
        assert first == second != graph_key(tiny.trial(folder, **{name: off}))


def test_what_is_resolved_is_compared_as_it_was_resolved(folder: Path) -> None:
    trial = tiny.trial(folder)
    assert graph_key(trial) == graph_key(tiny.trial(folder, stem="low_resolution"))
    weights = Pretrained(Path("net.npz"), "0" * 64, "file:net.npz", None, "both", None)
    assert graph_key(replace(trial, pretrained=weights)) == graph_key(trial)
    same_padding = replace(trial, pretrained=replace(weights, stem_pool="same"))
    assert graph_key(same_padding) != graph_key(trial)
    assert graph_key(same_padding, POOLED) == graph_key(trial, POOLED)
    assert graph_key(trial, (9,)) != graph_key(trial, POOLED) != graph_key(trial)
    assert graph_key(replace(trial, facts=replace(trial.facts, classes=4))) != graph_key(trial)


@pytest.mark.parametrize("path", SECTIONS)
def test_a_new_setting_that_nobody_marked_shares_no_graph(folder: Path, path: str) -> None:
    trial = tiny.trial(folder)

    def trials(annotation: Any) -> list[Trial]:
        old = section(trial, path)
        model = create_model("Extended", __base__=type(old), novelty=(annotation, "none"))
        return [put(trial, path, model(**dict(old), novelty=value)) for value in ("some", "more")]

    for features in (None, POOLED):
        forgotten, number = ([graph_key(twin, features) for twin in trials(a)] for a in (str, Annotated[str, NUMBER]))
        assert forgotten[0] != forgotten[1]
        assert number[0] == number[1]


def test_marks_are_no_part_of_the_schema_that_editors_read() -> None:
    schema = json.dumps(StudyFile.model_json_schema())
    assert not any(mark.value in schema or mark.name in schema for mark in Mark)


# A graph that another trial built gives the record of a new one


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.record.status == "completed", one.record.reason
    assert one.record.metrics == other.record.metrics
    for first, second in (
        (one.history.drop(columns="seconds"), other.history.drop(columns="seconds")),
        (one.predictions, other.predictions),
        (one.diagnostics, other.diagnostics),
    ):
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def shares_with(twin: Trial, trial: Trial, folder: Path, twins_folder: Path | None = None) -> None:
    """Train a trial on the graph that its twin built, and on a new one: the records are equal to the bit."""
    learners.forget_graphs()
    before = train.train_trial(twin, twins_folder or folder)
    assert before.record.status == "completed", before.record.reason
    (graph,) = learners.graphs.values()
    used = train.train_trial(trial, folder)
    assert list(learners.graphs.values()) == [graph]
    assert before.record.metrics != used.record.metrics
    learners.forget_graphs()
    assert_same(used, train.train_trial(trial, folder))


KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adam": {"optimizer": "adam", "learning_rate": 1e-3, "head": Head(hidden=(4,), dropout=0.3)},
    "head first": {"head_epochs": 1, "backbone_learning_rate": 0.02},
    "frozen": {"finetune": "frozen", "head": Head(hidden=(4,), dropout=0.3)},
}
LONG = ("sgd", "adam")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in LONG)) for kind in KINDS])
def test_a_trial_shares_the_graph_of_one_that_differs_in_every_number(folder: Path, backbone: Path, kind: str) -> None:
    weights = tiny.pretrained(backbone / "net.safetensors")
    trial = tiny.trial(folder, pretrained=weights if kind == "frozen" else None, **KINDS[kind])
    twin = replace(trial, seed=2, pretrained=weights)
    switches = [*settings(trial, SWITCH), *settings(trial, SWITCH, BACKBONE)]
    on = [(path, name) for path, name in switches if getattr(section(trial, path), name)]
    for path, name in (*settings(trial, NUMBER), *on):
        if name == "evaluate_every":  # it goes with few values of the others
            continue
        if not (kind == "frozen" and name == "partial_weights"):  # what they leave random shares no features
            twin = next(other_values(twin, path, name))
    shares_with(twin, trial, folder)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name
        for model in (Network, Head, Recipe, Augmentation, Data)
        for name, field in model.model_fields.items()
        if [mark for mark in field.metadata if isinstance(mark, Mark)] == [NUMBER]
    ],
)
def test_a_trial_shares_the_graph_of_one_that_differs_in_a_number(folder: Path, backbone: Path, name: str) -> None:
    weights = tiny.pretrained(backbone / "net.safetensors")
    selecting = {"schedule": "plateau", "plateau_patience": 2, "early_stopping": 2} if name != "evaluate_every" else {}
    trial = tiny.trial(folder, pretrained=weights, epochs=4, **selecting)
    path = next(path for path, number in settings(trial, NUMBER) if number == name)
    shares_with(replace(next(other_values(trial, path, name)), seed=2), trial, folder)


def test_heads_on_features_of_any_backbone_share_a_graph(folder: Path, backbone: Path) -> None:
    head = {"finetune": "frozen", "head": Head(hidden=(4,), dropout=0.3)}
    deep = {"depth": 14, "shortcut": "projection", "zero_gamma": True, "image_size": 18}
    trial = tiny.trial(folder, pretrained=tiny.pretrained(backbone / "net.safetensors"), **head)
    weights = tiny.pretrained(backbone / "deep.safetensors", depth=14, shortcut="projection", zero_gamma=True)
    larger = tiny.prepare(18)
    shares_with(tiny.trial(larger, pretrained=weights, **head, **deep), trial, folder, larger)


def test_execution_is_never_shared(folder: Path) -> None:
    trial = tiny.trial(folder)
    other = tiny.trial(folder, execution=Execution(device="cpu", jit=False, precision="mixed_bfloat16"))
    assert graph_key(trial) != graph_key(other)
