"""A trained network in a folder of its own, made once for the tests of this folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support import tiny

from resflow.data.dataset import load_dataset
from resflow.records.record import Outcome, write_record
from resflow.training import train
from resflow.workspace import network_path


@pytest.fixture(scope="session")
def folder() -> Path:
    """Tiny images, prepared."""
    return tiny.prepare()


@pytest.fixture(scope="session")
def trained(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, tensorflow_on_one_thread: None
) -> tuple[Path, str, Outcome]:
    """A folder in which the run `tiny` has one trial that kept its network; its id and outcome."""
    base = tmp_path_factory.mktemp("trained")
    trial = replace(tiny.trial(folder), keep_weights="last")
    outcome = train.train_trial(trial, folder, keep=network_path(base / ".resflow" / "tiny", trial.id))
    write_record(base / "results" / "tiny", outcome)
    data = load_dataset(folder)
    (base / "photos").mkdir()
    for index in data.test:
        Image.fromarray(data.images[index]).save(base / "photos" / f"{data.names[index]}.png")
    return base, trial.id, outcome


@pytest.fixture
def here(trained: tuple[Path, str, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to work in."""
    place = shutil.copytree(trained[0], tmp_path / "here")
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    return place
