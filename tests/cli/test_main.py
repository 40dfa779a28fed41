"""The command line as a newcomer meets it: help, wrong input, every command that needs no training."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import typer
from support.fake_run import write_run
from typer.testing import CliRunner

import resflow
from resflow.cli import main
from resflow.errors import ResflowError
from resflow.study.load import builtin_studies, load_study
from resflow.study.yaml_source import read_document

ROOT = typer.main.get_command(main.app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found += commands(command, (*path, name)) if inner else [((*path, name), command)]
    return found


def invoke(*words: str, **options: Any) -> Any:
    return CliRunner().invoke(main.app, list(words), **options)


def said(*words: str) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*words: str) -> str:
    """The message of a wrong command; its exit code is 2."""
    result = invoke(*words)
    if isinstance(result.exception, ResflowError):
        return str(result.exception)
    assert result.exit_code == 2, (result.output, result.exception)
    return result.stderr


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- help


@pytest.mark.parametrize(
    ("path", "command"), commands(), ids=lambda part: " ".join(part) if type(part) is tuple else ""
)
def test_every_command_explains_itself_with_an_example_that_parses(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    assert all(option.help for option in command.params if option.name != "help")
    assert said(*path, "--help")
    examples = command.epilog.removeprefix("Example: ").split("&&")
    words = shlex.split(examples[0].split(">")[0])
    assert tuple(words[: len(path) + 1]) == ("resflow", *path)
    try:
        command.make_context("resflow", words[len(path) + 1 :]).close()
    except click.exceptions.ClickException as error:  # pragma: no cover
        pytest.fail(f"{command.epilog}: {error.format_message()}")


def test_the_commands_are_those_of_the_manual() -> None:
    assert {" ".join(path) for path, _ in commands()} >= {
        *("study", "plan", "list", "models", "status", "report", "init", "schema", "doctor", "clean"),
        *("pretrain", "export", "predict"),
        *("data list", "data fetch", "data info"),
    }


HEAVY = ("tensorflow", "keras", "ray", "pandas", "seaborn", "matplotlib", "pydantic", "numpy", "scipy", "PIL")
HEAVY += ("resflow.provenance",)  # importlib.metadata and ctypes, a sixth of the start


def python(code: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", **more},
    )


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from resflow.cli import main as cli
sys.argv = ['resflow', '--help']
try:
    cli.main()
except SystemExit:
    pass
print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])
"""
    assert python(code).stdout.splitlines()[-1] == "loaded: []"


def test_version_is_the_packages() -> None:
    from resflow import __version__

    assert said("--version") == f"resflow {__version__}\n"


# --- wrong input

WRONG = {
    "study nope": "unknown study 'nope'",
    "study dept": "Did you mean 'depth'",
    "study ./nope.yaml": "no such file",
    "study": "Missing argument",
    "study depth --bogus": "No such option",
    "study depth --dry-run --profile fast": "unknown profile 'fast'",
    "plan": "Missing argument",
    "plan .": "unknown study",
    "plan ./": "folder, not a file",
    "plan depth --profile nope": "demo",
    "plan depth --seeds 0": "--seeds",
    "plan depth --seeds many": "--seeds",
    "plan depth --seeds 1001 -p demo": "--set seeds=1001|less than or equal to 1000",
    "plan depth --set epochs": "KEY=VALUE",
    "plan depth --set =3": "KEY=VALUE",
    "plan depth --set epohcs=3": "Did you mean 'epochs'",
    "plan depth --set epochs=x": "a whole number",
    "plan depth --set epochs=2001-01-01": "a whole number",
    "plan depth --set depth=18": "factors.depth",
    "plan depth -p demo --format xml": "table, json, csv",
    "plan depth -p demo --data nope": "unknown data source",
    "plan depth --data folder:nowhere": "nowhere",
    "plan depth --data-dir nowhere": "nowhere",
    "plan depth -p demo --data-dir .": "--data-dir",
    "list depth": "unexpected extra argument",
    "status": "no run below results/",
    "status nope": "nope",
    "report": "no run below results/",
    "report nope": "nope",
    "report .": "no results folder",
    "init file": "--force",
    "init nowhere/study.yaml": "cannot write",
    "init . --force": "cannot write",
    "schema x": "unexpected extra argument",
    "doctor x": "unexpected extra argument",
    "clean --what results": "images, downloads, compiled, features, weights, logs, kept, all",
    "data": "Commands",
    "data fetch": "Missing argument",
    "data fetch nope": "unknown data source",
    "data fetch folder:nowhere": "nowhere",
    "data fetch synthetic --image-size 8": "--image-size",
    "data fetch synthetic --image-size 300": "224",
    "data info nope": "unknown data source",
    "data info synthetic --split official": "unknown split",
    "data info synthetic --split-seed -1": "--split-seed",
    "nope": "No such command",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_input_is_told_and_writes_nothing(words: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RESFLOW_CACHE", str(elsewhere / "cache"))
    Path("file").write_text("")
    result = invoke(*words.split())
    message = str(result.exception) if isinstance(result.exception, ResflowError) else result.output
    assert re.search(WRONG[words], re.sub(r"\s+", " ", message)), message
    assert isinstance(result.exception, ResflowError) or result.exit_code == 2, result.exception
    assert {path.name for path in elsewhere.iterdir()} == {"file"}


def test_an_error_is_one_message_without_a_traceback_and_exit_code_2() -> None:
    ended = python("from resflow.cli.main import main; main()", "plan", "nope")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: unknown study 'nope'")
    assert "Traceback" not in ended.stderr


def test_training_without_its_packages_says_what_to_install(elsewhere: Path) -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('tensorflow', 'keras', 'ray'):
            raise ModuleNotFoundError(name)
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ('tensorflow', 'keras', 'ray') else real(name, *more)
sys.meta_path.insert(0, Missing())
from resflow.cli.main import main
main()
"""
    ended = python(code, "study", "depth", "--profile", "demo")
    assert ended.returncode == 2
    assert "resflow[train]" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(elsewhere.iterdir())
    assert python(code, "plan", "depth", "--profile", "demo", "--format", "csv").returncode == 0
    write_run(elsewhere / "results" / "fake", seeds=(1,), epochs=2)
    assert python(code, "status").returncode == 0


# --- plan, list, init, schema

DEMO = ("depth", "--profile", "demo", "--set", "device=cpu")


def test_the_formats_of_a_plan_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = json.loads(said("plan", *DEMO, "--format", "json"))
    table = pd.read_csv(io.StringIO(said("plan", *DEMO, "--format", "csv")), dtype={"depth": str})
    assert table.to_dict("records") == rows
    assert len(rows) == 8 * 2
    assert {"id", "arm", "seed", "shortcut", "depth", "parameters", "multiply_adds", "epochs", "estimated_seconds"} == {
        *rows[0]
    }
    shown = said("plan", *DEMO)
    assert all(row["id"] in shown and f"{row['parameters']:,}" in shown for row in rows)


def test_a_dry_run_shows_the_plan_and_writes_nothing(elsewhere: Path) -> None:
    assert said("study", *DEMO, "--dry-run") == said("plan", *DEMO)
    assert not list(elsewhere.iterdir())


def test_seeds_and_settings_reach_the_plan() -> None:
    rows = json.loads(said("plan", *DEMO, "-n", "1", "-s", "epochs=2", "-s", "factors.depth=[18]", "-f", "json"))
    assert [(row["arm"], row["seed"], row["epochs"]) for row in rows] == [("plain-18", 1, 2), ("residual-18", 1, 2)]


def test_a_plan_says_which_twins_differ_in_size() -> None:
    assert "unpaired" not in said("plan", *DEMO)
    shown = said("plan", *DEMO, "-s", "factors.shortcut={plain: none, residual: projection}")
    assert "unpaired: residual-18 − plain-18: +" in shown


def test_models_lists_every_network_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = json.loads(said("models", "--format", "json"))
    assert {row["family"] for row in rows} == {"imagenet", "cifar"}
    monkeypatch.setenv("COLUMNS", "120")
    table = said("models")
    for row in rows:
        assert re.search(
            rf"{row['family']} +{row['depth']} .*{row['shortcut']}.*{row['variant']}.* {row['parameters']:,} ", table
        )
    only = said("models", "--family", "cifar")
    assert "cifar" in only
    assert "imagenet" not in only
    assert "unknown family 'cifr'" in refused("models", "--family", "cifr")
    assert "unknown format 'csv'" in refused("models", "--format", "csv")


def test_list_names_every_built_in_study() -> None:
    shown = said("list")
    assert all(name in shown for name in builtin_studies())


def test_init_writes_a_study_that_plans_and_keeps_what_is_there() -> None:
    assert "resflow plan ./mine.yaml" in said("init", "mine.yaml")
    assert said("plan", "./mine.yaml", "--profile", "demo", "--set", "device=cpu")
    Path("mine.yaml").write_text("precious")
    assert "--force" in refused("init", "mine.yaml")
    assert Path("mine.yaml").read_text() == "precious"
    said("init", "mine.yaml", "--force")
    assert load_study("./mine.yaml").name == "mine"


def test_the_schema_describes_every_key_of_a_study() -> None:
    schema = json.loads(said("schema"))
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "question", "baseline", "factors"}
    starter = read_document(Path(resflow.__file__).parent / "templates" / "study.yaml").values
    assert set(starter) <= set(schema["properties"])
    for section in ("network", "recipe", "data", "execution"):
        definition = schema["$defs"][schema["properties"][section]["$ref"].rsplit("/", 1)[1]]
        assert definition["additionalProperties"] is False
        assert set(starter.get(section, {})) <= set(definition["properties"])
    refs = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema))
    assert set(refs) <= set(schema["$defs"])


def test_the_schema_accepts_what_resflow_accepts() -> None:
    validator = pytest.importorskip("jsonschema", reason="jsonschema comes with ray alone").Draft202012Validator
    schema = json.loads(said("schema"))
    validator.check_schema(schema)
    starter = Path(resflow.__file__).parent / "templates" / "study.yaml"
    for path in (*builtin_studies().values(), starter):
        values = read_document(path).values
        assert not list(validator(schema).iter_errors(values))
        assert list(validator(schema).iter_errors({**values, "sedes": 3}))
        assert list(validator(schema).iter_errors({**values, "seeds": 0}))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str) -> None:
    ended = python("from resflow.cli.main import app; app(prog_name='resflow')", _RESFLOW_COMPLETE=f"source_{shell}")
    assert ended.returncode == 0, ended.stderr
    assert "_RESFLOW_COMPLETE" in ended.stdout


# --- status and report


def test_status_of_no_one_and_several_runs(elsewhere: Path) -> None:
    write_run(elsewhere / "results" / "one", seeds=(1,), epochs=2, statuses={("plain-50", 1): "failed"})
    write_run(elsewhere / "results" / "two", seeds=(1, 2), epochs=2, statuses={("plain-18", 2): "not run"})
    shown = said("status")
    assert re.search(r"one +8 +7 completed, 1 failed", shown)
    assert re.search(r"two +16 +15 completed, 1 not run", shown)
    one = said("status", "one")
    assert re.search(r"plain-50 +1 +failed", one)
    assert one == said("status", "results/one")
    assert said("status", "two").count("not run") == 2  # its row and the summary


def test_status_tells_of_candidates_apart(elsewhere: Path) -> None:
    write_run(elsewhere / "results" / "one", seeds=(1,), epochs=2)
    assert "Candidates" not in said("status", "one")
    write_run(elsewhere / "candidates", seeds=(1, 2), epochs=2, statuses={("plain-50", 2): "failed"})
    (elsewhere / "results" / "one" / "tuning").mkdir()
    (elsewhere / "results" / "one" / "tuning" / "searches.csv").touch()  # as a search begins
    assert "tuning" not in said("status") + said("status", "one")
    (elsewhere / "candidates" / "trials").rename(elsewhere / "results" / "one" / "tuning" / "trials")
    assert re.search(r"one +8 +8 completed *\none/tuning +16 +15 completed, 1 failed", said("status"))
    assert "Candidates: 15 completed, 1 failed; `resflow status one/tuning` lists them" in said("status", "one")
    assert re.search(r"plain-50 +2 +failed", said("status", "one/tuning"))


def test_a_plan_knows_what_is_done(elsewhere: Path) -> None:
    assert "16 trials, 16 to run" in re.sub(r"\s+", " ", said("plan", *DEMO))
    rows = json.loads(said("plan", *DEMO, "-f", "json"))
    from resflow.workflow.plan import make_plan

    run = make_plan(load_study("depth", "demo", settings={"device": "cpu"}), prepare=False).run
    folder = run / "trials" / rows[0]["id"]
    folder.mkdir(parents=True)
    record = {
        **{"id": rows[0]["id"], "study": "depth", "arm": rows[0]["arm"], "levels": {}, "seed": 1, "split_seed": 0},
        **{"status": "completed", "settings": {}, "seconds": 10.0},
        "execution": {},
    }
    (folder / "record.json").write_text(json.dumps(record))
    shown = re.sub(r"\s+", " ", said("plan", *DEMO))
    assert "16 trials, 15 to run" in shown
    assert "from 1 finished trial" in shown


@pytest.mark.usefixtures("one_figure")
def test_reports_of_several_runs_have_an_index(elsewhere: Path) -> None:
    for name in ("one", "two"):
        write_run(
            elsewhere / "results" / name, factors={"shortcut": {"plain": "none", "residual": "zero_pad"}}, seeds=(1, 2),
            truth=lambda levels: (0.5, 0.9), epochs=2,
        )  # fmt: skip
    shown = said("report")
    assert "Report: results/one/report.html" in shown
    assert "Report: results/two/report.html" in shown
    assert (elsewhere / "results" / "index.html").is_file()
    assert "Index" not in said("report", "one")
