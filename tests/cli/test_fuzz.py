"""Whatever is typed, written in a study or found in a folder: an answer or one message, never a traceback."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fake_run, tiny

from resflow.cli import main
from resflow.data.sources import download
from resflow.errors import DataError, TrainingError
from resflow.runner import execute
from resflow.workflow import doctor

WORDS = (
    "", "-1", "0", "1", "2", "7", "1e400", "nan", "é", "a" * 300, "\x1b]52;c;eA==\x07", "[", "{a: b}", "[[]]", "a b",
    ".", "..", "/", "~", "~nosuchuser", "/dev/zero", "pipe", "nothing", "nothing/at/all", "mine.yaml", "./mine.yaml",
    "depth", "residual", "demo", "synthetic", "photos", "folder:photos", "folder:", "folder:~nosuchuser", "folder:/",
    "folder:pipe", "run:", "run:../x", "run:a/b", "results/depth", "depth/", "depth/zzz", "results", "photo.png",
    "net.safetensors", "auto", "stratified", "12:34", "localhost:1", "30m", "0d", "s3://", "csv", "latex", "json",
    "epochs=1", "epochs=0", "epochs=1e99", "seeds=[1, 1]", "factors.depth=[18]", "depth=18", "x=", "=", "html",
    "weights=nothing.npz", "weights=run:..", "weights=~nosuchuser/x.npz", "source=folder:~", "tune={space: {}}",
    "image_size=100000", "threads=99999", "memory=1e9", "split_seed=-1", "arms=one_at_a_time", "batch_size=9999",
    "plain-18", "all", "logs",
)  # fmt: skip
# `bench` measures for minutes; `open` shows a browser.
LEFT_OUT = {"bench", "open"}
JUNK = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([*WORDS, [], {}, [[]], {"a": 1}, [None], ["plain", "plain"], {"low": 0, "high": 0}])
)
BASE: dict[str, Any] = {
    "name": "mine",
    "question": "Does the rate matter?",
    "baseline": "slow",
    "factors": {"learning_rate": {"slow": 0.01, "fast": 0.05}},
    "arms": "all",
    "exclude": [],
    "network": {"family": "cifar", "depth": 8, "width": 0.125, "head": {"hidden": [8]}, "weights": "none"},
    "data": {"source": "folder:photos", "image_size": 16, "split": "auto"},
    "recipe": {"epochs": 1, "batch_size": 8, "milestones": [0.5], "augmentation": {"flip": True}, "finetune": "full"},
    "execution": {"device": "cpu", "threads": 1},
    "resources": {"memory": 1},
    "tune": {"space": {"momentum": {"low": 0.5, "high": 0.9}}, "candidates": 2},
    "seeds": 2,
    "split_seed": 0,
    "margin": 0.01,
    "contrasts": ["baseline"],
    "published": {"what": "theirs", "correct": 1, "images": 2},
    "profiles": {"quick": {"seeds": 1}},
}


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that call it."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name, inner in command.commands.items():
        if name not in LEFT_OUT:
            yield from commands(inner, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(main.app)))


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photos, a run, and things that are not what they are called; nothing is trained or fetched."""
    place = tmp_path_factory.mktemp("fuzz")

    def nothing(error: type[Exception]) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise error("not in this test")

        return refuse

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("RESFLOW_CACHE", str(place / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(download, "fetch_files", nothing(DataError))
        patch.setattr(execute, "execute", nothing(TrainingError))
        patch.setattr(execute, "execute_search", nothing(TrainingError))
        patch.setattr(doctor, "_ask_tensorflow", lambda: {"gpus": 0})
        patch.setattr(doctor, "_ray_resources", lambda: {"CPU": 1.0})
        patch.setattr("resflow.runner.ray_session.connect", nothing(TrainingError))
        patch.setattr("resflow.runner.ray_session.visible_resources", nothing(TrainingError))
        patch.setattr("typer.confirm", lambda *_: False)
        fill(place)
        yield place


def fill(place: Path) -> None:
    tiny.photos(place / "photos")
    fake_run.write_run(place / "results" / "depth", seeds=(1, 2), epochs=2)
    (place / "mine.yaml").write_text(json.dumps(BASE))
    (place / "photo.png").write_bytes(next((place / "photos").glob("*/*.png")).read_bytes())
    (place / "net.safetensors").write_bytes(b"\xff" * 100)
    os.mkfifo(place / "pipe")


def run(*words: str) -> int:
    """Run the program as its script does and return its exit code; whatever else ends it fails the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["resflow", *words])
        try:
            main.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    words = draw(st.sampled_from(sorted(COMMANDS)))
    line = list(words)
    for parameter in COMMANDS[words].params:
        if isinstance(parameter, click.Argument):
            line += draw(st.lists(st.sampled_from(WORDS), max_size=2))
        elif draw(st.integers(0, 3)) == 0:
            line.append(draw(st.sampled_from(parameter.opts)))
            line += [] if getattr(parameter, "is_flag", False) else [draw(st.sampled_from(WORDS))]
    return line


QUIET = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@QUIET
@given(line=command_lines())
def test_whatever_is_typed(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = run(*line)
    shown = capsys.readouterr()
    assert code in (0, 1, 2), shlex.join(line)
    assert "Traceback" not in shown.err + shown.out
    assert "\x1b]" not in shown.err + shown.out, "a name steers the terminal"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a study."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


@st.composite
def studies(draw: st.DrawFn) -> str:
    """Draw a study with some of its values gone, or something else."""
    study = json.loads(json.dumps(BASE))
    for path in draw(st.lists(st.sampled_from(sorted(places(BASE), key=str)), min_size=1, max_size=3, unique=True)):
        inner = study
        try:
            for key in path[:-1]:
                inner = inner[key]
            if draw(st.booleans()):
                inner[path[-1]] = draw(JUNK)
            else:
                del inner[path[-1]]
        except (KeyError, IndexError, TypeError):  # a value around it is gone
            continue
    return json.dumps(study)


TEXT = st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))


@QUIET
@given(text=studies() | TEXT, command=st.sampled_from(["plan", "study", "tune"]))
def test_whatever_a_study_says(text: str, command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "drawn.yaml").write_text(text, encoding="utf-8")
    code = run(command, "./drawn.yaml", "--out", "drawn")
    shown = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in shown.err


NAMES = st.text(st.sampled_from("aàA.~ é花\u202e\x1b\n'\"-"), min_size=1, max_size=4).filter(lambda n: n.strip("."))
CONTENTS = st.sampled_from(
    [b"", b"\xff\xd8\xff", b"GIF89a", b"no photo", b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "photo", "link"]
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(folders=st.dictionaries(NAMES, st.dictionaries(NAMES, CONTENTS, max_size=3), max_size=3))
def test_whatever_a_folder_of_photos_holds(
    folders: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    here: Path,
) -> None:
    place = tmp_path_factory.mktemp("tree")
    for folder, inside in folders.items():
        (place / folder).mkdir(exist_ok=True)
        for name, content in inside.items():
            path = place / folder / name
            if content == "link":
                path.symlink_to(place / "nowhere")
            else:
                path.write_bytes((here / "photo.png").read_bytes() if content == "photo" else content)
    code = run("data", "info", f"folder:{place}", "--image-size", "16")
    shown = capsys.readouterr()
    assert code in (0, 2)
    assert "Traceback" not in shown.err
