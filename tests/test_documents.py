"""What the documents say is there: files, headings, commands, options, studies, targets of make, names of settings."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer
from ruamel.yaml import YAML

import resflow
from resflow.cli import main
from resflow.records.record import DIAGNOSTIC_COLUMNS, PREDICTION_COLUMNS
from resflow.records.run import load_run
from resflow.study.contrast_families import with_tuning
from resflow.study.load import load_study
from resflow.study.schema import StudyFile
from resflow.training.scoring import score
from resflow.workflow import api

ROOT = Path(__file__).parents[1]
COMMANDS = typer.main.get_command(main.app)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n)|\A)(?:(?: {4}.*|[ \t]*)\n)*(?: {4}.*\n?)")
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\](?:\([^)]*\))?)*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def _tracked(pattern: str = "") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *([pattern] if pattern else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no git checkout", allow_module_level=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


PAGES = _tracked("*.md")
WRITTEN = [page for page in PAGES if not (page.parent / "study.yaml").exists()]  # by hand; others are reports of runs
NAME = {page: str(page.relative_to(ROOT)) for page in PAGES}
each_page = pytest.mark.parametrize("page", PAGES, ids=NAME.get)
each_written = pytest.mark.parametrize("page", WRITTEN, ids=NAME.get)


@functools.cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


# --- links


def targets(page: Path) -> Iterator[str]:
    """Every link and image of a page, also those around an image; not what stands in code."""
    text = INLINE.sub("", "\n".join(line for line in prose(page).splitlines() if not line.startswith("    ")))
    for found in LINK.finditer(text):
        yield found[1]
        yield from (inner[1] for inner in LINK.finditer(found[0][1:]))
    yield from re.findall(r"(?:src|href)=\"([^\"]+)\"", text)


@functools.cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the headings of a page."""
    seen: dict[str, int] = {}
    for title in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("\\", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        if seen[slug]:
            seen[f"{slug}-{seen[slug]}"] = 0
    return frozenset(seen)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    there = set(_tracked())
    for target in targets(page):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim in there or any(aim in file.parents for file in there), f"{NAME[page]}: {target}"
        if anchor and aim.suffix == ".md":
            assert anchor in anchors(aim), f"{NAME[page]}: {target} is none of {sorted(anchors(aim))}"


def test_links_and_anchors_are_found_as_github_shows_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three?\n## Again\n## Again\n[![x](a.png)](b.md#c) [two\nlines](d.md) `[no](e.md)`\n\n"
        "    [no](f.md)\n\n```\n[no](g.md)\n# no heading\n```\n"
    )
    assert set(targets(page)) == {"a.png", "b.md#c", "d.md"}
    assert anchors(page) == {"one-two-three", "again", "again-1"}


# --- commands


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Every block of code as (language, text): fenced, or indented by four."""
    for found in FENCE.finditer(text_of(page)):
        yield found[1], found[2]
    for found in INDENTED.finditer(prose(page)):
        yield "", re.sub(r"^ {4}", "", found[0], flags=re.MULTILINE)


def command_lines(page: Path, program: str) -> Iterator[list[str]]:
    """The words of every line of a block that calls a program, comments and redirections cut off."""
    for language, block in blocks(page):
        if language in ("", "bash", "sh", "console", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True) if part.strip().startswith(f"{program} ") else []
                    yield from [words[: words.index(">")] if ">" in words else words] if words else []


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and what is left of them."""
    command: Any = COMMANDS
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@each_page
def test_every_command_line_parses(page: Path) -> None:
    for _, *words in command_lines(page, "resflow"):
        command, rest = find_command(words)
        assert not hasattr(command, "commands"), f"{NAME[page]}: no such command: {words}"
        try:
            command.make_context("resflow", rest).close()
        except click.exceptions.ClickException as error:
            pytest.fail(f"{NAME[page]}: resflow {shlex.join(words)}: {error.format_message()}")


def options_of(command: Any) -> set[str]:
    """A command's options; of a group, those of its commands."""
    if command is not COMMANDS and hasattr(command, "commands"):
        return set().union(*map(options_of, command.commands.values()))
    return {word for option in command.params for word in (*option.opts, *option.secondary_opts)} | {"--help"}


@each_written
def test_commands_named_in_passing_exist_with_their_options(page: Path) -> None:
    anywhere = {option for _, command in every_command() for option in options_of(command)} | {"--install-completion"}
    for code in INLINE.findall(prose(page)):
        program, *words = code.replace("\\|", "|").replace("[", "").replace("]", "").split()
        assert program in anywhere or not program.startswith("--"), f"{NAME[page]}: no command has {code}"
        if program != "resflow" or not words:
            continue
        for call in itertools.product(*(word.split("|") for word in words)):
            command, rest = find_command(list(call))
            options = {word for word in rest if word.startswith("--")}
            assert command is not COMMANDS or options, f"{NAME[page]}: no such command: {code}"
            assert options <= options_of(command) | {"--install-completion"}, f"{NAME[page]}: {code}"


def every_command(group: Any = COMMANDS, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_the_manual_names_every_command_and_its_options() -> None:
    manual = text_of(ROOT / "studies/README.md").partition("## The command line")[2].partition("## From Python")[0]
    known, named = dict(every_command()), set()
    for row in (line for line in manual.splitlines() if line.startswith("| `resflow ")):
        first, *others = INLINE.findall(row.replace("\\|", "|").split(" | ")[0])
        words = first.split()[1:]  # `resflow bench step` `input` `study`
        names = [words, *([words[0], other] for other in others)]
        calls = [(name[: len(name) - len(find_command(name)[1])], find_command(name)[0]) for name in names]
        named |= {" ".join(name) for name, _ in calls}
        options = {code.split()[0] for code in INLINE.findall(row) if code.startswith("-")}
        assert options <= {option for _, command in calls for option in options_of(command)}, row
    assert named == set(known)
    table = manual.partition("Options of `resflow study`")[2]
    options = {code.split()[0] for code in INLINE.findall(table) if code.startswith("--")}
    assert options == {option for option in options_of(known["study"]) if option.startswith("--")} - {"--help"}


@each_written
def test_every_target_of_make_exists(page: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in command_lines(page, "make") if not words[1].startswith("PYTHON=")}
    named |= {code.split()[1] for code in INLINE.findall(prose(page)) if re.match(r"make [a-z-]+$", code)}
    assert named <= known


# --- files, studies, settings, Python


@each_written
def test_every_file_that_is_named_exists(page: Path) -> None:
    there = {str(file.relative_to(ROOT)) for file in _tracked()}
    folders = {str(parent) for file in there for parent in Path(file).parents}
    for code in INLINE.findall(prose(page)):
        for name in re.findall(r"(?<![\w/.])(?:resflow|tests|studies)/[\w./*-]*\w/?", code):
            if "*" in name:
                assert list(ROOT.glob(name)), f"{NAME[page]}: {name}"
            else:
                assert name in there or name.rstrip("/") in folders, f"{NAME[page]}: {name}"


PART = 'name: part\nquestion: What of a part?\nbaseline: "18"\nfactors: {depth: [18]}\n'


@each_written
def test_every_study_that_is_shown_can_be_read(page: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    for language, block in blocks(page):
        if language == "yaml":
            file.write_text(block if "factors:" in block else PART + block, encoding="utf-8")
            load_study(str(file))  # with every profile


def test_the_reference_names_every_key_of_a_study_and_no_setting_that_is_none() -> None:
    page = text_of(ROOT / "studies/README.md")
    keys = page.partition("### The keys of a study")[2].partition("### ")[0]
    named = {name for row in re.findall(r"^\| (`.+?) \|", keys, re.MULTILINE) for name in INLINE.findall(row)}
    assert named == set(StudyFile.model_fields) - {"profile", "command", "fingerprints"}
    settings = page.partition("### Settings")[2].partition("### ")[0]
    words = {code for row in settings.splitlines() if row.startswith("|") for code in re.findall(r"`(\w+)`", row)}
    assert words <= set(_names(StudyFile.model_json_schema()))


def _names(schema: Any) -> Iterator[str]:
    """Every property and every level in a JSON Schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (level for level in schema.get("enum", ()) if isinstance(level, str))
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _names(inner)


def test_the_data_dictionary_names_every_column() -> None:
    page = text_of(ROOT / "results/README.md").partition("## What lies in a run's folder")[2]
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    metrics = set(INLINE.findall(parts["record.json"]))
    for run in (file.parent for file in _tracked("results/*/study.yaml")):
        factors = with_tuning(YAML(typ="safe").load((run / "study.yaml").read_text(encoding="utf-8")))["factors"]
        levels = {prefix + factor for factor in factors for prefix in ("", "factor_", "arm_", "reference_")}
        tables = {"history.csv": set(load_run(run).histories().columns) - {"id", "arm", "seed"}}
        for path in (run / name for name in parts if name.endswith(".csv") and (run / name).exists()):
            tables[path.name] = set(path.read_text(encoding="utf-8").partition("\n")[0].split(","))
        for name, columns in tables.items():
            named = set(INLINE.findall(parts[name])) | (metrics if name == "trials.csv" else set())
            assert columns <= named | levels, f"{NAME[run / 'README.md']}: {name}"
    predictions, diagnostics = (parts[f"{name}.parquet"] for name in ("predictions", "diagnostics"))
    assert set(PREDICTION_COLUMNS) <= set(INLINE.findall(predictions))
    assert set(DIAGNOSTIC_COLUMNS) <= set(INLINE.findall(diagnostics))
    assert {f"test_{name}" for name in score(np.eye(6), np.arange(6))} <= metrics


@each_written
def test_python_that_is_shown_calls_what_resflow_has(page: Path) -> None:
    for language, block in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            call = node.func if isinstance(node, ast.Call) else node
            if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id == "resflow":
                assert call.attr in resflow.__all__, f"{NAME[page]}: resflow.{call.attr}"
                if isinstance(node, ast.Call) and hasattr(api, call.attr):
                    given = inspect.signature(getattr(api, call.attr))
                    given.bind(*node.args, **{word.arg: word.value for word in node.keywords if word.arg})


@pytest.mark.long
def test_the_python_of_the_readme_reads_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(code for language, code in blocks(ROOT / "README.md") if language == "python")
    lines = block[block.index("run = resflow.load_run(") :]
    folder = re.findall(r'load_run\("(.+?)"\)', lines)[0]
    shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / folder / "report.html").unlink()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"resflow": resflow}
    exec(lines, names)
    assert len(names["run"].trials) == 40
    assert "shortcut residual" in names["result"].answer
    assert (tmp_path / folder / "report.html").exists()


def test_the_version_is_the_same_wherever_it_stands() -> None:
    released = re.findall(r"^## \[?(\d+\.\d+\.\d+)", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    cited = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [resflow.__version__] == released[:1] == [str(cited["version"])]


def test_hooks_and_continuous_integration_run_what_contributors_are_told_to_run() -> None:
    steps = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["commands"]
    assert {step["run"] for step in steps["steps"] if "run" in step} == {"make demo", "make check", "make test"}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = (int(minor) for minor in re.findall(r"3\.(\d+)", wanted))
    assert steps["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(low, high)]
