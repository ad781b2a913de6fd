"""What ten past runs can tell at best: to a statistician who knows the family of a workload's durations.

The statistician knows that the durations are log-normal, or of two kinds, or straggle, but none of the
parameters, and weighs them by vague priors. What the next run takes is then given by Bayes' rule, here by
importance sampling. A policy that learns from ten runs and knows no family may still do better on a workload
that its constants happen to fit; for a whole family, no policy does.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS, KEPT = 40_000, 300
ASIDE = 0.2
"""Standard deviation of the middles that are tried, around the past runs."""
_Z = np.linspace(-9.0, 9.0, 6001)
_SURVIVAL = np.array([math.erfc(z / math.sqrt(2)) / 2 for z in _Z])


class Family(NamedTuple):
    """Distributions of log(duration) - log(middle), by their parameters.

    `parameters` draws these from their prior; `density` and `survival` take them, and values, and broadcast.
    """

    parameters: Callable[[Generator, int], Any]
    density: Callable[[Any, Any], Any]
    survival: Callable[[Any, Any], Any]


def expected(family: Family, past: Floats, times: Floats, rng: Generator) -> Floats:
    """The part of the runs that take longer than each of the times, given the past runs."""
    logs = np.log(past)
    middles = logs[rng.integers(0, len(logs), DRAWS)] + ASIDE * rng.standard_normal(DRAWS)
    parameters = family.parameters(rng, DRAWS)
    columns = tuple(p[:, None] for p in parameters)
    likelihood = np.log(family.density(columns, logs - middles[:, None]) + 1e-300).sum(axis=1)
    tried = np.log(_density((middles[:, None] - logs) / ASIDE).mean(axis=1))
    weights = np.exp(likelihood - tried - (likelihood - tried).max())
    kept = rng.choice(DRAWS, KEPT, p=weights / weights.sum())
    ahead = np.log(np.maximum(times, 1e-3)) - middles[kept][:, None]
    survival: Floats = family.survival(tuple(p[kept][:, None] for p in parameters), ahead).mean(axis=0)
    return survival


def _density(z: Any) -> Any:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _survival(z: Any) -> Any:
    return np.interp(z, _Z, _SURVIVAL, right=0.0)  # as it may be multiplied by much


def _between(rng: Generator, low: float, high: float, size: int) -> Floats:
    """Log-uniform."""
    return np.exp(rng.uniform(math.log(low), math.log(high), size))


LOG_NORMAL = Family(
    lambda rng, size: (_between(rng, 0.04, 1.5, size),),
    lambda p, z: _density(z / p[0]) / p[0],
    lambda p, z: _survival(z / p[0]),
)

TWO_KINDS = Family(
    # the spread of both, how much longer the slower ones take, their part
    lambda rng, size: (
        _between(rng, 0.04, 0.5, size),
        rng.uniform(0.3, math.log(20), size),
        rng.random(size),
    ),
    lambda p, z: ((1 - p[2]) * _density(z / p[0]) + p[2] * _density((z - p[1]) / p[0])) / p[0],
    lambda p, z: (1 - p[2]) * _survival(z / p[0]) + p[2] * _survival((z - p[1]) / p[0]),
)


def _straggler(spread: Any, index: Any, z: Any) -> Any:
    """What a Pareto factor adds to the survival: its logarithm is exponential, added to a normal one."""
    return np.exp(np.minimum(index * (index * spread * spread / 2 - z), 50.0)) * _survival(
        index * spread - z / spread
    )


STRAGGLING = Family(
    # the spread of all, the stragglers' part, and the index of their Pareto factor
    lambda rng, size: (
        _between(rng, 0.04, 0.5, size),
        rng.uniform(0.0, 0.4, size),
        rng.uniform(0.8, 4.0, size),
    ),
    lambda p, z: (1 - p[1]) * _density(z / p[0]) / p[0] + p[1] * p[2] * _straggler(p[0], p[2], z),
    lambda p, z: _survival(z / p[0]) + p[1] * _straggler(p[0], p[2], z),
)
