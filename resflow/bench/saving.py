"""Results of benchmarks on disk: a JSON file each, and one page that shows all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resflow import atomic, provenance, reading
from resflow.bench import page
from resflow.errors import RecordError

SCHEMA_VERSION = 1
HEAD = """# Benchmarks
Made by `resflow bench`; each figure is the median of rounds in which every contender ran in a process of its own.
The numbers behind a table are in the file of its name.

"""
NO_GPU = (
    "Nothing on this page was measured on a GPU yet. Where there is one, `make gpu OUT=DIR` measures it in five "
    "minutes, and `resflow bench step --device gpu --out DIR` any of it alone.\n"
)
ON_DEVICE = ("step", "epoch", "input", "packing", "repeat", "study")  # what --device measures
MARK = "<!-- `resflow bench` writes everything below this line. What stands above it is kept. -->\n"


def complete(result: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return a result with its command, machine and versions."""
    environment = provenance.environment()
    versions = {**environment["versions"], **result.get("versions", {})}
    environment |= {"versions": versions, "finished": provenance.now()}
    environment |= {"usable_cores": provenance.count_processors()}
    return {"schema_version": SCHEMA_VERSION, "command": command, **result, "provenance": environment}


def name_file(result: Mapping[str, Any]) -> str:
    """Return the file's name: the thing that was measured, without anything that a repetition may differ in."""
    settings = result["settings"]
    if result["benchmark"] == "study":
        return "-".join([f"study-{settings['study']}", *_gpu(settings)])
    if result["benchmark"] == "frozen":
        return f"frozen-resnet{settings['network']['depth']}-{settings['data']['image_size']}px"
    if result["benchmark"] == "input":
        return "-".join([f"input-{settings['image_size']}px", *_gpu(settings)])
    if result["benchmark"] == "convolution":
        return f"convolution-{settings['threads']}threads"
    if result["benchmark"] in ("packing", "repeat"):
        return "-".join([result["benchmark"], f"{settings['image_size']}px", *_gpu(settings)])
    if result["benchmark"] in ("worker", "scale", "chaos", "coverage", "damage"):
        return str(result["benchmark"])
    net, precision = settings["network"], settings["execution"]["precision"]
    parts = [
        f"{result['benchmark']}-resnet{net['depth']}",
        f"{settings['image_size']}px",
        f"batch{settings['batch_size']}",
    ]
    parts += [f"width{net['width']:g}"] if net["width"] != 1 else []
    where = _gpu(settings) or [f"{settings['threads']}threads"]
    return "-".join([*parts, *where, *([precision] if precision != "float32" else [])])


def _gpu(settings: Mapping[str, Any]) -> list[str]:
    """Return the word of a file's name that tells figures of a GPU from those of a CPU."""
    return ["gpu"] if settings.get("device") == "gpu" else []


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write a completed result and the folder's README.md, each whole or not at all. Raises RecordError."""
    path = folder / f"{name_file(result)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, (json.dumps(result, indent=1) + "\n").encode())
        atomic.write(folder / "README.md", readme(folder).encode())
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(
            f"cannot write into {folder}: {error}. Choose a folder with --out that holds benchmarks only."
        ) from error
    return path


def check_folder(folder: Path) -> None:
    """Raise RecordError where a folder holds other files of the kinds that `write` puts there."""
    try:
        others = [path.name for path in (folder / "README.md", *folder.glob("*.json")) if not _is_ours(path)]
    except OSError as error:
        raise RecordError(f"cannot read {folder}: {error}. Choose another folder with --out.") from error
    if others:
        raise RecordError(
            f"{folder} holds {', '.join(others[:3])}, of no benchmark: choose a folder with --out that holds "
            "benchmarks only."
        )


def _is_ours(path: Path) -> bool:
    if not path.exists():
        return True
    text = reading.read(path).decode(errors="replace")
    return MARK in text if path.suffix == ".md" else '"benchmark":' in text and '"schema_version":' in text


def readme(folder: Path) -> str:
    """Return a folder's page: its introduction, then every result as a table with its command and machine."""
    page_there = folder / "README.md"
    before = page_there.read_text(encoding="utf-8") if page_there.exists() else ""
    results = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    sections = [(before.partition(MARK)[0] if MARK in before else HEAD) + MARK]
    of_speed = [result["settings"] for result in results.values() if result["benchmark"] in ON_DEVICE]
    if of_speed and not any(map(_gpu, of_speed)):
        sections.append(NO_GPU)
    for path, result in results.items():
        made, settings = result["provenance"], result["settings"]
        where = "{name}, driver {driver}; ".format_map(settings["gpu"]) if "gpu" in settings else ""
        lines = [f"| {what} | {figure} |" for what, figure in page.rows(result)]
        sections.append(
            f"## {page.title(result)}\n| [{path.name}]({path.name}) | median of {settings['rounds']} |\n"
            f"|---|---|\n" + "\n".join(lines) + f"\n\n    {result['command']}\n\n{where}{made['cpu']}, "
            f"{made['usable_cores']} cores; {', '.join(f'{k} {v}' for k, v in made['versions'].items())}; "
            f"commit {made['git_commit']}, {made['finished'][:10]}.\n"
        )
    return "\n".join(sections)
