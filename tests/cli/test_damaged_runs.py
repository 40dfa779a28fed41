"""Whatever somebody's disk, editor or bad will did to a run: its commands tell it in a message, and end."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from support.fake_run import write_run
from typer.testing import CliRunner

from resflow.analysis.analyse import analyse
from resflow.cli import main
from resflow.errors import ResflowError
from resflow.records.packing import pack
from resflow.report import figure_list

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
MEMORY = 16 * 2**30  # bytes of addresses: a table of 7 TiB is refused by the system
ODD = (
    *("", "text", "nan", "-1", "1e400", "-inf", "0.5", "1_000", "9" * 30, "é\x1b]52;c;aGk=\x07", "../..", "\u202e"),
    *("a" * 500, None, True, 5, -7, 0.25, 1e300, 2**70, [], [1, "a"], {}, {"a": {"b": [None]}}),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that has a tuning phase and a landscape."""
    run = tmp_path_factory.mktemp("whole") / "run"
    space = {"learning_rate": {"low": 0.001, "high": 1.0, "sampling": "log"}}
    tune = {"oracle": "random", "pruning": "none", "space": space, "untuned": True}
    write_run(run, HEADS, _truth, epochs=2, seeds=(1, 2), margin=0.02, tune=None)
    study = YAML(typ="safe", pure=True).load((run / "study.yaml").read_text())
    with (run / "study.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({**study, "tune": {**tune, "untuned": False}}, file)
    candidates = write_run(run / "tuning", HEADS, _truth, epochs=2, seeds=(1,))
    for path in candidates.glob("trials/*/record.json"):
        record = json.loads(path.read_text())
        record["candidate"] = {"search": record["arm"], "number": 1, "values": {"learning_rate": 0.1}, "epochs": 2}
        _seal(path, record)
    rows = [[arm, arm, "space", "random", 1, 1, 2] for arm in ("linear", "wide")]
    columns = ["arm", "search", "space", "oracle", "allotted", "seeds", "epochs"]
    pd.DataFrame(rows, columns=columns).to_csv(run / "tuning/searches.csv", index=False)
    steps = [(x, y) for x in (-1.0, 0.0, 1.0) for y in (np.nan, -1.0, 0.0, 1.0)]
    table = [("linear", 1, x, y, 1.0 + x * x) for x, y in steps]
    pd.DataFrame(table, columns=["arm", "seed", "x", "y", "loss"]).to_csv(run / "landscape.csv", index=False)
    for extra in ("tuning/plan.csv", "tuning/study.yaml"):
        (run / extra).unlink()
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def packed(whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same run, its trials and its candidates packed."""
    run = written(whole, tmp_path_factory.mktemp("packed"))
    assert pack(run) == 4
    assert pack(run / "tuning") == 2
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def _truth(levels: dict[str, str]) -> tuple[float, float]:
    return (0.8, 0.95) if levels["head"] == "linear" else (0.7, 0.9)


def _seal(path: Path, record: dict[str, Any]) -> None:
    from resflow.records import verification

    path.write_text(json.dumps(verification.sealed(record, path.parent)))


def written(files: dict[str, bytes], place: Path) -> Path:
    for name, content in files.items():
        path = place / "results/run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place / "results/run"


def unsealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same run as it was written before records had digests, so that damage is read."""
    return {
        name: _without_digests(content) if name.endswith("record.json") else content for name, content in files.items()
    }


def _without_digests(content: bytes) -> bytes:
    record = json.loads(content)
    return json.dumps(
        {**{key: value for key, value in record.items() if key != "digests"}, "schema_version": 1}
    ).encode()


# Damage, by what it needs to know of a file. Each takes the draw and returns the new content.
def flip(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(8 * len(changed))
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def replace(draw: random.Random, content: bytes) -> bytes:
    return draw.choice([draw.randbytes(60), b"", b"\n", b"a: [", b"{}", b"[[" * 9999, "é,\u202e".encode()])


def edit(draw: random.Random, content: bytes, name: str) -> bytes:
    """Change one value to an odd one, in a file that stays what it is."""
    value = draw.choice(ODD)
    if name.endswith(".zip"):
        return _edited_archive(draw, content, value)
    if name.endswith(".json"):
        return json.dumps(_changed(draw, json.loads(content), value)).encode()
    if name.endswith(".yaml"):
        buffer = io.StringIO()
        YAML().dump(_changed(draw, YAML(typ="safe", pure=True).load(content.decode()), value), buffer)
        return buffer.getvalue().encode()
    if name.endswith(".csv"):
        frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        place = draw.randrange(len(frame)), draw.randrange(len(frame.columns))
        frame.iloc[place] = str(value)
        return frame.to_csv(index=False).encode()
    frame = pd.read_parquet(io.BytesIO(content))
    column = draw.choice(list(frame.columns))
    values = frame[column].astype(object)
    values.iloc[draw.randrange(len(frame))] = draw.choice([1_000_000, -1, np.nan, 2.5, None])
    try:
        frame[column] = pd.to_numeric(values, errors="coerce") if column not in ("image", "kind", "layer") else values
        return frame.to_parquet()
    except (ValueError, TypeError):  # Arrow takes no column of numbers and text
        return frame.drop(columns=column).to_parquet()


def _edited_archive(draw: random.Random, content: bytes, value: Any) -> bytes:
    """Change a member of an archive, whose checksums fit again."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {member: file.read(member) for member in file.namelist()}
    name = draw.choice(["records.jsonl", draw.choice(sorted(members))])
    if name.endswith(".npy"):
        numbers = np.load(io.BytesIO(members[name]))
        numbers[draw.randrange(len(numbers))] = draw.choice([0, 1, 255])
        buffer = io.BytesIO()
        np.save(buffer, draw.choice([numbers, numbers[1:], numbers.astype(float), numbers.astype("S")]))
        members[name] = buffer.getvalue()
    else:
        lines = [_changed(draw, json.loads(line), value) for line in members[name].splitlines()]
        members[name] = "\n".join(map(json.dumps, lines)).encode()
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as file:
        for member, part in members.items():
            file.writestr(member, part)
    return changed.getvalue()


def _changed(draw: random.Random, values: Any, new: Any) -> Any:
    """Return nested values with one of them, at any depth, in place of another."""
    if isinstance(values, (dict, list)) and values and draw.randrange(5):
        key = draw.choice(sorted(values) if isinstance(values, dict) else range(len(values)))
        copy = values.copy()
        copy[key] = _changed(draw, values[key], new)
        return copy
    return new


def damaged(draw: random.Random, run: Path) -> None:
    """Damage one file of a run."""
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    name = draw.choice(names)
    path, how = (
        run / name,
        draw.choice(HOW),
    )
    if how in OTHERWISE:
        OTHERWISE[how](path, run / draw.choice(names))
    elif how == "edit":
        with suppress(ValueError, YAMLError):  # an earlier damage left nothing to edit
            path.write_bytes(edit(draw, path.read_bytes(), name))
    else:
        path.write_bytes({"flip": flip, "cut": cut, "replace": replace}[how](draw, path.read_bytes()))


def _swap(path: Path, other: Path) -> None:
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def _become(make: Callable[[Path], Any]) -> Callable[[Path, Path], None]:
    def become(path: Path, other: Path) -> None:
        path.unlink()
        make(path)

    return become


OTHERWISE: dict[str, Callable[[Path, Path], Any]] = {
    "swapped": _swap,
    "missing": _become(lambda path: None),
    "a folder": _become(Path.mkdir),
    "a pipe": _become(os.mkfifo),
    "a link out": _become(lambda path: path.symlink_to("/etc/hostname")),
    "a broken link": _become(lambda path: path.symlink_to("nowhere")),
    "a folder's place": lambda path, other: (shutil.rmtree(path.parent), path.parent.write_text("no folder")),
}


HOW = ("flip", "cut", "replace", *["edit"] * 4, *OTHERWISE)


def run_commands(place: Path, *commands: str) -> None:
    for words in commands:
        result = CliRunner().invoke(main.app, words.split(), env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, (ResflowError, SystemExit)):
            raise result.exception
        assert isinstance(result.exception, ResflowError) or result.exit_code in (0, 2), result.output
        assert not set(result.output) & set("\x1b\x07\x9b\u202e")


def check(draw: random.Random, whole: dict[str, bytes], packed: dict[str, bytes], place: Path, *commands: str) -> None:
    files = draw.choice([whole, unsealed(whole), packed])
    run = written(files, place)
    for _ in range(draw.choice([1, 1, 1, 2])):
        if run.is_dir() and any(path.is_file() for path in run.rglob("*")):
            damaged(draw, run)
    trial = next(name for name in whole if name.startswith("trials/")).split("/")[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_commands(place, *(words.replace("TRIAL", trial) for words in commands))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=5, suppress_health_check=list(HealthCheck), phases=[Phase.generate])  # no damage is smaller
def test_commands_on_any_damaged_run_end_in_a_message(
    seed: int,
    whole: dict[str, bytes],
    packed: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    no_figures: None,
) -> None:
    commands = (
        "status",
        "status run",
        "show run/TRIAL",
        "show TRIAL",
        "compare run run",
        "report run -f csv",
        "report run",
    )
    check(random.Random(seed), whole, packed, tmp_path_factory.mktemp("damaged"), *commands)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=2, suppress_health_check=list(HealthCheck), phases=[Phase.generate])  # no damage is smaller
def test_figures_of_any_damaged_run_are_drawn_or_left_out(
    seed: int, whole: dict[str, bytes], packed: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(random.Random(seed), whole, packed, tmp_path_factory.mktemp("drawn"), "report run -f png")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which there would be is decided, but none is drawn: that takes a second."""
    monkeypatch.setattr(figure_list, "_render", lambda kind, entry: None)
    monkeypatch.setattr(
        "resflow.report.write.draw_figures", lambda analysis: list(figure_list.list_figures(analysis)) and []
    )


@pytest.mark.parametrize("form", ["whole", "packed"])
def test_a_whole_run_has_everything_and_no_message(form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    analysis = analyse(written(request.getfixturevalue(form), tmp_path))
    assert (analysis.completed, analysis.faults, analysis.run.broken) == (4, (), {})
    assert analysis.landscape is not None
    assert analysis.tuning is not None
    assert analysis.predictions is not None
