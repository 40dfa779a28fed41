"""A run has one name, however it was asked for, and is found under the name that an older resflow gave it."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import tiny

from resflow.study.load import load_study
from resflow.workflow.plan import Plan, make_plan, write_plan

TEXT = """\
name: mine
question: q
baseline: plain-18
factors: {shortcut: {plain: none, residual: zero_pad}, depth: [18, 34]}
execution: {device: cpu}
recipe: {epochs: 4}
seeds: 2
profiles: {whole: {}, fast: {recipe: {epochs: 1}}, same: {recipe: {epochs: 4}}}
"""
WAYS: list[dict[str, Any]] = [
    {},
    {"profile": "whole"},
    {"profile": "same"},
    {"settings": {"epochs": 4}},
    {"settings": {"recipe.epochs": 4, "seeds": 5}},
    {"settings": {"metric": "test_top5"}},
    {"settings": {"keep_weights": "last", "diagnostics": False}},
    {"settings": {"cpus": 2}},
    {"settings": {"source": "synthetic"}},
    {"seeds": 3},
    {"settings": {"seeds": [1, 2, 3]}},
    {"settings": {"factors.depth": [18, 34]}},
]
OTHERS: list[dict[str, Any]] = [
    {"settings": {"epochs": 3}},
    {"profile": "fast", "settings": {"width": 0.5}},
    {"settings": {"factors.depth": [18]}},
    {"settings": {"factors.optimizer": ["sgd", "adam"]}},
    {"settings": {"seeds": [7, 8]}},
    {"settings": {"margin": 0.01}},
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TEXT)
    return tmp_path


def asked(name: str = "./mine.yaml", data: str | None = None, **ways: Any) -> Plan:
    return make_plan(load_study(name, **ways), data, prepare=False)


def ids(plan: Plan) -> set[str]:
    return {trial.id for trial in plan.trials}


def test_one_run_has_one_name_however_it_was_asked_for() -> None:
    plans = [asked(**way) for way in WAYS]
    assert {plan.run for plan in plans} == {Path("results/mine-whole-synthetic")}
    assert all(ids(one) <= ids(other) or ids(other) <= ids(one) for one, other in itertools.combinations(plans, 2))


def test_other_runs_have_other_names() -> None:
    runs = [asked(**way).run for way in (*OTHERS, {}, {"profile": "fast"}, {"data": "oxford_flowers10"})]
    assert len(set(runs)) == len(runs)


def test_settings_have_one_name_whatever_they_are_called() -> None:
    one, other = asked(settings={"epochs": 2, "width": 0.5}), asked(settings={"network.width": 0.5, "recipe.epochs": 2})
    assert one.run == other.run != asked(settings={"epochs": 2}).run
    assert ids(one) == ids(other)


@pytest.mark.parametrize("settings", [{}, {"epochs": 3}], ids=str)
def test_a_run_under_the_name_of_an_older_resflow_goes_on_there(settings: dict[str, Any]) -> None:
    typed = json.dumps(settings, sort_keys=True).encode()
    older = Path("results/mine-full-synthetic" + (f"-{hashlib.sha256(typed).hexdigest()[:6]}" if settings else ""))
    today = asked(settings=settings).run
    assert today != older
    write_plan(make_plan(load_study("./mine.yaml", settings=settings), out=older, prepare=False))
    assert {asked(settings=settings, profile=profile).run for profile in (None, "whole")} == {older}
    write_plan(make_plan(load_study("./mine.yaml", settings=settings), out=today, prepare=False))
    assert asked(settings=settings).run == today


@pytest.mark.parametrize("given", [*WAYS, *OTHERS, {"profile": "fast"}], ids=str)
def test_a_runs_own_study_is_that_run_and_keeps_its_command_and_profile(given: dict[str, Any]) -> None:
    first = asked(**given)
    write_plan(first)
    file = first.run / "study.yaml"
    again = asked(str(file))
    assert (again.run, again.command, ids(again)) == (first.run, first.command, ids(first))
    before = YAML(typ="safe", pure=True).load(file.read_text())
    write_plan(again)
    assert YAML(typ="safe", pure=True).load(file.read_text()) == before
    more = asked(str(file), seeds=4)
    assert more.run == first.run or "seeds" in given.get("settings", {})
    assert "--seeds 4" in more.command
    other = asked(str(file), settings={"learning_rate": 0.123})
    assert other.run != first.run
    assert other.run.parent == Path("results")


def test_a_run_elsewhere_is_found_by_its_study_and_on_other_data_it_is_another(here: Path) -> None:
    plan = make_plan(load_study("./mine.yaml", "fast"), out="there/x", prepare=False)
    write_plan(plan)
    assert asked("there/x/study.yaml").run == Path("there/x")
    assert asked("there/x/study.yaml", data="oxford_flowers10").run == Path("results/mine-fast-oxford_flowers10")
    tiny.photos(here / "photos")
    assert asked("there/x/study.yaml", data="folder:photos").run.name.startswith("mine-fast-folder_photos-")
