"""Study files: what is refused, with which line; which arms a valid one gives."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

import resflow
from resflow.cli import main
from resflow.errors import StudyError
from resflow.study.load import Study, builtin_studies, load_study, open_document, resolve_study
from resflow.study.yaml_source import Document, parse_document, read_document

LINES = """\
name: mine
question: Does it help?
baseline: plain-18
factors:
  shortcut: {plain: none, residual: zero_pad}
  depth: [18, 34]
network: {width: 0.25}
recipe: {epochs: 4}
seeds: 2
""".splitlines()
NAME, QUESTION, BASELINE, FACTORS, SHORTCUT, DEPTH, NETWORK, RECIPE, SEEDS, MORE = range(1, 11)  # their lines


def written(changes: dict[int, str]) -> str:
    """The study above with some lines replaced (an empty string removes one); line 10 is added."""
    lines = [changes.get(number, line) for number, line in enumerate([*LINES, ""], start=1)]
    return "\n".join(line for line in lines if line) + "\n"


def resolved(text: str, **overrides: Any) -> Study:
    return resolve_study(parse_document(text, "mine.yaml").without("profiles"))


def names(loaded: Study) -> list[str]:
    return [arm.name for arm in loaded.arms]


# what is wrong -> (the lines that replace others, the line that is blamed, what the message says)
BROKEN: dict[str, tuple[dict[int, str], int, str]] = {
    "unknown key": ({MORE: "sedes: 3"}, 10, "'sedes'.*'seeds'"),
    "unknown key of the network": ({NETWORK: "network: {widht: 1}"}, 7, "'network.widht'.*'width'"),
    "unknown key of the recipe": ({RECIPE: "recipe:\n  momentum: 0.5\n  epohcs: 4"}, 10, "'epochs'"),
    "unknown key of the augmentation": ({RECIPE: "recipe: {augmentation: {flipp: true}}"}, 8, "'flip'"),
    "unknown key of the data": ({MORE: "data: {image_sice: 64}"}, 10, "'image_size'"),
    "unknown key of the execution": ({MORE: "execution: {thread: 2}"}, 10, "'threads'"),
    "early stopping between evaluations": (
        {RECIPE: "recipe: {evaluate_every: 2, early_stopping: 5, schedule: plateau}"},
        8,
        "early_stopping 5 and schedule plateau need the validation loss of every epoch: leave evaluate_every at 1",
    ),
    "pruning between evaluations": (
        {
            RECIPE: "recipe: {evaluate_every: 2}",
            MORE: "tune: {space: {learning_rate: {low: 0.01, high: 0.1}}, candidates: 2, pruning: asha}",
        },
        10,
        "asha judges candidates after every epoch, and arm plain-18 is evaluated every 2",
    ),
    "early stopping of a final model": (
        {RECIPE: "recipe: {early_stopping: 5}", MORE: "data: {train: train+validation}"},
        8,
        "early_stopping 5 needs validation images, and train train.validation trains on them: set .* to null",
    ),
    "best epoch of a final model": (
        {RECIPE: "recipe: {test_weights: best}", MORE: "data: {train: train+validation}"},
        8,
        "test_weights best needs",
    ),
    "plateau of a final model": (
        {RECIPE: "recipe: {schedule: plateau}", MORE: "data: {train: train+validation}"},
        8,
        "schedule plateau needs",
    ),
    "validation views of a final model": (
        {RECIPE: "recipe: {validation_views: augmented}", MORE: "data: {train: train+validation}"},
        8,
        "validation_views augmented needs",
    ),
    "final model among the arms": (
        {
            BASELINE: "baseline: train-18",
            SHORTCUT: "  train: [train, train+validation]",
            MORE: "recipe: {test_weights: best}",
            RECIPE: "",
        },
        5,
        "arm train.validation-18: test_weights best needs",
    ),
    "best network of a final model": (
        {RECIPE: "keep_weights: best", MORE: "data: {train: train+validation}"},
        8,
        "keep_weights needs validation images, and arm plain-18 trains on them",
    ),
    "tuning of a final model": (
        {
            RECIPE: "tune: {space: {learning_rate: {low: 0.01, high: 0.1}}, candidates: 2}",
            MORE: "data: {train: train+validation}",
        },
        8,
        "tune needs validation images, and arm plain-18 trains on them",
    ),
    "published validation figure of a final model": (
        {
            RECIPE: "published: {what: a figure, metric: validation_top1, correct: 1, images: 2}",
            MORE: "data: {train: train+validation}",
        },
        8,
        "published needs validation images",
    ),
    "images to train on that there are not": ({MORE: "data: {train: test}"}, 10, "'train' or 'train.validation'"),
    "number as a key": ({MORE: "3: 3"}, 10, "unknown key '3'"),
    "null as a key": ({MORE: "~: 3"}, 10, "unknown key '~'"),
    "list as a key": ({MORE: "[a]: 3"}, 10, "key"),
    "mapping as a key": ({NETWORK: "network: {{a: 1}: 0.25}"}, 7, "key"),
    "name missing": ({NAME: "metric: test_top1"}, 1, "'name' is missing"),
    "question missing": ({QUESTION: ""}, 1, "'question' is missing"),
    "baseline missing": ({BASELINE: ""}, 1, "'baseline' is missing"),
    "factors missing": ({FACTORS: "", SHORTCUT: "", DEPTH: ""}, 1, "'factors' is missing"),
    "name no slug": ({NAME: "name: My Study"}, 1, "lower-case"),
    "name a path": ({NAME: "name: ../mine"}, 1, "lower-case"),
    "name too long": ({NAME: f"name: {'a' * 65}"}, 1, "lower-case"),
    "name a number": ({NAME: "name: 3"}, 1, "text"),
    "question empty": ({QUESTION: "question: ''"}, 2, "at least 1 character"),
    "question a list": ({QUESTION: "question: [why]"}, 2, "text"),
    "baseline unknown": ({BASELINE: "baseline: plain-50"}, 3, "'plain-50'.*plain-18"),
    "baseline of levels unknown": ({BASELINE: "baseline: {shortcut: plane, depth: 18}"}, 3, "'plane'.*'plain'"),
    "baseline of a factor unknown": ({BASELINE: "baseline: {shortct: plain}"}, 3, "'shortct'.*'shortcut'"),
    "baseline of some levels only": ({BASELINE: "baseline: {shortcut: plain}"}, 3, "fits 2 arms"),
    "baseline a list": ({BASELINE: "baseline: [plain, 18]"}, 3, "text or a mapping"),
    "factors a list": ({FACTORS: "factors: [depth]", SHORTCUT: "", DEPTH: ""}, 4, "a mapping"),
    "factors empty": ({FACTORS: "factors: {}", SHORTCUT: "", DEPTH: ""}, 4, "at least 1 item"),
    "factor empty": ({DEPTH: "  depth: []"}, 6, "at least 1 item"),
    "factor of labels empty": ({DEPTH: "  depth: {}"}, 6, "at least 1 item"),
    "factor a number": ({DEPTH: "  depth: 18"}, 6, "a list or a mapping"),
    "factor unknown": ({DEPTH: "  dept: [18, 34]"}, 6, "'dept'.*'depth'"),
    "factor that is a section": ({DEPTH: "  recipe: [{epochs: 1}]"}, 6, "unknown factor 'recipe'"),
    "factor of the execution": ({DEPTH: "  threads: [1, 2]"}, 6, "unknown factor 'threads'"),
    "factor fixed as well": ({NETWORK: "network: {width: 0.25,\n  depth: 18}"}, 8, r"factor.*mine\.yaml:6"),
    "level twice": ({DEPTH: "  depth:\n    - 18\n    - 34\n    - 18"}, 9, "18 of depth stands there twice"),
    "level twice, once quoted": ({DEPTH: "  depth: [18, '18']"}, 6, "twice"),
    "level twice under two labels": ({DEPTH: "  depth:\n    a: 18\n    b: 34\n    c: 18"}, 9, "c of depth.*twice"),
    "label twice": ({DEPTH: "  depth:\n    18: 18\n    18: 34"}, 8, "twice"),
    "level null": ({DEPTH: "  depth: [18, ~]"}, 6, "a whole number"),
    "level of the wrong type": ({DEPTH: "  depth:\n    - 18\n    - deep"}, 8, "a whole number"),
    "level true": ({DEPTH: "  depth: [18, true]"}, 6, "a whole number"),
    "level a fraction": ({DEPTH: "  depth: [18, 34.5]"}, 6, "a whole number"),
    "level negative": ({DEPTH: "  depth: [18, -34]"}, 6, "greater than 0"),
    "level outside the choices": ({SHORTCUT: "  shortcut: {plain: none, residual: zeropad}"}, 5, "'zero_pad'"),
    "level NaN": (
        {DEPTH: "  depth: [18]\n  learning_rate: [0.1, .nan]", BASELINE: "baseline: plain-18-0.1"},
        7,
        "finite",
    ),
    "level of augmentation unknown": ({DEPTH: "  augmentation: {none: {}, flip: {flp: true}}"}, 6, "'flp'"),
    "depth illegal in imagenet": ({DEPTH: "  depth:\n    - 18\n    - 19"}, 8, "no depth 19.*18, 34"),
    "depth illegal in cifar": ({NETWORK: "network: {family: cifar}"}, 6, "no depth 18.*6n"),
    "depth illegal under a label": ({DEPTH: "  depth:\n    18: 18\n    x: 19"}, 8, "no depth 19"),
    "depth fixed and illegal": (
        {DEPTH: "", BASELINE: "baseline: plain", NETWORK: "network:\n  depth: 20"},
        7,
        "no depth 20",
    ),
    "width without whole filters": ({NETWORK: "network: {width: 0.3}"}, 7, "19.2 filters"),
    "zero_gamma in a plain arm": ({NETWORK: "network: {zero_gamma: true}"}, 5, "arm plain-18: zero_gamma.*zeroes the"),
    "zero_gamma a factor with a plain arm": (
        {DEPTH: "  zero_gamma: [false, true]", BASELINE: "baseline: plain-false"},
        6,
        "arm plain-true: zero_gamma needs shortcuts.*exclude",
    ),
    "zero_gamma in v2": (
        {
            SHORTCUT: "  shortcut: [zero_pad]",
            NETWORK: "network: {variant: v2, zero_gamma: true}",
            BASELINE: "baseline: zero_pad-18",
        },
        7,
        "arm zero_pad-18: zero_gamma needs a batch normalisation",
    ),
    "zero_gamma no truth": ({NETWORK: "network: {zero_gamma: 1}"}, 7, "true or false"),
    "width zero": ({NETWORK: "network: {width: 0}"}, 7, "greater than 0"),
    "width NaN": ({NETWORK: "network: {width: .nan}"}, 7, "finite"),
    "learning rate infinite": ({RECIPE: "recipe: {learning_rate: .inf}"}, 8, "finite"),
    "weight decay quoted": ({RECIPE: "recipe: {weight_decay: '1e-4'}"}, 8, "a number"),
    "epochs true": ({RECIPE: "recipe: {epochs: true}"}, 8, "a whole number"),
    "epochs quoted": ({RECIPE: "recipe: {epochs: '4'}"}, 8, "a whole number"),
    "batch of none": ({RECIPE: "recipe: {batch_size: 0}"}, 8, "greater than 0"),
    "flip a word": ({RECIPE: "recipe: {augmentation: {flip: yes}}"}, 8, "true or false"),
    "milestone above one": ({RECIPE: "recipe: {milestones: [0.5, 2]}"}, 8, "less than or equal to 1"),
    "milestones a number": ({RECIPE: "recipe: {milestones: 0.5}"}, 8, "a list"),
    "warm-up as long as training": ({RECIPE: "recipe:\n  epochs: 4\n  warmup_epochs: 4"}, 8, "warmup_epochs 4"),
    "warm-up longer than a level": (
        {DEPTH: "  epochs:\n  - 5\n  - 3", BASELINE: "baseline: plain-5", RECIPE: "recipe: {warmup_epochs: 3}"},
        8,
        "warmup_epochs 3",
    ),
    "section a list": ({NETWORK: "network: [1]"}, 7, "a mapping"),
    "source a number": ({MORE: "data: {source: 3}"}, 10, "text"),
    "split unknown": ({MORE: "data: {split: other}"}, 10, "'official'"),
    "images too small": ({MORE: "data: {image_size: 8}"}, 10, "16"),
    "no thread": ({MORE: "execution: {threads: 0}"}, 10, "greater than 0"),
    "device unknown": ({MORE: "execution: {device: tpu}"}, 10, "'gpu'"),
    "no seed": ({SEEDS: "seeds: 0"}, 9, "1"),
    "seeds fewer than none": ({SEEDS: "seeds: -1"}, 9, "1"),
    "seeds a fraction": ({SEEDS: "seeds: 2.5"}, 9, "a whole number"),
    "seeds true": ({SEEDS: "seeds: true"}, 9, "a whole number"),
    "seeds an empty list": ({SEEDS: "seeds: []"}, 9, "at least 1 item"),
    "no room for seeds": ({SEEDS: "seeds: {at_least: 5, at_most: 4}"}, 9, "above at_least 5"),
    "seeds without a most": ({SEEDS: "seeds: {at_least: 3}"}, 9, "'at_most' is missing: seeds needs it"),
    "seeds until something else": ({SEEDS: "seeds: {at_most: 9, until: p}"}, 9, "'decided'"),
    "seeds with an unknown key": ({SEEDS: "seeds: {at_most: 9, at_lest: 3}"}, 9, "'seeds.at_lest'.*'at_least'"),
    "seed twice": ({SEEDS: "seeds: [1, 2, 1]"}, 9, "twice"),
    "seed negative": ({SEEDS: "seeds:\n  - 1\n  - -1"}, 11, "0"),
    "seed a fraction": ({SEEDS: "seeds: [1.5]"}, 9, "a whole number"),
    "seed beyond 32 bits": ({SEEDS: "seeds: [4294967296]"}, 9, "4294967296"),
    "split seed negative": ({MORE: "split_seed: -1"}, 10, "0"),
    "metric unknown": ({MORE: "metric: top1"}, 10, "'test_top1'"),
    "margin zero": ({MORE: "margin: 0"}, 10, "greater than 0"),
    "margin one": ({MORE: "margin: 1"}, 10, "less than 1"),
    "margin NaN": ({MORE: "margin: .nan"}, 10, "finite"),
    "excluded baseline": ({MORE: "exclude: [plain-18]"}, 3, "baseline plain-18 is not an arm"),
    "excluded all": ({MORE: "exclude: [{}]"}, 3, "all are excluded"),
    "excluded unknown arm": ({MORE: "exclude:\n- plain-34\n- plain-43"}, 12, "'plain-43'.*'plain-34'"),
    "excluded unknown level": ({MORE: "exclude: [{depth: 99}]"}, 10, "'99'"),
    "excluded unknown factor": ({MORE: "exclude: [{dept: 18}]"}, 10, "'dept'.*'depth'"),
    "excluded by a number": ({MORE: "exclude: [3]"}, 10, "unknown arm '3'"),
    "excluded by a list": ({MORE: "exclude: [[3]]"}, 10, "expected"),
    "exclude no list": ({MORE: "exclude: plain-34"}, 10, "a list"),
    "arms listed twice": ({MORE: "arms:\n- plain-18\n- {shortcut: plain, depth: 18}"}, 12, "listed twice"),
    "arms unknown": ({MORE: "arms: [plain-18, nope]"}, 10, "'nope'"),
    "arms none": ({MORE: "arms: []"}, 10, "at least 1 item"),
    "arms an unknown word": ({MORE: "arms: some"}, 10, "'one_at_a_time'"),
    "arms without the baseline": ({MORE: "arms: [residual-18]"}, 3, "not an arm"),
    "arms by some levels": ({MORE: "arms: [{shortcut: plain}]"}, 10, "fits 2 arms"),
    "label a path": ({SHORTCUT: "  shortcut: {plain: none, ../x: zero_pad}"}, 5, "label"),
    "label with a line break": ({SHORTCUT: '  shortcut: {plain: none, "a\\nb": zero_pad}'}, 5, "label"),
    "label empty": ({SHORTCUT: "  shortcut: {plain: none, '': zero_pad}"}, 5, "label"),
    "label too long": ({SHORTCUT: f"  shortcut: {{plain: none, {'a' * 61}: zero_pad}}"}, 5, "label"),
    "arms of one name": (
        {SHORTCUT: "  shortcut: {a: none, a-b: zero_pad}", DEPTH: "  depth: {b-c: 18, c: 34}"},
        4,
        "one name",
    ),
    "arms of one outcome": ({DEPTH: "  stem: [auto, imagenet]", BASELINE: "baseline: plain-auto"}, 4, "same trial"),
    "comparison unknown": ({MORE: "contrasts: [shortcut, dept]"}, 10, "'dept'.*'depth'"),
    "comparison of one factor with itself": ({MORE: 'contrasts: ["depth:depth"]'}, 10, "'depth:depth'"),
    "no comparison": ({MORE: "contrasts: []"}, 10, "contrasts"),
    "profiles a list": ({MORE: "profiles: [fast]"}, 10, "a mapping"),
    "profile a number": ({MORE: "profiles: {fast: 3}"}, 10, "a mapping"),
    "profile with an unknown key": ({MORE: "profiles:\n  fast:\n    sedes: 1"}, 12, "'seeds'"),
    "profile with another name": ({MORE: "profiles: {fast: {name: other}}"}, 10, "cannot override 'name'"),
    "profile with profiles": ({MORE: "profiles: {fast: {profiles: {}}}"}, 10, "cannot override"),
    "profile broken in a section": (
        {MORE: "profiles:\n  good: {}\n  fast:\n    recipe:\n      epohcs: 1"},
        14,
        "'epochs'.*fast",
    ),
    "profile broken in a factor": ({MORE: "profiles:\n  fast:\n    factors: {depth: [18, 19]}"}, 12, "depth 19.*fast"),
    "profile with a section of nothing": ({MORE: "profiles:\n  fast:\n    recipe:"}, 12, "a mapping, got null"),
    **{
        f"null {key}": ({line: f"{key}:", **gone}, line, "got null")
        for key, line, gone in [
            ("name", NAME, {}),
            ("question", QUESTION, {}),
            ("baseline", BASELINE, {}),
            ("factors", FACTORS, {SHORTCUT: "", DEPTH: ""}),
            ("  depth", DEPTH, {}),
            ("network", NETWORK, {}),
            ("recipe", RECIPE, {}),
            ("seeds", SEEDS, {}),
            *((key, MORE, {}) for key in ("arms", "exclude", "data", "execution", "split_seed", "metric", "profiles")),
        ]
    },
}


@pytest.mark.parametrize(("changes", "line", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_study_is_one_message_with_the_line_of_its_cause(
    changes: dict[int, str], line: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(written(changes), encoding="utf-8")
    with pytest.raises(StudyError, match=said) as caught:
        load_study("mine.yaml")
    assert str(caught.value).startswith(f"mine.yaml:{line}: ")
    assert "\n" not in str(caught.value)
    result = CliRunner().invoke(main.app, ["study", "mine.yaml"])
    assert isinstance(result.exception, StudyError)  # main() prints it and exits with 2; see test_cli
    assert not result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]  # nothing was written


def test_every_mistake_of_one_file_is_named_at_once() -> None:
    with pytest.raises(StudyError) as caught:
        resolved(written({NETWORK: "network: {widht: 1}", RECIPE: "recipe: {epochs: 0}", SEEDS: "seeds: x"}))
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [f"mine.yaml:{n}" for n in (7, 8, 9)]


def test_a_long_wrong_value_is_shown_in_part() -> None:
    with pytest.raises(StudyError) as caught:
        resolved(written({SEEDS: f"seeds: {'x' * 5000}"}))
    assert len(str(caught.value)) < 300


# --- arms


def test_all_is_the_full_factorial_in_the_order_of_the_file() -> None:
    loaded = resolved(written({}))
    expected = ["-".join(levels) for levels in itertools.product(["plain", "residual"], ["18", "34"])]
    assert names(loaded) == expected
    assert loaded.baseline.name == "plain-18"
    assert loaded.seeds == (1, 2)
    assert [(arm.network.shortcut, arm.network.depth) for arm in loaded.arms] == list(
        itertools.product(["none", "zero_pad"], [18, 34])
    )
    assert {arm.network.width for arm in loaded.arms} == {0.25}


FACTOR_LEVELS: dict[str, list[Any]] = {
    "shortcut": ["none", "zero_pad", "projection", "projection_all"],
    "depth": [18, 34, 50],
    "optimizer": ["sgd", "adam", "adamw"],
    "batch_size": [8, 16, 32],
    "label_smoothing": [0.0, 0.1],
}


@st.composite
def factorials(draw: st.DrawFn) -> dict[str, list[Any]]:
    chosen = draw(st.lists(st.sampled_from(sorted(FACTOR_LEVELS)), min_size=1, max_size=3, unique=True))
    return {
        name: draw(st.lists(st.sampled_from(FACTOR_LEVELS[name]), min_size=1, max_size=4, unique=True))
        for name in chosen
    }


def factorial(factors: dict[str, list[Any]], baseline: tuple[Any, ...], **keys: Any) -> Study:
    values = {
        "name": "drawn",
        "question": "q",
        "baseline": "-".join(map(str, baseline)),
        "factors": factors,
        "recipe": {"epochs": 2},
        **keys,
    }
    if "batch_size" not in factors:
        values["recipe"]["batch_size"] = 4
    return resolve_study(Document(values, {}, "drawn"))


@settings(max_examples=40)
@given(factorials(), st.data())
def test_arms_are_exactly_those_asked_for(factors: dict[str, list[Any]], data: st.DataObject) -> None:
    every = list(itertools.product(*factors.values()))
    baseline = data.draw(st.sampled_from(every))
    name = lambda levels: "-".join(map(str, levels))  # noqa: E731

    assert names(factorial(factors, baseline)) == [name(levels) for levels in every]

    near = [levels for levels in every if sum(a != b for a, b in zip(levels, baseline, strict=True)) <= 1]
    one_at_a_time = factorial(factors, baseline, arms="one_at_a_time")
    assert names(one_at_a_time) == [name(levels) for levels in near]
    assert len(near) == 1 + sum(len(levels) - 1 for levels in factors.values())

    others = [levels for levels in every if levels != baseline]
    picked = [baseline, *data.draw(st.lists(st.sampled_from(others), unique=True))] if others else [baseline]
    picked = data.draw(st.permutations(picked))
    by_levels = [dict(zip(factors, levels, strict=True)) if i % 2 else name(levels) for i, levels in enumerate(picked)]
    assert names(factorial(factors, baseline, arms=by_levels)) == [name(levels) for levels in picked]

    factor = data.draw(st.sampled_from(sorted(factors)))
    place = list(factors).index(factor)
    level = data.draw(st.sampled_from(factors[factor]))
    left = [levels for levels in every if levels[place] != level]
    if baseline[place] != level:
        assert names(factorial(factors, baseline, exclude=[{factor: level}])) == [name(levels) for levels in left]
    else:
        with pytest.raises(StudyError, match="baseline"):
            factorial(factors, baseline, exclude=[{factor: level}])


def test_labels_name_arms_and_may_look_like_numbers() -> None:
    loaded = resolved(written({DEPTH: "  depth: {18: 18, deep one: 34}"}))
    assert names(loaded) == ["plain-18", "plain-deep one", "residual-18", "residual-deep one"]
    assert loaded.factors["depth"] == {"18": 18, "deep one": 34}


def test_levels_are_found_by_label_or_value() -> None:
    for baseline in ("{shortcut: plain, depth: 34}", "{shortcut: none, depth: '34'}"):
        assert resolved(written({BASELINE: f"baseline: {baseline}"})).baseline.name == "plain-34"


def test_zero_gamma_is_a_factor_of_residual_arms() -> None:
    text = written({SHORTCUT: "  shortcut: [zero_pad, projection]", DEPTH: "  zero_gamma: {usual: false, zero: true}"})
    loaded = resolved(text.replace("plain-18", "zero_pad-usual"))
    assert [arm.architecture().zero_gamma for arm in loaded.arms] == [False, True] * 2
    text = written(
        {DEPTH: "  zero_gamma: {usual: false, zero: true}", MORE: "exclude: [{shortcut: plain, zero_gamma: zero}]"}
    )
    assert names(resolved(text.replace("plain-18", "plain-usual"))) == [
        "plain-usual",
        "residual-usual",
        "residual-zero",
    ]


def test_augmentation_can_be_a_factor() -> None:
    text = written({DEPTH: "  augmentation: {none: {}, flip: {flip: true}}", BASELINE: "baseline: plain-none"})
    assert [arm.recipe.augmentation.flip for arm in resolved(text).arms] == [False, True, False, True]


def test_a_list_of_seeds_is_kept_as_it_is() -> None:
    assert resolved(written({SEEDS: "seeds: [7, 3, 0]"})).seeds == (7, 3, 0)


# --- profiles and overrides


def load(tmp_path: Path, text: str, profile: str | None = None, **overrides: Any) -> Study:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(str(path), profile, {key.replace("__", "."): value for key, value in overrides.items()})


def test_a_profile_overrides_key_by_key(tmp_path: Path) -> None:
    text = written({MORE: "profiles:\n  fast: {recipe: {momentum: 0.5}, seeds: [5]}\n  same:"})
    fast = load(tmp_path, text, "fast")
    assert (fast.profile, fast.seeds) == ("fast", (5,))
    assert {(arm.recipe.momentum, arm.recipe.epochs) for arm in fast.arms} == {(0.5, 4)}
    assert load(tmp_path, text, "same").arms == load(tmp_path, text).arms


def test_an_unknown_profile_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"mine.yaml:10: unknown profile 'fats'.*fast.*Did you mean 'fast'"):
        load(tmp_path, written({MORE: "profiles: {fast: {}}"}), "fats")


def test_overrides_stand_over_the_profile_and_name_themselves_when_wrong(tmp_path: Path) -> None:
    text = written({MORE: "profiles: {fast: {recipe: {epochs: 9}}}"})
    for key in ("epochs", "recipe__epochs"):
        assert {arm.recipe.epochs for arm in load(tmp_path, text, "fast", **{key: 3}).arms} == {3}
    assert load(tmp_path, text, augmentation__flip=True).arms[0].recipe.augmentation.flip
    assert names(load(tmp_path, text, factors__depth=[18, 50])) == [
        "plain-18",
        "plain-50",
        "residual-18",
        "residual-50",
    ]
    assert load(tmp_path, text, threads=2).file.execution.threads == 2
    assert load(tmp_path, text, arms="one_at_a_time", margin=0.02).file.margin == 0.02
    for wrong, said in (
        ({"epochs": "x"}, r"^--set epochs=\"x\": recipe.epochs: expected a whole number"),
        ({"epohcs": 3}, "^--set epohcs: .*Did you mean 'epochs'"),
        ({"depth": 18}, "^--set depth: .*factors.depth"),
        ({"network__depth": 18}, "^--set network.depth: .*factors.depth"),
        ({"name": "other"}, "^--set name: unknown key"),
        ({"": 3}, "^--set : unknown key"),
        ({"augmentation__flp": True}, "^--set augmentation.flp=true: .*'flip'"),
        ({"recipe": None}, "^--set recipe=null: recipe: expected a mapping"),
        ({"seeds": 0}, "^--set seeds=0: "),
        ({"width": float("nan")}, "^--set width=NaN: .*finite"),
    ):
        with pytest.raises(StudyError, match=said):
            load(tmp_path, text, **wrong)


# --- what ships


SHIPPED = [*builtin_studies().values(), Path(resflow.__file__).parent / "templates" / "study.yaml"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_are_valid_in_every_profile(path: Path) -> None:
    doc = read_document(path)
    for profile in [None, *doc.values["profiles"]]:
        loaded = load_study(str(path), profile)
        assert len(loaded.arms) >= 2
        again = resolve_study(parse_document(dumped(loaded.resolved()), "resolved"))
        assert (again.arms, again.baseline, again.seeds, again.factors) == (
            loaded.arms,
            loaded.baseline,
            loaded.seeds,
            loaded.factors,
        )


def test_built_in_studies_have_the_profiles_that_the_manual_names() -> None:
    assert {"depth", "residual", "finetune", "head", "article"} <= set(builtin_studies())
    for name in builtin_studies():
        profiles = set(open_document(name).values["profiles"])
        pretrained = any(arm.loads_weights for arm in load_study(name).arms)
        assert {"cpu", "paper"} | (set() if pretrained else {"demo"}) <= profiles  # a demo downloads nothing


def test_the_twins_of_the_residual_study_have_equal_parameters() -> None:
    from resflow import architectures

    arms = {arm.name: arm.architecture() for arm in load_study("residual").arms}
    for depth in ("18", "34"):
        assert architectures.parameters(arms[f"plain-{depth}"], 102) == architectures.parameters(
            arms[f"residual-{depth}"], 102
        )


def dumped(value: Any) -> str:
    text = io.StringIO()
    YAML(pure=True).dump(value, text)
    return text.getvalue()


# --- anything at all


JUNK = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5) | st.just("plain-18")
ANYTHING = st.recursive(
    JUNK,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WHOLE: dict[str, Any] = {
    "name": "mine",
    "question": "q",
    "baseline": {"shortcut": "plain", "depth": 18},
    "factors": {"shortcut": {"plain": "none", "residual": "zero_pad"}, "depth": [18, 34], "learning_rate": [0.1]},
    "arms": ["plain-18-0.1", {"shortcut": "residual", "depth": 34, "learning_rate": 0.1}],
    "exclude": [{"depth": 34}],
    "network": {"width": 0.25, "family": "imagenet"},
    "recipe": {"epochs": 4, "warmup_epochs": 1, "milestones": [0.5], "augmentation": {"flip": True, "zoom": 0.1}},
    "data": {"source": "synthetic", "image_size": 64},
    "execution": {"device": "cpu"},
    "seeds": [1, 2],
    "margin": 0.01,
    "profiles": {"fast": {"recipe": {"epochs": 2}, "factors": {"depth": [18, 50]}, "arms": "all", "exclude": []}},
}
WHOLE["baseline"]["learning_rate"] = 0.1


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path] * bool(path) + [place for key, each in inner for place in places(each, (*path, key))]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A whole study of which one to three values, somewhere, are replaced or gone."""
    values = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        *around, key = draw(st.sampled_from(places(values)))
        inner = values
        for step in around:
            inner = inner[step]
        if draw(st.booleans()):
            inner[key] = draw(ANYTHING)
        else:
            del inner[key]
    return values


@settings(max_examples=150)
@given(damaged())
def test_any_mapping_is_a_study_or_a_study_error(values: dict[str, Any]) -> None:
    doc = Document(values, {}, "damaged")
    with contextlib.suppress(StudyError):  # any other error fails the test
        loaded = resolve_study(doc)
        assert loaded.baseline in loaded.arms
        for profile in loaded.file.profiles:
            resolve_study(doc.profile(profile))
