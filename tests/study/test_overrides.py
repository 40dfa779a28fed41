"""What `--set` lays over a study: factors that are replaced or added, the metric, and what stays as it was."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow.errors import StudyError
from resflow.study.load import Study, load_study
from resflow.workflow.plan import make_plan

STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "Does it help?",
    "baseline": "plain-18",
    "factors": {"shortcut": {"plain": "none", "residual": "zero_pad"}, "depth": [18, 34]},
    "recipe": {"optimizer": "adam", "epochs": 4},
    "execution": {"device": "cpu"},
    "seeds": 2,
}


def with_set(study: dict[str, Any] | None = None, **settings: Any) -> Study:
    return load_study(study or STUDY, settings={key.replace("__", "."): value for key, value in settings.items()})


def ids(study: Study) -> set[str]:
    return {trial.id for trial in make_plan(study, prepare=False, gpus=0).trials}


def test_a_factor_that_was_fixed_is_added_and_the_arms_of_before_stay_the_trials_that_they_were() -> None:
    added = with_set(factors__optimizer=["sgd", "adam"])
    assert len(added.arms) == 8
    assert added.baseline.name == "plain-18-adam"  # as it was fixed
    assert ids(load_study(STUDY)) < ids(added)


LEVELS = {
    "optimizer": ["sgd", "adam", "adamw"],
    "width": [0.25, 0.5, 1.0],
    "zero_gamma": [False],
    "head": [{"hidden": [8]}, {"dropout": 0.5}],
    "image_size": [32, 64],
    "learning_rate": [0.1, 1e-3],
}


@given(st.sampled_from(sorted(LEVELS)), st.data())
def test_any_setting_can_be_added_and_makes_every_combination(factor: str, data: st.DataObject) -> None:
    levels = data.draw(st.lists(st.sampled_from(LEVELS[factor]), min_size=1, max_size=3, unique_by=repr))
    labelled = {f"level{place}": level for place, level in enumerate(levels)}
    before = load_study(STUDY)
    added = load_study(STUDY, settings={f"factors.{factor}": labelled})
    assert {arm.name for arm in added.arms} == {f"{a.name}-{b}" for a, b in itertools.product(before.arms, labelled)}
    assert added.baseline.name.startswith("plain-18-level")
    assert added.baseline in added.arms
    assert added.factors.keys() == {*before.factors, factor}


@pytest.mark.parametrize(
    ("keys", "arms"),
    [
        ({"arms": ["plain-18", {"shortcut": "residual", "depth": 34}]}, ["plain-18-{}", "residual-34-{}"]),
        ({"exclude": ["plain-34"]}, ["plain-18-{}", "residual-18-{}", "residual-34-{}"]),
        ({"exclude": [{"depth": 34}]}, ["plain-18-{}", "residual-18-{}"]),
        (
            {"baseline": {"shortcut": "none", "depth": 18}, "exclude": [{"depth": 34}]},
            ["plain-18-{}", "residual-18-{}"],
        ),
        ({"factors": {"depth": [18, 34]}, "baseline": 18, "exclude": [34]}, ["18-{}"]),
    ],
)
def test_arms_that_a_study_names_stand_for_themselves_at_every_new_level(keys: dict[str, Any], arms: list[str]) -> None:
    added = with_set({**STUDY, **keys}, factors__width=[0.5, 0.25])
    assert sorted(arm.name for arm in added.arms) == sorted(name.format(w) for name in arms for w in ("0.5", "0.25"))
    assert added.baseline.levels["width"] == "0.5"  # the default is no level: the first one


def test_one_at_a_time_and_declared_contrasts_take_the_new_factor_in() -> None:
    added = with_set({**STUDY, "arms": "one_at_a_time", "contrasts": ["depth"]}, factors__optimizer=["sgd", "adam"])
    assert [arm.name for arm in added.arms] == ["plain-18-sgd", "plain-18-adam", "plain-34-adam", "residual-18-adam"]
    assert added.file.contrasts == ["depth", "optimizer"]


def test_a_factor_is_replaced_whatever_the_order_of_settings() -> None:
    for settings in (
        {"baseline": "residual-34", "factors.depth": [34, 50]},
        {"factors.depth": [34, 50], "baseline": "residual-34"},
    ):
        replaced = load_study(STUDY, settings=settings)
        assert (replaced.baseline.name, len(replaced.arms)) == ("residual-34", 4)
    chosen = with_set(baseline="plain-18-sgd", factors__optimizer=["sgd", "adam"])
    assert chosen.baseline.name == "plain-18-sgd"


def test_the_metric_is_set_and_changes_no_trial() -> None:
    other = with_set(metric="test_top5")
    assert other.file.metric == "test_top5"
    assert ids(other) == ids(load_study(STUDY))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors.optimizer": "sgd"}, "factors.optimizer.*a list"),
        ({"factors.optimizer": []}, "factors.optimizer"),
        ({"factors.optimizer": ["sgd", "rmsprop"]}, "level of optimizer: expected .*'adamw'"),
        ({"factors.optimiser": ["sgd"]}, "unknown factor 'optimiser'.*Did you mean 'optimizer'"),
        ({"factors.optimizer": ["sgd", "adam"], "optimizer": "sgd"}, "optimizer is a factor of this study"),
        ({"metric": "top1"}, "--set metric=.*metric: expected 'test_top1'"),
        ({"name": "other"}, "unknown key 'name'"),
    ],
)
def test_what_cannot_be_set_is_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(STUDY, settings=settings)
