"""A YAML document whose every value knows where it came from: a file's line or a command's option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from resflow.errors import StudyError

Path_ = tuple[Any, ...]


class Document:
    """A nested mapping of plain values, and `origin(path)` for any of its keys."""

    def __init__(self, values: dict[str, Any], origins: dict[Path_, str], source: str) -> None:
        self.values, self._origins, self.source = values, origins, source

    def origin(self, path: Path_) -> str:
        """Where the value at `path`, or the nearest thing around it, was written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._origins:
                return self._origins[path[:end]]
        return self.source

    def overlaid(self, values: dict[str, Any], origins: Mapping[Path_, str]) -> Document:
        """Return a copy with `values` laid over it: mappings merge key by key, all else is replaced."""
        replaced = {path for path in origins if _is_whole(path) or not isinstance(_at(values, path), dict)}
        kept = {
            path: origin
            for path, origin in self._origins.items()
            if not any(path[:end] in replaced for end in range(1, len(path)))
        }
        return Document(_merged(self.values, values, ()), {**kept, **origins}, self.source)

    def profile(self, name: str) -> Document:
        """Return a copy with the profile called `name` laid over it, and no profiles."""
        at = ("profiles", name)
        origins = {key[2:]: origin for key, origin in self._origins.items() if key[:2] == at}
        return self.without("profiles").overlaid(self.values["profiles"][name] or {}, origins)

    def without(self, key: str) -> Document:
        return Document({k: v for k, v in self.values.items() if k != key}, self._origins, self.source)


def _is_whole(path: Path_) -> bool:
    """The levels of one factor, and a baseline given by its levels, are one value each."""
    return (path[:1] == ("factors",) and len(path) == 2) or path == ("baseline",)


def _at(values: Any, path: Path_) -> Any:
    for key in path:
        values = values[key]
    return values


def _merged(old: Any, new: Any, path: Path_) -> Any:
    if _is_whole(path) or not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value, (*path, key)) for key, value in new.items()}}


def read(path: Path, shown: str | None = None) -> Document:
    """Read a YAML 1.2 file. Raises StudyError with file and line where it cannot be read."""
    shown = shown or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot read {shown}: {error}") from error
    return parse(text, shown)


def parse(text: str, shown: str) -> Document:
    """Read YAML text. Duplicate keys, tags and anything but a mapping at the top are errors."""
    try:
        loaded = YAML(typ="rt", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"{shown}:{mark.line + 1}" if mark else shown
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(f"{where}: this is no valid YAML: {problem}.") from error
    if not isinstance(loaded, CommentedMap):
        raise StudyError(f"{shown}:1: expected a mapping such as 'name: my-study', got {_kind(loaded)}.")
    origins: dict[Path_, str] = {}
    return Document(_plain(loaded, (), origins, shown), origins, shown)


def scalar(text: str) -> Any:
    """Read the value of `--set key=value` as YAML; what is no YAML is a string."""
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return text
    return value


def _kind(value: Any) -> str:
    return "an empty file" if value is None else f"a {'list' if isinstance(value, list) else type(value).__name__}"


def _plain(node: Any, path: Path_, origins: dict[Path_, str], shown: str) -> Any:
    """Turn ruamel's nodes to dicts, lists and scalars, noting each key's line."""
    if isinstance(node, CommentedMap):
        result = {}
        for key, value in node.items():
            origins[(*path, key)] = f"{shown}:{_line(node.lc.key, key, node.lc.line)}"
            result[key] = _plain(value, (*path, key), origins, shown)
        return result
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            origins[(*path, index)] = f"{shown}:{_line(node.lc.item, index, node.lc.line)}"
        return [_plain(value, (*path, index), origins, shown) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    raise StudyError(
        f"{origins.get(path, shown)}: {'.'.join(map(str, path))} is a {type(node).__name__}: expected text, a "
        "number, true or false, a list or a mapping (quote it if it is text)."
    )


def _line(place: Any, key: Any, fallback: int) -> int:
    try:
        return int(place(key)[0]) + 1
    except (KeyError, TypeError):  # merge keys (<<) carry no place of their own
        return fallback + 1
