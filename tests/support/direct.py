"""Commands as a user types them, whose trials run in the test's own process: no Ray, which takes long to start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from resflow.cli import main
from resflow.records.record import Record, write_record
from resflow.records.run import finished_records
from resflow.runner.execute import RunPlace
from resflow.runner.stopping import Stop
from resflow.study.trial import Trial
from resflow.training import train
from resflow.weights.saved import trials_to_run
from resflow.workspace import network_path


def said(*words: str, code: int = 0) -> str:
    """What a command prints, each space once."""
    result = CliRunner().invoke(main.app, list(words))
    assert result.exit_code == code, (result.output, result.exception)
    return " ".join(result.stdout.split())


def execute(
    place: RunPlace,
    trials: list[Trial],
    folders: dict[str, Path],
    show: Callable[[Any], Any],
    stop: Stop | None = None,
) -> list[Record]:
    """In place of `runner.execute`."""
    outcomes = [
        train.train_trial(trial, folders[trial.id], keep=network_path(place.state, trial.id))
        for trial in trials_to_run(trials, finished_records(place.run), place.state)
    ]
    for outcome in outcomes:
        write_record(place.run, outcome)
    return [outcome.record for outcome in outcomes]


def raised(*words: str) -> None:
    """Run a command and raise what ended it."""
    result = CliRunner().invoke(main.app, list(words))
    assert result.exception is not None, result.output
    raise result.exception
