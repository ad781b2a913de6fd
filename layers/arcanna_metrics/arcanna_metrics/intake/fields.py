"""The fields of events, by dotted path: "detail.object.key".

Each function raises BadInput that names the path and what is wrong with the value there.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from arcanna_metrics.documents import shown, whole
from arcanna_metrics.errors import BadInput
from arcanna_metrics.times import from_iso

TEXT_LENGTH = 1024
"""Characters that a key or another text may have. S3 has the same limit for keys, in bytes of UTF-8."""

EARLIEST = from_iso("2006-03-14")
"""S3's first day. Programs write earlier times (the years 1, 1601, 1970) if they do not know the time."""


def assert_only(event: Mapping[str, object], known: Collection[str], what: str) -> None:
    """Refuses any other field. `what` is for the message, such as "a request"."""
    if unknown := event.keys() - set(known):
        raise BadInput(f"unknown field {listed(unknown)}; {what} has {', '.join(known)}")


def at(event: object, path: str) -> Any:
    """The value at the path; None if there is no value. Raises BadInput if one above it has no fields."""
    above, _, name = path.rpartition(".")
    container = at(event, above) if above else event
    if isinstance(container, dict):
        return container.get(name)
    if above and container is not None:
        raise BadInput(f"{above} must be an object, not {shown(container)}")
    return None


def text(event: object, path: str) -> str:
    return checked(path, at(event, path))


def optional_text(event: object, path: str) -> str | None:
    value = at(event, path)
    return None if value is None else checked(path, value)


def checked(name: str, value: object) -> str:
    """The value, if it is a text that AWS's APIs and logs accept. `name` is for the message."""
    if value is None:
        raise BadInput(f"{name} is missing")
    if not isinstance(value, str):
        raise BadInput(f"{name} must be a string, not {shown(value)}")
    if len(value) > TEXT_LENGTH:
        raise BadInput(f"{name} has {len(value)} characters, more than {TEXT_LENGTH}")
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can, but AWS's APIs cannot
        raise BadInput(f"{name} is not valid Unicode: it contains half of a surrogate pair")
    return value


def nested_json(event: object, path: str) -> object:
    """The value of the JSON text at the path."""
    value = at(event, path)
    if not isinstance(value, str):
        raise BadInput(f"{path} must be a string with JSON, not {shown(value)}")
    return parse_json(path, value)


def parse_json(name: str, written: str) -> object:
    """The value of a JSON text; `name` is for the message."""
    try:
        return json.loads(written.lstrip("\ufeff"))  # a byte order mark, as some editors and shells write it
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is not JSON: {error}") from error


def time(event: object, path: str, latest: float) -> float:
    """Epoch seconds; `latest` if there is no time, or if it is later than that or before EARLIEST."""
    value = at(event, path)
    if value is None:
        return latest
    try:
        claimed = from_iso(value)
    except (TypeError, ValueError) as error:  # TypeError: it is not a text
        raise BadInput(f"{path} must be an ISO 8601 time, not {shown(value)}") from error
    return claimed if EARLIEST <= claimed <= latest else latest


def whole_number(event: object, path: str) -> int | None:
    """A whole number of 0 or more, written as 5 or 5.0."""
    value = at(event, path)
    if value is None:
        return None
    number = whole(value)
    if number is None or number < 0:
        raise BadInput(f"{path} must be a whole number of at least 0, not {shown(value)}")
    return number


def listed(names: Iterable[object]) -> str:
    return ", ".join(shown(name) for name in sorted(map(str, names))[:10])
