"""Suggestions for mistyped names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """A sentence with the nearest other names, or with the first five. Empty if no others are known."""
    names = [name for name in dict.fromkeys(known) if name != typed]
    if near := get_close_matches(typed, names, n=3, cutoff=0.6):
        return f"Did you mean {' or '.join(near)}?"
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"There are {', '.join(names[:5])}{more}." if len(names) > 1 else f"There is only {names[0]}."
