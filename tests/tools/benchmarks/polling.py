"""Compares polling policies: how often each checks, and how late it sees the end of a run.

`python -m tests.tools.benchmarks.polling` replays seeded workloads through this project's policy, the
policies of peers, and the optimum. Each workload has several targets whose history begins empty. All policies
see the same runs. Each has a curve of mean lag over mean number of checks: a peer's comes from its own
parameter, the optimum's from the price of a check. A policy is as good as another if its lag is no longer
with the same mean number of checks.

The optimum is the schedule that dynamic programming finds for the true distribution of the durations, within
the same bounds of 5 and 900 seconds. With ten past runs, that is the distribution of each target. Without
past runs, it is the distribution of the first runs of all workloads together, because a policy cannot know
more in advance. Nobody can learn a distribution from ten runs. So `known_family` shows a policy in between,
which knows the same ten runs and the family of the distribution. These comparisons use the expected checks
and lag of the next run after a history of ten. Figures are medians over replications, with their range.
"""

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise, repeat
from operator import mul
from random import Random
from statistics import NormalDist, fmean, median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from arcanna_metrics.protocol.transitions import HISTORY_LENGTH
from arcanna_metrics.runs.polling import PRICE, next_wait
from tests.support.local_cloud.cloud import PROJECT
from tests.tools.benchmarks import known_family
from tests.tools.benchmarks.curves import Curve, Panel, drawn
from tests.tools.benchmarks.durations import (
    Distribution,
    LogNormal,
    Mixed,
    Retrained,
    Shape,
    Steady,
    Straggling,
    TwoKinds,
)

PICTURE = PROJECT / "tests" / "tools" / "benchmarks" / "polling.svg"
RUNS = 40
"""Runs of each target, including its very first."""
RUNS_OF_A_MODEL = 3
"""Runs until a new model replaces the previous one, in the workload with retraining."""
HISTORIES = 8
"""Histories of past runs for each target in a replication."""
RARE = 1e-4
"""The share of the longest runs that is left out."""
SHORTEST, LONGEST = 5.0, 900.0
"""Bounds of a wait in seconds: the defaults of the settings."""
SCHEDULING = 5.0
"""Most seconds until Airflow's scheduler sees that a rescheduled sensor is due: its default
scheduler_heartbeat_sec. The start of a worker is left out."""

Target = Sequence[Distribution]
"""The distributions of a target's durations, one after the other. More than one means a change of regime."""


# --- Workloads ----------------------------------------------------------------------------------------------


def log_normal(middle: float, spread: float) -> Distribution:
    return Steady(middle, LogNormal(spread))


def bimodal(middle: float) -> Distribution:
    """Seven incremental recomputes to three full ones, which take six times as long."""
    return Steady(middle, TwoKinds(0.12, math.log(6), 0.3))


def heavy_tailed(middle: float) -> Distribution:
    """One run in ten straggles, by a Pareto factor of infinite variance."""
    return Steady(middle, Straggling(0.15, 0.1, 1.2))


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
    RETRAINED: [[Retrained(m, 0.15, RUNS_OF_A_MODEL)] for m in (90, 180, 600, 1800)],
    "erratic": [[log_normal(m, 1.0)] for m in (120, 180, 240, 300)],
}
FAMILIES: Mapping[str, type[Shape]] = {"bimodal": TwoKinds, "heavy-tailed": Straggling}
"""The families of workloads. All others are log-normal."""


# --- Policies -----------------------------------------------------------------------------------------------


class Moment(NamedTuple):
    """The state of a run: elapsed seconds, the median of past durations if there are any, checks so far."""

    elapsed: float
    usual: float | None
    checks: int


Policy = Callable[[Moment, Random], float]
"""Seconds until the next check."""


@dataclass(frozen=True)
class Peer:
    """A policy, the values of its parameter, and the default value if it has one."""

    policy: Callable[[float], Policy]
    values: Sequence[float] = field(default_factory=lambda: geometric(5, 900, 12))
    default: float | None = None


def geometric(first: float, last: float, number: int) -> list[float]:
    """Numbers in a geometric progression, including both ends."""
    return [first * (last / first) ** (n / (number - 1)) for n in range(number)]


def fixed(interval: float) -> Policy:
    return lambda at, rng: interval


def exponential(initial: float) -> Policy:
    """Grows by a factor of 1.5 from the initial delay to 60 times as much."""
    return lambda at, rng: initial * min(60.0, 1.5 ** min(at.checks, 20))


def full_jitter(initial: float) -> Policy:
    """Exponential backoff with full jitter, in whole seconds of at least one."""
    most = exponential(initial)
    return lambda at, rng: max(1.0, float(round(rng.uniform(0.0, most(at, rng)))))


def proportional(part: float) -> Policy:
    """Checks at the median of past durations, then after a part of the elapsed time, at least SHORTEST."""

    def wait(at: Moment, rng: Random) -> float:
        return at.usual if at.usual and not at.checks else max(SHORTEST, part * at.elapsed)

    return wait


def sensor(policy: Policy, scheduling: float = 0.0) -> Policy:
    """Airflow's sensors check at once, then after each interval. Rescheduled ones wait for the scheduler."""

    def wait(at: Moment, rng: Random) -> float:
        if not at.checks:
            return 0.0
        return policy(at._replace(checks=at.checks - 1), rng) + scheduling * rng.random()

    return wait


def doubling(interval: float) -> Policy:
    """Airflow's exponential_backoff: half the interval to the whole interval, then doubled for each check."""

    def wait(at: Moment, rng: Random) -> float:
        return max(1.0, interval * 2.0 ** (min(at.checks, 40) - 1)) * (1.0 + rng.random())

    return wait


OURS, OPTIMUM, FORGETFUL = "this project", "optimum", "this project, if durations were a model's"
PEERS: Mapping[str, Peer] = {
    "fixed": Peer(fixed, default=60.0),
    "exponential": Peer(exponential),
    "Lambda durable functions": Peer(full_jitter, default=5.0),
    "proportional": Peer(proportional, geometric(0.01, 1.5, 12)),
    "Airflow, poke": Peer(lambda v: sensor(fixed(v)), default=60.0),
    "Airflow, reschedule": Peer(lambda v: sensor(fixed(v), SCHEDULING), default=60.0),
    "Airflow, poke, backoff": Peer(lambda v: sensor(doubling(v)), default=60.0),
    "Airflow, reschedule, backoff": Peer(lambda v: sensor(doubling(v), SCHEDULING), default=60.0),
}
PRICES = (PRICE / 4, PRICE, 4 * PRICE)


# --- Replay -------------------------------------------------------------------------------------------------


class Checked(NamedTuple):
    """A policy's checks of a run, and its lag."""

    checks: int
    lag: float
    """Seconds from the run's end to the check that saw it."""


Point = tuple[float, float]
"""Mean checks, and mean lag in seconds."""
Points = Sequence[Point]
Schedule = Sequence[float]
"""Times of checks, in seconds."""


def mean(points: Sequence[Checked] | Points) -> Point:
    return fmean(checks for checks, _ in points), fmean(lag for _, lag in points)


class Run(NamedTuple):
    """A run's duration, and the past durations that the ledger knows when it begins."""

    duration: float
    known: Sequence[float]


def draw(target: Target, rng: Random, memory: int = RUNS) -> list[Run]:
    """Draws the runs of a target, in order. Their history is forgotten after every `memory` runs."""
    durations = [d for regime in target for d in regime.draw(rng, RUNS // len(target))]
    seen = [float(math.floor(d + rng.random())) for d in durations]  # between two whole seconds
    return [
        Run(duration, seen[max(n - HISTORY_LENGTH, n - n % memory) : n])
        for n, duration in enumerate(durations)
    ]


def replay(policy: Policy, runs: Sequence[Run], rng: Random) -> list[Checked]:
    """Replays the runs through a peer's policy."""
    return [_followed(policy, run.duration, median(run.known) if run.known else None, rng) for run in runs]


def _followed(policy: Policy, duration: float, usual: float | None, rng: Random) -> Checked:
    elapsed, checks = 0.0, 0
    while elapsed < duration:
        elapsed += policy(Moment(elapsed, usual, checks), rng)
        checks += 1
    return Checked(checks, elapsed - duration)


def learned(runs: Sequence[Run], price: float) -> list[Checked]:
    """Replays the runs through this project's policy."""
    schedules = [schedule_of(run.known, run.duration, price) for run in runs]
    return [Checked(len(of), of[-1] - run.duration) for of, run in zip(schedules, runs, strict=True)]


def schedule_of(known: Sequence[float], until: float, price: float = PRICE) -> Schedule:
    """The times of this project's checks in a run, up to the first one after `until` seconds."""
    times = [0.0]
    while times[-1] < until:
        times.append(times[-1] + next_wait(times[-1], known, shortest=SHORTEST, longest=LONGEST, price=price))
    return times[1:]


def scheduled(schedule: Schedule, runs: Sequence[Run]) -> list[Checked]:
    """Replays runs with the same times of checks. A run that is longer counts as ended at the last check."""
    seen = [min(bisect_left(schedule, run.duration), len(schedule) - 1) for run in runs]
    return [Checked(n + 1, max(schedule[n] - run.duration, 0.0)) for n, run in zip(seen, runs, strict=True)]


# --- The optimum --------------------------------------------------------------------------------------------


class Future:
    """The future runs of a distribution, without the rarest. Calculates what to expect of a schedule."""

    def __init__(self, distribution: Distribution) -> None:
        self.distribution = distribution
        self.longest = _outlived_by(distribution, RARE)
        """Seconds of the longest run."""
        self.times = _resolved(distribution, self.longest)
        self.alive = [*map(self.survival, self.times)]
        """The share of runs that take longer than each of the times."""
        waits = [later - time for time, later in pairwise(self.times)]
        living = [(one + other) / 2 for one, other in pairwise(self.alive)]
        self._mean = sum(map(mul, waits, living))

    def survival(self, t: float) -> float:
        """The share of runs that take longer than t seconds."""
        return max(0.0, (self.distribution.survival(t) - RARE) / (1 - RARE))

    def of(self, schedule: Schedule) -> Point:
        """The expected checks and lag of a schedule that is longer than all runs."""
        times = [0.0, *schedule]
        alive = [*map(self.survival, times[:-1])]
        waits = [later - time for time, later in pairwise(times)]
        return sum(alive), sum(map(mul, waits, alive)) - self._mean


def _outlived_by(distribution: Distribution, part: float) -> float:
    """The seconds that this share of runs exceeds, by bisection."""
    low, high = 0.0, 1.0
    while distribution.survival(high) > part:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if distribution.survival(middle) > part else (low, middle)
    return high


def _resolved(distribution: Distribution, longest: float) -> list[float]:
    """Times from 0 to the longest duration, by the second, in at most 1000 steps to the 99th percentile."""
    common = _outlived_by(distribution, 0.01)
    cells = min(int(common), 1000)
    return [common * n / cells for n in range(cells)] + geometric(common, longest, 300)


def optimal_schedule(times: Sequence[float], alive: Sequence[float], price: float) -> Schedule:
    """The checks that minimise E[lag] + price E[checks], by dynamic programming.

    The share `alive[k]` of runs takes longer than `times[k]`, and nearly no run longer than the last time.
    Checks are at `times`, at least SHORTEST (except for the last one) and at most LONGEST apart. As in the
    policy, the cost of a schedule is the sum of alive (price + wait) over its times, up to a constant.
    """
    last = len(times) - 1
    costs, following = [0.0] * (last + 1), [last] * (last + 1)
    for k in reversed(range(last)):
        first = min(bisect_left(times, times[k] + SHORTEST), last)
        # Later, fewer runs are alive, and checks are rarer: the next one is not after that of times[k + 1].
        end = min(max(bisect_right(times, times[k] + LONGEST), first + 1), following[k + 1] + 1)
        ahead = [
            alive[k] * time + cost for time, cost in zip(times[first:end], costs[first:end], strict=True)
        ]
        cheapest = min(ahead)
        following[k] = first + ahead.index(cheapest)
        costs[k] = cheapest + alive[k] * (price - times[k])
    schedule, k = [], 0
    while k < last:
        k = following[k]
        schedule.append(times[k])
    return schedule


def optimal_schedules(future: Future) -> list[Schedule]:
    """The optimal schedules, from many checks to few."""
    return [optimal_schedule(future.times, future.alive, price) for price in geometric(0.3, 100, 16)]


def lag_at(checks: float, curve: Points) -> float:
    """The lag of a curve at a mean number of checks, interpolated between its points.

    Beyond the ends of the curve, the nearest end counts.
    """
    ordered = sorted(curve)
    for (fewer, longer), (more, shorter) in pairwise(ordered):
        if fewer <= checks < more:
            return longer + (shorter - longer) * (checks - fewer) / (more - fewer)
    return ordered[0 if checks < ordered[0][0] else -1][1]


# --- Measurement --------------------------------------------------------------------------------------------


class Workload(NamedTuple):
    """The future of each target of a workload, by regime, and the optimal schedules for it."""

    name: str
    futures: Sequence[Sequence[Future]]
    optima: Sequence[Sequence[Sequence[Schedule]]]


def workload(name: str) -> Workload:
    futures = [[Future(regime) for regime in target] for target in WORKLOADS[name]]
    return Workload(name, futures, [[optimal_schedules(future) for future in regimes] for regimes in futures])


def replicate(of: Workload, seed: str) -> dict[str, Any]:
    """The curves of every policy on the runs of the seed."""

    def runs_of(memory: int = RUNS) -> list[list[Run]]:
        rng = Random(seed)
        return [draw(target, rng, memory) for target in WORKLOADS[of.name]]

    def ours(runs: list[list[Run]]) -> Points:
        return [_pooled(learned(each, price) for each in runs) for price in PRICES]

    def peer(policy: Policy) -> Point:
        return _pooled(replay(policy, each, rng) for each in runs)

    def optimum(which: int) -> Point:
        return _pooled(
            scheduled(schedules[which], of_regime)
            for each, regimes in zip(runs, of.optima, strict=True)
            for schedules, of_regime in zip(regimes, _split(each, len(regimes)), strict=True)
        )

    runs, rng = runs_of(), Random(f"{seed}, peers")
    curves: dict[str, Points] = {name: [peer(p.policy(v)) for v in p.values] for name, p in PEERS.items()}
    curves[OURS] = ours(runs)
    curves[OPTIMUM] = [optimum(which) for which in range(len(of.optima[0][0]))]
    defaults = {name: peer(p.policy(p.default)) for name, p in PEERS.items() if p.default}
    defaults[OURS] = curves[OURS][PRICES.index(PRICE)]
    if of.name == RETRAINED:
        curves[FORGETFUL] = ours(runs_of(RUNS_OF_A_MODEL))
        defaults[FORGETFUL] = curves[FORGETFUL][PRICES.index(PRICE)]
    return {"curves": curves, "defaults": defaults}


def _split(runs: Sequence[Run], number: int) -> list[Sequence[Run]]:
    """That many parts of the same length, in order."""
    size = len(runs) // number
    return [runs[n * size : (n + 1) * size] for n in range(number)]


def _pooled(parts: Iterable[Sequence[Checked]]) -> Point:
    return mean([checked for part in parts for checked in part])


Informed = Callable[[Sequence[float], Future, Random], Schedule]
"""A policy that knows past runs: its checks of a future run."""


def informed(past: Sequence[float], future: Future, rng: Random) -> Schedule:
    """This project's policy."""
    return schedule_of(past, future.longest)


def knowing(family: type[Shape]) -> Informed:
    """The policy that also knows the family of the durations."""

    def schedule(past: Sequence[float], future: Future, rng: Random) -> Schedule:
        alive = known_family.expected(family, past, future.times, rng)
        return optimal_schedule(future.times, [*alive[:-1], 0.0], PRICE)  # longer runs end at the last time

    return schedule


def by_optimum(of: Workload, policy: Informed, seed: str, known: int = HISTORY_LENGTH) -> float:
    """The ratio of the expected lag after that many runs to the optimum's at the same number of checks."""
    histories, rng = Random(f"{seed}, histories"), Random(f"{seed}, policy")
    points, best = [], []
    for regime, future, schedules in _regimes(of):
        best.append([future.of(schedule) for schedule in schedules])
        for _ in range(HISTORIES):
            past = regime.draw(histories, known)
            seen = [max(math.floor(d + histories.random()), 1.0) for d in past]
            points.append(future.of(policy(seen, future, rng)))
    return _by_curve(mean(points), [mean(same) for same in zip(*best, strict=True)])


def _regimes(of: Workload) -> Iterator[tuple[Distribution, Future, Sequence[Schedule]]]:
    return zip(chain(*WORKLOADS[of.name]), chain(*of.futures), chain(*of.optima), strict=True)


def unknown() -> dict[str, float]:
    """First runs of all workloads, without history: checks, lag, and the ratio of lag to the optimum's."""
    firsts = Future(
        Mixed(
            [
                (1 / len(WORKLOADS) / len(targets), target[0])
                for targets in WORKLOADS.values()
                for target in targets
            ]
        )
    )
    checks, lag = firsts.of(schedule_of([], firsts.longest))
    best = [firsts.of(schedule) for schedule in optimal_schedules(firsts)]
    return {"checks": checks, "lag": lag, "by_optimum": lag / lag_at(checks, best)}


def measure(seed: int = 1, replications: int = 9) -> dict[str, Any]:
    """By workload: the curves, each policy's point with its default, and ratios of lags.

    `by_peer` has the ratio of our lag to each peer's at the same number of checks, over all runs.
    `by_optimum` has the ratio to the optimum's lag after ten past runs, and `known_family_by_optimum` the
    same for `known_family`, which takes long, in three replications. `after_one_run_by_optimum` has the ratio
    after one past run. Each is the median, with the extremes.
    """
    seeds = [f"{seed}, {replication}" for replication in range(replications)]
    with ProcessPoolExecutor() as pool:
        report = dict(zip(WORKLOADS, pool.map(_measured, WORKLOADS, repeat(seeds)), strict=True))
    return {"workloads": report, "unknown": unknown()}


def _measured(name: str, seeds: Sequence[str]) -> dict[str, Any]:
    of, knows = workload(name), knowing(FAMILIES.get(name, LogNormal))
    results = [replicate(of, seed) for seed in seeds]
    return {
        "curves": {name: _medians([r["curves"][name] for r in results]) for name in results[0]["curves"]},
        "defaults": {
            name: _medians([[r["defaults"][name]] for r in results])[0] for name in results[0]["defaults"]
        },
        "by_peer": by_peer(results),
        "by_optimum": _spread([by_optimum(of, informed, seed) for seed in seeds]),
        "known_family_by_optimum": _spread([by_optimum(of, knows, seed) for seed in seeds[:3]]),
        "after_one_run_by_optimum": _spread([by_optimum(of, informed, seed, known=1) for seed in seeds]),
    }


def by_peer(results: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """The ratio of our lag to each peer's at the same number of checks."""
    return {
        name: _spread([_by_curve(r["defaults"][OURS], r["curves"][name]) for r in results])
        for name in results[0]["curves"]
        if name not in (OURS, OPTIMUM)
    }


def _by_curve(ours: Point, curve: Points) -> float:
    checks, lag = ours
    return lag / lag_at(checks, curve)


def _medians(curves: Sequence[Points]) -> list[Point]:
    return [
        (median(checks for checks, _ in points), median(lag for _, lag in points))
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
        "after one run",
        "by the best peer",
        "which one",
    ):
        shown.add_column(heading, justify="right" if heading else "left")
    for workload, result in report["workloads"].items():
        (checks, lag), (middle, low, high) = result["defaults"][OURS], result["by_optimum"]
        name, (best, worse, worst) = best_peer(result)
        known = "{:.2f} ({:.2f} to {:.2f})".format(*result["known_family_by_optimum"])
        once = "{:.1f} ({:.1f} to {:.1f})".format(*result["after_one_run_by_optimum"])
        optimum, peer = f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{best:.2f} ({worse:.2f} to {worst:.2f})"
        shown.add_row(workload, f"{checks:.1f}", f"{lag:.1f}", optimum, known, once, peer, name)
    first = report["unknown"]
    shown.add_row(
        "nothing known", f"{first['checks']:.1f}", f"{first['lag']:.1f}", f"{first['by_optimum']:.2f}"
    )
    yield shown


def best_peer(result: Mapping[str, Any]) -> tuple[str, tuple[float, float, float]]:
    """The peer with the shortest lag at our number of checks, and the ratio of our lag to its lag."""
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
