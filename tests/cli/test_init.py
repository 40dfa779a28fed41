"""The files that `resflow init` writes for clusters: as far as they can be checked without one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.direct import raised, said

from resflow.errors import ResflowError
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
