"""Validates outcome events with their published schemas."""

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # has no types

from arcanna_metrics.times import from_iso
from tests.support.deployment import ROOT

WRITTEN = "/detail", "/cause", "/object", "/difference"
"""The parts of an event in which this project defines all fields."""


def _strict(schema: Any, path: str = "") -> Any:
    """The schema, but closed to new fields in our parts. Consumers must accept those; tests must not."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(each, f"{path}/{name}") for name, each in schema.items()}
    ours = "properties" in schema and path.endswith(WRITTEN)
    return strict | ({"additionalProperties": False} if ours else {})


SCHEMAS: dict[str, dict[str, Any]] = {
    path.stem: _strict(json.loads(path.read_text())) for path in (ROOT / "events/schemas").glob("*-*.json")
}

_FORMATS = FormatChecker(formats=())
_FORMATS.checks("date-time", raises=ValueError)(lambda value: value is None or from_iso(value) is not None)


def check_schema(schema: dict[str, Any]) -> None:
    """Raises SchemaError if it is not a JSON Schema."""
    Draft202012Validator.check_schema(schema)


def validate(instance: object, schema: dict[str, Any]) -> None:
    """Raises ValidationError if the instance does not match the schema."""
    Draft202012Validator(schema, format_checker=_FORMATS).validate(instance)


def validate_event(event: dict[str, Any]) -> None:
    """Raises ValidationError if an event does not match the schema of its detail type."""
    validate(event, SCHEMAS[event["detail-type"].lower().replace(" ", "-")])


def validate_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The detail of an entry for PutEvents. Raises ValidationError if the event does not match its schema."""
    detail: dict[str, Any] = json.loads(entry["Detail"])
    validate_event({"source": entry["Source"], "detail-type": entry["DetailType"], "detail": detail})
    return detail
