"""A corpus of broken input: each ends in one clear message and exit code 2, without a traceback, and writes nothing."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from scipy.io import savemat
from support import oxford_layout, tiny

from resflow import workspace
from resflow.cli import main

STUDY = """\
name: mine
question: Does the rate matter?
baseline: slow
factors: {learning_rate: {slow: 0.01, fast: 0.05}}
network: {family: cifar, depth: 8, shortcut: zero_pad, width: 0.125}
data: {source: "folder:photos", image_size: 16}
recipe: {epochs: 1, batch_size: 8}
seeds: 2
profiles: {quick: {seeds: 1}}
"""
FROZEN = STUDY.replace("epochs: 1,", "epochs: 1, finetune: frozen,").replace("width: 0.125", "weights: WEIGHTS")
FIRST = "jpg/image_00001.jpg"
PLAN = ("plan", "./mine.yaml")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    return place


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message of a command that must end with exit code 2 and leave all files as they are."""
    before, cached = _files(Path()), _files(Path(os.environ["RESFLOW_CACHE"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["resflow", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
    shown = capsys.readouterr()
    assert end.value.code == 2, shown
    assert "Traceback" not in shown.err
    assert _files(Path()) == before
    new = _files(Path(os.environ["RESFLOW_CACHE"])).keys() - cached.keys()
    assert {path for path in new if not path.endswith((".lock", workspace.CACHE_TAG))} == set()
    assert shown.err.strip(), "a message"
    return " ".join(shown.err.split())


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edited(old: str, new: str) -> bytes:
    assert old in STUDY
    return STUDY.replace(old, new).encode()


STUDIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected a mapping"),
    "blank": (b"\n\n# nothing\n", "expected a mapping"),
    "a list": (b"- one\n- two\n", "expected a mapping"),
    "a word": (b"depth", "expected a mapping"),
    "a picture": (bytes(range(256)), "no UTF-8 text"),
    "UTF-16": (STUDY.encode("utf-16"), "no UTF-8 text"),
    "a NUL": (STUDY.encode() + b"\0", "no valid YAML"),
    "an open bracket": (edited("{learning_rate", "{{learning_rate"), "no valid YAML|mapping|text"),
    "a tab": (b"name:\tx\n\tquestion: y\n", "no valid YAML"),
    "two documents": (STUDY.encode() + b"---\nname: other\n", "no valid YAML"),
    "a key twice": (STUDY.encode() + b"seeds: 3\n", "seeds"),
    "python's objects": (STUDY.encode() + b"margin: !!python/object/apply:os.system ['touch owned']\n", "margin is a"),
    "a tag of its own": (STUDY.encode() + b"margin: !secret x\n", "margin is a"),
    "a date": (edited("question: Does the rate matter?", "question: 2026-01-01"), "question is a"),
    "a bomb of aliases": (
        b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 10)) for n in range(97, 104)),
        "more than|too many|100,?000|levels",
    ),
    "deep nesting": (b"a: " + b"[" * 500 + b"]" * 500, "nested deeper"),
    "an alias to itself": (STUDY.encode() + b"margin: &a [*a]\n", "margin|alias|nested|valid"),
    "no name": (edited("name: mine\n", ""), "name"),
    "a name that climbs": (edited("name: mine", "name: ../../etc"), "name"),
    "a name with spaces": (edited("name: mine", "name: my study"), "name"),
    "a name of markup": (edited("name: mine", "name: <script>"), "name"),
    "an endless name": (edited("name: mine", f"name: {'a' * 300}"), "name"),
    "a key nobody knows": (STUDY.encode() + b"epoch: 3\n", "epoch"),
    "a setting nobody knows": (edited("epochs: 1,", "epochz: 1,"), "epochz"),
    "a factor nobody knows": (edited("learning_rate: {slow", "learning_rates: {slow"), "learning_rates"),
    "no factors": (edited("{learning_rate: {slow: 0.01, fast: 0.05}}", "{}"), "factors"),
    "a factor without levels": (edited("{slow: 0.01, fast: 0.05}", "[]"), "learning_rate"),
    "levels that are alike": (edited("fast: 0.05", "fast: 0.01"), "stands there twice"),
    "a level that is no number": (edited("fast: 0.05", "fast: quick"), "learning_rate"),
    "a level below nothing": (edited("fast: 0.05", "fast: -1"), "learning_rate"),
    "a level without end": (edited("fast: 0.05", "fast: .inf"), "learning_rate"),
    "a level that is no number at all": (edited("fast: 0.05", "fast: .nan"), "learning_rate"),
    "a baseline nobody knows": (edited("baseline: slow", "baseline: slower"), "baseline"),
    "a baseline left out": (STUDY.encode() + b"exclude: [slow]\n", "baseline"),
    "all left out": (STUDY.encode() + b"exclude: [slow, fast]\n", "baseline"),
    "a depth that is none": (edited("depth: 8", "depth: 9"), "depth"),
    "a depth of text": (edited("depth: 8", "depth: deep"), "depth"),
    "no width": (edited("width: 0.125", "width: 0"), "width"),
    "no epochs": (edited("epochs: 1,", "epochs: 0,"), "epochs"),
    "half an epoch": (edited("epochs: 1,", "epochs: 1.5,"), "epochs"),
    "only warm-up": (edited("epochs: 1,", "epochs: 1, warmup_epochs: 1,"), "warmup_epochs"),
    "a batch of nothing": (edited("batch_size: 8", "batch_size: 0"), "batch_size"),
    "tiny images": (edited("image_size: 16", "image_size: 2"), "image_size"),
    "huge images": (edited("image_size: 16", "image_size: 100000"), "image_size"),
    "no seeds": (edited("seeds: 2", "seeds: 0"), "seeds"),
    "a seed twice": (edited("seeds: 2", "seeds: [1, 1]"), "seed"),
    "a seed below nothing": (edited("seeds: 2", "seeds: [-1]"), "seeds"),
    "a million seeds": (edited("seeds: 2", "seeds: 1000000"), "seeds"),
    "a source nobody knows": (edited('"folder:photos"', "imagenet"), "source"),
    "a split nobody knows": (edited("image_size: 16", "image_size: 16, split: mine"), "split"),
    "frozen without weights": (edited("epochs: 1,", "epochs: 1, finetune: frozen,"), "finetune"),
    "a profile's mistake": (edited("quick: {seeds: 1}", "quick: {seeds: none}"), "seeds"),
    "a profile that renames": (edited("quick: {seeds: 1}", "quick: {name: other}"), "cannot override 'name'"),
    "two GPUs a trial": (STUDY.encode() + b"resources: {gpus: 2}\n", "gpus"),
    "fewer CPUs than threads": (STUDY.encode() + b"execution: {threads: 4}\nresources: {cpus: 1}\n", "cpus 1"),
    "a margin of everything": (STUDY.encode() + b"margin: 1\n", "margin"),
    "a published figure of more than all": (
        STUDY.encode() + b"published: {what: x, correct: 44, images: 43}\n",
        "correct 44",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_broken_studies(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = STUDIES[name]
    tiny.photos(here / "photos")
    (here / "mine.yaml").write_bytes(content)
    assert re.search(message, told(capsys, *PLAN))


COMMANDS: dict[str, tuple[str, str]] = {
    "a command nobody knows": ("studdy depth", "No such command"),
    "an option nobody knows": ("plan depth --profil cpu", "No such option"),
    "no study": ("study", "Missing argument"),
    "a study nobody knows": ("plan deepth", "depth"),
    "a study without its folder": ("plan mine.yml", "no such file"),
    "a folder for a study": ("plan ./photos", "folder|cannot be read|directory|unknown study"),
    "a profile nobody knows": ("plan ./mine.yaml --profile slow", "profile"),
    "no seeds": ("plan ./mine.yaml --seeds 0", "seeds"),
    "seeds of text": ("plan ./mine.yaml --seeds many", "a valid integer"),
    "an endless lot of seeds": ("plan ./mine.yaml --seeds 100000", "seeds"),
    "a setting without value": ("plan ./mine.yaml --set epochs", "expected KEY=VALUE"),
    "a setting without key": ("plan ./mine.yaml --set =5", "expected KEY=VALUE"),
    "a setting nobody knows": ("plan ./mine.yaml --set epoch=5", "epoch"),
    "a setting of another kind": ("plan ./mine.yaml --set epochs=many", "epochs"),
    "a setting that is a factor": ("plan ./mine.yaml --set learning_rate=1", "factor"),
    "a setting that is an object": ("plan ./mine.yaml --set epochs=!!python/name:os.system", "epochs"),
    "a format nobody knows": ("plan ./mine.yaml --format xml", "format"),
    "a source nobody knows": ("plan ./mine.yaml --data roses", "source"),
    "a source without path": ("plan ./mine.yaml --data folder:", "folder:PATH"),
    "a list without path": ("plan ./mine.yaml --data csv:", "csv:FILE"),
    "a list that is a study": ("plan ./mine.yaml --data csv:mine.yaml", "no column 'path'"),
    "a list that is not there": ("plan ./mine.yaml --data csv:nothing.csv", "no file"),
    "a source that is not there": ("plan ./mine.yaml --data folder:nothing", "no folder"),
    "photos for a folder": ("plan ./mine.yaml --data folder:mine.yaml", "no folder"),
    "a data folder that is not there": ("plan ./mine.yaml --data oxford_flowers102 --data-dir nothing", "no folder"),
    "a data folder without files": ("plan ./mine.yaml --data oxford_flowers102 --data-dir photos", "lacks"),
    "a budget of words": ("study ./mine.yaml --time-budget soon", "time budget"),
    "no failures at all": ("study ./mine.yaml --max-failures 0", "max-failures"),
    "an address without port": ("study ./mine.yaml --dry-run --address nowhere", "--address nowhere"),
    "an address that is none": ("study ./mine.yaml --dry-run --address ray://x:1", "--address ray://x:1"),
    "a run that is not there": ("report nothing", "no results folder"),
    "a folder that is no run": ("report photos", "no results folder"),
    "no run at all": ("report", "no run below results/"),
    "a status of nothing": ("status nothing", "no results folder"),
    "a retry of nothing": ("retry nothing", "no results folder"),
    "an export of nothing": ("export nothing/1a2b", "no run called"),
    "an export that climbs": ("export ../../etc/passwd", "no run|no trained|no kept"),
    "an export of a study": ("export mine.yaml", "no trained network"),
    "a prediction by nothing": ("predict nothing.safetensors photo.jpg", "no kept network"),
    "a network nobody knows": ("models --family vgg", "family"),
    "a part that is not cleaned": ("clean --what results", "part of what resflow keeps"),
    "an image size of nothing": ("data fetch synthetic --image-size 0", "image-size"),
    "a source that is not fetched": ("data fetch roses", "source"),
    "a split that a source lacks": ("data info synthetic --split official", "split"),
    "a file that is there": ("init mine.yaml", "would be replaced"),
    "a folder that is not there": ("init nothing/mine.yaml", "cannot write"),
    "a kind of file nobody knows": ("init other.yaml --kind slurm", "kind of file"),
    "a depth nobody has": ("pretrain --data synthetic --out x.safetensors --depth 19", "depth"),
    "a bench nobody knows": ("bench walk", "No such command"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_broken_commands(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = COMMANDS[name]
    tiny.photos(here / "photos")
    (here / "mine.yaml").write_text(STUDY)
    assert re.search(message, told(capsys, *words.split()))


def _bomb(path: Path) -> None:
    """A PNG of 30,000 by 30,000 pixels in some bytes: only its header is true."""
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda photos: [_remove(path) for path in photos.iterdir()], "at least two class folders"),
    "one class": (lambda photos: [_remove(path) for path in sorted(photos.iterdir())[1:]], "holds only one"),
    "a class without photos": (lambda photos: (photos / "rose").mkdir(), "is empty"),
    "parts of a split": (lambda photos: _parts(photos), "look like parts of a split"),
    "folders in folders": (lambda photos: (sorted(photos.iterdir())[0] / "more").mkdir(), "holds the folder"),
    "a photo outside": (lambda photos: Image.new("RGB", (9, 9)).save(photos / "lost.png"), "outside the class folders"),
    "text for a photo": (lambda photos: _spoil(photos, b"no photo"), "not a JPEG"),
    "an empty photo": (lambda photos: _spoil(photos, b""), "empty file"),
    "a cut photo": (lambda photos: _spoil(photos, _photo()[:60]), "damaged|not a JPEG"),
    "a vector graphic": (lambda photos: _spoil(photos, b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a JPEG"),
    "a photo that is a bomb": (lambda photos: _bomb(_first(photos)), "pixels, more than the limit|more pixels"),
    "a broken link": (lambda photos: _link(photos, "nowhere"), "broken link"),
    "a link to itself": (lambda photos: _link(photos, "link.png"), "loop of links|broken link|Too many levels"),
    "a pipe": (lambda photos: os.mkfifo(sorted(photos.iterdir())[0] / "pipe.png"), "no regular file"),
    "too few for a split": (lambda photos: [_remove(path) for path in sorted(photos.glob("*/*"))[1:]], "images|class"),
}  # fmt: skip


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()
    else:
        path.unlink()


def _first(photos: Path) -> Path:
    return sorted(photos.glob("*/*"))[0]


def _spoil(photos: Path, content: bytes) -> None:
    _first(photos).write_bytes(content)


def _photo() -> bytes:
    return oxford_layout.encoded(oxford_layout.drawn(1), "PNG")


def _link(photos: Path, target: str) -> None:
    (sorted(photos.iterdir())[0] / "link.png").symlink_to(target)


def _parts(photos: Path) -> None:
    for path, name in zip(sorted(photos.iterdir()), ("train", "val", "test"), strict=False):
        path.rename(photos / name)


@pytest.mark.parametrize("name", FOLDERS)
def test_broken_folders(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, message = FOLDERS[name]
    tiny.photos(here / "photos")
    (here / "mine.yaml").write_text(STUDY)
    spoil(here / "photos")
    assert re.search(message, told(capsys, *PLAN))


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def _archive(folder: Path, *more: tarfile.TarInfo, but: str = "") -> None:
    """The official members, and others."""
    with tarfile.open(folder / "102flowers.tgz", "w:gz") as archive:
        for name, content in oxford_layout.members().items():
            if name != but:
                archive.addfile(_member(name, size=len(content)), io.BytesIO(content))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)))


ARCHIVES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda folder: (folder / "102flowers.tgz").write_bytes(b""), "truncated or no gzipped tar"),
    "text": (lambda folder: (folder / "102flowers.tgz").write_bytes(b"no archive"), "truncated or no gzipped tar"),
    "cut": (lambda folder: _cut(folder / "102flowers.tgz"), "truncated or no gzipped tar"),
    "a zip": (lambda folder: zipfile.ZipFile(folder / "102flowers.tgz", "w").close(), "truncated or no gzipped tar"),
    "a member that climbs": (lambda folder: _archive(folder, _member("../../owned", size=9)), "unexpected"),
    "a member of the root": (lambda folder: _archive(folder, _member("/tmp/owned", size=9)), "unexpected"),
    "a link out": (
        lambda folder: _archive(folder, _member("jpg/out", tarfile.SYMTYPE, "/etc/passwd")),
        "unexpected",
    ),
    "a link for a photo": (
        lambda folder: _archive(folder, _member(FIRST, tarfile.SYMTYPE, "/etc/passwd"), but=FIRST),
        "unexpected",
    ),
    "a device": (lambda folder: _archive(folder, _member("jpg/null", tarfile.CHRTYPE)), "unexpected"),
    "a photo twice": (lambda folder: _archive(folder, _member("jpg/image_00002.jpg", size=9)), "repeated"),
    "a photo missing": (lambda folder: _archive(folder, but="jpg/image_00003.jpg"), "1 missing"),
    "a bomb": (
        lambda folder: _archive(
            folder, _member(FIRST, size=80 * 2**20), but=FIRST
        ),
        "claims 83,886,080 bytes",
    ),
    "labels of text": (lambda folder: (folder / "imagelabels.mat").write_bytes(b"no labels" * 99), "MATLAB"),
    "labels cut": (lambda folder: _cut(folder / "imagelabels.mat"), "MATLAB|field|numbers"),
    "labels of another field": (lambda folder: savemat(folder / "imagelabels.mat", {"label": [[1]]}), "no such field"),
    "labels beyond the classes": (
        lambda folder: savemat(folder / "imagelabels.mat", {"labels": np.full((1, 306), 103)}),
        "expected 1 to 102",
    ),
    "labels that are fractions": (
        lambda folder: savemat(folder / "imagelabels.mat", {"labels": np.full((1, 306), 1.5)}),
        "whole numbers",
    ),
    "labels that are a bomb": (
        lambda folder: savemat(
            folder / "imagelabels.mat", {"labels": np.zeros((1, 2**26 + 1), np.uint8)}, do_compression=True
        ),
        "claims 67,108,865 numbers",
    ),
    "parts that overlap": (
        lambda folder: savemat(folder / "setid.mat", {name: [[1, 2]] for name in ("trnid", "valid", "tstid")}),
        "another part too",
    ),
}  # fmt: skip


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("layout")
    oxford_layout.make_layout(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ARCHIVES)
def test_broken_archives(name: str, here: Path, layout: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    spoil, message = ARCHIVES[name]
    folder = here / "official"
    folder.mkdir()
    for file, content in layout.items():
        (folder / file).write_bytes(content)
    spoil(folder)
    words = ("data", "info", "oxford_flowers102", "--data-dir", "official", "--image-size", "16")
    assert re.search(message, told(capsys, *words))
    assert not Path("/tmp/owned").exists()


def _safetensors(path: Path, header: bytes, length: int | None = None) -> None:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header)


WEIGHTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "not there": ("w.safetensors", lambda path: None, "no weights at"),
    "a folder": ("w.safetensors", lambda path: path.mkdir(), "found a folder"),
    "empty": ("w.safetensors", lambda path: path.write_bytes(b""), "no readable .safetensors"),
    "text": ("w.safetensors", lambda path: path.write_text("weights" * 99), "no readable .safetensors"),
    "a header without end": ("w.safetensors", lambda path: _safetensors(path, b"{", 2**60), "no readable .safetensors"),
    "a header of nonsense": ("w.safetensors", lambda path: _safetensors(path, b"[1, 2]"), "no readable .safetensors"),
    "a tensor beyond the file": (
        "w.safetensors",
        lambda path: _safetensors(
            path, json.dumps({"stem": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
        ),
        "no readable .safetensors",
    ),
    "whole numbers": (
        "w.safetensors",
        lambda path: safetensors.numpy.save_file({"stem.kernel": np.ones(3, np.int64)}, path),
        "expected floats",
    ),
    "no numbers": (
        "w.safetensors",
        lambda path: safetensors.numpy.save_file({"stem.kernel": np.full(3, np.nan, np.float32)}, path),
        "not finite",
    ),
    "nothing said of its input": (
        "w.safetensors",
        lambda path: safetensors.numpy.save_file({"stem.kernel": np.ones(3, np.float32)}, path),
        "normalised",
    ),
    "a pickle of PyTorch": ("w.pth", lambda path: path.write_bytes(b"\x80\x04K\x01."), "can run any code"),
    "a pickle in disguise": ("w.npz", lambda path: path.write_bytes(b"\x80\x04K\x01."), "no readable .npz"),
    "an array of objects": (
        "w.npz",
        lambda path: np.savez(path, stem=np.array([{"a": 1}], dtype=object), allow_pickle=True),
        "no readable .npz",
    ),
    "a bomb": ("w.npz", lambda path: _zip_bomb(path), "claims to hold 9,000,000,"),
    "a zip of text": ("w.npz", lambda path: _zip_text(path), "no readable .npz|normalised|expected floats"),
    "a file that is no HDF5": ("w.weights.h5", lambda path: path.write_bytes(b"no HDF5" * 99), "no readable .h5"),
    "an ending nobody reads": ("w.onnx", lambda path: path.write_bytes(b"onnx"), "no kind of file"),
    "text beside it that is no JSON": ("w.safetensors", lambda path: _beside(path, "{"), "no readable JSON"),
    "text beside it that is a list": ("w.safetensors", lambda path: _beside(path, "[]"), "expected an object"),
    "text beside it of nonsense": ("w.safetensors", lambda path: _beside(path, '{"bn_eps": -1}'), "bn_eps"),
}  # fmt: skip


def _zip_bomb(path: Path) -> None:
    """An archive whose directory claims nine gigabytes: no test writes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stem.npy", bytes(1000))
        archive.filelist[0].file_size = 9_000_000_128
    path.write_bytes(buffer.getvalue())


def _zip_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stem.npy", "no array")


def _beside(path: Path, text: str) -> None:
    safetensors.numpy.save_file({"stem.kernel": np.ones(3, np.float32)}, path)
    path.with_name(f"{path.name}.json").write_text(text)


@pytest.mark.parametrize("name", WEIGHTS)
def test_broken_weights(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, make, message = WEIGHTS[name]
    tiny.photos(here / "photos")
    (here / "mine.yaml").write_text(FROZEN.replace("WEIGHTS", file))
    make(here / file)
    assert re.search(message, told(capsys, *PLAN))


RECORDS: dict[str, tuple[dict[str, bytes], str, str]] = {
    "a plan that is no table": ({"plan.csv": b"\xff\xfe\0"}, "report run", "plan.csv cannot be read"),
    "a plan without columns": ({"plan.csv": b"a,b\n1,2\n"}, "report run", "lacks the columns"),
    "a plan with a seed of text": ({"plan.csv": b"id,arm,seed\nx,a,one\n"}, "report run", "seed that is no number"),
    "an empty plan": ({"plan.csv": b""}, "report run", "plan.csv cannot be read"),
    "a study that is no YAML": ({"study.yaml": b"{", "plan.csv": b"id,arm,seed\n"}, "report run", "no readable study"),
    "a study that is a list": ({"study.yaml": b"- a", "plan.csv": b"id,arm,seed\n"}, "report run", "expected a map"),
    "a study that runs code": (
        {"study.yaml": b"name: !!python/object/apply:os.system ['touch owned']", "plan.csv": b"id,arm,seed\n"},
        "report run",
        "no readable study",
    ),
    "a retry without study": ({"plan.csv": b"id,arm,seed\n"}, "retry run", "no study.yaml"),
    "a retry of a broken study": ({"study.yaml": b"name: x", "plan.csv": b"id,arm,seed\n"}, "retry run", "factors"),
    "a trial that is not there": ({"plan.csv": b"id,arm,seed\nabc,a,1\n"}, "export run/abd", "abc"),
    "a network that was not kept": ({"plan.csv": b"id,arm,seed\nabc,a,1\n"}, "export run/abc", "kept no network"),
    "a network that is none": ({"model.safetensors": b"nothing"}, "predict run/model.safetensors x.jpg", "no readable"),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_broken_records(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, words, message = RECORDS[name]
    for file, content in files.items():
        path = here / "run" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert re.search(message, told(capsys, *words.split()))
    assert not (here / "owned").exists()


def test_the_corpus_is_large() -> None:
    assert sum(map(len, (STUDIES, COMMANDS, FOLDERS, ARCHIVES, WEIGHTS, RECORDS))) >= 100
