"""What a run costs is told before it: of a long one with the profile that takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resflow.study.load import load_study
from resflow.study.pretrained import Normalisation, Pretrained
from resflow.weights import load
from resflow.workflow import forecast as forecasting
from resflow.workflow.forecast import forecast, tell_cost
from resflow.workflow.plan import Plan, make_plan

CPU = {"device": "cpu", "data.source": "synthetic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stand_in(setting: str, *more: Any) -> Pretrained:
    """Weights that no file holds."""
    return Pretrained(Path(setting), setting, setting, Normalisation((124.0,) * 3, (58.0,) * 3), "both", None)


def plan(name: str, profile: str | None) -> Plan:
    return make_plan(load_study(name, profile, CPU), data="synthetic", prepare=False)


@pytest.mark.parametrize("profile", [None, "cpu", "demo"])
def test_a_long_run_names_the_profile_that_takes_minutes(profile: str | None) -> None:
    made = plan("depth", profile)
    is_long = forecast(made).wall > forecasting.LONG_S
    told = tell_cost(made)
    assert told.startswith(f"{len(made.trials)} trials, about ")
    assert ("--profile demo takes minutes" in told) == (is_long and profile != "demo")
    assert is_long or profile is not None  # the paper's own takes days on a CPU
    assert "on this CPU" in told
    assert "on one machine like this" in tell_cost(made, on_cluster=True)


def test_a_profile_that_a_study_lacks_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "LONG_S", 0)
    study = {"name": "mine", "question": "Which?", "baseline": "18", "factors": {"depth": [18, 34]}}
    made = make_plan(load_study(study, None, CPU), data="synthetic", prepare=False)
    assert "--profile" not in tell_cost(made)


def test_a_search_on_shared_features_computes_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = {
        "name": "mine",
        "question": "Which?",
        "baseline": "linear",
        "factors": {"head": {"linear": {"hidden": []}, "wide": {"hidden": [512]}}},
        "network": {"depth": 50, "weights": "imagenet", "shortcut": "projection"},
        "recipe": {"finetune": "frozen", "epochs": 5},
        "tune": {"space": {"learning_rate": {"low": 0.01, "high": 0.1}}, "candidates": 12},
    }
    monkeypatch.setattr(load, "find_weights", stand_in)
    searched = forecast(make_plan(load_study(study, None, CPU), data="synthetic", prepare=False)).search
    del study["tune"]
    heads = forecast(make_plan(load_study(study, None, {**CPU, "seeds": 1}), data="synthetic", prepare=False))
    assert searched is not None
    assert searched.seconds < 2 * sum(heads.seconds.values())  # of 24 candidates


def test_a_search_is_told_before_its_trials() -> None:
    made = plan("tuned_depth", "cpu")
    assert made.searches is not None
    assert tell_cost(made).startswith(f"The search of {len(made.searches.arms)} arms, about ")
