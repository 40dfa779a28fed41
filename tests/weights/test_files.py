"""Files of weights: every kind is read alike, what a file says of itself is checked, and no damage is a traceback."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.public_nets import THIN_CLASSES, THIN_SIZE
from support.weight_nets import built, equal, fixture, found, tensors, thin, thin_architecture, values, written

from resflow.errors import MissingExtraError, WeightsError
from resflow.models.build import initialise
from resflow.study.settings import Head
from resflow.weights import files, load, metadata
from resflow.weights.description import Description
from resflow.weights.load import Normalisation

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
INPUT = {"layout": "RGB", "scale": 1.0, "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}


def loaded(pretrained: load.Pretrained, **options: Any) -> dict[str, np.ndarray]:
    model = thin(18, **options)
    load.load_weights(model, pretrained, head=True)
    return values(model)


@pytest.fixture(scope="module")
def usual() -> dict[str, np.ndarray]:
    """What a network holds that has loaded the fixture."""
    return loaded(found(fixture(18)))


# --- kinds of files


def test_npz_under_pytorchs_names(usual: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **tensors())
    assert equal(loaded(found(tmp_path / "net.npz")), usual)


def test_npz_and_safetensors_under_resflows_names(usual: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "net.npz", **usual)
    assert equal(loaded(found(tmp_path / "net.npz")), usual)
    assert equal(loaded(written(tmp_path, usual)), usual)


@pytest.mark.parametrize("variant", ["v1.5", "v2"])
def test_keras_files_of_a_trained_network(variant: str, tmp_path: Path) -> None:
    """With an optimiser's state in the file; its groups are called by kinds of layers, not by their names."""
    arch, head = thin_architecture(18, variant=variant), Head(hidden=(5,), dropout=0.5)
    trained, fresh = (built(arch, THIN_SIZE, 3, head=head) for _ in range(2))
    initialise(trained, 1)
    trained.compile("adam")
    trained.optimizer.build(trained.trainable_variables)
    trained.save_weights(tmp_path / "net.weights.h5")
    with h5py.File(tmp_path / "net.weights.h5") as file:
        assert len(file["optimizer/vars"]) > 100
    load.load_weights(fresh, found(tmp_path / "net.weights.h5"), head=True)
    assert equal(values(fresh), values(trained))


def test_keras_2s_files_of_kerass_own_nets(usual: dict[str, np.ndarray], tmp_path: Path) -> None:
    """As keras.applications publishes them: conv1_conv/conv1_conv/kernel:0, a list of layers as an attribute."""
    layers = {
        "conv1_conv": {"kernel": np.ones((7, 7, 3, 2)), "bias": np.array([1.0, 2.0])},
        "conv1_bn": {kind: np.full(2, 3.0) for kind in ("gamma", "beta", "moving_mean", "moving_variance")},
        "conv2_block1_0_conv": {"kernel": np.ones((1, 1, 2, 8)), "bias": np.ones(8)},
        "conv5_block3_3_bn": {"beta": np.ones(8)},
        "predictions": {"kernel": np.ones((8, 10)), "bias": np.ones(10)},
    }
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, own in layers.items():
            for weight, value in own.items():
                file[f"{layer}/{layer}/{weight}:0"] = value.astype(np.float32)
    contents = files.read(tmp_path / "net.h5")
    assert set(contents.tensors) == {
        "stem/kernel",
        *(f"stem_bn/{kind}" for kind in ("gamma", "beta", "moving_mean", "moving_variance")),
        "stage1_block1_shortcut/kernel",
        "stage1_block1_shortcut/bias",  # no batch norm of this file takes it
        "stage4_block3_conv3_bn/beta",
        "head/kernel",
        "head/bias",
    }
    assert contents.tensors["stem_bn/moving_mean"].tolist() == [2.0, 1.0]
    assert contents.description == Description(epsilon=1.001e-5, variant="v1")


def test_what_kerass_own_nets_were_fed_is_for_the_sidecar_to_say(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1_bn", b"conv1_conv"]
        file["conv1_bn/conv1_bn/gamma:0"], file["conv1_conv/conv1_conv/kernel:0"] = np.ones(1), np.ones(1)
    assert found(tmp_path / "net.h5").normalisation is None
    caffe = {**INPUT, "layout": "BGR", "mean": [103.939, 116.779, 123.68], "std": [1, 1, 1]}
    (tmp_path / "net.h5.json").write_text(json.dumps({"input": caffe}))
    pretrained = found(tmp_path / "net.h5")
    assert pretrained.normalisation == Normalisation((123.68, 116.779, 103.939), (1, 1, 1))
    assert pretrained.variant == "v1"


@pytest.mark.parametrize("kind", ["hard", "external", "virtual", "nameless", "twice", "empty"])
def test_strange_keras_files_are_refused(kind: str, tmp_path: Path) -> None:
    np.zeros(4, np.float32).tofile(tmp_path / "elsewhere")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["values"] = np.zeros(4, np.float32)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        names = [] if kind == "empty" else ["a", "a"] if kind == "twice" else ["a"]
        for number, name in enumerate(names):
            group = file.create_group(f"layers/dense{number}/vars")
            if kind != "nameless":
                group.attrs["name"] = name
            if kind == "external":
                group.create_dataset("0", (4,), "f4", external=[(str(tmp_path / "elsewhere"), 0, 16)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout((4,), "f4")
                layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "values", (4,))
                group.create_virtual_dataset("0", layout)
            elif kind == "hard":
                group["0"] = h5py.ExternalLink(tmp_path / "other.h5", "values")
            else:
                group["0"] = np.zeros(4, np.float32)
    said = {"nameless": "does not name its layers", "twice": "two layers are called a"}
    said |= dict.fromkeys(("external", "virtual"), "lies in another file")
    with pytest.raises(WeightsError, match=said.get(kind, "holds no layer's weights")):
        found(tmp_path / "net.h5")


# --- files that are none


class Evil:
    """Unpickled, it would leave a file behind."""

    def __init__(self, left: Path) -> None:
        self.left = left

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.left,)


@pytest.mark.parametrize("name", ["net.npz", "net.h5", "net.safetensors", "net.pth", "net.bin", "net"])
@pytest.mark.parametrize("packed", [True, False])
def test_no_pickle_is_ever_loaded(name: str, packed: bool, tmp_path: Path) -> None:
    left = tmp_path / "ran"
    with (tmp_path / name).open("wb") as file:
        if packed:
            np.savez(file, a=np.array([Evil(left)], dtype=object))
        else:
            pickle.dump({"a": Evil(left)}, file)
    with pytest.raises(WeightsError, match="is no"):
        found(tmp_path / name)
    assert not left.exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same few tensors in every kind of file."""
    folder = tmp_path_factory.mktemp("whole")
    few = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(5, np.float32)}
    save_file(few, folder / "net.safetensors", {"bn_eps": "1e-5"})
    np.savez(folder / "net.npz", **few)
    with h5py.File(folder / "net.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group["0"], group["1"] = few["a"], few["b"]
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".h5"])
@pytest.mark.parametrize("left", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_told(suffix: str, left: float, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(whole[suffix])
    assert found(path)
    path.write_bytes(whole[suffix][: int(left * len(whole[suffix]))])
    with pytest.raises(WeightsError, match=rf"is no readable \{suffix} file: .*Fetch or convert it again"):
        found(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_told(suffix: str, whole: dict[str, bytes], tmp_path: Path, data: Any) -> None:
    content = bytearray(whole[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with suppress(WeightsError):
        files.read(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.safetensors", "no weights at .* found nothing"),
        ("folder.npz", "no weights at .* found a folder"),
        ("net.onnx", "no kind of file that weights are read from: expected a file that ends in .safetensors"),
        ("net.pth", "That may be a pickle, which can run any code"),
    ],
)
def test_what_is_no_file_of_weights_is_told(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "net.onnx").touch()
    (tmp_path / "net.pth").touch()
    with pytest.raises(WeightsError, match=said):
        found(tmp_path / name)


def test_numbers_that_are_no_weights_are_told(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "f8.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(WeightsError, match=r"of a type that NumPy lacks.*Convert it to float32|expected floats"):
        found(tmp_path / "f8.safetensors")
    for bad, said in (
        (np.ones(2, np.uint8), "a holds uint8, expected floats"),
        (np.array([1, np.nan], np.float32), "a holds numbers that are not finite"),
        (np.array([1e300]), "a holds numbers that are not finite"),
    ):
        with pytest.raises(WeightsError, match=said):
            written(tmp_path, {"a": bad})
    twice = {"a": np.ones(1, np.float32), "module.a": np.ones(1, np.float32)}
    with pytest.raises(WeightsError, match=r"holds a twice, with and without 'module\.'"):
        written(tmp_path, twice)


@pytest.mark.parametrize(("suffix", "library"), [(".safetensors", "safetensors"), (".h5", "h5py")])
def test_a_library_that_is_not_installed_is_named(
    suffix: str, library: str, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"net{suffix}").write_bytes(whole[suffix])
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"needs {library}.*resflow\[train\]"):
        found(tmp_path / f"net{suffix}")


# --- written

WRITE = """
import sys
from pathlib import Path
import numpy as np
from resflow.weights.files import write_safetensors

kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
tensors = {"b/kernel": kernel, "a/bias": np.ones(3, np.float32), "n": np.arange(2)}
inside = {**{f"key {number}": f"{number}" for number in range(20)}, "odd": '"tulipán"\\n\\t\\x1f\\x7f /'}
write_safetensors(Path(sys.argv[1]), tensors, inside)
"""


def test_the_same_network_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path in paths:
        subprocess.run([sys.executable, "-c", WRITE, path], check=True, timeout=120)
    first, *others = (path.read_bytes() for path in paths)
    assert others == [first, first]
    assert int.from_bytes(first[:8], "little") % 8 == 0
    assert {name: value.tolist() for name, value in load_file(paths[0]).items()} == {
        "b/kernel": [[0, 1, 2], [3, 4, 5]],
        "a/bias": [1, 1, 1],
        "n": [0, 1],
    }
    with safe_open(paths[0], "np") as file:
        said = file.metadata()
    assert said == {**{f"key {number}": f"{number}" for number in range(20)}, "odd": '"tulipán"\n\t\x1f\x7f /'}


# --- what a file says of itself


def parsed(**said: Any) -> Description:
    return metadata.parse(said, Path("net.npz"))


def test_a_file_that_says_nothing() -> None:
    assert parsed() == Description(None, "RGB", "both", None, None)
    assert parsed(format="pt", licence="mit") == Description()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"input": json.dumps(INPUT)}, Description(Normalisation((1, 2, 3), (4, 5, 6)))),
        ({"input": {**INPUT, "scale": 0.5}}, Description(Normalisation((2, 4, 6), (8, 10, 12)))),
        ({"input": {**INPUT, "layout": "BGR"}}, Description(Normalisation((3, 2, 1), (6, 5, 4)), layout="BGR")),
        ({"max_pool_padding": "SAME"}, Description(stem_pool="same")),
        ({"max_pool_padding": "BOTH"}, Description(stem_pool="both")),
        ({"bn_eps": "1e-3"}, Description(epsilon=1e-3)),
        ({"bn_eps": 0.001}, Description(epsilon=1e-3)),
        ({"architecture": "resnet50 v1.5"}, Description(variant="v1.5")),
        ({"architecture": "resnet50 v1\n"}, Description(variant="v1")),
        ({"architecture": "ResNet50v2"}, Description(variant="v2")),
        ({"architecture": "v1.5 of something else"}, Description()),
        ({"input": None, "bn_eps": None, "max_pool_padding": None, "architecture": None}, Description()),
    ],
    ids=str,
)
def test_what_a_file_says_is_understood(said: dict[str, Any], expected: Description) -> None:
    assert parsed(**said) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("input", "RGB", "an object"),
        ("input", "{", "an object"),
        ("input", "[" * 100_000, "an object"),
        ("input", {"layout": "RGB"}, "an object"),
        ("input", {**INPUT, "crop": 224}, "an object"),
        ("input.layout", {**INPUT, "layout": "rgb"}, "RGB or BGR"),
        ("input.layout", {**INPUT, "layout": ["RGB"]}, "RGB or BGR"),
        ("input.scale", {**INPUT, "scale": 0}, "a number above 0"),
        ("input.scale", {**INPUT, "scale": True}, "a number above 0"),
        ("input.scale", json.dumps({**INPUT, "scale": float("nan")}), "a number above 0"),
        ("input.scale", {**INPUT, "scale": 10**400}, "a number above 0"),
        ("input.mean", {**INPUT, "mean": [1, 2]}, "three numbers, one a channel"),
        ("input.mean", {**INPUT, "mean": [1, 2, "3"]}, "three numbers, one a channel"),
        ("input.std", {**INPUT, "std": 1}, "three numbers, one a channel"),
        ("input", {**INPUT, "std": [1, 1, 0]}, "a std above 0"),
        ("input", {**INPUT, "scale": 1e-320}, "finite numbers"),
        ("max_pool_padding", "VALID", "SAME or BOTH"),
        ("max_pool_padding", ["SAME"], "SAME or BOTH"),
        ("bn_eps", "small", "a number between 0 and 1"),
        ("bn_eps", "0", "a number between 0 and 1"),
        ("bn_eps", "nan", "a number between 0 and 1"),
        ("bn_eps", [1e-5], "a number between 0 and 1"),
        ("architecture", 50, "text such as"),
        ("origin", ["a", "b"], "expected text"),
        ("note", 5, "expected text"),
        ("altered", True, "expected text"),
    ],
)
def test_what_makes_no_sense_is_named(key: str, value: Any, expected: str) -> None:
    with pytest.raises(WeightsError) as error:
        parsed(**{key.partition(".")[0]: value})
    said = str(error.value)
    assert f"the metadata of net.npz: {key} is " in said
    assert expected in said
    assert "or null, in net.npz.json" in said


def test_a_network_that_resflow_trained_comes_from_its_training_unless_the_file_says_otherwise() -> None:
    trained = {"trial": "0123456789ab", "study": "depth", "arm": "plain-18", "seed": 3, "epoch": 20, "kept": "last",
               "source": "synthetic", "finetune": "scratch"}  # fmt: skip
    said = "trained by resflow on synthetic (scratch): study depth, arm plain-18, seed 3, epoch 20"
    assert parsed(trained=json.dumps(trained)).notes.origin == said
    assert parsed(trained=json.dumps(trained), origin="elsewhere").notes.origin == "elsewhere"
    assert parsed(trained="on a Tuesday").notes.origin == ""


@given(st.text(max_size=3 * metadata.MOST_TEXT))
def test_a_text_of_any_length_becomes_one_line(text: str) -> None:
    note = parsed(note=text).notes.note
    assert len(note) <= metadata.MOST_TEXT
    assert note == " ".join(note.split())
    if text.isprintable() and len(text) <= metadata.MOST_TEXT:
        assert note == " ".join(text.split())


finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)


@given(st.sampled_from(["RGB", "BGR"]), positive, st.lists(finite, min_size=3, max_size=3),
       st.lists(positive, min_size=3, max_size=3), st.lists(st.floats(0, 255), min_size=3, max_size=3))  # fmt: skip
def test_pixels_come_out_as_the_file_says(
    layout: str, scale: float, mean: list[float], std: list[float], rgb: list[float]
) -> None:
    about = parsed(input={"layout": layout, "scale": scale, "mean": mean, "std": std})
    assert about.normalisation is not None
    mine = (np.array(rgb) - about.normalisation.mean) / about.normalisation.deviation
    theirs = (np.array(rgb if layout == "RGB" else rgb[::-1]) * scale - mean) / std
    ordered = theirs if layout == "RGB" else theirs[::-1]
    size = (np.abs(np.array(rgb)) * scale + np.abs(mean[:: 1 if layout == "RGB" else -1])) / np.array(std).min()
    assert (np.abs(mine - ordered) <= 1e-12 * size + np.finfo(float).tiny).all()  # below it digits are lost


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["RGB", "1e-5"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*INPUT, "other"]), inner, max_size=5),
    max_leaves=12,
)
keys = st.sampled_from(
    ["input", "max_pool_padding", "bn_eps", "architecture", "classes", "origin", "note", "altered", "trained", "other"]
)


@given(st.dictionaries(keys, json_values, max_size=4))
def test_any_metadata_is_understood_or_refused(said: dict[str, Any]) -> None:
    try:
        about = parsed(**said)
    except WeightsError:
        return
    assert about.stem_pool in ("both", "same")
    assert about.epsilon is None or 0 < about.epsilon < 1
    assert all(text.isprintable() and len(text) <= metadata.MOST_TEXT for text in astuple(about.notes))
    if about.normalisation is not None:
        assert np.isfinite([*about.normalisation.mean, *about.normalisation.deviation]).all()
        assert min(about.normalisation.deviation) > 0


@given(st.lists(finite, min_size=3, max_size=3), st.lists(positive, min_size=3, max_size=3), positive,
       st.sampled_from(["both", "same"]))  # fmt: skip
def test_what_is_said_is_understood_to_the_bit(mean: list[float], std: list[float], eps: float, pool: str) -> None:
    normalisation = Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    said = metadata.dump(normalisation, pool, min(eps, 0.5), "imagenet-50-projection v1.5")
    assert parsed(**said) == Description(normalisation, "RGB", pool, min(eps, 0.5), "v1.5")


# --- beside the file


def test_a_sidecar_stands_over_the_file_key_by_key_and_is_part_of_the_digest(tmp_path: Path) -> None:
    about = {"input": json.dumps(INPUT), "max_pool_padding": "SAME", "architecture": "resnet18 v1"}
    alone = written(tmp_path, tensors(), about)
    (tmp_path / "net.safetensors.json").write_text(json.dumps({"architecture": "resnet18 v1.5", "input": None}))
    beside = found(alone.path)
    assert (alone.variant, beside.variant) == ("v1", "v1.5")
    assert (alone.normalisation, beside.normalisation) == (Normalisation((1, 2, 3), (4, 5, 6)), None)
    assert alone.stem_pool == beside.stem_pool == "same"
    assert alone.digest == files.sha256(alone.path) != beside.digest
    load.load_weights(thin(18), beside)
    (tmp_path / "net.safetensors.json").unlink()
    assert found(alone.path) == alone


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_sidecar_that_is_no_object_is_told(content: bytes, tmp_path: Path) -> None:
    pretrained = written(tmp_path, {"a": np.ones(THIN_CLASSES, np.float32)})
    (tmp_path / "net.safetensors.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.safetensors\.json .*Correct it or remove it"):
        found(pretrained.path)


def test_a_file_that_was_replaced_is_looked_at_again(tmp_path: Path) -> None:
    first = written(tmp_path, {"a": np.ones(1, np.float32)}, {"bn_eps": "1e-3"})
    second = written(tmp_path, {"a": np.zeros(1, np.float32)}, {"max_pool_padding": "SAME"})
    assert first.digest != second.digest
    assert (first.stem_pool, second.stem_pool) == ("both", "same")


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = written(tmp_path, {"a": np.ones(1, np.float32)})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load.find_weights("~/net.safetensors", "imagenet", 18) == pretrained
    monkeypatch.chdir(tmp_path)
    assert load.find_weights("net.safetensors", "imagenet", 18) == pretrained
    assert pretrained.path.is_absolute()


# --- what no file of weights is


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".npz", ".h5"):
        path = tmp_path / f"net{suffix}"
        os.mkfifo(path)
        with pytest.raises(WeightsError, match="found no regular file"):
            files.read(path)
        path.unlink()
        path.symlink_to("/dev/zero")
        with pytest.raises(WeightsError, match="found no regular file"):
            files.read(path)


def test_a_pipe_as_a_sidecar_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"fc.weight": np.ones((2, 2), np.float32)}, path)
    os.mkfifo(tmp_path / "net.safetensors.json")
    with pytest.raises(WeightsError, match="no readable JSON"):
        files.read(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".h5"])
def test_a_file_larger_than_any_network_is_not_read(tmp_path: Path, suffix: str) -> None:
    with (tmp_path / f"net{suffix}").open("wb") as file:
        file.truncate(files.MOST_BYTES + 1)
    with pytest.raises(WeightsError, match=r"at most 8,589\.9 MB are read"):
        files.read(tmp_path / f"net{suffix}")


@pytest.mark.parametrize("length", [files.MOST_HEADER + 1, 2**40, 2**64 - 1])
def test_a_header_that_claims_absurd_sizes_is_damage(tmp_path: Path, length: int) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(
        length.to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4)
    )
    with pytest.raises(WeightsError, match="no readable"):
        files.read(path)
    shape = json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}).encode()
    path.write_bytes(len(shape).to_bytes(8, "little") + shape)
    with pytest.raises(WeightsError, match="no readable"):
        files.read(path)
