"""`make bench`: all benchmarks, in one table with their targets and what they mean for a user.

Nothing fails here: the table says which targets are met and which are missed. Everything measured is in
build/bench.json. `python -m tests.tools.benchmarks startup polling` measures these alone.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.support.local_cloud.cloud import PROJECT
from tests.tools.benchmarks import (
    batch,
    calls,
    cost,
    development,
    polling,
    scale,
    size,
    startup,
    throughput,
    whole_way,
)

RESULTS = PROJECT / "build" / "bench.json"
Results = Mapping[str, Any]


class Figure(NamedTuple):
    """A figure, its maximum (None without a target), and what it means for a user."""

    what: str
    figure: float
    limit: float | None
    means: str

    @property
    def met(self) -> str:
        if self.limit is None:
            return ""
        return "met" if self.figure <= self.limit else f"missed by {self.figure / self.limit - 1:.0%}"


def main(chosen: list[str]) -> None:
    """Measures the chosen benchmarks, or all. Skips those that need figures of others."""
    console = Console()
    results: dict[str, Any] = {}
    measurements: Mapping[str, Callable[[], Any]] = {
        "development": development.measure,  # first, because the other figures mean nothing if tests fail
        "size": size.measure,
        "startup": startup.measure,
        "calls": calls.measure,
        "polling": polling.measure,
        "throughput": throughput.measure,
        "batch": batch.measure,
        "scale": scale.measure,
        "whole_way": whole_way.measure,
        "cost": lambda: cost.measure(
            results["calls"], results["polling"], results["startup"], results["batch"]
        ),
    }
    for name in chosen or measurements:
        console.print(f"measuring {name}", style="dim")
        results[name] = measurements[name]()
    if "polling" in results:
        polling.PICTURE.write_text(polling.picture(results["polling"]))
    figures = [figure for name in results for figure in FIGURES[name](results[name])]
    results["figures"] = [{**figure._asdict(), "met": figure.met} for figure in figures]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    console.print(table(figures))
    console.print(f"also in {RESULTS.relative_to(PROJECT)}")


def table(figures: list[Figure]) -> Table:
    """All figures beside their targets."""
    shown = Table(title="figures")
    for heading in ("", "figure", "at most", "", "what it means for you"):
        shown.add_column(heading, justify="right" if heading in ("figure", "at most") else "left")
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.limit:g}"
        shown.add_row(figure.what, f"{figure.figure:.3g}", limit, figure.met, figure.means)
    return shown


# --- What is said of each measurement -----------------------------------------------------------------------


def _development(found: Results) -> Iterator[Figure]:
    install = found["installation"]
    yield Figure("demo, first completed run, s", found["demo"], 8, "you see the main job work this soon")
    yield Figure("make test, s", found["test"], 150, "before each commit")
    yield Figure("make check, s", found["check"], 30, "after each change of the domain")
    yield Figure("installation, s", install["seconds"], 30, "once, from a warm package cache")
    most = ", ".join(f"{name} {size}" for name, size in list(install["largest"].items())[:5])
    yield Figure("installation, MiB", install["mebibytes"], 400, f"the most of it: {most}")


def _size(found: Results) -> Iterator[Figure]:
    yield Figure("deployed, MiB", found["total"], 4, "what a region stores, and a start unpacks")


def _startup(found: Results) -> Iterator[Figure]:
    """Uses CPU time, which other programs on the machine hardly change."""
    ratios, check, trigger = found["ratios"], startup.CHECK, startup.TRIGGER
    for name, to, limit, means in (
        (check, startup.QUICK_START, 0.36, "most checks are cold starts: this much of the usual price"),
        (check, startup.EMPTY, 4.0, "times what Lambda's Python takes to do nothing"),
        (trigger, startup.QUICK_START, 0.75, "after a deployment, and for what comes beside a sweep"),
    ):
        yield Figure(f"start-up, {name} / {to}", ratios[f"{name} / {to}"]["cpu"]["median"], limit, means)
    kept = found["at_512_mebibytes"][trigger]
    means = (
        "the sweep keeps one warm: each upload, hold and release saves this time"
        f" and ${1000 * kept['usd_per_million'] / 1e6:.3f} per 1,000"
    )
    yield Figure(f"start-up, {trigger}, 512 MiB, s", kept["wall"], None, means)
    for memory, by_function in found["by_memory"].items():
        taken = by_function[check]
        means = f"${taken['usd_per_million']:.2f} for a million checks" + (
            " (as deployed)" * (memory == "512")
        )
        yield Figure(f"start-up, {check}, {memory} MiB, s", taken["wall"], None, means)


def _calls(found: Results) -> Iterator[Figure]:
    for run in found["runs"]:
        what = f"requests to Arcanna, {run['polls']} checks"
        yield Figure(what, run["platform"], run["polls"] + 2, "baseline, request, and each check")
    yield Figure("ledger writes of a recompute", found["ledger_writes"], 6, "they are billed")


def _polling(found: Results) -> Iterator[Figure]:
    for workload, result in found["workloads"].items():
        checks, lag = result["defaults"][polling.OURS]
        means = f"the end is seen after {lag:.0f} s, by {checks:.1f} checks"
        yield Figure(f"polling, {workload}: lag / optimum's", result["by_optimum"][0], 1.2, means)
        known, means = result["known_family_by_optimum"][0], "what ten past runs can tell at best"
        yield Figure(f"polling, {workload}: if the family were known", known, None, means)
        name, ratio = polling.best_peer(result)
        means = "at as many checks; all other peers are further behind"
        yield Figure(f"polling, {workload}: lag / that of {name}", ratio[0], 1.0, means)
    first = found["unknown"]
    means = f"a target's first run is seen after {first['lag']:.0f} s, by {first['checks']:.1f} checks"
    yield Figure("polling, nothing known: lag / optimum's", first["by_optimum"], 1.5, means)
    kept = found["workloads"][polling.RETRAINED]["by_peer"][polling.FORGETFUL][0]
    yield Figure(
        "polling, retrained: lag / if models began anew", kept, None, "a new model is polled as well"
    )


def _throughput(found: Results) -> Iterator[Figure]:
    for models, taken in found.items():
        yield Figure(f"CPU of 10,000 messages / json.loads, {models}", taken["ratio"], 4, "bursts are cheap")


def _batch(found: Results) -> Iterator[Figure]:
    seconds = found["sweep_cpu_seconds"]
    yield Figure("CPU of a sweep that finds nothing, s", seconds, None, "each minute, in a warm function")
    for name in ("requests, 1 model", "S3 events, 1 model", "S3 events, 100 models"):
        taken = found[name]
        means = (
            f"{taken['messages']:,} messages in one invocation, of {found['limits']['memory_mebibytes']} MiB"
        )
        yield Figure(f"peak memory, {name}, MiB", taken["peak_mebibytes"], None, means)


def _scale(found: Results) -> Iterator[Figure]:
    for targets, made in found["recompute"].items():
        means = f"and {made['writes']:.1f} writes, while {int(targets):,} targets wait"
        yield Figure(f"ledger reads of a recompute, {int(targets):,} targets", made["reads"], None, means)
    recorded = found["recording"]
    means = f"{recorded['writes']:.0f} writes and {recorded['reads']:.0f} reads of 5 ms, one after the other"
    yield Figure("recording 10,000 messages of 1,000 targets, s", recorded["seconds"], None, means)
    for name, run in found["nightly"].items():
        means = f"{run['platform']:.0f} requests to Arcanna, {run['invocations']:.0f} of the trigger"
        yield Figure(f"nightly run, {name}, {scale.SLOTS} slots, min", run["minutes"], None, means)


def _whole_way(found: Results) -> Iterator[Figure]:
    ours, sample = found["this project"], found["one workflow per upload"]
    yield Figure(
        "last upload to request, beyond what is configured, s",
        ours["upload_to_request"],
        None,
        f"{ours['posts']:.0f} request for {whole_way.UPLOADS} uploads; the sample: {sample['posts']:.0f},"
        f" the last after {sample['upload_to_request']:.2f} s",
    )
    yield Figure(
        "last upload to the outcome, beyond what is configured and one recompute, s",
        ours["upload_to_outcome"],
        None,
        f"the last check's answer; the sample: {sample['upload_to_outcome']:.1f} s",
    )
    yield Figure(
        "recompute's end to the event, s",
        ours["end_to_event"],
        None,
        f"a check each second here; the sample, each {whole_way.POLL} s: {sample['end_to_event']:.1f} s",
    )
    yield Figure(
        "last upload to the event, beyond what is configured and one recompute, s",
        ours["upload_to_event"],
        None,
        f"the sample: {sample['upload_to_event']:.1f} s; its recomputes: {sample['recomputes']:.0f}",
    )


def _cost(found: Results) -> Iterator[Figure]:
    for name, taken in found["designs"].items():
        of_1000 = f"$ {1000 * taken['recompute']:.2f} for 1,000 recomputes"
        means = (
            f"{of_1000}, {taken['month_of_1000_models']:.0f} for 1,000 models a month,"
            f" {taken['million_uploads']:.2f} for a million uploads"
        )
        limit = 0.40 if name == cost.OURS else None
        yield Figure(f"idle month, US dollars: {name}", taken["idle_month"], limit, means)
    for name, usd in found["sensitivity"].items():
        yield Figure(f"1,000 recomputes, US dollars: {name}", usd, None, "uploads of each, length of the run")


FIGURES: Mapping[str, Callable[[Results], Iterator[Figure]]] = {
    "development": _development,
    "size": _size,
    "startup": _startup,
    "calls": _calls,
    "polling": _polling,
    "throughput": _throughput,
    "batch": _batch,
    "scale": _scale,
    "whole_way": _whole_way,
    "cost": _cost,
}


if __name__ == "__main__":
    main(sys.argv[1:])
