"""How commands word numbers, scores, spans of time and errors, and what they suggest for mistyped names."""

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


def counted(count: int, noun: str) -> str:
    """The count with its noun, in singular or plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def score(value: float | None) -> str:
    """A score with three decimals."""
    return "none" if value is None else f"{value:.3f}"


def span(seconds: float) -> str:
    """A span of time in its largest unit, rounded down."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return counted(int(seconds / size), unit)
    return counted(max(0, int(seconds)), "second")


def without_stop(error: str) -> str:
    """The error for the middle of a sentence, without its full stop. The dots of one that was cut stay."""
    return error if error.endswith("...") else error.removesuffix(".")
