"""The head study's benchmark: a fair script that computes what resflow does, and arithmetic that adds up."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support import tiny
from typer.testing import CliRunner

from resflow.bench import frozen, page, process, saving
from resflow.bench.contenders import frozen_script
from resflow.cli import main
from resflow.data import pipeline
from resflow.data.dataset import load_dataset
from resflow.errors import ResflowError
from resflow.models.build import build_backbone, build_network, initialise
from resflow.study.load import load_study
from resflow.study.trial import Trial
from resflow.training import feature_cache, train
from resflow.training.inputs import choose_normalisation
from resflow.weights import load
from resflow.workflow.plan import make_plan

UNLOADED = {"network.weights": "none", "recipe.finetune": "scratch"}
SMALL = {"network.depth": 18, "network.width": 0.0625, "data.image_size": 16, "recipe.epochs": 2}
AUGMENTATION = {"flip": True, "rotation": 20.0, "zoom": 0.2}


def head(hidden: tuple[int, ...] = (), **settings: Any) -> dict[str, Any]:
    return {"hidden": hidden, "activation": "elu", **settings}


HEADS = [head(), head((6,), pooling="flatten"), head((6, 5), pooling="flatten", dropout=0.4)]


def frozen_trial(folder: Path, file: Path, **settings: Any) -> Trial:
    """A tiny trial on a frozen backbone whose random weights are written into `file`."""
    recipe = {"optimizer": "adam", "learning_rate": 0.01, "schedule": "constant", "weight_decay": 0.0, **settings}
    trial = tiny.trial(folder, finetune="frozen", **recipe)
    net = build_network(trial.architecture, trial.data.image_size, trial.classes)
    initialise(net, seed=5)
    pixels = choose_normalisation(trial, load_dataset(folder))
    load.save_weights(net, file, normalisation=pixels, architecture=asdict(trial.architecture))
    return replace(trial, pretrained=load.find_weights(str(file), "cifar", 8))


# The script does the same work


@pytest.mark.usefixtures("tensorflow_on_one_thread")
@pytest.mark.parametrize(
    ("settings", "augmentation"), [(HEADS[0], {}), *((settings, AUGMENTATION) for settings in HEADS[1:])], ids=str
)
def test_the_script_trains_as_resflow_does(settings: Any, augmentation: Any, tmp_path: Path) -> None:
    """Every epoch's losses: so also weights, views, order, masks, rates and the optimiser."""
    folder = tiny.prepare()
    trial = frozen_trial(folder, tmp_path / "net.safetensors", head=settings, augmentation=augmentation)
    assert trial.shares_features
    outcome = train.train_trial(trial, folder)
    assert outcome.record.status == "completed", outcome.record.reason
    script = frozen_script.Script(trial, load_dataset(folder)).run(trial, trial.recipe.epochs, keyed=True)
    for row, script_row in zip(outcome.history.to_dict("records"), script["history"], strict=True):
        for key in ("batch_loss", "train_loss", "validation_loss"):
            assert script_row[key] == pytest.approx(row[key], abs=1e-3), key
    assert script["test_top1"] == pytest.approx(outcome.record.metrics["test_top1"], abs=0.06)  # one of 18 images


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_no_gradient_passes_the_scripts_backbone_and_its_statistics_stay(tmp_path: Path) -> None:
    folder = tiny.prepare()
    trial = frozen_trial(folder, tmp_path / "net.safetensors", head=head((6,)))
    script = frozen_script.Script(trial, load_dataset(folder))
    assert [v.path for v in script.build_network(trial, keyed=False).trainable_variables] == [
        "head_hidden1/kernel",
        "head_hidden1/bias",
        "head/kernel",
        "head/bias",
    ]
    before = script.backbone.get_weights()
    script.run(trial, 1)
    for value, was in zip(script.backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, was)


@pytest.mark.usefixtures("tensorflow_on_one_thread")
def test_the_timed_script_has_keras_own_dropout(tmp_path: Path) -> None:
    folder = tiny.prepare()
    trial = frozen_trial(folder, tmp_path / "net.safetensors", head=HEADS[2])
    kinds = {
        keyed: {type(layer) for layer in frozen_script._build_head((2, 2, 8), trial, keyed).layers}
        for keyed in (False, True)
    }
    assert keras.layers.Dropout in kinds[False]
    assert not {keras.layers.Dropout} & kinds[True]


@pytest.mark.long
def test_the_backbones_random_weights_keep_features_in_bounds(tmp_path: Path) -> None:
    """Means and variances of the batch norms are those of images, so that 18 layers neither blow up nor vanish."""
    file = tmp_path / "net.safetensors"
    spec = {"study": str(frozen.STUDY), "profile": "clean"}
    process.ask(
        "frozen_script",
        {**spec, "settings": {**SMALL, **UNLOADED}, "job": "random_weights", "file": str(file)},
    )
    plan = make_plan(load_study(spec["study"], spec["profile"], {**SMALL, "network.weights": str(file)}))
    trial = plan.trials[0]
    dataset = load_dataset(plan.folders[trial.id], trial.data.split, trial.split_seed)
    net = build_backbone(trial.architecture, dataset.image_size)
    assert trial.pretrained is not None
    load.load_weights(net, trial.pretrained)
    mean, deviation = pipeline.channel_statistics(dataset)
    _, pooled = net((dataset.images[dataset.validation] - mean) / deviation, training=False)
    assert 0.1 < np.std(pooled) < 10


# Arithmetic


def timed_trial(building: float = 2.0, first: float = 7.0) -> dict[str, Any]:
    """Epochs of 3 + 2 + 1 s, the first `first` s longer, a test of 4 s."""
    epoch = {"steps": 3.0, "training_evaluation": 2.0, "validation_evaluation": 1.0}
    history = [{**epoch, "steps": 3.0 + first}, epoch, {**epoch, "steps": 30.0}, epoch]
    seconds = building + 4.0 + sum(sum(e.values()) for e in history)
    return {"building": building, "history": history, "test": 4.0, "seconds": seconds}


def test_the_scripts_parts_are_scaled_each_by_what_it_happens_for() -> None:
    timed = [timed_trial(), timed_trial(building=4.0, first=1.0)]
    wall = 11.0 + sum(trial["seconds"] for trial in timed)
    assert frozen.scale(wall, timed, trials=18, epochs=20) == {
        "start": 11.0,  # once
        "building_and_compiling": 18 * (9 + 5) / 2,  # once a trial
        "steps": 18 * 20 * 3.0,  # the median leaves the odd epoch out
        "training_evaluation": 18 * 20 * 2.0,
        "validation_evaluation": 18 * 20 * 1.0,
        "test": 18 * 4.0,
    }


def test_a_script_that_was_timed_whole_is_not_scaled() -> None:
    trial = timed_trial()
    trial["history"] = trial["history"][:2]
    trial["seconds"] = 2 + 4 + 13 + 6
    assert sum(frozen.scale(30.0, [trial], trials=1, epochs=2).values()) == 30.0


def test_the_causes_multiply_to_the_ratio() -> None:
    script = {"start": 10.0, "building_and_compiling": 40.0, "steps": 600.0, "test": 350.0}
    resflow = {"start_and_end": 12.0, "building_and_compiling": 6.0, "heads": 8.0, "features": 24.0}
    causes = frozen.split_causes(script, resflow, {"resflow": 100, "script": 1000}, slots=2.0)
    assert math.prod(causes.values()) == pytest.approx(1000 / 50, rel=0.01)
    # 950 s of forward passes become 95; one process of resflow would take 48 s for them
    assert causes["sharing_features"] == round(1000 / 145, 3)
    assert causes["forward_pass"] == round((12 + 12 + 95 + 16) / (12 + 12 + 48 + 16), 3)
    assert causes["trials_at_a_time"] == round(88 / 50, 3)


@pytest.mark.parametrize(("count", "names"), [(1, "a"), (2, "af"), (3, "acf"), (6, "abcdef"), (9, "abcdef")])
def test_the_timed_heads_are_spread_over_all(count: int, names: str) -> None:
    assert frozen.choose_spread("abcdef", count) == list(names)


def test_the_chosen_round_is_that_of_the_median_ratio() -> None:
    rounds = [{"ratio_vs_script": value} for value in (3.0, 1.0, 2.0, 9.0)]
    assert frozen.median_round(rounds[:3])["ratio_vs_script"] == 2.0
    assert frozen.median_round(rounds)["ratio_vs_script"] == 2.0
    assert frozen.median_round(rounds[3:])["ratio_vs_script"] == 9.0


def test_passes_are_counted_as_the_two_make_them() -> None:
    """Two heads, two seeds, of 800 + 300 + 600 images in batches of 32 over two epochs."""
    heads = {"a": {"hidden": []}, "b": {"hidden": [4], "pooling": "flatten"}}
    settings = {**SMALL, **UNLOADED, "seeds": 2, "factors.head": heads, "baseline": "a"}
    for profile, resflow in (("augmented", 2 * 2 * 800 + 1700), ("clean", 1700)):
        plan = make_plan(load_study(frozen.STUDY, profile, settings), prepare=False)
        trials = [replace(t, recipe=t.recipe.model_copy(update={"finetune": "frozen"})) for t in plan.trials]
        script = 4 * (2 * (800 + 800 + 300) + 600)
        assert frozen.count_passes(trials) == {"resflow": resflow, "script": script}


def test_losses_are_compared_trial_by_trial() -> None:
    resflow = {
        name: {"history": [{"batch_loss": loss, "validation_loss": loss}, {"batch_loss": 9, "validation_loss": 9}]}
        for name, loss in (("one", 2.0), ("two", 1.0), ("not asked for", 7.0))
    }
    script = {"one": {"batch_loss": 2.25, "validation_loss": 2.0}, "two": {"batch_loss": 1.0, "validation_loss": 0.5}}
    assert frozen.compare_losses(resflow, script) == {"batch_loss": 0.25, "validation_loss": 0.5}


# What is refused, shown and kept


@pytest.mark.parametrize(
    ("setting", "value"),
    [("weight_decay", 0.1), ("optimizer", "adamw"), ("validation_views", "augmented"), ("early_stopping", 3)],
)
def test_a_study_that_the_script_cannot_run_is_refused(
    setting: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ask", lambda *arguments: pytest.fail("a process was started"))
    with pytest.raises(ResflowError, match=f"sets {setting}, which the script"):
        frozen.run({**SMALL, setting: value}, 1, 1, 2, lambda text: None)


def result() -> dict[str, Any]:
    both = lambda value: {"augmented": value, "clean": value}  # noqa: E731
    settings = {
        "arms": ["one", "two"],
        "seeds": [1, 2],
        "recipe": {"epochs": 20},
        "network": {"depth": 50},
        "data": {"image_size": 64},
        "rounds": 3,
    }
    return {
        "benchmark": "frozen",
        "ratio_vs_script": both(12.5),
        "ratio_without_training_evaluation": both(8.0),
        "wall_s": both({"resflow": 100.0, "resflow_again": 40.0, "script": 1250.0}),
        "causes": both(dict.fromkeys(page.CAUSES, 1.5)),
        "images_through_the_backbone": both({"resflow": 1700, "script": 600000}),
        "first_epoch_loss_difference": both({"batch_loss": 1e-5, "validation_loss": 2e-5}),
        "script_timed": {"trials": 2, "of_trials": 18, "epochs": 3, "of_epochs": 20},
        "settings": settings,
    }


def test_the_page_shows_ratios_causes_and_what_was_timed(tmp_path: Path) -> None:
    path = saving.write(tmp_path, saving.complete(result(), "resflow bench frozen"))
    assert path.name == "frozen-resnet50-64px.json"
    text = (tmp_path / "README.md").read_text()
    assert "Head study: 2 heads × 2 seeds, 20 epochs, on a frozen ResNet-50 at 64×64" in text
    assert "| with augmentation: resflow study against the script | 100.0 s against 1,250 s |" in text
    assert "| timed of the script | 2 of 18 trials, 3 of 20 epochs; the rest is scaled |" in text
    for cause in page.CAUSES.values():
        assert text.count(f"|   of it {cause} | 1.50 × |") == 2


def test_every_cause_has_a_name() -> None:
    script, resflow = (
        {"start": 1.0, "building_and_compiling": 1.0, "steps": 1.0},
        dict.fromkeys(("start_and_end", "building_and_compiling", "heads", "features"), 1.0),
    )
    assert set(frozen.split_causes(script, resflow, {"resflow": 1, "script": 2}, 1.0)) == set(page.CAUSES)


# From end to end, tiny


@pytest.mark.long
@pytest.mark.timeout(600)
def test_frozen_end_to_end(tmp_path: Path) -> None:
    heads = {"gap": {}, "flatten": {"pooling": "flatten", "hidden": [8], "dropout": 0.4}}
    settings = {**SMALL, "seeds": 1, "factors.head": json.dumps(heads), "baseline": "gap"}
    words = [w for key, value in settings.items() for w in ("--set", f"{key}={value}")]
    words += ["--trials", "1", "--epochs", "2", "--rounds", "1", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(main.app, ["bench", "frozen", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    answer = json.loads(done.stdout)
    assert (tmp_path / "frozen-resnet18-16px.json").is_file()
    assert not {str(tmp_path), str(feature_cache.root())} & set(done.stdout.split('"'))
    for variant in frozen.VARIANTS:
        assert max(answer["first_epoch_loss_difference"][variant].values()) < 1e-3
        ratio = answer["ratio_vs_script"][variant]
        assert math.prod(answer["causes"][variant].values()) == pytest.approx(ratio, rel=0.05)
        for side, parts in answer["parts_s"][variant].items():
            assert sum(parts.values()) == pytest.approx(answer["wall_s"][variant][side], abs=0.1)
