"""Keeps workflow data, events and notifications within their size limits."""

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

LONGEST_DETAIL = 1000
"""Characters of what people are told about a check or a failure."""


def cut(text: str, length: int) -> str:
    """The text with at most that many characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def as_many_as_fit(parts: Sequence[T], limit: int) -> list[T]:
    """The first parts that together have at most `limit` bytes as JSON."""
    sizes = accumulate(size_of(part) for part in parts)
    return [part for part, size in zip(parts, sizes, strict=True) if size <= limit]


def size_of(value: object) -> int:
    """Bytes as JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
