"""Checks workflow data against its types (see run.py), because an execution may be started by hand."""

from collections.abc import Iterator
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from arcanna_metrics.errors import BadInput, ConfigurationError

T = TypeVar("T")

_JSON: dict[type, tuple[str, tuple[type, ...]]] = {
    str: ("string", (str,)),
    bool: ("boolean", (bool,)),
    int: ("whole number", (int,)),
    float: ("number", (int, float)),
    tuple: ("array", (list, tuple)),
    list: ("array", (list,)),
    dict: ("object", (dict,)),
}


def parse(name: str, value: object, of: type[T]) -> T:
    """The value, if it is JSON of this type. Keeps fields that the type does not have.

    Raises BadInput with the place in `name` and the problem.
    """
    _check(name, value, of)
    return cast("T", value)


def _check(name: str, value: Any, of: Any) -> None:
    kind, parts = get_origin(of) or of, get_args(of)
    if kind is Annotated:
        _check(name, value, parts[0])
        try:
            parts[1](value)
        except (ValueError, BadInput, ConfigurationError) as error:
            raise BadInput(f"{name} must not be {value!r:.64}: {error}") from error
    elif kind is NotRequired:
        _check(name, value, parts[0])
    elif kind in (Union, UnionType):
        if value is not None:
            _check(name, value, parts[0])
    elif kind is Literal:
        if value not in parts:
            raise BadInput(f"{name} must be one of {', '.join(parts)}, not {value!r:.64}")
    elif kind is not Any:
        for member in _members(name, value, dict if is_typeddict(kind) else kind, of):
            _check(*member)


def _members(name: str, value: Any, kind: type, of: Any) -> Iterator[tuple[str, Any, Any]]:
    """The parts of the value, each with its name and type."""
    word, types = _JSON[kind]
    if type(value) not in types:
        raise BadInput(f"{name} must be a JSON {word}, not {value!r:.64}")
    parts = get_args(of)
    if is_typeddict(of):
        if missing := of.__required_keys__ - value.keys():
            raise BadInput(f"{name} lacks {', '.join(sorted(missing))}")
        hints = get_type_hints(of, include_extras=True)
        yield from ((f"{name}.{field}", value[field], hints[field]) for field in hints.keys() & value.keys())
    elif kind is dict:
        yield from ((f"{name}[{key!r:.64}]", each, parts[1]) for key, each in value.items())
    elif kind in (list, tuple):
        if kind is tuple and len(value) != len(parts):
            raise BadInput(f"{name} must have {len(parts)} elements, not {len(value)}")
        by_place = parts if kind is tuple else parts * len(value)
        yield from ((f"{name}[{n}]", each, by_place[n]) for n, each in enumerate(value))
