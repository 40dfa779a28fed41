"""Where the built-in studies lie."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def builtin_folder() -> Path:
    """The folder of built-in studies: package data, or `studies/` beside the package in a checkout."""
    packaged = Path(str(resources.files("resflow"))) / "_studies"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "studies"


def builtin_studies() -> dict[str, Path]:
    """Return name -> file of the built-in studies."""
    return {path.stem: path for path in sorted(builtin_folder().glob("*.yaml"))}
