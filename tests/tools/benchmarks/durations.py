"""Durations of recomputes: families of distributions, to calculate with and to draw from.

A family describes log(duration / middle). Its survival has a closed form, so the expected checks and lag of a
schedule are calculated, not estimated from samples.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple, Protocol, Self


class Shape(Protocol):
    """A member of a family. z is log(duration / middle)."""

    @classmethod
    def vague(cls, rng: Random) -> Self:
        """Draws a member from a vague prior."""

    def draw(self, rng: Random) -> float:
        """Draws the z of a run."""

    def likelihood(self, zs: Sequence[float]) -> float:
        """The logarithm of the joint density of these z, up to a constant of the family."""

    def survival(self, z: float) -> float:
        """The share of runs whose z is greater."""


class LogNormal(NamedTuple):
    spread: float
    """Standard deviation of z."""

    @classmethod
    def vague(cls, rng: Random) -> Self:
        return cls(_between(rng, 0.04, 1.5))

    def draw(self, rng: Random) -> float:
        return rng.gauss(0.0, self.spread)

    def likelihood(self, zs: Sequence[float]) -> float:
        return -sum([z * z for z in zs]) / (2 * self.spread**2) - len(zs) * math.log(self.spread)

    def survival(self, z: float) -> float:
        return math.erfc(z / (self.spread * math.sqrt(2))) / 2


class TwoKinds(NamedTuple):
    """Two kinds of runs, each log-normal."""

    spread: float
    """Standard deviation of z, of both kinds."""
    slower: float
    """How much greater z is for the slower kind."""
    part: float
    """The share of the slower kind."""

    @classmethod
    def vague(cls, rng: Random) -> Self:
        return cls(_between(rng, 0.04, 0.5), rng.uniform(0.3, math.log(20)), rng.random())

    def draw(self, rng: Random) -> float:
        return rng.gauss(0.0, self.spread) + (self.slower if rng.random() < self.part else 0.0)

    def likelihood(self, zs: Sequence[float]) -> float:
        exp, narrow, slower, part = math.exp, -0.5 / self.spread**2, self.slower, self.part
        densities = [(1 - part) * exp(narrow * z * z) + part * exp(narrow * (z - slower) ** 2) for z in zs]
        return _sum_of_logs(densities) - len(zs) * math.log(self.spread)

    def survival(self, z: float) -> float:
        scale = self.spread * math.sqrt(2)
        return ((1 - self.part) * math.erfc(z / scale) + self.part * math.erfc((z - self.slower) / scale)) / 2


class Straggling(NamedTuple):
    """Log-normal runs. Some straggle: a Pareto factor makes them longer."""

    spread: float
    """Standard deviation of z without the factor."""
    part: float
    """The share of the stragglers."""
    alpha: float
    """The index of the Pareto distribution. Its variance is infinite up to 2."""

    @classmethod
    def vague(cls, rng: Random) -> Self:
        return cls(_between(rng, 0.04, 0.5), rng.uniform(0.0, 0.4), rng.uniform(0.8, 4.0))

    def draw(self, rng: Random) -> float:
        factor = rng.paretovariate(self.alpha) if rng.random() < self.part else 1.0
        return rng.gauss(0.0, self.spread) + math.log(factor)

    def likelihood(self, zs: Sequence[float]) -> float:
        exp, narrow = math.exp, -0.5 / self.spread**2
        steady = (1 - self.part) / (self.spread * math.sqrt(2 * math.pi))
        straggling = self.part * self.alpha
        return _sum_of_logs([steady * exp(narrow * z * z) + straggling * self._added(z) for z in zs])

    def survival(self, z: float) -> float:
        return math.erfc(z / (self.spread * math.sqrt(2))) / 2 + self.part * self._added(z)

    def _added(self, z: float) -> float:
        """The survival of a normal z plus the factor's logarithm, which is exponential, beyond that of z."""
        shift = self.alpha * self.spread
        power = min(self.alpha * (shift * self.spread / 2 - z), 700.0)  # erfc is 0 beyond that
        return math.exp(power) * math.erfc((shift - z / self.spread) / math.sqrt(2)) / 2


class Distribution(Protocol):
    """The durations of a target, in seconds."""

    def draw(self, rng: Random, size: int) -> list[float]:
        """Draws successive runs of at least a second."""

    def survival(self, t: float) -> float:
        """The share of runs that take longer than t seconds."""


class Steady(NamedTuple):
    """All runs have the same distribution."""

    middle: float
    """Median seconds of the runs that are neither of the slower kind nor straggle."""
    shape: Shape

    def draw(self, rng: Random, size: int) -> list[float]:
        return [max(self.middle * math.exp(self.shape.draw(rng)), 1.0) for _ in range(size)]

    def survival(self, t: float) -> float:
        return self.shape.survival(math.log(t / self.middle)) if t > 0 else 1.0


class Retrained(NamedTuple):
    """Every model differs a little from its predecessor. Models, and the runs of each, are log-normal."""

    middle: float
    spread: float
    runs_of_a_model: int

    def draw(self, rng: Random, size: int) -> list[float]:
        drawn: list[float] = []
        while len(drawn) < size:
            model = Steady(self.middle * math.exp(rng.gauss(0.0, self.spread)), LogNormal(self.spread))
            drawn += model.draw(rng, self.runs_of_a_model)
        return drawn[:size]

    def survival(self, t: float) -> float:
        """The share of runs of all models that take longer than t seconds."""
        return Steady(self.middle, LogNormal(self.spread * math.sqrt(2))).survival(t)


class Mixed(NamedTuple):
    """Runs of several distributions, with the weight of each."""

    parts: Sequence[tuple[float, Distribution]]

    def draw(self, rng: Random, size: int) -> list[float]:
        weights, kinds = zip(*self.parts, strict=True)
        return [kind.draw(rng, 1)[0] for kind in rng.choices(kinds, weights, k=size)]

    def survival(self, t: float) -> float:
        return sum(weight * kind.survival(t) for weight, kind in self.parts)


def _between(rng: Random, low: float, high: float) -> float:
    """Log-uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _sum_of_logs(values: Sequence[float]) -> float:
    return sum([math.log(value + 1e-300) for value in values])
