"""How often each policy checks, and how late it sees the end of a run: as curves, from many checks to few.

`python -m tests.tools.benchmarks.polling`: seeded workloads, each with several targets whose history begins
empty, replayed through this project's policy, those of peers, and the optimum: the schedules that dynamic
programming finds for the true distribution of the durations, swept over the price of a check, within the same
bounds of 5 and 900 seconds. A peer's curve is swept over its own parameter; all policies see the same runs.
A policy is as good as another where its lag is no longer at the same mean number of checks.

What the optimum knows: where ten past runs are known, the distribution of each target. Where nothing is
known, that of the first runs of all workloads together: that is all that a policy can be made for in advance.
Nobody can learn a distribution from ten runs, so that a third policy stands between: that of `known_family`,
which knows the family of the distribution and the same ten runs. Both are compared by what is to be expected
after a history of ten, over 100,000 next runs instead of one. Figures are medians over replications, with
their range.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import NormalDist, median
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from arcanna_metrics.protocol.transitions import HISTORY_LENGTH
from arcanna_metrics.runs.polling import PRICE, next_wait
from tests.support.local_cloud.cloud import PROJECT
from tests.tools.benchmarks import known_family
from tests.tools.benchmarks.curves import Curve, Panel, drawn

PICTURE = PROJECT / "tests" / "tools" / "benchmarks" / "polling.svg"
RUNS = 40
"""Runs of each target, the first ever included."""
RUNS_OF_A_MODEL = 3
"""Where models are retrained: runs until a model is replaced."""
HISTORIES = 8
"""Histories of ten runs of each target, in a replication."""
DRAWN, RARE = 100_000, 1e-4
"""Runs that stand for a distribution, and the part of them, the longest ones, that is left out."""
SHORTEST, LONGEST = 5.0, 900.0
"""Seconds of a wait: the defaults."""
SCHEDULING = 5.0
"""Seconds that Airflow's scheduler takes at most to see that a rescheduled sensor is due, by its default
scheduler_heartbeat_sec; that a worker has to start is left out."""

Floats = NDArray[np.float64]
Distribution = Callable[[Generator, int], Floats]
Target = Sequence[Distribution]
"""The distributions of a target's durations, one after the other: more than one is a change of regime."""


# --- Workloads ----------------------------------------------------------------------------------------------


def log_normal(middle: float, spread: float) -> Distribution:
    return lambda rng, size: middle * np.exp(spread * rng.standard_normal(size))


def bimodal(middle: float) -> Distribution:
    """Seven incremental recomputes to three full ones, which take six times as long."""
    return lambda rng, size: log_normal(middle, 0.12)(rng, size) * np.where(rng.random(size) < 0.3, 6.0, 1.0)


def heavy_tailed(middle: float) -> Distribution:
    """One run in ten straggles, by a Pareto factor of infinite variance."""
    return lambda rng, size: (
        log_normal(middle, 0.15)(rng, size)
        * np.where(rng.random(size) < 0.1, 1.0 + rng.pareto(1.2, size), 1.0)
    )


def retrained(middle: float) -> Distribution:
    """Every model differs a little from the one that it replaces."""

    def durations(rng: Generator, size: int) -> Floats:
        models = log_normal(middle, 0.15)(rng, -(-size // RUNS_OF_A_MODEL))
        return log_normal(1.0, 0.15)(rng, size) * models.repeat(RUNS_OF_A_MODEL)[:size]

    return durations


RETRAINED = "retrained"
WORKLOADS: Mapping[str, Sequence[Target]] = {
    "short": [[log_normal(m, 0.15)] for m in (60, 75, 90, 120, 150)],
    "mixed": [[log_normal(120 * math.exp(1.2 * NormalDist().inv_cdf(q / 10)), 0.2)] for q in range(1, 10)],
    "long": [[log_normal(m, 0.15)] for m in (1800, 2400, 3600, 4500)],
    "bimodal": [[bimodal(m)] for m in (60, 90, 120, 180)],
    "heavy-tailed": [[heavy_tailed(m)] for m in (90, 120, 240, 600)],
    "regime change": [
        [log_normal(before, 0.15), log_normal(after, 0.15)]
        for before, after in ((90, 360), (120, 360), (600, 150), (300, 900))
    ],
    RETRAINED: [[retrained(m)] for m in (90, 180, 600, 1800)],
    "erratic": [[log_normal(m, 1.0)] for m in (120, 180, 240, 300)],
}
FAMILIES = {"bimodal": known_family.TWO_KINDS, "heavy-tailed": known_family.STRAGGLING}
"""All others are log-normal."""


# --- Policies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """Where some runs stand, one element each: elapsed seconds, median of past durations or nan; checks."""

    elapsed: Floats
    usual: Floats
    checks: int


Policy = Callable[[Moment, Generator], Floats]
"""Seconds until the next check."""


@dataclass(frozen=True)
class Peer:
    """A policy with the values of its parameter, of which `default` is what people get, if there is one."""

    policy: Callable[[float], Policy]
    values: Sequence[float] = field(default_factory=lambda: [float(v) for v in np.geomspace(5, 900, 12)])
    default: float | None = None


def fixed(interval: float) -> Policy:
    return lambda at, rng: np.full_like(at.elapsed, interval)


def exponential(initial: float) -> Policy:
    """From the initial delay to 60 times as much, by factors of 1.5."""
    return lambda at, rng: np.full_like(at.elapsed, initial * min(60.0, 1.5 ** min(at.checks, 20)))


def full_jitter(initial: float) -> Policy:
    """The same, drawn between 0 and that, in whole seconds of at least one."""
    return lambda at, rng: np.maximum(1.0, np.round(rng.uniform(0.0, exponential(initial)(at, rng))))


def proportional(part: float) -> Policy:
    """First at the median of the past, then after a part of the elapsed time, or SHORTEST."""

    def wait(at: Moment, rng: Generator) -> Floats:
        later = np.maximum(SHORTEST, part * at.elapsed)
        return later if at.checks else np.where(np.isnan(at.usual), later, at.usual)

    return wait


def sensor(policy: Policy, scheduling: float = 0.0) -> Policy:
    """Airflow's sensors look at once, then after each interval; others wait for the scheduler, too."""

    def wait(at: Moment, rng: Generator) -> Floats:
        if not at.checks:
            return np.zeros_like(at.elapsed)
        before = Moment(at.elapsed, at.usual, at.checks - 1)
        return policy(before, rng) + scheduling * rng.random(len(at.elapsed))

    return wait


def doubling(interval: float) -> Policy:
    """Airflow's exponential_backoff: between half the interval and all of it, then twice that, and so on."""

    def wait(at: Moment, rng: Generator) -> Floats:
        least = max(1.0, interval * 2.0 ** (min(at.checks, 40) - 1))
        return least * (1.0 + rng.random(len(at.elapsed)))

    return wait


OURS, OPTIMUM, FORGETFUL = "this project", "optimum", "this project, if durations were a model's"
PEERS: Mapping[str, Peer] = {
    "fixed": Peer(fixed, default=60.0),
    "exponential": Peer(exponential),
    "Lambda durable functions": Peer(full_jitter, default=5.0),
    "proportional": Peer(proportional, [float(v) for v in np.geomspace(0.01, 1.5, 12)]),
    "Airflow, poke": Peer(lambda v: sensor(fixed(v)), default=60.0),
    "Airflow, reschedule": Peer(lambda v: sensor(fixed(v), SCHEDULING), default=60.0),
    "Airflow, poke, backoff": Peer(lambda v: sensor(doubling(v)), default=60.0),
    "Airflow, reschedule, backoff": Peer(lambda v: sensor(doubling(v), SCHEDULING), default=60.0),
}
PRICES = (PRICE / 4, PRICE, 4 * PRICE)


# --- Replay -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """What a policy did on some runs: checks, and seconds between end and check, by run."""

    checks: Floats
    lags: Floats

    @property
    def point(self) -> tuple[float, float]:
        """Mean checks, and mean lag in seconds."""
        return float(self.checks.mean()), float(self.lags.mean())


@dataclass(frozen=True)
class Runs:
    """The runs of a target, in order: durations, and those that the ledger knows when each begins."""

    durations: Floats
    known: Sequence[Sequence[float]]


def draw(target: Target, rng: Generator, memory: int = RUNS) -> Runs:
    """`memory`: after how many runs all is forgotten."""
    regimes = [np.maximum(regime(rng, RUNS // len(target)), 1.0) for regime in target]
    durations = np.concatenate(regimes)
    seen = [float(math.floor(d + rng.random())) for d in durations]  # between two whole seconds
    known = [seen[max(n - HISTORY_LENGTH, n - n % memory) : n] for n in range(len(seen))]
    return Runs(durations, known)


def replay(policy: Policy, runs: Runs, rng: Generator) -> Replay:
    """All runs at once, as no peer looks at more than a median."""
    durations = runs.durations
    usual = np.array([median(known) if known else math.nan for known in runs.known])
    elapsed, checks, number = np.zeros_like(durations), np.zeros_like(durations), 0
    while (going := (elapsed < durations) | (checks == 0)).any():
        elapsed[going] += policy(Moment(elapsed[going], usual[going], number), rng)
        checks[going] += 1
        number += 1
    return Replay(checks, elapsed - durations)


def learned(runs: Runs, price: float) -> Replay:
    """What this project does on the runs."""
    checks, lags = [], []
    for duration, known in zip(runs.durations, runs.known, strict=True):
        elapsed, count = 0.0, 0
        while elapsed < duration:
            elapsed += next_wait(elapsed, known, shortest=SHORTEST, longest=LONGEST, price=price)
            count += 1
        checks.append(float(count))
        lags.append(elapsed - duration)
    return Replay(np.array(checks), np.array(lags))


def scheduled(schedule: Floats, durations: Floats) -> Replay:
    """The same checks in all runs; what outlasts them is taken to end with the last one."""
    seen = np.minimum(np.searchsorted(schedule, durations), len(schedule) - 1)
    return Replay(seen + 1.0, np.maximum(schedule[seen] - durations, 0.0))


def joined(parts: Sequence[Replay]) -> Replay:
    """All parts as one."""
    return Replay(np.concatenate([p.checks for p in parts]), np.concatenate([p.lags for p in parts]))


# --- The optimum --------------------------------------------------------------------------------------------


def optimal_schedule(times: Floats, mass: Floats, price: float) -> Floats:
    """The times of checks that minimise E[lag] + price E[checks], by dynamic programming.

    Runs end in the cell before `times[k + 1]` with probability `mass[k]`; checks are made at `times`, at
    least SHORTEST and at most LONGEST apart.
    """
    ended = np.concatenate([[0.0], np.cumsum(mass)])
    moment = np.concatenate([[0.0], np.cumsum(mass * (times[:-1] + times[1:]) / 2)])
    last = len(mass)
    cost, following = np.zeros(last + 1), np.zeros(last + 1, dtype=int)
    for k in range(last - 1, -1, -1):
        first = min(int(np.searchsorted(times, times[k] + SHORTEST)), last)
        end = max(int(np.searchsorted(times, times[k] + LONGEST, "right")), first + 1)
        ahead = times[first:end] * (ended[first:end] - ended[k]) - (moment[first:end] - moment[k])
        best = int(np.argmin(ahead + cost[first:end]))
        cost[k] = (ahead + cost[first:end])[best] + price * (ended[last] - ended[k])
        following[k] = first + best
    schedule, k = [], 0
    while k < last:
        k = int(following[k])
        schedule.append(times[k])
    return np.array(schedule)


def resolved(sample: Floats) -> Floats:
    """Times from 0 to the longest: by the second, or by 1/1000 of the common ones if they are longer."""
    common = float(np.quantile(sample, 0.99))
    rare = np.geomspace(common, 1.05 * np.max(sample), 300)[1:]
    return np.concatenate([np.linspace(0.0, common, min(int(common), 1000)), rare])


def optimal_schedules(sample: Floats) -> list[Floats]:
    """For the distribution of a sample, from many checks to few."""
    times = resolved(sample)
    mass = np.histogram(sample, bins=times)[0] / len(sample)
    return [optimal_schedule(times, mass, price) for price in np.geomspace(0.3, 100, 16)]


Points = Sequence[tuple[float, float]]
Regimes = Sequence[Sequence[Floats]]
"""The optimal schedules of each regime, from many checks to few."""


def lag_at(checks: float, curve: Points) -> float:
    """The lag of a curve at a mean number of checks: between two of its points, both are mixed.

    Beyond its ends a curve is not extended; there its nearest end counts.
    """
    ordered = sorted(curve)
    return float(np.interp(checks, [c for c, _ in ordered], [lag for _, lag in ordered]))


# --- Measurement --------------------------------------------------------------------------------------------


def replicate(
    workload: str, optima: Sequence[Sequence[Sequence[Floats]]], seed: Sequence[int]
) -> dict[str, Any]:
    """The curves of every policy, on the runs that the seed gives."""
    targets = WORKLOADS[workload]

    def runs_of(memory: int = RUNS) -> list[Runs]:
        rng = np.random.default_rng(seed)
        return [draw(target, rng, memory) for target in targets]

    runs, rng = runs_of(), np.random.default_rng([*seed, 1])
    ours = {price: [learned(each, price) for each in runs] for price in PRICES}

    def optimum(which: int) -> list[Replay]:
        parts = [np.array_split(each.durations, len(of)) for each, of in zip(runs, optima, strict=True)]
        return [
            joined([scheduled(of[which], part) for of, part in zip(regimes, durations, strict=True)])
            for regimes, durations in zip(optima, parts, strict=True)
        ]

    best = [optimum(which) for which in range(len(optima[0][0]))]
    curves: dict[str, Points] = {
        name: [joined([replay(peer.policy(v), each, rng) for each in runs]).point for v in peer.values]
        for name, peer in PEERS.items()
    }
    curves[OURS] = [joined(parts).point for parts in ours.values()]
    curves[OPTIMUM] = [joined(parts).point for parts in best]
    defaults = {
        name: joined([replay(peer.policy(peer.default), each, rng) for each in runs]).point
        for name, peer in PEERS.items()
        if peer.default
    }
    defaults[OURS] = joined(ours[PRICE]).point
    if workload == RETRAINED:
        forgetful = runs_of(RUNS_OF_A_MODEL)
        curves[FORGETFUL] = [joined([learned(each, price) for each in forgetful]).point for price in PRICES]
        defaults[FORGETFUL] = curves[FORGETFUL][PRICES.index(PRICE)]
    return {"curves": curves, "defaults": defaults}


def schedule_of(known: Sequence[float], until: float) -> Floats:
    """The checks of this project in a run that takes longer than `until` seconds."""
    times, elapsed = [], 0.0
    while elapsed < until:
        elapsed += next_wait(elapsed, known, shortest=SHORTEST, longest=LONGEST)
        times.append(elapsed)
    return np.array(times)


def expected(
    workload: str, samples: Sequence[Floats], optima: Sequence[Sequence[Floats]], seed: Sequence[int]
) -> dict[str, float]:
    """Where ten past runs are known, by the optimum's lag: ours, and that of who knows the family.

    Runs to come are those of the sample, of each target and regime.
    """
    regimes = [regime for target in WORKLOADS[workload] for regime in target]
    family, rng = FAMILIES.get(workload, known_family.LOG_NORMAL), np.random.default_rng([*seed, 2])
    ours, knowing = [], []
    for regime, sample in zip(regimes, samples, strict=True):
        times = resolved(sample)
        for _ in range(HISTORIES):
            past = np.maximum(np.floor(regime(rng, HISTORY_LENGTH) + rng.random(HISTORY_LENGTH)), 1.0)
            ours.append(scheduled(schedule_of(past.tolist(), float(sample[-1])), sample).point)
            alive = known_family.expected(family, past, times, rng)
            mass = np.append(alive[:-2] - alive[1:-1], alive[-2])  # what takes longer ends in the last cell
            knowing.append(scheduled(optimal_schedule(times, mass, PRICE), sample).point)
    best = [
        _mean([scheduled(of[which], sample).point for of, sample in zip(optima, samples, strict=True)])
        for which in range(len(optima[0]))
    ]
    return {
        "by_optimum": _by_curve(_mean(ours), best),
        "known_family_by_optimum": _by_curve(_mean(knowing), best),
    }


def unknown(seed: int = 1) -> dict[str, float]:
    """The first runs of all workloads, of which nothing is known: checks, lag, and that by the optimum's."""
    rng = np.random.default_rng(seed)
    firsts = np.concatenate(
        [
            np.maximum(target[0](rng, 20_000 // len(targets)), 1.0)
            for targets in WORKLOADS.values()
            for target in targets
        ]
    )
    checks, lag = scheduled(schedule_of([], float(firsts.max())), firsts).point
    best = [scheduled(optimal, firsts).point for optimal in optimal_schedules(firsts)]
    return {"checks": checks, "lag": lag, "by_optimum": lag / lag_at(checks, best)}


def measure(
    seed: int = 1, workloads: Sequence[str] = tuple(WORKLOADS), replications: int = 3
) -> dict[str, Any]:
    """By workload: the curves, each policy's point by default, and how our lag compares.

    `by_peer` are ratios of our lag, all runs included, to each peer's at as many checks. `by_optimum` are
    those of our lag, where ten past runs are known, to the optimum's; `known_family_by_optimum` those of the
    lag of who knows the same runs, and the family of the distribution. Each is the median, with the extremes.
    """
    report: dict[str, Any] = {}
    for number, workload in enumerate(workloads):
        rng = np.random.default_rng(0)
        samples = [
            [np.sort(regime(rng, DRAWN))[: int(DRAWN * (1 - RARE))] for regime in target]
            for target in WORKLOADS[workload]
        ]
        optima = [[optimal_schedules(sample) for sample in of_target] for of_target in samples]
        results = [replicate(workload, optima, (seed, number, r)) for r in range(replications)]
        settled = [
            expected(workload, [*chain(*samples)], [*chain(*optima)], (seed, number, r))
            for r in range(replications)
        ]
        by_peer = {
            name: _spread([_by_curve(r["defaults"][OURS], r["curves"][name]) for r in results])
            for name in results[0]["curves"]
            if name not in (OURS, OPTIMUM)
        }
        report[workload] = {
            "curves": {name: _medians([r["curves"][name] for r in results]) for name in results[0]["curves"]},
            "defaults": {
                name: _medians([[r["defaults"][name]] for r in results])[0] for name in results[0]["defaults"]
            },
            "by_peer": by_peer,
            **{name: _spread([each[name] for each in settled]) for name in settled[0]},
        }
    return {"workloads": report, "unknown": unknown()}


def _by_curve(ours: tuple[float, float], curve: Points) -> float:
    checks, lag = ours
    return lag / lag_at(checks, curve)


def _mean(points: Points) -> tuple[float, float]:
    return float(np.mean([c for c, _ in points])), float(np.mean([lag for _, lag in points]))


def _medians(curves: Sequence[Points]) -> list[tuple[float, float]]:
    return [
        (median(c for c, _ in points), median(lag for _, lag in points))
        for points in zip(*curves, strict=True)
    ]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


# --- Report -------------------------------------------------------------------------------------------------


def table(report: Mapping[str, Any]) -> Iterator[Table]:
    shown = Table(title="polling: checks and mean lag by default; lag by that of others at as many checks")
    for heading in (
        "",
        "checks",
        "lag, s",
        "by optimum",
        "if the family were known",
        "by the best peer",
        "which one",
    ):
        shown.add_column(heading, justify="right" if heading else "left")
    for workload, result in report["workloads"].items():
        (checks, lag), (middle, low, high) = result["defaults"][OURS], result["by_optimum"]
        name, (best, worse, worst) = best_peer(result)
        known = "{:.2f} ({:.2f} to {:.2f})".format(*result["known_family_by_optimum"])
        optimum, peer = f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{best:.2f} ({worse:.2f} to {worst:.2f})"
        shown.add_row(workload, f"{checks:.1f}", f"{lag:.1f}", optimum, known, peer, name)
    first = report["unknown"]
    shown.add_row(
        "nothing known", f"{first['checks']:.1f}", f"{first['lag']:.1f}", f"{first['by_optimum']:.2f}"
    )
    yield shown


def best_peer(result: Mapping[str, Any]) -> tuple[str, tuple[float, float, float]]:
    """The peer that comes nearest to us, or beats us most, and the ratio of our lag to its."""
    peers = {name: ratio for name, ratio in result["by_peer"].items() if name in PEERS}
    name = max(peers, key=lambda peer: peers[peer][0])
    return name, peers[name]


def picture(report: Mapping[str, Any]) -> str:
    """All curves, one panel for each workload, as SVG."""
    panels = [
        Panel(
            workload,
            [Curve(name, points, result["defaults"].get(name)) for name, points in result["curves"].items()],
        )
        for workload, result in report["workloads"].items()
    ]
    return drawn(panels, "mean number of checks", "mean lag, s", strong=(OURS, OPTIMUM, FORGETFUL))


if __name__ == "__main__":
    console, measured = Console(), measure()
    for shown in table(measured):
        console.print(shown)
    console.print(json.dumps({w: r["by_peer"].get(FORGETFUL) for w, r in measured["workloads"].items()}))
    PICTURE.write_text(picture(measured))
