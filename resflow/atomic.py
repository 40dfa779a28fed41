"""How files are written: whole, and repeatable to the byte."""

from __future__ import annotations

import uuid
from pathlib import Path

import pandas as pd


def write_bytes(path: Path, content: bytes) -> None:
    """Put a file in place whole; one that already holds these bytes is left alone."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
