"""Pydantic's problems as sentences, each with the file and line of its cause."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from resflow.errors import StudyError, nearest
from resflow.study.yaml_source import Document

SHOWN = 80  # characters of a wrong value
WORDS = (  # pydantic's -> a study's
    (r"^\w+ should (be|have) ", ""),
    (r"a valid dictionary( or instance of \w+)?", "a mapping"),
    (r"a valid (list|tuple)", "a list"),
    (r"a valid string", "text"),
    (r"a valid integer", "a whole number"),
    (r"a valid boolean", "true or false"),
    (r"a valid number", "a number"),
    (r" after validation, not \d+", ""),
)


def validate(doc: Document, model: type[Any], values: Any, at: tuple[Any, ...] = ()) -> Any:
    """Validate against a model. Raises one StudyError, in which every problem is a line with its place."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # Every branch of a union complains: those are told in one line, the one that came furthest alone.
        places: dict[tuple[Any, ...], list[Any]] = {}
        for problem in error.errors():
            places.setdefault((*at, *_real_keys(doc, at, problem["loc"])), []).append(problem)
        furthest = [place for place in places if not any(p != place and p[: len(place)] == place for p in places)]
        raise StudyError("\n".join(_line(doc, place, model, places[place]) for place in furthest)) from error


def _line(doc: Document, place: tuple[Any, ...], model: type[BaseModel], problems: list[Any]) -> str:
    problem = next((p for p in problems if not p["type"].endswith("_type")), problems[0])
    key = ".".join(map(str, place)) or "the study"
    where = doc.origin(place)
    if problem["type"] == "extra_forbidden":
        known = list(_fields_at(model, problem["loc"][:-1]))
        return f"{where}: unknown key '{key}'.{nearest(str(place[-1]), known)} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        owner = ".".join(map(str, place[:-1])) or "every study"
        return f"{doc.origin(place[:-1])}: '{problem['loc'][-1]}' is missing: {owner} needs it."
    if problem["type"] == "value_error":  # a rule between settings: its message stands alone
        return f"{where}: {key}: {problem['msg'].removeprefix('Value error, ')}."
    expected = " or ".join(dict.fromkeys(map(_expected, [problem] if problem is not problems[0] else problems)))
    if problem["type"] == "string_pattern_mismatch":
        expected = _fields_at(model, problem["loc"][:-1])[problem["loc"][-1]].description or expected
    return f"{where}: {key}: expected {expected}, got {_input(problem)}."


def _real_keys(doc: Document, at: tuple[Any, ...], loc: Sequence[Any]) -> Iterator[Any]:
    """Yield the keys of a problem's place that the document has: pydantic adds the branches of unions."""
    value: Any = doc.values
    for key in at:
        value = value[key]
    for index, key in enumerate(loc):
        inside = (isinstance(value, dict) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        )
        if inside:
            value = value[key]
        if inside or (index == len(loc) - 1 and isinstance(value, dict) and str(key).isidentifier()):
            yield key


def _fields_at(model: type[BaseModel], loc: Sequence[Any]) -> dict[str, FieldInfo]:
    for key in loc:
        inner = model.model_fields[key].annotation if key in model.model_fields else None
        of_union = [one for one in (inner, *get_args(inner)) if isinstance(one, type) and issubclass(one, BaseModel)]
        model = of_union[0] if of_union else model
    return model.model_fields


def first_problem(error: ValidationError) -> str:
    """Return the first problem without its place: `expected a whole number, got "x"`, or a rule's own message."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{problem['loc'][-1]}'"
    return f"expected {_expected(problem)}, got {_input(problem)}"


def _expected(problem: Any) -> str:
    text = str(problem["msg"])
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return text.split(", ")[0] if problem["type"].endswith(("_type", "_parsing", "_from_float")) else text


def _input(problem: Any) -> str:
    text = json.dumps(problem["input"], default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
