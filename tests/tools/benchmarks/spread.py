"""How the benchmarks state a figure."""

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Spread(TypedDict):
    """The median, and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of two values or more."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "low": low, "high": high}
