"""Names of strangers reach the terminal as text: they steer it, reorder it and forge its lines in no way."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.panel import Panel
from rich.text import Text
from support import tiny
from support.fake_run import trial_id, write_run

from resflow.cli import console, main, terminal
from resflow.errors import RecordError

HOSTILE = (
    "\x1b]52;c;aGVsbG8=\x07",  # writes the clipboard
    "\x1b]0;title\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1bP$q\x1b\\",  # has the terminal answer, as if typed
    "\x9b31m",
    "\x9d52;c;aGk=\x9c",
    "ab\x08\x08\x7f",
    "\rReport: elsewhere",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "one\x85two\u2028three",
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TEXT = st.text(max_size=30) | st.lists(st.sampled_from([*HOSTILE, "\n", "name"]), max_size=4).map("".join)


def shown(*parts: object, colour: bool = False) -> str:
    buffer = io.StringIO()
    made = console.SafeConsole(
        file=buffer, width=60, force_terminal=colour, color_system="standard" if colour else None
    )
    for part in parts:
        made.print(part, markup=False, highlight=False)
    return buffer.getvalue()


@given(text=TEXT)
def test_what_is_printed_steers_nothing(text: str) -> None:
    table = console.table((text, "x"), [(text, Text(text, style="red"))])
    for part in (text, Text(text), Panel(text), table, Text.assemble((text, "bold"))):
        assert not CONTROL.search(shown(part))
        assert not CONTROL.search(COLOUR.sub("", shown(part, colour=True)))


@given(text=TEXT)
def test_colours_are_rich_s_own(text: str) -> None:
    plain = "".join(letter for letter in text if not CONTROL.match(letter))
    colours = [COLOUR.findall(shown(Text(one, style="red"), colour=True)) for one in (f"x{text}", f"x{plain}")]
    assert set(colours[0]) == set(colours[1])


@given(text=TEXT)
def test_a_cell_is_one_line(text: str) -> None:
    rows = shown(console.table(("name",), [(text[:20],)])).splitlines()
    assert len(rows) <= 3  # a header, and a cell that may be folded
    assert "\n" not in terminal.one_line(text)


PARTS = st.lists(st.sampled_from(["a", "deep", "residual", "1e-5", "0.5"]), min_size=1, max_size=8)


@given(parts=PARTS, width=st.integers(1, 30))
def test_a_long_name_breaks_after_hyphens_and_loses_nothing(parts: list[str], width: int) -> None:
    name = "-".join(parts)
    lines = [line.plain for line in console.Cell(name).wrap(console.console, width, overflow="fold")]
    assert "".join(lines) == name
    assert all(len(line) <= width for line in lines)
    if width >= 8:  # the longest part fits
        assert all(line.endswith("-") and not line.endswith("1e-") for line in lines[:-1])
    assert len(name) > width or lines == [name]


@given(text=TEXT)
def test_further_lines_of_a_message_are_indented(text: str) -> None:
    assert all(line[:1] in ("", " ", "\t") for line in terminal.hanging(f"name {text}").split("\n")[1:])


def test_plain_text_in_any_script_is_left_alone() -> None:
    for text in ("été", "花卉", "עברית", "a\tb\nc", "🌸", "e\u0301", "50 % − [bold]"):
        assert terminal.printable(text) == text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_writes_to_the_streams_is_guarded(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.guard()
    terminal.guard()  # once is enough
    print(hostile)
    print(hostile, file=sys.stderr)
    sys.stdout.writelines([hostile, "\n"])
    logging.getLogger("resflow.test").warning("%s", hostile)
    console.say(hostile)
    console.say_error(f"Error: {RecordError(hostile)}")
    with Live(Text(hostile), console=console.console, transient=True):
        print(hostile)
    captured = capsys.readouterr()
    assert not CONTROL.search(captured.out)
    assert not CONTROL.search(captured.err)
    assert len(captured.out) > 10


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["resflow", *words])
        patch.setattr(console.console, "_width", 1000)  # no cell is folded
        with pytest.raises(SystemExit):
            main.main()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


def test_commands_on_a_hostile_run_and_hostile_photos(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factors = {f"fa{HOSTILE[8]}": {f"{one}\nReport: forged": number for number, one in enumerate(HOSTILE)}}
    arms = [next(iter(factors.values()))]
    run = Path("results") / "ru\x1b[31mn\u202e"
    statuses = {(label, 1): "failed" for label in arms[0]}
    asked = {"statuses": statuses, "question": "".join(HOSTILE)}
    write_run(run, factors, lambda levels: (0.5, 0.9), epochs=1, seeds=(1, 2), **asked)
    (run / "trials" / trial_id(next(iter(arms[0])), 2) / "record.json").write_text("".join(HOSTILE))
    tiny.photos(place / "photos")
    photo = next((place / "photos").glob("*/*"))
    photo.rename(photo.with_name(f"a{HOSTILE[0]}\nReport: forged{photo.suffix}"))
    (place / "photos" / f"note{HOSTILE[2]}.txt").write_text("no photo")
    for words in (
        ("status",),
        ("status", str(run)),
        ("show", trial_id(next(reversed(arms[0])), 2)),
        ("compare", str(run), str(run)),
        ("report", str(run), "-f", "csv"),
        ("data", "info", "folder:photos", "--image-size", "16"),
        ("report", "no\x1b[31msuch\nrun"),
    ):
        text = said(capsys, *words)
        assert text.strip(), words
        assert not CONTROL.search(text), words
        assert not re.search("^Report: forged", text, re.MULTILINE), words
