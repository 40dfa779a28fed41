"""A YAML document whose every value knows where it came from: a file's line or a command's option."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from resflow import reading
from resflow.errors import StudyError

Path_ = tuple[Any, ...]
TAG = "tag:yaml.org,2002:"
SCALARS = {f"{TAG}{kind}" for kind in ("str", "int", "float", "bool", "null")}
LARGEST = 4 * reading.MEGABYTE
DEEPEST, MOST_VALUES = 32, 100_000  # no study comes near; aliases that multiply like a bomb stop here


class Document:
    """A nested mapping of plain values, and `origin(path)` for any of its keys."""

    def __init__(self, values: dict[str, Any], origins: dict[Path_, str], source: str) -> None:
        self.values, self._origins, self.source = values, origins, source

    def with_values(self, values: dict[str, Any]) -> Document:
        """Return a copy with other values at the same places."""
        return Document(values, self._origins, self.source)

    def origin(self, path: Path_) -> str:
        """Return where the value at `path`, or the nearest thing around it, was written."""
        for end in range(len(path), -1, -1):
            if path[:end] in self._origins:
                return self._origins[path[:end]]
        return self.source

    def overlaid(self, values: dict[str, Any], origins: Mapping[Path_, str]) -> Document:
        """Return a copy with `values` laid over it: mappings merge key by key, all else is replaced."""
        replaced = {path for path in origins if _is_whole(path) or not isinstance(_at(values, path), dict)}
        untouched = {
            path: origin
            for path, origin in self._origins.items()
            if not any(path[:end] in replaced for end in range(1, len(path)))
        }
        return Document(_merge(self.values, values, ()), {**untouched, **origins}, self.source)

    def profile(self, name: str) -> Document:
        """Return a copy with the profile called `name` laid over it, and no profiles."""
        at = ("profiles", name)
        origins = {key[2:]: origin for key, origin in self._origins.items() if key[:2] == at}
        return self.without("profiles").overlaid(self.values["profiles"][name] or {}, origins)

    def without(self, key: str) -> Document:
        return Document({k: v for k, v in self.values.items() if k != key}, self._origins, self.source)


def _is_whole(path: Path_) -> bool:
    """Tell whether a path is of one value: the levels of a factor, a baseline by its levels, or a tuning space."""
    return (path[:1] == ("factors",) and len(path) == 2) or path in (("baseline",), ("tune", "space"))


def _at(values: Any, path: Path_) -> Any:
    for key in path:
        values = values[key]
    return values


def _merge(old: Any, new: Any, path: Path_) -> Any:
    if _is_whole(path) or not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merge(old.get(key), value, (*path, key)) for key, value in new.items()}}


def read_document(path: Path, label: str | None = None) -> Document:
    """Read a YAML 1.2 file, `label` in messages. Raises StudyError with file and line where it cannot be read."""
    label = label or str(path)
    try:
        content = reading.read(path.expanduser(), LARGEST)
    except FileNotFoundError as error:
        raise StudyError(
            f"{label}: there is no such file. `resflow init` writes one to start from, `resflow list` names the "
            "built-in studies."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:  # of a name with a NUL, or of the home of no such user
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise StudyError(f"{label[:200]}: cannot be read: {reason}. Expected a YAML file.") from error
    try:
        return parse_document(content.decode(), label)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{label}:{line}: this is no UTF-8 text ({error.reason}): save the file as UTF-8.") from error


def parse_document(text: str, label: str) -> Document:
    """Read YAML text. Duplicate keys, tags and anything but a mapping at the top are errors.

    A key is text as it is written, so that 18 and 1e-4 may be labels.
    """
    values, origins = _tree(text, label)
    if not isinstance(values, dict):
        raise StudyError(f"{label}:1: expected a mapping such as 'name: my-study', got {_kind(values)}.")
    return Document(values, origins, label)


def parse_scalar(text: str) -> Any:
    """Read the value of `--set key=value` as YAML; what is no YAML is a string."""
    try:
        return _tree(text, "--set")[0]
    except StudyError:
        return text


def parse_settings(pairs: Iterable[str] | None) -> dict[str, Any]:
    """Read the pairs of `--set key=value`. Raises StudyError for one without a key or an equals sign."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise StudyError(f"--set {pair}: expected KEY=VALUE, such as --set epochs=5.")
        settings[key.strip()] = parse_scalar(value)
    return settings


def _kind(value: Any) -> str:
    return "an empty file" if value is None else "a list" if isinstance(value, list) else f"'{str(value)[:60]}'"


def _tree(text: str, label: str) -> tuple[Any, dict[Path_, str]]:
    builder = _Builder(label)
    try:
        root = _parser().compose(text)
        return (None if root is None else builder.build(root, ())), builder.origins
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{label}{line}: this is no valid YAML: {error.problem}.") from error
    except ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise StudyError(f"{label}:{number}: this is no valid YAML: {error.reason}.") from error
    except YAMLError as error:
        raise StudyError(f"{label}: this is no valid YAML: {str(error).splitlines()[0]}.") from error


class _Composer(Composer):
    """Refuses deep nesting before Python's own limit of recursion meets it."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST + 1:  # the innermost is a scalar
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"nested deeper than {DEEPEST} levels", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _parser() -> YAML:
    parser = YAML(typ="safe", pure=True)
    parser.Composer = _Composer
    return parser


class _Builder:
    """Turns YAML's nodes to dicts, lists and scalars, noting the line of each key and item in `origins`.

    Nodes, and not ruamel's round-trip load with its line numbers: that reads the key 1e-4 as 0.0001, an alias inside
    itself as null and a foreign tag as if it were none, and has no line for what a merge brings in.
    """

    def __init__(self, label: str) -> None:
        self.label, self.origins, self.count = label, dict[Path_, str](), 0
        self.constructor = YAML(typ="safe", pure=True).constructor

    def build(self, node: Node, path: Path_) -> Any:
        """Return the value at `path`. Raises StudyError for tags, duplicate keys and too much of anything."""
        self._count(node, path)
        self.origins.setdefault(path, self._place(node))
        if isinstance(node, MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and node.tag == f"{TAG}seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag in SCALARS:
            try:
                return self.constructor.construct_object(node)
            except ValueError as error:
                raise self._error(node, f"{_dotted(path)} cannot be read: {error}.") from error
        kind = str(node.tag).removeprefix(TAG)
        raise self._error(
            node,
            f"{_dotted(path)} is a {kind}: expected text, a number, true or false, a list or a mapping (quote it if it "
            "is text).",
        )

    def _mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value, merged in self._pairs(node, path):
            name = key.value
            if name not in result:
                self.origins[(*path, name)] = self._place(key)
                result[name] = self.build(value, (*path, name))
            elif not merged:
                raise self._error(
                    key, f"{_dotted((*path, name))} stands there twice (first at {self.origins[(*path, name)]})."
                )
        return result

    def _pairs(self, node: MappingNode, path: Path_, merges: int = 0) -> Iterator[tuple[ScalarNode, Node, bool]]:
        """Yield a mapping's own keys and values, then those that `<<: *another` brings in."""
        others: list[Node] = []
        for key, value in node.value:
            self._count(key, path, merges)
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key is a list or a mapping: expected text.")
            if key.value == "<<" and not key.style:
                others += value.value if isinstance(value, SequenceNode) else [value]
            else:
                yield key, value, merges > 0
        for other in others:
            if not isinstance(other, MappingNode):
                raise self._error(other, "expected a mapping after '<<'.")
            yield from self._pairs(other, path, merges + 1)

    def _count(self, node: Node, path: Path_, merges: int = 0) -> None:
        self.count += 1
        if self.count > MOST_VALUES or len(path) + merges > DEEPEST:
            raise self._error(node, f"more than {MOST_VALUES:,} values or {DEEPEST} levels: does an alias hold itself?")

    def _place(self, node: Node) -> str:
        return f"{self.label}:{node.start_mark.line + 1}"

    def _error(self, node: Node, message: str) -> StudyError:
        return StudyError(f"{self._place(node)}: {message}")


def _dotted(path: Path_) -> str:
    return ".".join(map(str, path)) or "the file"
