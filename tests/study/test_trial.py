"""Trials and their ids: equal where the outcome is, different where anything that changes it is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resflow.errors import StudyError
from resflow.study import placement, trial
from resflow.study.arms import Arm
from resflow.study.load import load_study, resolve_study
from resflow.study.originals import Originals
from resflow.study.pretrained import Normalisation, Notes, Pretrained
from resflow.study.settings import Augmentation, Data, Execution, Head, Network, Recipe, setting_names
from resflow.study.trial import DataFacts, Trial, TrialContext, trial_id
from resflow.study.variation import Streams
from resflow.study.yaml_source import parse_document
from resflow.workflow.plan import Plan, write_plan

FACTS = DataFacts("synthetic", "f" * 64, 10, (800, 200, 1000))
CPU = Execution(device="cpu", jit=False, inputs="host")
TEXT = """\
name: mine
question: q
baseline: plain-18
factors:
  shortcut: {plain: none, residual: zero_pad}
  depth: [18, 34]
execution: {device: cpu}
seeds: 2
"""
# One value that is not the default of each setting. A new setting without one fails below.
OTHERS: dict[type, dict[str, Any]] = {
    Network: {
        "family": "cifar",
        "depth": 34,
        "shortcut": "none",
        "variant": "v1",
        "width": 0.5,
        "stem": "imagenet",
        "zero_gamma": True,
        "partial_weights": True,
        "head": Head(hidden=(8,)),
    },
    Recipe: {
        "optimizer": "adam",
        "learning_rate": 0.05,
        "momentum": 0.8,
        "weight_decay": 0.0,
        "schedule": "step",
        "warmup_epochs": 1,
        "milestones": (0.5,),
        "decay_factor": 0.5,
        "plateau_patience": 3,
        "epochs": 3,
        "batch_size": 16,
        "label_smoothing": 0.1,
        "early_stopping": 2,
        "test_weights": "best",
        "evaluate_every": 2,
        "augmentation": Augmentation(flip=True),
        "validation_views": "augmented",
        "finetune": "frozen",
        "unfrozen_stages": 2,
        "bn": "train",
        "backbone_learning_rate": 0.01,
        "head_epochs": 1,
    },
    Execution: {
        "device": "gpu",
        "threads": 2,
        "precision": "mixed_bfloat16",
        "jit": True,
        "lowering": "native",
        "features": False,
        "inputs": "device",
    },
    Head: {"pooling": "flatten", "hidden": (8,), "activation": "elu", "dropout": 0.5},
    Augmentation: {"flip": True, "rotation": 5.0, "shear": 0.1, "zoom": 0.1, "crop_padding": 2},
}


PRETRAINED = Pretrained(
    Path("net.safetensors"), "a" * 64, "net.safetensors", Normalisation((1, 2, 3), (4, 5, 6)), "both", None
)


def identify(**changed: Any) -> str:
    """The id of an arm of defaults, but for what changes: parts of the arm, of the context, and the seeds."""
    pretrained = changed.get("pretrained")
    network = changed.get("network", Network())
    if pretrained:
        network = network.model_copy(update={"weights": pretrained.origin})
    data = Data(normalisation=changed.get("normalisation", "auto"))
    facts = replace(FACTS, fingerprint=changed.get("fingerprint", FACTS.fingerprint))
    return trial_id(
        Arm("a", {}, network, changed.get("recipe", Recipe()), data),
        Streams(changed.get("seed", 1), changed.get("split_seed", 0), changed.get("held", {})),
        TrialContext(facts, changed.get("execution", Execution()), pretrained),
    )


def facts_of(data: Data, split_seed: int) -> DataFacts:
    return FACTS


def expand(text: str = TEXT) -> list[Trial]:
    return trial.expand_trials(resolve_study(parse_document(text, "mine.yaml")), facts_of)


def test_the_id_is_pinned() -> None:
    # Records on disk carry such ids. Where one changes on purpose, raise NUMERICS_VERSION and pin the new one.
    assert trial.NUMERICS_VERSION == 4
    assert identify() == "7e7e0439db58"
    changed = identify(
        network=Network(depth=34, shortcut="zero_pad", width=0.25),
        recipe=Recipe(learning_rate=0.05, epochs=30, augmentation=Augmentation(flip=True)),
        seed=2,
    )
    assert changed == "31ae9276baed"
    assert identify(seed=2, held={"order": 1}) == "81edec770ae7"


def test_adam_has_a_version_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = {name: Recipe(optimizer=name) for name in ("sgd", "adam", "adamw")}
    before = {name: identify(recipe=recipe) for name, recipe in recipes.items()}
    monkeypatch.setattr(trial, "ADAM_VERSION", trial.ADAM_VERSION + 1)
    changed = {name for name, recipe in recipes.items() if identify(recipe=recipe) != before[name]}
    assert changed == {"adam", "adamw"}


def test_defaults_are_pinned() -> None:
    """Defaults stay out of ids: a changed one would give old ids to new outcomes. Raise NUMERICS_VERSION with it."""
    assert trial.NUMERICS_VERSION == 4
    assert Network().model_dump() == {
        "family": "imagenet",
        "depth": 18,
        "shortcut": "projection",
        "variant": "v1.5",
        "width": 1.0,
        "stem": "auto",
        "zero_gamma": False,
        "weights": "none",
        "partial_weights": False,
        "head": {"pooling": "gap", "hidden": (), "activation": "relu", "dropout": 0.0},
    }
    assert Recipe().model_dump() == {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "warmup_epochs": 0,
        "milestones": (0.5, 0.75),
        "decay_factor": 0.1,
        "plateau_patience": 5,
        "epochs": 90,
        "batch_size": 32,
        "label_smoothing": 0.0,
        "early_stopping": None,
        "test_weights": "last",
        "evaluate_every": 1,
        "augmentation": {"flip": False, "rotation": 0.0, "shear": 0.0, "zoom": 0.0, "crop_padding": 0},
        "validation_views": "clean",
        "finetune": "full",
        "unfrozen_stages": 1,
        "bn": "inference",
        "backbone_learning_rate": None,
        "head_epochs": 0,
    }
    assert Execution().model_dump() == {
        "device": "auto",
        "threads": 1,
        "precision": "float32",
        "jit": "auto",
        "lowering": "table",
        "features": True,
        "inputs": "auto",
    }


@pytest.mark.parametrize(
    ("model", "field"),
    [(model, field) for model in OTHERS for field in model.model_fields if field != "weights"],
    ids=lambda part: str(part),
)
def test_every_setting_is_part_of_the_id(model: type, field: str) -> None:
    value = OTHERS[model][field]
    assert value != model.model_fields[field].default
    changed: dict[str, Any] = {model.__name__.lower(): model(**{field: value})}
    if model is Augmentation:
        changed = {"recipe": Recipe(augmentation=changed["augmentation"])}
    elif model is Head:
        changed = {"network": Network(head=changed["head"])}
    assert identify(**changed, pretrained=PRETRAINED) != identify(pretrained=PRETRAINED)


def test_weights_are_known_by_their_digest_and_not_by_their_name() -> None:
    assert identify(pretrained=PRETRAINED) != identify()
    assert identify(pretrained=replace(PRETRAINED, digest="b" * 64)) != identify(pretrained=PRETRAINED)
    moved = replace(PRETRAINED, path=Path("elsewhere"), origin="other")
    assert identify(network=Network(weights="elsewhere"), pretrained=moved) == identify(pretrained=PRETRAINED)


def test_the_normalisation_is_part_of_the_id() -> None:
    for pretrained, usual in ((PRETRAINED, "weights"), (None, "dataset")):
        ids = {how: identify(pretrained=pretrained, normalisation=how) for how in ("auto", "dataset", "weights", "raw")}
        assert ids["auto"] == ids[usual]
        assert len(set(ids.values())) == 3
    text = TEXT.replace("factors:", "factors:\n  normalisation: [dataset, raw]").replace("plain-18", "dataset-plain-18")
    assert len({t.id for t in expand(text)}) == 16


def test_scratch_is_the_trial_that_has_no_weights() -> None:
    scratch = identify(network=Network(weights="imagenet"), recipe=Recipe(finetune="scratch"))
    assert scratch == identify() == identify(network=Network(weights="none"))


@pytest.mark.parametrize("changed", [{"seed": 2}, {"split_seed": 1}, {"fingerprint": "e" * 64}], ids=str)
def test_data_and_seeds_are_part_of_the_id(changed: dict[str, Any]) -> None:
    assert identify(**changed) != identify()


def test_what_is_known_of_photos_and_weights_beside_their_digests_is_no_part_of_the_id() -> None:
    noted = replace(PRETRAINED, notes=Notes("somewhere", "a note", "stored in 8 bits"))
    assert identify(pretrained=noted) == identify(pretrained=PRETRAINED)
    context = TrialContext(replace(FACTS, originals=Originals(10, 64, 500)), Execution(), None)
    assert trial_id(Arm("a", {}, Network(), Recipe(), Data()), Streams(1, 0), context) == identify()


def test_seed_and_split_seed_are_never_one_number() -> None:
    assert identify(seed=0, split_seed=1) != identify(seed=1, split_seed=0)


def test_what_is_held_counts_and_not_the_seed_that_a_trial_is_called_by() -> None:
    assert identify(seed=5, held={"init": 1, "order": 1}) == identify(seed=1)
    assert identify(seed=5, held={"order": 1}) == identify(seed=1, held={"init": 5})
    assert len({identify(seed=2, held=held) for held in ({}, {"init": 1}, {"order": 1}, {"init": 1, "order": 1})}) == 4


def test_spelled_out_defaults_are_no_part_of_the_id() -> None:
    assert identify(recipe=Recipe(epochs=90, momentum=0.9)) == identify()
    assert identify(recipe=Recipe(learning_rate=1)) == identify(recipe=Recipe(learning_rate=1.0))


def test_the_same_trials_under_other_names_in_another_order_keep_their_ids() -> None:
    ids = {(t.network, t.seed): t.id for t in expand()}
    other = (
        TEXT.replace("name: mine", "name: other")
        .replace("question: q", "question: another")
        .replace("{plain: none, residual: zero_pad}", "{b: zero_pad, a: none}")
        .replace("depth: [18, 34]", "depth: {x: 34, y: 18}")
        .replace("plain-18", "a-y")
        .replace("seeds: 2", "seeds: [2, 1, 3]\nmargin: 0.01\nmetric: test_top5")
    )
    again = {(t.network, t.seed): t.id for t in expand(other)}
    assert len(again) == 12
    assert {key: again[key] for key in ids} == ids


def test_a_profile_is_no_part_of_the_id(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT + "recipe: {epochs: 7}\nprofiles: {same: {recipe: {epochs: 7}}}\n")
    ids = [[t.id for t in trial.expand_trials(load_study(str(path), p), facts_of)] for p in (None, "same")]
    assert ids[0] == ids[1]


def test_ids_are_equal_in_another_process() -> None:
    code = (
        "from resflow.study.arms import *; from resflow.study.settings import *; from resflow.study.trial import *; "
        "context = TrialContext(DataFacts('', 'f' * 64, 1, (1, 1, 1)), Execution(), None); "
        "print(trial_id(Arm('a', {}, Network(), Recipe(), Data()), Streams(1, 0), context))"
    )
    for hash_seed in ("1", "2"):
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed}
        )
        assert said.stdout.strip() == identify()


def test_no_two_trials_share_an_id_and_the_first_seed_comes_first() -> None:
    trials = expand()
    assert len({t.id for t in trials}) == len(trials) == 8
    assert [(t.seed, t.arm) for t in trials] == [
        (seed, arm) for seed in (1, 2) for arm in ("plain-18", "plain-34", "residual-18", "residual-34")
    ]


def test_a_resolved_study_expands_to_the_same_trials(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT + "exclude: [plain-34]\nrecipe: {epochs: 7}\nprofiles: {p: {seeds: [5, 4]}}\n")
    loaded = load_study(str(path), "p")
    plan = Plan(loaded, trial.expand_trials(loaded, facts_of), {}, tmp_path / "run", "resflow study mine")
    write_plan(plan)
    again = load_study(str(tmp_path / "run" / "study.yaml"))
    assert [t.id for t in trial.expand_trials(again, facts_of)] == [t.id for t in plan.trials]


def test_facts_are_asked_once_for_each_data() -> None:
    asked: list[Data] = []

    def facts(data: Data, split_seed: int) -> DataFacts:
        asked.append(data)
        return FACTS

    trial.expand_trials(resolve_study(parse_document(TEXT, "mine.yaml")), facts)
    assert asked == [Data()]


def test_lowerings_of_cpus_stay_out_of_gpu_trials() -> None:
    assert trial.resolve_execution(Execution(device="gpu"), 1).lowering == "native"
    rounded = trial.resolve_execution(Execution(device="gpu", precision="tensorfloat32"), 1)
    assert (rounded.precision, rounded.policy) == ("tensorfloat32", "float32")
    with pytest.raises(StudyError, match=r"tensorfloat32 is of GPUs.*set precision to float32, or device to gpu"):
        trial.resolve_execution(Execution(device="auto", precision="tensorfloat32"), 1, gpus=0)
    assert trial.resolve_execution(CPU, 1) == CPU


@pytest.mark.parametrize(
    ("device", "jit", "steps", "compiled"),
    [
        ("cpu", "auto", 10**9, False),
        ("gpu", "auto", trial.JIT_STEPS, True),
        ("gpu", "auto", trial.JIT_STEPS - 1, False),
        ("cpu", True, 1, True),
        ("gpu", False, 10**9, False),
    ],
)
def test_xla_compiles_where_it_is_asked_for_or_repays(device: Any, jit: Any, steps: int, compiled: bool) -> None:
    assert trial.resolve_execution(Execution(device=device, jit=jit), steps).jit is compiled


def test_the_shortest_arm_decides_on_xla_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "JIT_STEPS", 30 * (FACTS.counts[0] // 32))
    text = TEXT.replace("device: cpu", "device: gpu").replace("factors:", "factors:\n  epochs: [30, 90]")
    text = text.replace("plain-18", "30-plain-18")
    assert {t.execution.jit for t in expand(text)} == {True}
    assert {t.execution.jit for t in expand(text.replace("30", "29"))} == {False}


@pytest.mark.parametrize(
    ("device", "asked", "room", "settled"),
    [
        ("gpu", "auto", 0, "device"),  # what fits to the byte
        ("gpu", "auto", -1, "host"),
        ("gpu", "host", 0, "host"),
        ("gpu", "device", -1, "device"),
        ("cpu", "auto", 0, "host"),
        ("cpu", "device", 0, "device"),
    ],
)
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_images_lie_on_a_gpu_that_has_room_for_them(
    device: Any, asked: Any, room: int, settled: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sum(FACTS.counts) * 64 * 64 * 3
    monkeypatch.setattr("resflow.provenance.gpu_memory", lambda: (images + room) / placement.PART / share)
    text = TEXT.replace("{device: cpu}", f"{{device: {device}, inputs: {asked}}}") + f"resources: {{gpus: {share}}}\n"
    assert {t.execution.inputs for t in expand(text)} == {settled}


def test_the_largest_images_of_a_network_that_is_computed_decide_for_all_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resflow.provenance.gpu_memory", lambda: None)  # a cluster's GPUs
    text = TEXT.replace("device: cpu", "device: gpu").replace("depth: [18, 34]", "image_size: [64, 128]")
    text = text.replace("plain-18", "plain-64")
    assert {t.execution.inputs for t in expand(text)} == {"device"}
    monkeypatch.setattr(placement, "ASSUMED_MEMORY", sum(FACTS.counts) * 64 * 64 * 3 / placement.PART)
    assert {t.execution.inputs for t in expand(text)} == {"host"}
    assert {t.execution.inputs for t in expand(text.replace("[64, 128]", "[64, 32]"))} == {"device"}


def test_inputs_are_counted_as_they_lie_on_the_device() -> None:
    """Images a byte a value; features, which a frozen backbone gives, four, and an epoch's training views beside."""
    counts, flat = (5, 3, 2), Head(pooling="flatten")
    asked = {"network": Network(), "recipe": Recipe()}

    def count(**changed: Any) -> int:
        sections = asked | changed
        return placement.input_bytes(Arm("a", {}, sections["network"], sections["recipe"], Data()), counts, Execution())

    frozen = Recipe(finetune="frozen")
    assert count() == count(recipe=Recipe(finetune="partial")) == 10 * 64 * 64 * 3
    assert count(recipe=frozen) == 15 * 512 * 4
    assert count(recipe=frozen, network=Network(depth=50, head=flat)) == 15 * 2048 * 2 * 2 * 4
    assert count(recipe=frozen, network=Network(partial_weights=True)) == count()


def test_plan_rows_hold_labels_and_sizes() -> None:
    row = trial.plan_rows(expand())[0]
    assert {key: row[key] for key in ("arm", "seed", "shortcut", "depth", "epochs")} == {
        "arm": "plain-18",
        "seed": 1,
        "shortcut": "plain",
        "depth": "18",
        "epochs": 90,
    }
    assert list(row) == ["id", "arm", "seed", "shortcut", "depth", "parameters", "multiply_adds", "epochs"]


def test_a_factor_called_like_a_column_of_the_plan_keeps_its_label() -> None:
    text = TEXT.replace("factors:", "factors:\n  epochs: {short: 30, long: 90}").replace("plain-18", "short-plain-18")
    rows = trial.plan_rows(expand(text))
    assert {(row["factor_epochs"], row["epochs"]) for row in rows} == {("short", 30), ("long", 90)}
    assert list(rows[0])[:6] == ["id", "arm", "seed", "factor_epochs", "shortcut", "depth"]
    assert set(setting_names()) & set(rows[0]) == {"shortcut", "depth", "epochs"}  # no other factor can be called so
