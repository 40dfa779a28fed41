"""YAML with lines: what is read, where each value was written, and what a broken file says."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from resflow.errors import StudyError
from resflow.study.yaml_source import Document, parse_document, parse_scalar, read_document

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | WORDS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)


def parse(text: str) -> Document:
    return parse_document(text, "mine.yaml")


def dumped(value: Any) -> str:
    text = io.StringIO()
    yaml = YAML(pure=True)
    yaml.width = 10_000
    yaml.dump(value, text)
    return text.getvalue()


@settings(max_examples=20)
@given(st.dictionaries(WORDS, VALUES, min_size=1, max_size=5))
def test_values_come_back_as_they_were_written(value: dict[str, Any]) -> None:
    assert parse(dumped(value)).values == value


@st.composite
def written_blocks(draw: st.DrawFn) -> tuple[str, dict[tuple[Any, ...], int]]:
    """A file in block style, written here line by line, with the line of every key and item."""
    lines: list[str] = []
    places: dict[tuple[Any, ...], int] = {}

    def write(path: tuple[Any, ...], depth: int) -> None:
        indent = "  " * depth
        if draw(st.booleans()):
            lines.append(f"{indent}# a comment")
        is_list = depth > 0 and draw(st.booleans())
        for index in range(draw(st.integers(1, 3))):
            lines.extend([""] * draw(st.integers(0, 1)))
            key: Any = index if is_list else f"k{index}"
            nested = depth < 3 and not is_list and draw(st.booleans())
            value = "" if nested else f" {draw(st.integers(0, 99))}"
            lines.append(f"{indent}{'-' if is_list else key + ':'}{value}")
            places[(*path, key)] = len(lines)
            if nested:
                write((*path, key), depth + 1)

    write((), 0)
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    return ending.join(lines) + ending, places


@settings(max_examples=30)
@given(written_blocks())
def test_every_key_and_item_knows_its_line(written: tuple[str, dict[tuple[Any, ...], int]]) -> None:
    text, places = written
    doc = parse(text)
    assert {path: doc.origin(path) for path in places} == {path: f"mine.yaml:{line}" for path, line in places.items()}


def test_a_path_without_a_place_of_its_own_has_that_of_what_is_around_it() -> None:
    doc = parse("# first\na:\n  b: {c: 1}\n")
    assert doc.origin(("a", "b", "x", "y")) == "mine.yaml:3"
    assert doc.origin(("nothing",)) == "mine.yaml:2"


def test_keys_are_text_as_written_and_values_are_yaml_1_2() -> None:
    doc = parse("18: 18\n1e-4: 1e-4\ntrue: no\n~: 0x10\n'quoted': yes\n")
    assert doc.values == {"18": 18, "1e-4": 1e-4, "true": "no", "~": 16, "quoted": "yes"}


def test_anchors_and_merge_keys_mean_what_yaml_says() -> None:
    doc = parse("base: &b {x: 1, y: 2}\nsame: *b\nmore:\n  y: 3\n  <<: *b\nboth:\n  <<: [*b, {z: 4, x: 9}]\n")
    assert doc.values["same"] == {"x": 1, "y": 2}
    assert doc.values["more"] == {"x": 1, "y": 3}
    assert doc.values["both"] == {"x": 1, "y": 2, "z": 4}
    assert doc.origin(("more", "y")) == "mine.yaml:4"
    assert doc.origin(("more", "x")) == "mine.yaml:1"  # where it was written


BROKEN = {
    "duplicate key": ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "twice"),
    "duplicate key written otherwise": ("a: 1\n'a': 2\n", 2, "twice"),
    "tab": ("a:\n\t- 1\n", 2, r"\\t"),
    "python object": ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2, "python/object"),
    "tag on a scalar": ("a: !mine 3\n", 1, "!mine"),
    "tag on a mapping": ("a: 1\nb: !mine {c: 1}\n", 2, "!mine"),
    "tag on a list": ("a: 1\n\nb: !mine [1]\n", 3, "!mine"),
    "set": ("a: !!set {x, y}\n", 1, "set"),
    "date": ("a: 1\nb: 2001-01-01\n", 2, "timestamp"),
    "impossible date": ("a: 1\nb: 2001-13-45\n", 2, "timestamp"),
    "binary": ("a: !!binary aGVsbG8=\n", 1, "binary"),
    "enormous number": ("a: 1\nb: " + "9" * 5000 + "\n", 2, "cannot be read"),
    "list as key": ("a: 1\n? [1, 2]\n: 3\n", 2, "key"),
    "mapping as key": ("? {a: 1}\n: 3\n", 1, "key"),
    "unknown alias": ("a: 1\nb: *nowhere\n", 2, "nowhere"),
    "alias inside itself": ("a: &x\n  b: *x\n", 1, "alias"),
    "list inside itself": ("a: &x [*x]\n", 1, "alias"),
    "merge of itself": ("a: &x\n  <<: *x\n", 2, "alias"),
    "merge of a number": ("a:\n  <<: 3\n", 2, "<<"),
    "open bracket": ("a: [1, 2\n", 2, "YAML"),
    "indentation": ("a: 1\n  b: 2\n", 2, "YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", 2, "document"),
    "control character": ("a: 1\nb: \x07\n", 2, "not allowed"),
    "NUL": ("a: 1\nb: \x00\n", 2, "not allowed"),
    "YAML 9": ("%YAML 9.9\n---\na: 1\n", 1, "version"),
    "empty": ("", 1, "empty"),
    "comment only": ("# nothing here\n", 1, "empty"),
    "list at the top": ("- 1\n- 2\n", 1, "a list"),
    "text at the top": ("hello\n", 1, "hello"),
}


@pytest.mark.parametrize(("text", "line", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_read_is_one_message_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        parse(text)
    assert str(caught.value).startswith(f"mine.yaml:{line}: ")
    assert str(caught.value).count("\n") == 0


def bomb() -> str:
    """Billion laughs: ten lists, each of nine of the one before."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


def merge_bomb() -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, 12)]
    return "\n".join(lines)


HOSTILE = {
    "aliases": bomb(),
    "merges": merge_bomb(),
    "deep lists": "a: " + "[" * 3000 + "]" * 3000,
    "deep mappings": "\n".join(" " * depth + "a:" for depth in range(2000)),
    "deep and open": "a: " + "[" * 100_000,
    "deep braces": "{a: " * 3000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_before_it_takes_the_machine(text: str) -> None:
    start = time.process_time()
    with pytest.raises(StudyError, match=r"^mine.yaml:\d+: "):
        parse(text)
    assert time.process_time() - start < 60  # without the limits: minutes to forever


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(StudyError, match="folder, not a file"):
        read_document(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nb: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(StudyError, match=r"latin\.yaml:2: .*UTF-8"):
        read_document(latin)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_text("a: 1\n", encoding="utf-8-sig")
    assert read_document(path).values == {"a": 1}


def test_an_overlay_merges_mappings_and_replaces_all_else() -> None:
    doc = parse("a: {b: 1, c: [1, 2]}\nd: 1\n")
    laid = doc.overlaid({"a": {"c": [3]}, "e": {"f": 1}}, {("a", "c"): "--set a.c=[3]", ("e", "f"): "--set e.f=1"})
    assert laid.values == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": 1}}
    assert doc.values == {"a": {"b": 1, "c": [1, 2]}, "d": 1}  # the original is untouched
    assert laid.origin(("a", "b")) == "mine.yaml:1"
    assert laid.origin(("a", "c")) == laid.origin(("a", "c", 0)) == "--set a.c=[3]"
    assert laid.origin(("d",)) == "mine.yaml:2"


def test_the_levels_of_a_factor_are_replaced_whole() -> None:
    doc = parse("factors: {depth: {a: 18, b: 34}, width: [1]}\n")
    laid = doc.overlaid({"factors": {"depth": {"c": 50}}}, {("factors", "depth"): "--set"})
    assert laid.values["factors"] == {"depth": {"c": 50}, "width": [1]}
    assert laid.origin(("factors", "depth", "c")) == "--set"


def test_a_profile_is_laid_over_the_study_with_its_own_lines() -> None:
    doc = parse("recipe: {epochs: 9, momentum: 0.5}\nprofiles:\n  fast:\n    recipe:\n      epochs: 1\n  none:\n")
    fast = doc.profile("fast")
    assert fast.values == {"recipe": {"epochs": 1, "momentum": 0.5}}
    assert fast.origin(("recipe", "epochs")) == "mine.yaml:5"
    assert fast.origin(("recipe", "momentum")) == "mine.yaml:1"
    assert doc.profile("none").values == {"recipe": {"epochs": 9, "momentum": 0.5}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1e-4", 1e-4),
        ("true", True),
        ("no", "no"),
        ("null", None),
        ("", None),
        ("[18, 34]", [18, 34]),
        ("{18: 18}", {"18": 18}),
        ("folder:/my photos", "folder:/my photos"),
        ("a: b: c", "a: b: c"),
        ("2001-01-01", "2001-01-01"),
        ("!tag 3", "!tag 3"),
        ("[1", "[1"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_the_value_of_an_override_is_yaml_or_else_text(text: str, value: Any) -> None:
    assert parse_scalar(text) == value


@settings(max_examples=100)
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab:-[]{},&*!|>'\"#%@?~ \n\t01.", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        values = parse(text).values
    except StudyError as error:
        said, values = str(error), {}
    else:
        said = "mine.yaml"
    assert said.startswith("mine.yaml")
    assert isinstance(values, dict)
    parse_scalar(text)
