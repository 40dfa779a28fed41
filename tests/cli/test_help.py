"""Help, messages and completion, as they fit a narrow terminal and a shell that waits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from support.fake_run import trial_id, write_run
from typer.testing import CliRunner

from resflow.cli import complete, main, terminal
from resflow.cli.help_page import Root
from resflow.study.load import open_document
from resflow.study.overrides import override_path

ROOT: Any = typer.main.get_command(main.app)


def help_of(*path: str, width: int) -> list[str]:
    result = CliRunner().invoke(main.app, [*path, "--help"], terminal_width=width - 2)  # as in a terminal of that width
    assert result.exit_code == 0, result.output
    return str(result.stdout).splitlines()


def groups(command: Any = ROOT, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = getattr(command, "commands", {})
    return [path, *(found for name in inner for found in groups(inner[name], (*path, name)))]


# --- help


def test_every_command_has_its_place_in_the_help() -> None:
    placed = [name for names in Root.sections.values() for name in names]
    assert sorted(placed) == sorted(ROOT.commands)
    shown = help_of(width=80)
    places = [shown.index(f"{heading}:") for heading in Root.sections]
    assert places == sorted(places)
    for heading, names in Root.sections.items():
        at = shown.index(f"{heading}:") + 1
        rows = shown[at : at + shown[at:].index("")]
        assert [row.split()[0] for row in rows if row[2] != " "] == list(names)


@pytest.mark.parametrize("width", [60, 80])
def test_no_help_is_cut_or_too_wide(width: int) -> None:
    for path in groups():
        lines = help_of(*path, width=width)
        assert max(map(cell_len, lines)) <= width, path
        text = " ".join(" ".join(lines).split())
        command = ROOT
        for name in path:
            command = command.commands[name]
        for name, inner in getattr(command, "commands", {}).items():
            sentence = " ".join(inner.help.split("\n\n")[0].split()).rstrip(".")
            assert f"{name} {sentence}" in text.replace(name.ljust(20), name), (path, name)


# --- messages

WORDS = st.lists(
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30), min_size=1, max_size=40
)


@given(words=WORDS, width=st.integers(10, 120))
def test_messages_break_at_spaces_alone(words: list[str], width: int) -> None:
    lines = terminal.fill(" ".join(words), width).split("\n")
    assert [word for line in lines for word in line.split(" ") if word] == words
    for line in lines:
        assert cell_len(line) <= width or len(line.split()) == 1
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")
@pytest.mark.parametrize(
    "words", ["plan depht", "plan depth --seeds 0 --profile demo", "status --no-such-option", "data"]
)
def test_no_word_of_a_message_is_broken_in_a_terminal(words: str, tmp_path: Path) -> None:
    import pty

    code = "import os; os.environ['COLUMNS'] = '60'; from resflow.cli.main import main; main()"
    here, there = pty.openpty()
    command = [sys.executable, "-c", code, *words.split()]
    with subprocess.Popen(command, stderr=there, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        os.close(there)
        shown = b""
        try:
            while part := os.read(here, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
    os.close(here)
    assert process.returncode == 2
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "")
    assert max(map(cell_len, text.splitlines())) <= 60
    plain = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stderr
    assert text.split() == plain.split()


# --- completion


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("profiles: {small: {}, large: {}}\n")
    return write_run(Path("results") / "one", seeds=(1, 2), epochs=1)


def completed(what: str, incomplete: str = "", **params: Any) -> set[str]:
    values = getattr(complete, what)(SimpleNamespace(params=params, args=[]), [], incomplete)
    return {value for value in values if value.startswith(incomplete)}


def test_settings_are_completed_and_so_are_the_values_of_those_that_have_few() -> None:
    assert completed("settings", "optim") == {"optimizer="}
    assert completed("settings", "optimizer=") == {"optimizer=sgd", "optimizer=adam", "optimizer=adamw"}
    assert completed("settings", "recipe.schedule=pl") == {"recipe.schedule=plateau"}
    assert {"jit=auto", "jit=true", "jit=false"} == completed("settings", "jit=")
    assert completed("settings", "metric=") >= {"metric=test_top1", "metric=test_top5"}
    assert completed("settings", "epochs=") == completed("settings", "nothing=") == set()
    doc = open_document("depth").without("factors")
    for pair in completed("settings"):
        override_path(pair.removesuffix("="), doc)


def test_names_of_what_is_there_are_completed(run: Path) -> None:
    assert {"depth", "residual"} <= completed("studies")
    assert completed("studies", "./") == {"./mine.yaml"}
    assert completed("profiles", name="depth") == {"paper", "cpu", "gpu", "demo"}
    assert completed("profiles", name="./mine.yaml") == {"small", "large"}
    assert completed("runs") == {"one"}
    assert {"plain-18", "residual-101"} <= completed("arms", run="one")
    assert "one/plain-18" in completed("trials", "o")
    assert completed("trials", "one/plain-18/") == {"one/plain-18/1", "one/plain-18/2"}
    known = trial_id("plain-18", 2)
    assert completed("trials", f"one/{known[:10]}") == completed("networks", f"one/{known[:10]}") == {f"one/{known}"}
    write_run(Path("results") / "other", seeds=(1,), epochs=1)
    assert completed("trials", "o") == {"one/", "other/"}


@pytest.mark.parametrize("what", ["profiles", "arms", "trials", "networks", "studies", "runs"])
def test_what_cannot_be_read_completes_to_nothing(what: str, run: Path) -> None:
    (run / "plan.csv").write_bytes(b"\xff\x00id,arm\n1")
    (run.parent.parent / "mine.yaml").write_text("profiles: [1")
    for incomplete in ("", "one/", "nowhere/", "/", "\x00", "./mine.yaml"):
        for found in (
            completed(what, incomplete, name="./mine.yaml", run="one"),
            completed(what, incomplete, name="\x00", run="\x00"),
            completed(what, incomplete),
        ):
            assert all(text.startswith(incomplete) for text in found)
            assert not found or what not in ("profiles", "arms")


def test_a_shell_gets_its_answer_and_nothing_heavy_is_imported_for_it(run: Path) -> None:
    heavy = ("tensorflow", "ray", "pandas", "numpy", "scipy", "matplotlib", "resflow.study.load")
    code = f"""
import atexit, sys
atexit.register(lambda: print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr))
sys.argv = ["resflow"]
from resflow.cli.main import app
app(prog_name="resflow")
"""
    for words, wanted in (
        ("resflow study dep", "depth"),
        ("resflow study depth --profile d", "demo"),
        ("resflow show one/residual-10", "one/residual-101"),
        ("resflow maps one --arm plain-3", "plain-34"),
        ("resflow status o", "one"),
    ):
        asked = {"_RESFLOW_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
        assert done.stdout.split() == [wanted], (words, done.stderr)
        assert done.stderr.splitlines()[-1] == "[]"
