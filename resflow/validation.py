"""Pydantic's problems as sentences, each with the file and line of its cause."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from resflow.document import Document
from resflow.errors import StudyError, nearest


def checked(doc: Document, model: type[Any], values: Any, at: tuple[Any, ...] = ()) -> Any:
    """Validate against a model; every problem becomes a line with its place."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(_problem(doc, at, model, problem) for problem in error.errors())
        raise StudyError("\n".join(lines)) from error


def _problem(doc: Document, at: tuple[Any, ...], model: type[BaseModel], problem: Any) -> str:
    # Pydantic puts the branch of a union into the place; only what the document holds is shown.
    place = (*at, *_real_keys(doc, at, problem["loc"]))
    shown = ".".join(map(str, place)) or "the study"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        return f"{doc.origin(place)}: unknown key '{shown}'.{nearest(str(place[-1]), known)} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"{doc.origin(place[:-1])}: '{problem['loc'][-1]}' is missing: every study needs it."
    came = "" if isinstance(problem["input"], dict) else f", got {json.dumps(problem['input'], default=str)}"
    if problem["type"] == "value_error":  # a rule between settings: its message stands alone
        return f"{doc.origin(place)}: {shown}: {problem['msg'].removeprefix('Value error, ')}."
    return f"{doc.origin(place)}: {shown}: expected {_wanted(problem)}{came}."


def _real_keys(doc: Document, at: tuple[Any, ...], loc: Sequence[Any]) -> Iterator[Any]:
    value: Any = doc.values
    for key in at:
        value = value[key]
    for index, key in enumerate(loc):
        inside = (isinstance(value, dict) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        )
        if inside:
            value = value[key]
        if inside or (index == len(loc) - 1 and isinstance(value, dict)):
            yield key


def _fields_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    for key in loc:
        inner = model.model_fields[key].annotation if key in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def reason(error: ValidationError) -> str:
    """The first problem without its place: `a valid integer, got "x"` or a rule's own message."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    came = json.dumps(problem["input"], default=str)
    return f"expected {_wanted(problem)}, got {came}"


def _wanted(problem: Any) -> str:
    text = str(problem["msg"]).removeprefix("Input should be ").removeprefix("Value should have ")
    return text.split(" after validation")[0]
