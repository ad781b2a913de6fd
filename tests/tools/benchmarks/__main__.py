"""`make bench`: all benchmarks, side by side with their targets, as tables and in build/bench.json.

Nothing fails here: the tables say which targets are met and which are missed.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.support.local_cloud.cloud import PROJECT
from tests.tools.benchmarks import batch, calls, cost, development, polling, size, startup, throughput

RESULTS = PROJECT / "build" / "bench.json"
Results = Mapping[str, Any]


class Target(NamedTuple):
    """A figure, and the most that it may be."""

    what: str
    figure: float
    limit: float

    @property
    def met(self) -> bool:
        return self.figure <= self.limit


def main() -> None:
    console = Console()
    results: dict[str, Any] = {}
    measurements: Mapping[str, Callable[[], Any]] = {
        "development": development.measure,  # first, because there is no point in the rest if tests fail
        "size": size.measure,
        "startup": startup.measure,
        "calls": calls.measure,
        "polling": polling.measure,
        "throughput": throughput.measure,
        "batch": batch.measure,
        "cost": lambda: cost.measure(
            results["calls"], results["polling"], results["startup"], results["batch"]
        ),
    }
    for name, measure in measurements.items():
        console.print(f"measuring {name}", style="dim")
        results[name] = measure()
    reached = list(targets(results))
    results["targets"] = [{**target._asdict(), "met": target.met} for target in reached]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for table in (*tables(results), _targets_table(reached)):
        console.print(table)
    console.print(f"also in {RESULTS.relative_to(PROJECT)}")


def targets(results: Results) -> Iterable[Target]:
    """Those that a single figure decides; tests.tools.benchmarks.polling names its own."""
    seconds, ratios = results["startup"]["seconds"], results["startup"]["ratios"]
    check, empty = (seconds[name]["wall"]["median"] for name in (startup.CHECK, startup.EMPTY))
    for name, limit in ((startup.CHECK, 0.35), (startup.TRIGGER, 0.5)):
        other = f"{name} / {startup.PLAIN.format(name)}"
        yield Target(f"start-up, {other}", ratios[other]["wall"]["median"], limit)
    yield Target("start-up, check_status, s (2 x empty handler + 0.05)", check, 2 * empty + 0.05)
    yield Target("size, MiB", results["size"]["total"], 4.0)
    for models, taken in results["throughput"].items():
        yield Target(f"throughput, {models}, by json.loads", taken["ratio"], 4.0)
    for run in results["calls"]["runs"]:
        yield Target(f"platform requests in {run['polls']} polls", run["platform"], run["polls"] + 2)
        yield Target("ledger writes", run["writes"], 6)
        yield Target("connections to the platform, by two functions", run["connections"], 2)
    yield Target("demo's first completed run, s", results["development"]["demo"], 8.0)
    yield Target("idle month, US dollars", results["cost"]["this project"]["idle_month"], 0.40)
    yield Target("all tests, s", results["development"]["test"], 180.0)


def tables(results: Results) -> Iterable[Table]:
    """The figures beside what they are held against."""
    starts = _table(
        "start-up: process start to first answer", "", "wall, s", "quartiles", "CPU, s", "quartiles"
    )
    for name, taken in results["startup"]["seconds"].items():
        starts.add_row(name, *_spreads(taken, ".3f"))
    yield starts
    ratios = _table("start-up, ratios", "", "wall", "quartiles", "CPU", "quartiles")
    for name, taken in results["startup"]["ratios"].items():
        ratios.add_row(name, *_spreads(taken, ".2f"))
    yield ratios
    yield from polling.table(results["polling"])
    costs = _table(
        "cost, US dollars", "", "1,000 recomputes", "1,000 models a month", "1 M uploads", "idle month"
    )
    for name, taken in results["cost"].items():
        costs.add_row(
            name,
            f"{1000 * taken['recompute']:.2f}",
            f"{taken['month_of_1000_models']:.2f}",
            f"{taken['million_uploads']:.2f}",
            f"{taken['idle_month']:.2f}",
        )
    yield costs


def _spreads(taken: Mapping[str, Any], form: str) -> Iterable[str]:
    for kind in ("wall", "cpu"):
        spread = taken[kind]
        yield f"{spread['median']:{form}}"
        yield f"{spread['low']:{form}} to {spread['high']:{form}}"


def _targets_table(reached: Iterable[Target]) -> Table:
    table = _table("targets", "", "figure", "at most", "")
    for target in reached:
        table.add_row(
            target.what, f"{target.figure:.2f}", f"{target.limit:.2f}", "met" if target.met else "missed"
        )
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


if __name__ == "__main__":
    main()
