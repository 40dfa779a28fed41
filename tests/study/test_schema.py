"""The JSON Schema of study files: it describes every key, takes what resflow takes, and says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resflow.study.builtin import builtin_studies
from resflow.study.load import load_study, open_document
from resflow.study.schema import SCHEMA_ID, json_schema

SCHEMA = json_schema()


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for owner, model in {"study": schema, **schema["$defs"]}.items():
        for key, value in model.get("properties", {}).items():
            yield f"{owner}.{key}", value


def test_the_schema_says_what_it_is() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == SCHEMA_ID


def test_every_key_is_described() -> None:
    assert [name for name, value in keys(SCHEMA) if not value.get("description")] == []


@pytest.mark.parametrize("name", sorted(builtin_studies()))
def test_a_validator_takes_what_resflow_takes(name: str) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    for study in (open_document(name).values, load_study(name).resolved()):
        assert [error.message for error in validator.iter_errors(study)] == []
    assert list(validator.iter_errors({**open_document(name).values, "sedes": 3}))
    assert list(validator.iter_errors({**open_document(name).values, "recipe": {"epochs": "many"}}))
