"""Updates that wait together until they are enough for a recompute, or until one may be asked for.

While updates wait, each stands as a *mark* in the ledger's set `gathered`: when it happened, its size, and a
digest of what it is. A set holds equal elements once, so that a duplicate, or a repeated write, counts once.
One message, the *waker*, asks again when the wait is over; it acts for all marks, not only for its own.

While a waker's *promise* stands in the ledger, other updates rely on it. Promises are ordered by when they
were made. The ledger keeps the latest, also when it is done with, so that no earlier one can take its place:
not even one whose message was handled before its sender could tell the ledger. A waker that finds a later
promise than its own goes, as the one that has made it will come.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import inf
from typing import NamedTuple

from arcanna_metrics.errors import BadInput
from arcanna_metrics.times import from_iso, to_iso

_MARK = re.compile(r"(\S+) (\d{1,16}) (\w{12})", re.ASCII)

MOST_MARKS = 1000
"""Marks that are enough whatever the route says: some 40 KB of the 400 that a ledger item may have."""

MOST_BYTES = 2**50
"""Where sizes saturate: far above S3's largest object."""


class Significance(NamedTuple):
    """How much is enough: so many objects, so many bytes, or the first of them `max_wait` seconds old."""

    objects: int | None
    bytes: int | None
    max_wait: float


class Mark(NamedTuple):
    """When an update happened, in epoch seconds, its size in bytes, and whether it is enough by itself."""

    at: float
    size: int
    enough: bool = False


def mark(at: float, size: int, *what: str | None) -> str:
    """The written form of a mark. Equal updates have equal ones; what is enough by itself has no `what`."""
    return f"{to_iso(at)} {min(size, MOST_BYTES)} {_digest(*what)}"


def _digest(*what: str | None) -> str:
    return blake2b("\0".join(part or "" for part in what).encode(), digest_size=6).hexdigest()


_OF_NOTHING = _digest()


def read_mark(text: str) -> Mark:
    """Raises BadInput."""
    if not (parts := _MARK.fullmatch(text)):
        raise BadInput(f"a mark is a time, a size and a digest, not {text[:64]!r}")
    try:
        return Mark(from_iso(parts[1]), int(parts[2]), parts[3] == _OF_NOTHING)
    except ValueError as error:
        raise BadInput(f"a mark begins with an ISO 8601 time: {text[:64]!r}") from error


def fewest(marks: Iterable[str]) -> frozenset[str]:
    """The latest marks, as many as are enough in any case.

    Not the earliest: a recompute that covers those need not cover the others, but one that covers the latest
    covers all.
    """
    marks = frozenset(marks)
    return marks if len(marks) <= MOST_MARKS else frozenset(sorted(marks)[-MOST_MARKS:])


def due_at(marks: Sequence[Mark], significance: Significance | None) -> float:
    """When these marks, at least one, lead to a recompute: epoch seconds, -inf if they are enough already."""
    if significance is None or any(mark.enough for mark in marks):
        return -inf
    if len(marks) >= min(significance.objects or MOST_MARKS, MOST_MARKS):
        return -inf
    if significance.bytes is not None and sum(mark.size for mark in marks) >= significance.bytes:
        return -inf
    return min(mark.at for mark in marks) + significance.max_wait
