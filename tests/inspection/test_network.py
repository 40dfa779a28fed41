"""Trained networks at work: rebuilt to the bit, exported, asked about photos, trained for others to start from."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from support import direct, tiny
from support.direct import said
from support.fake_run import write_run
from typer.testing import CliRunner

from resflow.cli import main
from resflow.data.dataset import load_dataset
from resflow.errors import ResflowError
from resflow.inspection.network import rebuild_network
from resflow.records.run import load_run
from resflow.runner import execute
from resflow.study.settings import Augmentation, Execution, Head
from resflow.training import train
from resflow.training.learner import forget_graphs, graphs
from resflow.weights import files, load
from resflow.weights.metadata import dump_network
from resflow.weights.saved import read_network
from resflow.workspace import network_path

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
KINDS: dict[str, dict[str, Any]] = {
    "residual": {},
    "pre-activation, hidden layers": {
        "variant": "v2",
        "head": Head(pooling="flatten", hidden=(6, 5), activation="gelu", dropout=0.5),
    },
    "plain, pooled, native": {
        "shortcut": "none",
        "stem": "imagenet",
        "normalisation": "raw",
        "execution": Execution(device="cpu", jit=False, lowering="native"),
    },
    "best": {"test_weights": "best", "epochs": 3, "learning_rate": 0.5, "augmentation": Augmentation(flip=True)},
    "bfloat16": {"execution": Execution(device="cpu", jit=False, precision="mixed_bfloat16")},
    "bottleneck": {"family": "imagenet", "depth": 50, "width": 0.0625, "shortcut": "projection_all", "epochs": 1},
}


def photos() -> list[str]:
    return sorted(map(str, Path("photos").glob("*.png")))


# --- rebuilt


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.long if kind in ("bottleneck", "bfloat16", "best") else ())
        for kind in KINDS
    ],
)
def test_a_kept_network_gives_the_logits_of_the_trained_one_to_the_bit(folder: Path, tmp_path: Path, kind: str) -> None:
    forget_graphs()
    keep = "best" if kind == "best" else "last"
    outcome = train.train_trial(
        replace(tiny.trial(folder, **KINDS[kind]), keep_weights=keep), folder, keep=tmp_path / "net.safetensors"
    )
    assert outcome.record.status == "completed", outcome.record.reason
    (net,) = graphs.values()
    images = load_dataset(folder).images[:32]
    rebuilt = rebuild_network(read_network(tmp_path / "net.safetensors"))
    assert np.array_equal(rebuilt.logits(images).numpy(), net.logits(images).numpy())
    forget_graphs()


def test_a_file_that_says_one_network_and_holds_another_is_refused(here: Path, trained: Any) -> None:
    path = network_path(Path(".resflow/tiny"), trained[1])
    values = load_file(path)
    values["stage1_block1_conv1/kernel"] = values["stage1_block1_conv1/kernel"][:, :, :1]
    found = read_network(path)
    save_file(values, path, {**dump_network(found.network), **metadata(path)})
    with pytest.raises(ResflowError, match="it is damaged"):
        read_network(path)
    save_file(values, path, {**dump_network(found.network), **metadata(path), "sha256": ""} | {"format": "edited"})
    with pytest.raises(ResflowError, match="1 of another shape: stage1_block1_conv1/kernel"):
        rebuild_network(read_network(path))


def metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return dict(file.metadata())


def test_a_network_from_before_digests_is_used_and_shown_as_unchecked(here: Path, trained: Any) -> None:
    path = network_path(Path(".resflow/tiny"), trained[1])
    assert "unchecked" not in said("show", f"tiny/{trained[1]}")
    about = metadata(path)
    assert about.pop(files.OWN_DIGEST) == files.digest(path)
    said("export", f"tiny/{trained[1]}", "--format", "safetensors")
    exported = Path("exported") / trained[1] / "model.safetensors"
    before = files.digest(exported)
    save_file(load_file(path), path, about)
    assert "unchecked: it was kept without a digest" in said("show", f"tiny/{trained[1]}")
    said("export", f"tiny/{trained[1]}", "--format", "safetensors")
    assert files.digest(exported) == before


def test_every_command_refuses_a_damaged_network(here: Path, trained: Any) -> None:
    path = network_path(Path(".resflow/tiny"), trained[1])
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    for words in (("export", f"tiny/{trained[1]}"), ("predict", f"tiny/{trained[1]}", photos()[0])):
        result = CliRunner().invoke(main.app, list(words))
        assert isinstance(result.exception, ResflowError)
        assert "it is damaged" in str(result.exception)
    with pytest.raises(ResflowError, match="it is damaged"):
        load.find_weights(f"run:tiny/{trained[1]}", "cifar", 8)


# --- asked about photos


@pytest.mark.parametrize("form", ["RUN/TRIAL", "run folder", "trial's folder", "file", "folder", "keras"])
def test_predictions_are_those_of_the_trials_record(here: Path, trained: Any, form: str) -> None:
    _, trial, outcome = trained
    file = f".resflow/tiny/weights/{trial}.safetensors"
    model = {
        "RUN/TRIAL": f"tiny/{trial}",
        "run folder": f"results/tiny/{trial}",
        "trial's folder": f"results/tiny/trials/{trial}",
        "file": file,
        "folder": "model",
        "keras": "model/model.keras",
    }[form]
    if form in ("folder", "keras"):
        said("export", file, "--out", "model", "--format", "safetensors" if form == "folder" else "keras")
    rows = json.loads(said("predict", model, *photos(), "--format", "json", "-k", "3"))
    assert [row["image"] for row in rows] == photos()
    shown = {Path(row["image"]).stem: row["classes"] for row in rows}
    for told in outcome.predictions.to_dict("records"):
        found = shown[told["image"]]
        assert found[0]["index"] == told["predicted"]
        assert found[0]["class"] == "abc"[told["predicted"]]
        of_label = next(row["probability"] for row in found if row["index"] == told["label"])
        assert of_label == pytest.approx(told["probability"], abs=1e-6)
        assert sum(row["probability"] for row in found) == pytest.approx(1)
        assert found == sorted(found, key=lambda row: -row["probability"])


def test_a_table_shows_the_most_probable_classes(here: Path, trained: Any) -> None:
    some = photos()[:2]
    (rows,) = (json.loads(said("predict", f"tiny/{trained[1]}", *some, "-f", "json", "-k", "2")),)
    shown = said("predict", f"tiny/{trained[1]}", *some, "-k", "2")
    listed = [(row["image"], *[f"{c['class']} {c['probability']:.1%}" for c in row["classes"]]) for row in rows]
    assert shown == " ".join(["image class probability", *(word for row in listed for word in row)])
    assert len(json.loads(said("predict", f"tiny/{trained[1]}", some[0], "-f", "json", "-k", "99"))[0]["classes"]) == 3


def test_photos_are_decoded_as_in_training(here: Path, folder: Path, trained: Any) -> None:
    """A large, turned, half transparent photo gives what its decoded square gives."""
    from resflow.data import decode

    draw = np.random.default_rng(3).integers(0, 256, (40, 57, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(draw).save("odd.png", exif=exif)
    square = decode.decode("odd", Path("odd.png").read_bytes(), 16).pixels
    Image.fromarray(square).save("square.png")
    odd, plain = json.loads(said("predict", f"tiny/{trained[1]}", "odd.png", "square.png", "-f", "json"))
    assert odd["classes"] == plain["classes"]


# --- wrong input: command -> what is told

WRONG = {
    "export": "Missing argument",
    "export tiny": "expected RUN/TRIAL",
    "export tiny/": "expected RUN/TRIAL",
    "export /": "no exported network|expected RUN/TRIAL",
    "export ../x": "no run called|expected RUN/TRIAL",
    "export tiny/..": "expected RUN/TRIAL|no exported network",
    "export tinny/1a2b": "no run called 'tinny'. Did you mean 'tiny'",
    "export tiny/1a2b3c4d5e6f": "run tiny has no trial '1a2b3c4d5e6f'",
    "export fake/ID": "has kept no network. Train it again.* resflow study depth --profile cpu --set keep_weights=last",
    "export tiny/TRIAL tiny/1a2b3c4d5e6f": "run tiny has no trial '1a2b3c4d5e6f'",
    "export tiny/TRIAL --format onxn": "unknown format 'onxn'.*Did you mean 'onnx'",
    "export tiny/TRIAL --out file": "cannot write",
    "export nothing.safetensors": "no kept network at nothing.safetensors",
    "export file.safetensors": "no readable .safetensors file",
    "export file": "is no trained network",
    "export photos": "photos is no exported network",
    "export bare.safetensors": "does not say of which network",
    "predict": "Missing argument",
    "predict tiny/TRIAL": "Missing argument",
    "predict tiny/TRIAL nothing.jpg": "nothing.jpg: cannot be read .No such file",
    "predict tiny/TRIAL photos": "photos: cannot be read .it is a folder",
    "predict tiny/TRIAL file": "file: empty file",
    "predict tiny/TRIAL nothing.jpg file text": "3 files are not usable.*nothing.jpg.*file.*text: not a JPEG",
    "predict tiny/TRIAL photo.png -k 0": "--top|-k",
    "predict tiny/TRIAL photo.png -k many": "--top|-k",
    "predict tiny/TRIAL photo.png --format csv": "unknown format 'csv'",
    "predict tiny/1a2b3c4d5e6f photo.png": "has no trial",
    "predict alone.keras photo.png": "cannot read alone.json",
    "predict nothing.keras photo.png": "no exported network at nothing.keras",
    "predict damaged.keras photo.png": "no readable Keras file",
    "predict photo.png photo.png": "is no trained network",
    "pretrain": "Missing option",
    "pretrain --data synthetic": "Missing option",
    "pretrain --data synthetic --out net": "ends in .safetensors",
    "pretrain --data synthetic --out net.keras": "ends in .safetensors",
    "pretrain --data nope --out net.safetensors": "unknown data source",
    "pretrain --data folder:nowhere --out net.safetensors": "nowhere",
    "pretrain --data synthetic --out net.safetensors --depth 17": "no depth 17",
    "pretrain --data synthetic --out net.safetensors --family resnext": "family",
    "pretrain --data synthetic --out net.safetensors --width 0.3": "19.2 filters",
    "pretrain --data synthetic --out net.safetensors --set epohcs=3": "Did you mean 'epochs'",
    "pretrain --data synthetic --out net.safetensors --set image_size=16 --set seeds=2": "make 2 trials",
    "pretrain --data synthetic --out net.safetensors --set image_size=16 --set keep_weights=none": "not to none",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_input_is_told_and_writes_nothing(
    words: str, here: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "execute", lambda *args: pytest.fail("trained"))
    write_run(here / "results" / "fake", seeds=(1,), epochs=2)
    (here / "results" / "fake" / "study.yaml").write_text("name: depth\ncommand: resflow study depth --profile cpu\n")
    trial = load_run(here / "results" / "fake").records[0].id
    Path("file").touch()
    Path("file.safetensors").touch()
    Path("text").write_text("no photo")
    shutil.copy(photos()[0], "photo.png")
    save_file({"conv1.weight": np.ones((1, 1, 1, 1), np.float32)}, "bare.safetensors")
    Path("alone.keras").touch()
    Path("damaged.keras").write_bytes(b"PK")
    shutil.copy(described(here, trained[1]), "damaged.json")
    before = sorted(here.rglob("*"))
    result = CliRunner().invoke(main.app, words.replace("TRIAL", trained[1]).replace("ID", trial).split())
    message = str(result.exception) if isinstance(result.exception, ResflowError) else result.output
    assert re.search(WRONG[words], re.sub(r"\s+", " ", message)), message
    assert isinstance(result.exception, ResflowError) or result.exit_code == 2, result.exception
    assert sorted(here.rglob("*")) == before


def described(here: Path, trial: str) -> Path:
    """model.json of the trained network, without its export."""
    found = read_network(network_path(here / ".resflow" / "tiny", trial))
    path = here / "described.json"
    path.write_text(found.network.model_dump_json())
    return path


# --- trained for others


PRETRAIN = (
    *("pretrain", "--data", "folder:all", "--family", "cifar", "--depth", "8", "--width", "0.125"),
    *("--set", "image_size=16", "--set", "epochs=2", "--set", "batch_size=8", "--set", "device=cpu"),
)


@pytest.fixture
def sorted_photos(here: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All images in one folder a class; trials run in this process, without Ray."""
    data = load_dataset(folder)
    for index, name in enumerate(data.names):
        place = here / "all" / data.class_names[data.labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[index]).save(place / f"{name}.png")
    monkeypatch.setattr(execute, "execute", direct.execute)
    return here


def test_pretrain_writes_a_backbone_to_start_from(sorted_photos: Path) -> None:
    shown = said(*PRETRAIN, "--out", "there/backbone.safetensors")
    assert "Wrote there/backbone.safetensors" in shown
    assert list(Path("there").iterdir()) == [Path("there/backbone.safetensors")]
    found = read_network(Path("there/backbone.safetensors"))
    assert found.network.classes == ("a", "b", "c")
    arch = found.network.architecture
    assert (arch.family, arch.depth, arch.width) == ("cifar", 8, 0.125)
    assert found.network.trained.epoch == 2
    start = load.find_weights("there/backbone.safetensors", "cifar", 8)
    assert start.notes.origin.startswith("trained by resflow on folder:all (scratch): ")
    assert start.normalisation == found.network.normalisation
    (run,) = Path("results").glob("pretrain-*")
    (record,) = load_run(run).records
    assert record.status == "completed"
    assert record.id == found.network.trained.trial
    command = load_run(run).study["command"]
    assert command.startswith("resflow pretrain --data folder:all --depth 8 --out backbone.safetensors --seed 1 --set ")

    before = Path("there/backbone.safetensors").read_bytes()
    said(*PRETRAIN, "--out", "again.safetensors")
    assert Path("again.safetensors").read_bytes() == before  # nothing was trained
    assert list(Path("results").glob("pretrain-*")) == [run]
    assert said("predict", "again.safetensors", photos()[0], "-f", "json")
    said("report", str(run))  # one arm alone, and yet a report


def test_a_pretraining_that_fails_says_why_and_writes_nothing(sorted_photos: Path) -> None:
    result = CliRunner().invoke(main.app, [*PRETRAIN, "--set", "learning_rate=1e30", "--out", "net.safetensors"])
    assert isinstance(result.exception, ResflowError)
    assert "the trial diverged: " in str(result.exception)
    assert not Path("net.safetensors").exists()


def test_an_interrupted_copy_leaves_what_was_there(sorted_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(source: Path, draft: Path) -> None:
        Path(draft).write_bytes(b"half")
        raise KeyboardInterrupt

    Path("net.safetensors").write_bytes(b"before")
    monkeypatch.setattr(shutil, "copyfile", half)
    result = CliRunner().invoke(main.app, [*PRETRAIN, "--out", "net.safetensors", "--force"])
    assert result.exit_code == 130
    assert Path("net.safetensors").read_bytes() == b"before"
    assert not list(sorted_photos.glob(".net*"))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_pretrain_and_predict_through_ray_as_a_user_does(sorted_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from resflow.cli.main import main; main()"
    Path("temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(Path("temporary").absolute()))
    words = [*PRETRAIN, "--out", "net.safetensors"]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ended = subprocess.run(
        [sys.executable, "-c", code, "predict", "net.safetensors", photos()[0], "-f", "json"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)[0]["classes"]) == 3
    assert not list(Path("temporary").iterdir())  # TensorFlow's copies of functions among others
