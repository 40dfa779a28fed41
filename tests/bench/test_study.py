"""The study's benchmark: a fair script that computes what resflow does, and arithmetic that adds up."""

from __future__ import annotations

import json

import pytest
from support import tiny
from typer.testing import CliRunner

from resflow.bench import process, study
from resflow.bench.contenders import step_losses, study_script
from resflow.cli import main
from resflow.data.dataset import load_dataset
from resflow.errors import ResflowError
from resflow.training import train


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_the_script_trains_as_resflow_does() -> None:
    """Every epoch's losses, so also rates, order, L2 and moving statistics; the accuracies as well."""
    folder = tiny.prepare()
    trial = tiny.trial(folder, weight_decay=0.05, warmup_epochs=1, learning_rate=0.02)
    outcome = train.train_trial(trial, folder)
    script = study_script.run(trial, load_dataset(folder))
    for row, script_row in zip(outcome.history.to_dict("records"), script["history"], strict=True):
        assert script_row["batch_loss"] == pytest.approx(row["batch_loss"], abs=1e-3)
        for key in ("train_loss", "validation_loss"):  # the script's moving variances are biased, as Keras' are
            assert script_row[key] == pytest.approx(row[key], abs=1e-2)
    assert script["test_top1"] == pytest.approx(outcome.record.metrics["test_top1"], abs=0.06)  # one of 18 images


def test_causes_add_up_to_the_wall_seconds() -> None:
    # two at a time over 30 s; each trial 20 s: 2 s outside its epochs, its first epoch 3 s above the others
    parts = study.split_causes(50, 30, [20, 20, 20], [[8, 5, 5]] * 3, slots=2)
    assert parts == {"start_and_end": 20, "building_and_compiling": 7.5, "epochs": 22.5}


def test_agreement_compares_trial_by_trial_and_arm_by_arm() -> None:
    folder = tiny.prepare()
    trials = [tiny.trial(folder, seed) for seed in (1, 2)]
    resflow, script = (
        {
            t.id: {"history": [{"batch_loss": loss}], "test_top1": top1}
            for t, loss, top1 in zip(trials, *sides, strict=True)
        }
        for sides in (((2.0, 1.5), (0.5, 0.7)), ((2.25, 1.0), (0.6, 0.65)))
    )
    result = study.compare_trials(trials, resflow, script)
    assert result["first_epoch_loss_difference"] == 0.5
    assert result["final_test_top1"] == {"tiny": {"resflow": 0.6, "script": 0.625, "spread": 0.2}}
    assert result["within_spread"] is True
    for trial in trials:
        script[trial.id]["test_top1"] += 0.3
    assert study.compare_trials(trials, resflow, script)["within_spread"] is False


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_the_second_step_of_the_script_is_that_of_resflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_losses, "NUDGE", 1e-3)  # so small a network, in three steps, forgets the last bit
    trial = tiny.trial(folder := tiny.prepare(), weight_decay=0.05)
    losses = step_losses.list_losses(trial, load_dataset(folder))
    result = study.compare_steps({"tiny": losses})
    assert max(result["first_steps_loss_difference"]) < 1e-4
    assert 0 < result["first_epoch_loss_noise"] < 0.1
    other = {**losses, "script": [loss + 0.25 for loss in losses["script"]]}
    assert min(study.compare_steps({"tiny": losses, "odd": other})["first_steps_loss_difference"]) > 0.2


def test_a_study_that_the_script_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ask", lambda *arguments: pytest.fail("a process was started"))
    settings = {"data.image_size": 16, "recipe.optimizer": "adam", "augmentation.flip": True}
    with pytest.raises(ResflowError, match="sets optimizer, augmentation"):
        study.run(study.STUDY, settings, 1, lambda text: None)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_study_end_to_end() -> None:
    """resflow's study, its trial and the script: the same numbers by three ways."""
    # An epoch of two steps: over 25, rounding alone moves a plain net's mean loss by 1e-2 (step_losses.py measures it).
    small = {"width": 0.0625, "image_size": 16, "batch_size": 400, "epochs": 2, "seeds": 1, "factors.depth": [18]}
    words = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    command = CliRunner().invoke(main.app, ["bench", "study", *words, "--rounds", "1", "--json"])
    assert command.exit_code == 0, (command.output, command.exception)
    result = json.loads(command.stdout)
    assert set(result["wall_s"]) == {"resflow", "script"}
    assert result["first_epoch_loss_difference"] < 1e-3
    for side, wall in result["wall_s"].items():
        assert sum(cause[side] for cause in result["causes_s"].values()) == pytest.approx(wall, abs=0.1)
    assert {"ratio_vs_script", "harness_overhead", "trials_at_a_time", "within_spread"} <= set(result)
