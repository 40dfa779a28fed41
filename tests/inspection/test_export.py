"""Exported networks: what they hold, and that other programs compute the same with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from huggingface_hub import ModelCard
from support import foreign, tiny
from support.direct import raised, said
from support.fake_run import trial_id, write_run
from support.public_nets import drawn
from typer.testing import CliRunner

from resflow.analysis.analyse import analyse
from resflow.architectures import Architecture
from resflow.cli import main
from resflow.data.dataset import load_dataset
from resflow.errors import MissingExtraError, ResflowError
from resflow.inspection.export.formats import FORMATS
from resflow.inspection.export.keras_file import stock_twin
from resflow.inspection.export.model_card import Origin, write_card
from resflow.inspection.export.torch_file import torchvision_name
from resflow.inspection.export.write import export_network
from resflow.inspection.network import Network, rebuild_network
from resflow.models.build import build_network
from resflow.study.pretrained import Normalisation
from resflow.study.settings import Head
from resflow.training import scoring, train
from resflow.weights import files, names
from resflow.weights.description import Computed, Trained, TrainedNetwork
from resflow.weights.saved import SavedNetwork, locate_network, read_network, write_network
from resflow.workspace import network_path

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
TOLERANCE = 1e-5  # of the largest logit


@dataclass(frozen=True)
class Kind:
    """A network that an export must carry over whole: its architecture, image size and head."""

    arch: Architecture
    size: int = 24
    head: Head = field(default_factory=Head)


def cifar(shortcut: str, variant: str = "v1.5") -> Architecture:
    return Architecture("cifar", 8, shortcut, variant, 0.25, "low_resolution")


def bottleneck(shortcut: str, variant: str = "v1.5", **changed: Any) -> Architecture:
    return replace(Architecture("imagenet", 50, shortcut, variant, 0.0625, "imagenet"), **changed)


QUICK = ("option A", "option A, bottleneck", "option B, v2")  # each kind of block and shortcut, every other layer
KINDS = {
    "plain": Kind(cifar("none")),
    "option A": Kind(cifar("zero_pad"), 19, Head(hidden=(6, 5), activation="gelu", dropout=0.5)),
    "option A, v2": Kind(cifar("zero_pad", "v2"), head=Head(pooling="flatten", hidden=(6,), activation="tanh")),
    "option A, bottleneck": Kind(bottleneck("zero_pad"), 40, Head(hidden=(6,), activation="elu")),
    "option B, v1": Kind(bottleneck("projection", "v1"), 37, Head(hidden=(6,))),
    "option B, v2": Kind(bottleneck("projection", "v2", stem_pool="same"), 40),
    "option C": Kind(bottleneck("projection_all", stem="low_resolution"), head=Head(pooling="flatten")),
    "option C, v2": Kind(cifar("projection_all", "v2"), 19),
    "plain, v2": Kind(cifar("none", "v2")),
}
PUBLIC = {depth: Kind(Architecture("imagenet", depth, "projection", "v1.5", 1.0, "imagenet"), 64) for depth in (18, 50)}
NORMALISATION = Normalisation((120.5, 110.0, 100.0), (60.0, 61.5, 62.0))


def describe(kind: Kind, classes: tuple[str, ...] = ("a", "b", "c")) -> TrainedNetwork:
    trained = {"trial": "1a2b3c4d5e6f", "study": "s", "arm": "a", "seed": 1, "epoch": 2, "kept": "last"}
    return TrainedNetwork(
        architecture=kind.arch,
        head=kind.head,
        classes=classes,
        image_size=kind.size,
        computed=Computed(lowering="native", precision="float32"),
        trained=Trained(**trained, source="synthetic", finetune="scratch"),
        normalisation=NORMALISATION,
    )


def kept(kind: Kind, folder: Path) -> SavedNetwork:
    """A kept network with random values everywhere, moving statistics among them."""
    model = build_network(kind.arch, kind.size, 3, head=kind.head)
    draw = np.random.default_rng(kind.arch.depth)
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(drawn(weight.name, tuple(weight.shape), draw))
    path = folder / "kept.safetensors"
    write_network(path, model, describe(kind))
    return read_network(path)


def some_images(size: int) -> np.ndarray:
    """Patches of random colours: images that a network tells apart."""
    patches = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)
    return patches.repeat(-(-size // 4), axis=1).repeat(-(-size // 4), axis=2)[:, :size, :size]


def difference(mine: Any, theirs: np.ndarray) -> float:
    return float(np.abs(np.asarray(mine) - theirs).max() / np.abs(theirs).max())


# --- the same network


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=() if kind in QUICK else pytest.mark.long) for kind in KINDS]
)
def rebuilt(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tensorflow_on_one_thread: None
) -> tuple[SavedNetwork, Network]:
    """A kept network of each kind, and what is rebuilt from it."""
    source = kept(KINDS[request.param], tmp_path_factory.mktemp("kept"))
    return source, rebuild_network(source)


def test_stock_layers_compute_the_same(rebuilt: tuple[SavedNetwork, Network]) -> None:
    source, network = rebuilt
    twin = stock_twin(network.model, NORMALISATION)
    assert all(type(layer).__module__.startswith("keras.") for layer in twin.layers)
    images = some_images(source.network.image_size)
    expected = network.logits(images).numpy()
    assert expected.std(axis=0).min() > 0  # images are told apart
    assert difference(twin(images), expected) < TOLERANCE
    assert difference(twin(images.astype(np.float32)), expected) < TOLERANCE
    assert difference(twin(255 - images), expected) > 100 * TOLERANCE  # else the test could not fail


def test_tensors_under_pytorchs_names_are_the_same_to_the_bit(
    rebuilt: tuple[SavedNetwork, Network], tmp_path: Path
) -> None:
    source, network = rebuilt
    path = tmp_path / "model.safetensors"
    write_network(path, network.model, source.network, names.PYTORCH)
    assert not any("/" in name for name in files.read(path).tensors)
    assert read_network(path).network == source.network
    again = rebuild_network(read_network(path)).model.get_weights()
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(again, network.model.get_weights(), strict=True))


LOAD = """
import os, re, sys
sys.modules["resflow"] = None  # whoever imports it fails
import numpy as np
pixels = np.load("images.npy")
os.chdir("out")
exec(re.search("```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1])
np.save("logits.npy", [logits, model(pixels.astype("float32")), model.predict(pixels, verbose=0)])
print(classes)
"""


def test_the_lines_of_the_card_open_a_keras_file_where_there_is_no_resflow(
    here: Path, folder: Path, trained: Any
) -> None:
    said("export", f"tiny/{trained[1]}", "--format", "keras", "--out", "out")
    data = load_dataset(folder)
    images = data.images[data.test]
    np.save("images.npy", images)
    done = subprocess.run([sys.executable, "-c", LOAD], check=True, capture_output=True, timeout=240, text=True)
    assert done.stdout.strip() == "['a', 'b', 'c']"
    source = read_network(network_path(Path(".resflow/tiny"), trained[1]))
    for logits in np.load("out/logits.npy"):
        assert difference(logits, rebuild_network(source).logits(images).numpy()) < TOLERANCE
        recorded = trained[2].predictions
        probability = np.exp(scoring.log_softmax(logits))[np.arange(len(logits)), recorded["label"]]
        assert probability == pytest.approx(recorded["probability"], abs=TOLERANCE)
        assert list(logits.argmax(axis=1)) == list(recorded["predicted"])


@pytest.fixture(scope="module")
def other_python() -> str:
    """A Python with PyTorch and ONNX's runtime."""
    python = os.environ.get("RESFLOW_TORCH_PYTHON", sys.executable)
    needed = "torch, torchvision, timm, safetensors, onnxruntime"
    if subprocess.run([python, "-c", f"import {needed}"], capture_output=True).returncode:
        pytest.skip(f"RESFLOW_TORCH_PYTHON names no Python that imports {needed}")
    return python


def ask(python: str, *jobs: dict[str, str]) -> list[np.ndarray]:
    """The logits that other programs compute, of images.npy in each job's folder."""
    words = [python, foreign.__file__, json.dumps(jobs)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [np.array(logits) for logits in json.loads(done.stdout)]


def exported(kind: Kind, form: str, folder: Path) -> np.ndarray:
    """Export a network into a folder with images; return the logits that resflow computes of these."""
    folder.mkdir()
    source = kept(kind, folder)
    export_network(source, folder, form)
    np.save(folder / "images.npy", some_images(kind.size))
    return rebuild_network(source).logits(some_images(kind.size)).numpy()


@pytest.mark.long
def test_torch_computes_the_same(other_python: str, tmp_path: Path) -> None:
    kinds = {**KINDS, **{f"resnet{depth}": kind for depth, kind in PUBLIC.items()}}
    expected = {name: exported(kind, "torch", tmp_path / name) for name, kind in kinds.items()}
    jobs = [{"kind": "torch", "folder": str(tmp_path / name), "name": name} for name in kinds]
    public = [
        {"kind": library, "folder": str(tmp_path / f"resnet{depth}"), "name": f"resnet{depth}"}
        for depth in PUBLIC
        for library in ("torchvision", "timm")
    ]
    for job, logits in zip([*jobs, *public], ask(other_python, *jobs, *public), strict=True):
        measured = difference(logits, expected[job["name"]])
        print(f"{job['name']} in {job['kind']}: {measured:.1e}")
        assert measured < TOLERANCE, job


@pytest.mark.long
def test_onnx_computes_the_same(other_python: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'resflow[onnx]'")
    kinds = {**KINDS, "resnet18": PUBLIC[18]}
    expected = {name: exported(kind, "onnx", tmp_path / name) for name, kind in kinds.items()}
    jobs = [{"kind": "onnx", "folder": str(tmp_path / name), "name": name} for name in kinds]
    for job, logits in zip(jobs, ask(other_python, *jobs), strict=True):
        measured = difference(logits, expected[job["name"]])
        print(f"{job['name']} in onnxruntime: {measured:.1e}")
        assert measured < TOLERANCE, job


def test_onnx_is_asked_for_where_it_is_missing(here: Path, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"resflow\[onnx\]"):
        raised("export", f"tiny/{trained[1]}", "--format", "onnx", "--out", "out")
    assert not Path("out").exists()


def test_torchvision_has_what_it_has() -> None:
    """ImageNet's nets of full width with projections, v1.5 and a linear head."""
    public = PUBLIC[50]
    assert torchvision_name(describe(public)) == "resnet50"
    assert torchvision_name(describe(replace(public, head=Head(dropout=0.5)))) == "resnet50"  # none is used
    basic = replace(public, arch=replace(public.arch, depth=34, variant="v1"))  # the same as v1.5
    assert torchvision_name(describe(basic)) == "resnet34"
    others: list[dict[str, Any]] = [
        {"shortcut": "none"},
        {"shortcut": "zero_pad"},
        {"shortcut": "projection_all"},
        {"variant": "v1"},
        {"variant": "v2"},
        {"width": 0.5},
        {"stem": "low_resolution"},
        {"stem_pool": "same"},
        {"family": "cifar", "depth": 20},
    ]
    for changed in others:
        assert torchvision_name(describe(replace(public, arch=replace(public.arch, **changed)))) is None, changed
    for head in (Head(hidden=(5,)), Head(pooling="flatten")):
        assert torchvision_name(describe(replace(public, head=head))) is None


# --- the folder


def test_an_export_says_what_the_network_is_and_is_loaded_again(here: Path, folder: Path, trained: Any) -> None:
    there = ("model.safetensors", "model.keras", "README.md", "model.json")
    assert said("export", f"tiny/{trained[1]}") == " ".join(f"Wrote exported/{trained[1]}/{name}" for name in there)
    out = Path("exported") / trained[1]
    assert {path.name for path in out.iterdir()} == set(there)
    told = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert told["classes"] == ["a", "b", "c"]
    assert told["image_size"] == 16
    assert told["network"]["depth"] == 8
    assert told["trained"]["trial"] == trained[1]
    assert any("Lanczos" in rule for rule in told["preprocessing"])
    assert any("centred square" in rule for rule in told["preprocessing"])
    results = {
        result.metric_name: result.metric_value for result in ModelCard.load(out / "README.md").data.eval_results
    }
    assert results["test top-1, seed 1"] == pytest.approx(trained[2].record.metrics["test_top1"], abs=1e-6)


def test_a_file_alone_is_exported_without_results(here: Path, trained: Any) -> None:
    said("export", f".resflow/tiny/weights/{trained[1]}.safetensors", "--out", "alone", "--format", "safetensors")
    assert ModelCard.load("alone/README.md").data.eval_results is None


def test_several_trials_are_exported_at_once(here: Path, folder: Path, trained: Any) -> None:
    other = replace(tiny.trial(folder, seed=2), keep_weights="last")
    train.train_trial(other, folder, keep=network_path(Path(".resflow/tiny"), other.id))
    said("export", f"tiny/{trained[1]}", f"tiny/{other.id}", "--out", "models", "--format", "torch")
    for trial in (trained[1], other.id):
        assert {path.suffix for path in (Path("models") / trial).iterdir()} == {".safetensors", ".py", ".md", ".json"}
        assert read_network(locate_network(f"models/{trial}", Path(), Path())).network.trained.trial == trial


def test_a_folder_holds_one_network_in_several_forms(here: Path, folder: Path, trained: Any) -> None:
    other = replace(tiny.trial(folder, seed=2), keep_weights="last")
    train.train_trial(other, folder, keep=network_path(Path(".resflow/tiny"), other.id))
    said("export", f"tiny/{trained[1]}", "--out", "model", "--format", "torch")
    said("export", f"tiny/{trained[1]}", "--out", "model", "--format", "keras")
    forms = {path.suffix for path in Path("model").iterdir()} - {".md", ".json"}
    assert forms == {".safetensors", ".py", ".keras"}
    assert {"load_model", "from model import load"} <= loaders(Path("model/README.md"))
    said("export", f"tiny/{other.id}", "--out", "model", "--format", "keras")
    assert {path.suffix for path in Path("model").iterdir()} - {".md", ".json"} == {".keras"}
    assert loaders(Path("model/README.md")) == {"load_model"}
    assert read_network(locate_network("model", Path(), Path())).network.trained.trial == other.id


def loaders(card: Path) -> set[str]:
    """The ways of loading that a card shows."""
    text = card.read_text(encoding="utf-8")
    ways = {"load_model", "from model import load", "load_state_dict", "InferenceSession"}
    return {way for way in ways if way in text}


def test_what_was_changed_since_is_replaced_with_force_alone(here: Path, trained: Any) -> None:
    words = ("export", f"tiny/{trained[1]}", "--out", "model", "--format", "torch")
    said("export", f"tiny/{trained[1]}", "--out", "model", "--format", "keras")
    said(*words)
    for name in ("README.md", "model.py", "model.keras"):
        path = Path("model") / name
        before = path.read_bytes()
        path.write_bytes(before + b"license: mit")
        with pytest.raises(ResflowError, match=name):
            raised(*words)
        assert path.read_bytes() == before + b"license: mit"
        path.write_bytes(before)
    Path("model/README.md").write_bytes(b"mine")
    said(*words, "--force")
    assert loaders(Path("model/README.md")) == {"load_model", "from model import load"}


def test_an_exported_keras_file_that_is_damaged_is_refused(here: Path, trained: Any) -> None:
    said("export", f"tiny/{trained[1]}", "--format", "keras", "--out", "out")
    path = Path("out/model.keras")
    assert read_network(path).path == path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResflowError, match="it is not what was written"):
        read_network(path)


def test_a_keras_file_from_before_it_normalised_by_itself_is_read(here: Path, trained: Any) -> None:
    source = read_network(network_path(Path(".resflow/tiny"), trained[1]))
    network = rebuild_network(source)
    network.model.save("old.keras")
    Path("old.json").write_text(source.network.model_dump_json(), encoding="utf-8")
    images = some_images(16)
    old = rebuild_network(read_network(Path("old.keras"))).logits(images).numpy()
    assert difference(old, network.logits(images).numpy()) < TOLERANCE


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_exported_files_are_readable_as_the_umask_says(here: Path, trained: Any, mask: int) -> None:
    before = os.umask(mask)
    try:
        said("export", f"tiny/{trained[1]}", "--out", "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in Path("model").iterdir()} == {0o666 & ~mask}


def test_an_interrupted_export_leaves_no_half_file(here: Path, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(model: Any, path: Path, *args: Any) -> None:
        Path(path).write_bytes(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", half)
    CliRunner().invoke(main.app, ["export", f"tiny/{trained[1]}", "--out", "model", "--format", "keras"])
    assert not list(Path("model").iterdir())


# --- the model card

ARM, SEED = "residual-34", 2


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    run = write_run(tmp_path_factory.mktemp("results") / "depth", command="resflow study depth --profile cpu")
    return origin_in(run, ARM, SEED)


def origin_in(run: Path, arm: str, seed: int) -> Origin:
    analysis, trial = analyse(run), trial_id(arm, seed)
    record = next(record for record in analysis.records if record.id == trial)
    return Origin(analysis, record)


def card_of(origin: Origin | None, suffixes: tuple[str, ...] = FORMATS["both"], **trained: Any) -> ModelCard:
    network = describe(KINDS["plain"])
    known = {} if origin is None else {"arm": origin.record.arm, "seed": origin.record.seed, "trial": origin.record.id}
    changed = network.trained.model_copy(update={"source": "oxford_flowers10", **known, **trained})
    return ModelCard(write_card(network.model_copy(update={"trained": changed}), suffixes, origin))


def test_the_hub_reads_the_cards_figures_and_they_are_those_of_the_run(origin: Origin) -> None:
    card = card_of(origin)
    assert (card.data.library_name, card.data.pipeline_tag) == ("keras", "image-classification")
    assert card.data.datasets == ["oxford_flowers10"]
    assert card.data.license is None
    results = {result.metric_name: result for result in card.data.eval_results}
    arms = origin.analysis.arms.set_index("arm")
    own, mean = results["test top-1, seed 2"], results["test top-1, mean of the arm over seeds"]
    assert own.metric_value == pytest.approx(origin.record.metrics["test_top1"], abs=1e-6)
    assert mean.metric_value == pytest.approx(arms.loc[ARM, "mean"], abs=1e-6)
    told = mean.metric_args
    assert (told["seeds"], told["confidence"]) == (3, 0.95)
    assert [told["low"], told["high"]] == pytest.approx(list(arms.loc[ARM, ["low", "high"]]), abs=1e-6)
    assert {result.dataset_split for result in results.values()} == {"test"}
    assert own.dataset_args == {"split": "official", "split_hash": origin.record.data["split_hash"]}


def test_a_card_tells_question_commands_labels_and_that_a_licence_is_to_be_chosen(origin: Origin) -> None:
    text = card_of(origin).text
    for part in (
        "Does depth help with shortcuts",
        "    resflow study depth --profile cpu",
        f"    resflow export depth/{origin.record.id} --format keras",
        f"    resflow export depth/{origin.record.id} --format safetensors",
        "budget-limited",  # a label of the report
        "whoever publishes the network chooses one",
        "tensorflow 2.21.0",
    ):
        assert part in text, part


def test_a_card_shows_how_to_load_what_is_there() -> None:
    """torchvision's network where it has one, and where it has none how to come by a definition."""
    public, own = (write_card(describe(kind), FORMATS["safetensors"], None) for kind in (PUBLIC[50], KINDS["plain"]))
    assert "model = torchvision.models.resnet50(num_classes=3)" in public
    assert "torchvision.models" not in own
    assert "resflow export --format torch" in own
    assert "from model import load" in write_card(describe(KINDS["plain"]), FORMATS["torch"], None)


def test_a_mean_of_few_seeds_has_no_interval_and_says_why(tmp_path: Path) -> None:
    card = card_of(origin_in(write_run(tmp_path / "depth", seeds=(1, 2)), ARM, 2))
    (mean,) = (one for one in card.data.eval_results if one.metric_name == "test top-1, mean of the arm over seeds")
    assert mean.metric_args == {"seeds": 2}
    assert "two values" in card.text or "two seeds" in card.text


def test_without_records_a_card_has_no_figures_and_says_so() -> None:
    card = card_of(None)
    assert card.data.eval_results is None
    assert "were not at hand" in card.text


@pytest.mark.parametrize(("source", "kind"), [("folder:mine", "imagefolder"), ("synthetic", "synthetic")])
def test_what_is_no_public_data_set_is_not_named_as_one(source: str, kind: str, origin: Origin) -> None:
    card = card_of(origin, source=source)
    assert card.data.datasets is None
    assert {(one.dataset_type, one.dataset_name) for one in card.data.eval_results} == {(kind, source)}


def test_names_of_a_stranger_stay_text() -> None:
    hostile = "x: [1]\n---\n# <b>b</b> | ![i](http://e)"
    card = card_of(None, arm=hostile, study=hostile)
    assert card.data.pipeline_tag == "image-classification"  # the lines at the top end where they should
    assert "<b>" not in card.text.replace(r"\<b\>", "")
    assert "![i]" not in card.text
