"""How often each policy checks, and how late it sees the end of a run.

`python -m tests.tools.benchmarks.polling`: seeded workloads, each with several models whose history begins
empty, replayed through this project's policy, those of peers, and the optimum: the schedule that dynamic
programming finds for the true distribution of the durations, at the same mean number of checks.
All policies see the same runs. Figures are medians over replications, with the range for our own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from arcanna_metrics.protocol.transitions import HISTORY_LENGTH
from arcanna_metrics.runs.polling import next_wait

RUNS = 40
"""Runs of each model, the first ever included."""
SETTLED = 5
"""Past runs of the same distribution from which on a policy is held against the optimum."""

Floats = NDArray[np.float64]
Distribution = Callable[[Generator, int], Floats]
Model = Sequence[Distribution]
"""The distributions of a model's durations, one after the other: more than one is a change of regime."""
Policy = Callable[[float, Sequence[float], int, Generator], float]
"""Seconds to wait, from elapsed seconds, past durations and the number of checks so far."""


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


WORKLOADS: Mapping[str, Sequence[Model]] = {
    "short": [[log_normal(m, 0.15)] for m in (60, 75, 90, 120, 150)],
    "mixed": [[log_normal(120 * math.exp(1.2 * NormalDist().inv_cdf(q / 10)), 0.2)] for q in range(1, 10)],
    "long": [[log_normal(m, 0.15)] for m in (1800, 2400, 3600, 4500)],
    "bimodal": [[bimodal(m)] for m in (60, 90, 120, 180)],
    "heavy-tailed": [[heavy_tailed(m)] for m in (90, 120, 240, 600)],
    "regime change": [
        [log_normal(before, 0.15), log_normal(after, 0.15)]
        for before, after in ((90, 360), (120, 360), (600, 150), (300, 900))
    ],
    # No policy can know much here: it shows what the distribution costs, not what a policy can win.
    "erratic": [[log_normal(m, 1.0)] for m in (120, 300)],
}


# --- Policies -----------------------------------------------------------------------------------------------


def fixed(interval: float) -> Policy:
    return lambda elapsed, history, checks, rng: interval


def exponential(elapsed: float, history: Sequence[float], checks: int, rng: Generator) -> float:
    """5 s to 300 s by factors of 1.5, without jitter."""
    return min(300.0, 5.0 * 1.5 ** min(checks, 20))


def full_jitter(elapsed: float, history: Sequence[float], checks: int, rng: Generator) -> float:
    """The default of Lambda durable functions."""
    return max(1.0, round(rng.uniform(0.0, exponential(elapsed, history, checks, rng))))


def proportional(elapsed: float, history: Sequence[float], checks: int, rng: Generator) -> float:
    """First at the median of the past, then 5 % of the elapsed time."""
    return max(5.0, 0.05 * elapsed if checks or not history else median(history))


def learned(elapsed: float, history: Sequence[float], checks: int, rng: Generator) -> float:
    return next_wait(elapsed, history)


OURS = "this project"
POLICIES: Mapping[str, Policy] = {
    OURS: learned,
    "fixed 10 s": fixed(10.0),
    "fixed 30 s": fixed(30.0),
    "fixed 60 s": fixed(60.0),
    "exponential 5-300 s": exponential,
    "the same, full jitter": full_jitter,
    "median, then 5 %": proportional,
}
TO_BEAT = ("fixed 30 s", "fixed 60 s", "exponential 5-300 s", "the same, full jitter")


# --- Replay -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """What a policy did on some runs: checks, and seconds between end and check, by run."""

    durations: Floats
    checks: Floats
    lags: Floats

    @property
    def relative(self) -> Floats:
        """The lags as fractions of the durations."""
        return self.lags / self.durations


def replay(policy: Policy, model: Sequence[Floats], rng: Generator) -> Iterator[Replay]:
    """The runs of each regime in turn, the history going on from one to the next."""
    history: list[float] = []
    for durations in model:
        checks, lags = [], []
        for duration in durations:
            elapsed, count = 0.0, 0
            while elapsed < duration:
                elapsed += policy(elapsed, history[-HISTORY_LENGTH:], count, rng)
                count += 1
            checks.append(float(count))
            lags.append(elapsed - duration)
            history.append(float(math.floor(duration + rng.random())))  # between two whole seconds
        yield Replay(durations, np.array(checks), np.array(lags))


def joined(parts: Sequence[Replay], start: int = 0) -> Replay:
    """All parts as one, each from its run `start` on."""
    return Replay(
        np.concatenate([part.durations[start:] for part in parts]),
        np.concatenate([part.checks[start:] for part in parts]),
        np.concatenate([part.lags[start:] for part in parts]),
    )


# --- The optimum --------------------------------------------------------------------------------------------


def optimal_schedule(times: Floats, mass: Floats, price: float, shortest: float = 5.0) -> Floats:
    """The times of checks that minimise E[lag] + price E[checks], by dynamic programming.

    Runs end in the cell before `times[k + 1]` with probability `mass[k]`; checks are made at `times`, at
    least `shortest` apart.
    """
    ended = np.concatenate([[0.0], np.cumsum(mass)])
    moment = np.concatenate([[0.0], np.cumsum(mass * (times[:-1] + times[1:]) / 2)])
    last = len(mass)
    cost, following = np.zeros(last + 1), np.zeros(last + 1, dtype=int)
    for k in range(last - 1, -1, -1):
        first = min(int(np.searchsorted(times, times[k] + shortest)), last)
        ahead = times[first:] * (ended[first:] - ended[k]) - (moment[first:] - moment[k]) + cost[first:]
        best = int(np.argmin(ahead))
        cost[k] = ahead[best] + price * (ended[last] - ended[k])
        following[k] = first + best
    schedule, k = [], 0
    while k < last:
        k = int(following[k])
        schedule.append(times[k])
    return np.array(schedule)


class Optimum:
    """The optimal schedules of one distribution, from many checks to few.

    Times are resolved to a second, or to 1/1500 of the common durations where those are longer: policies
    that check in steps of that size cannot be held against it.
    """

    def __init__(self, distribution: Distribution) -> None:
        sample = distribution(np.random.default_rng(0), 200_000)
        common = float(np.quantile(sample, 0.99))
        cells = min(int(common), 1500)
        rare = np.geomspace(common, 1.05 * sample.max(), 100)[1:]
        times = np.concatenate([np.linspace(0.0, common, cells), rare])
        mass = np.histogram(sample, bins=times)[0] / len(sample)
        self._schedules = [optimal_schedule(times, mass, price) for price in np.geomspace(0.01, 100, 24)]

    def replay(self, durations: Floats, checks: float) -> Replay:
        """On these runs, at this mean number of checks: a mix of the two schedules nearest to it."""
        replays = []
        for schedule in self._schedules:
            seen = np.minimum(np.searchsorted(schedule, durations), len(schedule) - 1)
            lags = np.maximum(schedule[seen] - durations, 0.0)
            replays.append(Replay(durations, seen + 1.0, lags))
        replays.sort(key=lambda candidate: float(candidate.checks.mean()))
        means = [float(candidate.checks.mean()) for candidate in replays]
        more = min(max(int(np.searchsorted(means, checks)), 1), len(means) - 1)
        few, many = replays[more - 1], replays[more]
        part = float(np.clip((checks - means[more - 1]) / max(means[more] - means[more - 1], 1e-9), 0, 1))
        return Replay(
            durations,
            (1 - part) * few.checks + part * many.checks,
            (1 - part) * few.lags + part * many.lags,
        )


# --- Measurement --------------------------------------------------------------------------------------------

Figures = dict[str, float]


def figures(runs: Replay) -> Figures:
    return {
        "checks": float(runs.checks.mean()),
        "lag": float(runs.lags.mean()),
        "relative_lag_p95": float(np.quantile(runs.relative, 0.95)),
    }


def replicate(
    models: Sequence[Model], optima: Sequence[Sequence[Optimum]], seed: Sequence[int]
) -> dict[str, Figures]:
    """The figures of every policy, on the runs that the seed gives."""
    rng = np.random.default_rng(seed)
    runs = [[np.maximum(regime(rng, RUNS // len(model)), 1.0) for regime in model] for model in models]
    results: dict[str, Figures] = {}
    for name, policy in POLICIES.items():
        parts = [list(replay(policy, model, rng)) for model in runs]
        done = [part for model in parts for part in model]
        best = joined(
            [
                optimum.replay(part.durations[SETTLED:], float(part.checks[SETTLED:].mean()))
                for model, of_model in zip(parts, optima, strict=True)
                for part, optimum in zip(model, of_model, strict=True)
            ]
        )
        settled = joined(done, SETTLED)
        results[name] = figures(joined(done)) | {
            "lag_by_optimum": float(settled.lags.mean() / best.lags.mean()),
            "optimum_relative_lag_p95": float(np.quantile(best.relative, 0.95)),
            "optimum_lag": float(best.lags.mean()),
        }
    return results


def measure(
    seed: int = 1, workloads: Sequence[str] = tuple(WORKLOADS), replications: int = 5
) -> dict[str, Any]:
    """By workload and policy: mean checks, mean lag (s), 95th percentile of lag / duration, over all runs;
    and over the settled runs, where history exists, the mean lag by the optimum's at as many checks.

    `missed` names the targets that were not met, and `range` the extremes over the replications.
    """
    report: dict[str, Any] = {}
    for number, workload in enumerate(workloads):
        models = WORKLOADS[workload]
        optima = [[Optimum(regime) for regime in model] for model in models]
        results = [replicate(models, optima, (seed, number, r)) for r in range(replications)]
        policies = {name: _over(results, name, median) for name in POLICIES}
        report[workload] = {
            "policies": policies,
            "range": {"min": _over(results, OURS, min), "max": _over(results, OURS, max)},
            "missed": missed(policies),
        }
    return report


def _over(
    results: Sequence[dict[str, Figures]], name: str, statistic: Callable[[list[float]], float]
) -> Figures:
    return {key: statistic([result[name][key] for result in results]) for key in results[0][name]}


def missed(policies: Mapping[str, Figures]) -> list[str]:
    """The targets that our policy misses, each with what the optimum makes of it.

    Fewer checks and less lag than each peer; lag near the optimum; lag never long next to the run.
    """
    ours = policies[OURS]
    found = [
        f"{what} of {peer}"
        for peer in TO_BEAT
        for what in ("checks", "lag")
        if ours[what] >= policies[peer][what]
    ]
    if found:
        rarest = min(TO_BEAT, key=lambda peer: policies[peer]["checks"])
        promptest = min(TO_BEAT, key=lambda peer: policies[peer]["lag"])
        found.append(
            f"with the checks of {rarest} the optimum has a lag of {policies[rarest]['optimum_lag']:.1f} s,"
            f" {promptest} has {policies[promptest]['lag']:.1f} s"
        )
    if ours["lag_by_optimum"] > 1.25:
        found.append("1.25 x optimum")
    if ours["relative_lag_p95"] > 0.25:
        found.append(f"p95 lag 25 % (optimum: {ours['optimum_relative_lag_p95']:.0%})")
    return found


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    for workload, result in report.items():
        low, high = result["range"]["min"], result["range"]["max"]
        table = Table(
            title=workload,
            caption="missed: " + "; ".join(result["missed"]) if result["missed"] else "all targets met",
        )
        table.add_column("policy")
        for heading in ("checks", "mean lag, s", "p95 lag / duration", "lag by optimum"):
            table.add_column(heading, justify="right")
        for name, ours in result["policies"].items():
            cells = [
                f"{ours[key]:{form}}"
                + (f" ({low[key]:{form}} to {high[key]:{form}})" if name == OURS else "")
                for key, form in (
                    ("checks", ".1f"),
                    ("lag", ".1f"),
                    ("relative_lag_p95", ".0%"),
                    ("lag_by_optimum", ".2f"),
                )
            ]
            table.add_row(name, *cells, style="bold" if name == OURS else None)
        yield table


if __name__ == "__main__":
    console = Console()
    for table in tables(measure()):
        console.print(table)
