"""What ten past runs can tell at best: to a statistician who knows the family of a workload's durations.

The statistician knows that the durations are log-normal, or of two kinds, or straggle, but none of the
parameters, and weighs them by vague priors. What the next run takes is then given by Bayes' rule, here by
importance sampling. A policy that learns from ten runs and knows no family may still do better on a workload
that its constants happen to fit; for a whole family, no policy does.
"""

import math
from collections.abc import Sequence
from random import Random

from tests.tools.benchmarks.durations import Shape

DRAWS, KEPT = 40_000, 300
ASIDE = 0.2
"""Standard deviation of the middles that are tried, around the past runs."""


def expected(family: type[Shape], past: Sequence[float], times: Sequence[float], rng: Random) -> list[float]:
    """The part of the runs that take longer than each of the times, given the past runs."""
    logs = [math.log(duration) for duration in past]
    middles = [rng.gauss(rng.choice(logs), ASIDE) for _ in range(DRAWS)]
    shapes = [family.vague(rng) for _ in range(DRAWS)]
    weights = [
        shape.likelihood([log - middle for log in logs]) - _log_of_trying(middle, logs)
        for shape, middle in zip(shapes, middles, strict=True)
    ]
    most = max(weights)
    kept = rng.choices(
        list(zip(shapes, middles, strict=True)), [math.exp(weight - most) for weight in weights], k=KEPT
    )
    ahead = [math.log(max(time, 1e-3)) for time in times]
    return [sum([shape.survival(log - middle) for shape, middle in kept]) / KEPT for log in ahead]


def _log_of_trying(middle: float, logs: Sequence[float]) -> float:
    """The logarithm of the density with which a middle is tried, but for a constant."""
    narrow, exp = -0.5 / ASIDE**2, math.exp
    return math.log(sum([exp(narrow * (middle - log) ** 2) for log in logs]))
