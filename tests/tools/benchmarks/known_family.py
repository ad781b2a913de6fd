"""The most that ten past runs reveal, if the family of a workload's durations is known.

A statistician knows that the durations are log-normal, or of two kinds, or straggle. The parameters are
unknown and have vague priors. Bayes' rule then gives the distribution of the next duration, here by
importance sampling. On a single workload, a policy without this knowledge may still do better if its
constants happen to fit. On average over a whole family, no policy does better.
"""

import math
from collections.abc import Sequence
from random import Random

from tests.tools.benchmarks.durations import Shape

DRAWS, KEPT = 20_000, 200
ASIDE = 0.2
"""Standard deviation of the middles to try, around the logarithms of the past runs."""


def expected(family: type[Shape], past: Sequence[float], times: Sequence[float], rng: Random) -> list[float]:
    """The probability that the next run takes longer than each of the times, given the past runs."""
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
    """The logarithm of the density from which middles are drawn, up to a constant."""
    narrow, exp = -0.5 / ASIDE**2, math.exp
    return math.log(sum([exp(narrow * (middle - log) ** 2) for log in logs]))
