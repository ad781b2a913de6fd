"""JSON documents that people write, read so that every problem names its place: `jobs.1234.pace.slots`."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from arcanna_metrics.errors import ConfigurationError

_PLAIN = re.compile(r"[\w$.*\-]{1,64}")
_JSON_WITH_MORE = re.compile(r",?\s*[/#\]}]")
"""What is left of a text where it stops being JSON, if there is a comment or a trailing comma."""


def load(text: str) -> object:
    """The value of a JSON text. Raises ConfigurationError.

    Refuses NaN and Infinity, which Python reads but JSON does not have. Refuses duplicate keys, because
    Python would silently ignore all but the last.
    """
    try:
        # Without the byte order mark that some editors write.
        document: object = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_without_duplicates)
        json.dumps(document, allow_nan=False)  # raises ValueError for NaN and Infinity
    except (ValueError, RecursionError) as error:
        why = f"the document is not valid JSON: {error}"
        if isinstance(error, json.JSONDecodeError) and _JSON_WITH_MORE.match(error.doc, error.pos):
            why += "; JSON has no comments and no trailing commas"
        raise ConfigurationError(why) from error
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} is given twice in one object")
    return found


def whole(value: object) -> int | None:
    """The whole number; None if the value is not one. In JSON, 5.0 is the same number as 5."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a document, with its path. All nodes of a document share the list of its problems.

    A method that reads a value notes a problem and returns a harmless value, so one pass finds all problems.
    """

    value: Any
    path: str = ""
    problems: list[str] = field(default_factory=list)

    def wrong(self, problem: str) -> None:
        """Notes a problem: the text after the path."""
        self.problems.append(f"{self.path or 'the document'} {problem}")

    def must_be(self, allowed: str, why: str = "") -> None:
        """Notes that the value is not what is allowed, and why if that is not obvious."""
        self.wrong(f"must be {allowed}, not {shown(self.value)}{f' ({why})' if why else ''}")

    def members(self) -> dict[str, "Node"]:
        """The members of an object, with any names."""
        if not isinstance(self.value, dict):
            self.must_be("an object")
            return {}
        return {name: self._below(name, value) for name, value in self.value.items()}

    def fields(self, known: Collection[str], *, required: Collection[str] = ()) -> dict[str, "Node"]:
        """The members of an object that may have only these fields.

        `required` fields are in the result even if they are missing.
        """
        members = self.members()
        for name in [name for name in required if name not in members]:
            if isinstance(self.value, dict):
                self.wrong(f'lacks "{name}"')
            members[name] = Node(None)  # its problems are not reported
        for name in [name for name in members if name not in known]:
            members.pop(name).wrong(f"is not allowed here; allowed: {', '.join(known)}")
        return members

    def items(self, least: int = 0) -> list["Node"]:
        """The elements of a list, which must have at least `least`."""
        if not isinstance(self.value, list) or len(self.value) < least:
            self.must_be(f"a list of {least} or more" if least else "a list")
            return []
        return [Node(v, f"{self.path}[{n}]", self.problems) for n, v in enumerate(self.value)]

    def whole_number(self, least: int, most: int) -> int | None:
        """A whole number in the range; None if it is wrong."""
        number = whole(self.value)
        if number is not None and least <= number <= most:
            return number
        self.must_be(f"a whole number from {least} to {most}")
        return None

    def number(self, least: float, most: float) -> float | None:
        """Any number in the range; None if it is wrong."""
        number = self.value
        if isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most:
            return number
        self.must_be(f"a number from {least:g} to {most:g}")
        return None

    def _below(self, name: str, value: object) -> "Node":
        plain = _PLAIN.fullmatch(name)
        path = f"{self.path}.{name}".lstrip(".") if plain else f"{self.path}[{shown(name)}]"
        return Node(value, path, self.problems)


def shown(value: object) -> str:
    """A value as error messages show it: in JSON, short, never nested."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list" if value else "an empty list"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a very large number"
    return json.dumps(f"{value[:197]}..." if isinstance(value, str) and len(value) > 200 else value)
