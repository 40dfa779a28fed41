"""The files that `resflow init` writes: studies, and what runs one on a cluster, as far as that can be checked here."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.direct import raised, said

from resflow.errors import ResflowError
from resflow.study.builtin import builtin_studies
from resflow.study.load import load_study
from resflow.study.yaml_source import parse_settings

LOCK = Path(__file__).parents[2] / "requirements.lock"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(kind: str) -> tuple[str, Any]:
    assert "Its first lines say how it is used" in said("init", "--kind", kind)
    text = Path(f"{kind}.yaml").read_text(encoding="utf-8")
    return text, YAML(typ="safe", pure=True).load(text)


def check_command(text: str) -> None:
    """The study, its profile and its settings are there, and all options are those of the command line."""
    words = shlex.split(text.replace("\\\n", " ").replace("#  ", " "))
    words = words[words.index("resflow") :]
    assert words[:3] == ["resflow", "study", "depth"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options.keys() <= {"--profile", "--set", "--data", "--address", "--storage", "--out"}
    assert options["--address"] == "auto"
    loaded = load_study(
        "depth", options["--profile"], {**parse_settings([options["--set"]]), "source": options["--data"]}
    )
    assert loaded.file.execution.device == "gpu"


def test_rays_own_schema_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    text, config = written("ray-cluster")
    validate_config(prepare_config(config))
    (command,) = re.findall(r"'cd resflow && (.*?)'", text, re.DOTALL)
    check_command(command)


def test_the_kuberay_job_is_of_the_locked_ray() -> None:
    text, job = written("rayjob")
    (locked,) = re.findall(r"^ray\[?.*?==([\d.]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == locked
    assert f"ray[default]=={locked}" in text
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    check_command(job["spec"]["entrypoint"])
    cluster = job["spec"]["rayClusterSpec"]
    images = {
        container["image"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    assert len(images) == 1  # one version everywhere


def test_wrong_kinds_and_files_that_are_there_are_told() -> None:
    with pytest.raises(ResflowError, match="unknown kind of file 'slurm'"):
        raised("init", "--kind", "slurm")
    written("rayjob")
    with pytest.raises(ResflowError, match=r"rayjob.yaml would be replaced"):
        raised("init", "--kind", "rayjob")
    assert not Path("study.yaml").exists()


@pytest.mark.parametrize("name", sorted(builtin_studies()))
def test_a_built_in_study_is_written_out_with_its_comments_under_the_files_own_name(name: str) -> None:
    assert "resflow plan ./mine.yaml" in said("init", "mine.yaml", "--from", name)
    first, *lines = Path("mine.yaml").read_text(encoding="utf-8").splitlines()
    assert first == "# yaml-language-server: $schema=study.schema.json"
    original = builtin_studies()[name].read_text(encoding="utf-8").splitlines()
    changed = {pair for pair in zip(original, lines, strict=True) if pair[0] != pair[1]}
    assert changed == {(f"name: {name}", "name: mine")}
    mine, own = load_study("./mine.yaml"), load_study(name)
    assert mine.arms == own.arms
    assert {**mine.resolved(), "name": name} == own.resolved()


def test_a_copy_is_called_as_the_study_where_the_file_is_not_named_or_no_name() -> None:
    said("init", "--from", "depth")
    said("init", "My Study.yaml", "--from", "depth")
    assert load_study("./depth.yaml").name == load_study("./My Study.yaml").name == "depth"


def test_the_schema_that_a_study_names_lies_beside_it_and_is_kept_up_to_date() -> None:
    said("init", "mine.yaml")
    first = Path("mine.yaml").read_text(encoding="utf-8").splitlines()[0]
    schema = Path(first.partition("$schema=")[2])
    assert json.loads(schema.read_text(encoding="utf-8")) == json.loads(said("schema"))
    schema.write_text(json.dumps({"$id": json.loads(schema.read_text())["$id"], "title": "of an older resflow"}))
    said("init", "other.yaml")
    assert json.loads(schema.read_text(encoding="utf-8")) == json.loads(said("schema"))
    schema.write_text("{}")
    with pytest.raises(ResflowError, match=r"study\.schema\.json would be replaced: nothing was written"):
        raised("init", "third.yaml")
    assert not Path("third.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "dept"), "unknown built-in study 'dept': .*Did you mean 'depth'"),
        (("--from", "depth", "--kind", "rayjob"), "does not go with --kind rayjob"),
        (("nowhere/mine.yaml",), "cannot write nowhere"),
    ],
)
def test_copies_that_cannot_be_made(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ResflowError, match=message):
        raised("init", *words)
    assert not list(Path().iterdir())
