"""Ids of the trials of every built-in study and profile: they stay what they are, or old records are lost.

An id that changes on purpose (NUMERICS_VERSION, a new default, a new profile) changes the fixture with it:
`python tests/study/test_trial_ids.py` writes it anew, and the commit says why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resflow.study.load import builtin_studies, load_study, open_document
from resflow.study.pretrained import Normalisation, Pretrained
from resflow.weights import load
from resflow.workflow.plan import make_plan

FIXTURE = Path(__file__).parents[1] / "fixtures" / "trial_ids.json"
IMAGENET = Normalisation((124.0, 117.0, 104.0), (58.0, 57.0, 57.0))


def stand_in(setting: str, family: str, depth: int, *more: Any) -> Pretrained:
    """Weights that no file holds: ids depend on their digest alone."""
    return Pretrained(Path(setting), f"{setting} {family} {depth}", setting, IMAGENET, "both", None)


def ids(name: str, profile: str | None) -> dict[str, str]:
    """Arm -> the ids of its seeds in order; of a study that tunes, those of its searches as well."""
    plan = make_plan(load_study(name, profile), prepare=False, gpus=0)
    arms: dict[str, str] = {}
    for trial in plan.trials:
        arms[trial.arm] = f"{arms.get(trial.arm, '')} {trial.id}".strip()
    return arms | ({f"search {arm}": one for arm, one in plan.searches.ids.items()} if plan.searches else {})


def every() -> list[tuple[str, str | None]]:
    return [(name, p) for name in builtin_studies() for p in (None, *open_document(name).values["profiles"])]


@pytest.mark.parametrize(("name", "profile"), every())
def test_ids_stay(name: str, profile: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "find_weights", stand_in)
    known = json.loads(FIXTURE.read_text(encoding="utf-8"))
    assert ids(name, profile) == known[f"{name} {profile or 'full'}"]


def test_the_fixture_has_no_study_that_is_gone() -> None:
    assert set(json.loads(FIXTURE.read_text(encoding="utf-8"))) == {f"{name} {p or 'full'}" for name, p in every()}


if __name__ == "__main__":
    load.find_weights = stand_in  # type: ignore[assignment]
    made = {f"{name} {profile or 'full'}": ids(name, profile) for name, profile in every()}
    FIXTURE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
