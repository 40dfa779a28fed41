"""Maps and loss landscapes of trained networks: what the formulas say, of the networks that a run kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from typer.testing import CliRunner

from resflow.cli import main
from resflow.errors import RecordError, ResflowError, WeightsError
from resflow.inspection import loss_landscape
from resflow.inspection.activation_maps import compute_maps, stage_outputs
from resflow.inspection.inspect_run import choose_networks, load_run_dataset
from resflow.inspection.network import Network, rebuild_network
from resflow.records.record import write_record
from resflow.report.write import write_report
from resflow.training import train
from resflow.workflow.plan import make_plan, write_plan
from resflow.workspace import network_path

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
STUDY = """\
name: looked
question: What is inside?
baseline: plain-8
factors:
  shortcut: {plain: none, residual: zero_pad}
  depth: [8]
network: {family: cifar, width: 0.25}
data: {source: synthetic, image_size: 32}
recipe: {epochs: 1, batch_size: 64}
seeds: 1
execution: {device: cpu}
keep_weights: last
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one run of two trained networks."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("looked.yaml").write_text(STUDY, encoding="utf-8")
        plan = make_plan("./looked.yaml", out=Path("results/looked"))
        write_plan(plan)
        for trial in plan.trials:
            keep = network_path(plan.state, trial.id)
            keep.parent.mkdir(parents=True, exist_ok=True)
            write_record(plan.run, train.train_trial(trial, plan.folders[trial.id], keep=keep))
        yield place


@pytest.fixture
def network(home: Path) -> Network:
    chosen = choose_networks(Path("results/looked"), ["residual-8"], None)
    return rebuild_network(chosen.networks[0][1])


@pytest.fixture
def images(home: Path) -> np.ndarray:
    chosen = choose_networks(Path("results/looked"), None, None)
    data = load_run_dataset(chosen, None)
    return data.images[data.validation[:6]]


def said(*words: str) -> str:
    result = CliRunner().invoke(main.app, list(words))
    if isinstance(result.exception, ResflowError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_maps_are_of_every_stage_and_the_answer_is_the_networks_own(network, images) -> None:
    maps = compute_maps(network, images)
    logits = network.logits(images).numpy()
    assert list(maps.stages) == ["stage1", "stage2", "stage3"]
    assert [values.shape for values in maps.stages.values()] == [(6, 32, 32), (6, 16, 16), (6, 8, 8)]
    assert (maps.answer == logits.argmax(axis=1)).all()
    assert maps.probability == pytest.approx(tf.nn.softmax(logits).numpy().max(axis=1), rel=1e-4)
    for values in (*maps.stages.values(), maps.cam):
        assert values.min() >= 0
        assert values.max() <= 1


def test_grad_cam_of_a_linear_head_on_average_pooling_is_cam(network, images) -> None:
    """There the gradient is the head's own weight over the places: Zhou et al. 2016's class activation map."""
    maps = compute_maps(network, images)
    last = list(stage_outputs(network.model).values())[-1]
    features = tf.keras.Model(network.model.input, last)(network.normalise(tf.constant(images)), training=False).numpy()
    kernel = network.model.get_layer("head").kernel.numpy()
    for number in range(len(images)):
        cam = np.maximum(features[number] @ kernel[:, maps.answer[number]], 0)
        spread = cam.max() - cam.min()
        expected = (cam - cam.min()) / spread if spread > 0 else np.zeros_like(cam)
        assert maps.cam[number] == pytest.approx(expected, abs=1e-3)


def test_the_command_draws_a_picture_an_image(home, tmp_path) -> None:
    out = said("maps", "looked", "--count", "2", "--out", str(tmp_path))
    paths = [Path(line.removeprefix("Wrote ")) for line in out.splitlines()]
    assert len(paths) == 2
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width > 1000
    photo = tmp_path / "photo.png"
    Image.new("RGB", (50, 40), (200, 30, 90)).save(photo)
    assert "Wrote .resflow/looked/maps/01-photo.png" in said(
        "maps", "looked", "--images", str(photo), "--arm", "plain-8"
    )


def test_every_filter_of_a_direction_is_as_long_as_the_networks_and_twins_go_the_same_way(home) -> None:
    chosen = choose_networks(Path("results/looked"), None, None)
    plain, residual = (rebuild_network(source).model for _, source in chosen.networks)
    along, other = (loss_landscape.draw_directions(model, 3, 2) for model in (plain, residual))
    for name, step in along[0].items():
        own = plain.get_layer(name).kernel.numpy()
        axes = tuple(range(own.ndim - 1))
        assert np.sqrt((step**2).sum(axes)) == pytest.approx(np.sqrt((own**2).sum(axes)), rel=1e-4)
        unit, twin = (x / np.sqrt((x**2).sum(axes)) for x in (step, other[0][name]))
        assert unit == pytest.approx(twin, abs=1e-5)
    assert not np.allclose(along[0]["head"], along[1]["head"])


def test_the_middle_is_the_networks_own_loss_and_its_weights_come_back(home, network, images) -> None:
    labels = np.zeros(len(images), dtype=np.int64)
    before = [weight.numpy() for weight in network.model.weights]
    found = list(loss_landscape.compute_losses(network, images, labels, loss_landscape.line_steps(5), seed=1))
    logits = network.logits(images)
    own = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)).numpy()
    assert found[2] == pytest.approx(own, rel=1e-5)
    assert len(set(np.round(found, 6))) == 5
    assert all((a == b.numpy()).all() for a, b in zip(before, network.model.weights, strict=True))
    plane = list(loss_landscape.compute_losses(network, images, labels, loss_landscape.plane_steps(3), seed=1))
    assert plane[4] == pytest.approx(own, rel=1e-5)
    assert plane[3] == pytest.approx(found[0], rel=1e-4)  # the plane's first axis is the line


def test_the_command_measures_and_the_report_shows(home) -> None:
    said("landscape", "looked", "--points", "5", "--grid", "3", "--images", "16")
    table = pd.read_csv("results/looked/landscape.csv")
    assert len(table) == 2 * (5 + 9)
    assert table["loss"].notna().all()
    said("landscape", "looked", "--points", "3", "--grid", "0", "--images", "16", "--arm", "plain-8")
    table = pd.read_csv("results/looked/landscape.csv")
    assert table["arm"].value_counts().to_dict() == {"residual-8": 14, "plain-8": 3}
    page = write_report(Path("results/looked")).read_text(encoding="utf-8")
    assert "Loss around the trained networks" in page
    assert Path("results/looked/figures/landscape_plane.svg").is_file()
    assert "Responses by layer" in page  # a real run has its diagnostics


def test_what_is_not_there_is_told(home, tmp_path) -> None:
    with pytest.raises(RecordError, match="plain-8"):
        said("maps", "looked", "--arm", "plane-8")
    with pytest.raises(RecordError, match="seed 7"):
        said("maps", "looked", "--seed", "7")
    with pytest.raises(RecordError, match=r"nowhere\.jpg"):
        said("maps", "looked", "--images", "nowhere.jpg")
    Path(".resflow/looked/weights").rename(tmp_path / "gone")
    try:
        with pytest.raises(WeightsError, match="keep"):
            said("landscape", "looked")
    finally:
        (tmp_path / "gone").rename(".resflow/looked/weights")
