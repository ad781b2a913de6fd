"""The published schemas of the outcome events, and what is held against them."""

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # has no types

from arcanna_metrics.times import from_iso
from tests.deployment import ROOT

WRITTEN = "/detail", "/cause", "/difference"
"""The parts of an event that are wholly ours."""


def _strict(schema: Any, path: str = "") -> Any:
    """The schema without what consumers must put up with: fields that it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(each, f"{path}/{name}") for name, each in schema.items()}
    ours = "properties" in schema and path.endswith(WRITTEN)
    return strict | ({"additionalProperties": False} if ours else {})


SCHEMAS: dict[str, dict[str, Any]] = {
    path.stem: _strict(json.loads(path.read_text())) for path in (ROOT / "events/schemas").glob("*.json")
}

_FORMATS = FormatChecker(formats=())
_FORMATS.checks("date-time", raises=ValueError)(lambda value: from_iso(value) or True)


def check_schema(schema: dict[str, Any]) -> None:
    """Raises SchemaError if it is no JSON Schema."""
    Draft202012Validator.check_schema(schema)


def validate(instance: object, schema: dict[str, Any]) -> None:
    """Raises ValidationError if the instance is not as the schema says."""
    Draft202012Validator(schema, format_checker=_FORMATS).validate(instance)


def validate_event(event: dict[str, Any]) -> None:
    """Raises ValidationError if an event is not as the schema of its detail type says."""
    validate(event, SCHEMAS[event["detail-type"].lower().replace(" ", "-")])
