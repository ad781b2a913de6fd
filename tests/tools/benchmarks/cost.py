"""Calculates what a recompute costs at AWS's prices, and what it would cost with other designs.

`sensitivity` has the same for other rates of uploads and other durations of runs.

Other benchmarks of this package provide the amounts: `calls` the calls, `polling` the polls, and `startup`
the seconds of the functions. Every invocation counts as a cold start, which is billed. All designs do the
same work. Logs, metrics, the secret itself, storage and free tiers are left out of all.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

UPLOADS = 100
"""Uploads of a model between two recomputes, as from an export or a labelling session."""
RECOMPUTES_PER_MONTH = 30
"""Of a model."""
MODELS = 1000
HOURS_PER_MONTH = 730
MEMORY_GB = 0.5
CPU_SHARE = 512 / 1769
"""The share of a vCPU, by memory: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
OURS = "this project"
WRITE_UNITS = 5
"""Write units of one write: three for an entry with a full history, two for its place in the index."""
READ_UNITS = 1
"""Read units of a consistent read of an entry of up to 4 KB."""
SWEEPS_PER_MONTH = 60 * HOURS_PER_MONTH
NETWORK_SECONDS = 0.01
"""Seconds of a sweep's query, in addition to its CPU time."""
RECEIVES_PER_MONTH = 5 * 3 * 60 * HOURS_PER_MONTH
"""Of an idle queue: Lambda polls it five times at once, each for 20 seconds."""


class Price(NamedTuple):
    """US dollars for one in us-east-1, the page that says so (read in November 2026), and its date."""

    usd: float
    source: str
    dated: str


_LAMBDA = "https://git.mcrn.ar/mariano/lambda_local_runner/src/branch/main/docs/lambdas-md/lambda-13-cost.md"
_SECRETS = "https://hivebook.wiki/wiki/aws-secrets-manager-rotated-secrets-dynamic-db-credentials-kms"
PRICES: Mapping[str, Price] = {
    "transition": Price(25e-6, "https://aws.amazon.com/step-functions/pricing/", "undated"),
    "invocation": Price(0.20e-6, _LAMBDA, "2026-05"),
    "GB-second": Price(13.3334e-6, _LAMBDA, "2026-05"),  # arm64
    "write unit": Price(
        0.625e-6, "https://airbyte.com/data-engineering-resources/dynamodb-pricing", "2025-07"
    ),
    "queue request": Price(0.40e-6, "https://cloudburn.io/blog/amazon-sqs-pricing", "2026-03"),
    "schedule": Price(1e-6, "https://aws.amazon.com/eventbridge/pricing/", "undated"),
    "read unit": Price(
        0.125e-6, "https://airbyte.com/data-engineering-resources/dynamodb-pricing", "2025-07"
    ),
    "own event": Price(1e-6, "https://cloudburn.io/blog/amazon-eventbridge-pricing", "2026-03"),
    "secret read": Price(5e-6, _SECRETS, "undated"),
    "Airflow hour": Price(0.49, "https://c3x.dev/blog/mwaa-cost-managed-airflow/", "undated"),  # mw1.small
}


class Usage(NamedTuple):
    """Amounts by the names of PRICES: of one recompute with its uploads, and of each month besides."""

    of_recompute: Mapping[str, float]
    of_month: Mapping[str, float] = {}


def designs(
    *,
    uploads: int,
    transitions_per_poll: float,
    other_transitions: float,
    ledger_writes: float,
    ledger_reads: float,
    sweep_seconds: float,
    polls: float,
    fixed_polls: float,
    trigger_seconds: float,
    check_seconds: float,
    quick_start_seconds: float,
) -> Mapping[str, Usage]:
    """What each design uses: this one, and the others with a poll every 60 seconds (`fixed_polls`)."""

    def run(polls: float, check_seconds: float) -> dict[str, float]:
        return {
            "transition": other_transitions + transitions_per_poll * polls,
            "invocation": 3 + polls,  # record, hold and release, and the checks
            "GB-second": MEMORY_GB * (3 * trigger_seconds + polls * check_seconds),
            "write unit": WRITE_UNITS * ledger_writes,
            "read unit": READ_UNITS * ledger_reads,
            "queue request": uploads * (1 + 2 / 10),  # sent one by one, received and deleted in tens
            "own event": 1,
            "secret read": 1 + polls,
        }

    idle = {"queue request": RECEIVES_PER_MONTH}
    swept = {name: idle.get(name, 0.0) + amount for name, amount in sweeps(sweep_seconds).items()}
    http_task = run(fixed_polls, 0.0) | {"invocation": 1, "secret read": 1}
    scheduler = run(fixed_polls, quick_start_seconds) | {"transition": 0, "schedule": fixed_polls}
    single = {
        "transition": 2 + transitions_per_poll * fixed_polls,  # request, polls, end
        "invocation": 1 + fixed_polls,
        "GB-second": MEMORY_GB * (1 + fixed_polls) * quick_start_seconds,
        "secret read": 1 + fixed_polls,
    }
    return {
        OURS: Usage(run(polls, check_seconds), swept),
        "a check every 60 s": Usage(run(fixed_polls, quick_start_seconds), idle),
        "HTTP Task every 60 s": Usage(http_task, idle),
        "EventBridge Scheduler alone, 60 s": Usage(scheduler, idle),
        "one workflow per upload": Usage({name: uploads * amount for name, amount in single.items()}),
        "managed Airflow, mw1.small": Usage({}, {"Airflow hour": HOURS_PER_MONTH}),
    }


def sweeps(seconds: float) -> Mapping[str, float]:
    """What a sweep every minute uses in a month in which nothing is due, in a function that it keeps warm."""
    return {
        "schedule": SWEEPS_PER_MONTH,
        "queue request": 2 * SWEEPS_PER_MONTH,  # sent and deleted; Lambda polls the queue anyway
        "invocation": SWEEPS_PER_MONTH,
        "GB-second": MEMORY_GB * (seconds + NETWORK_SECONDS) * SWEEPS_PER_MONTH,
        "read unit": 0.5 * SWEEPS_PER_MONTH,
    }


def usd(usage: Mapping[str, float]) -> float:
    """The price of these amounts in US dollars."""
    return sum(PRICES[name].usd * amount for name, amount in usage.items())


def measure(
    calls: Mapping[str, Any],
    polling: Mapping[str, Any],
    startup: Mapping[str, Any],
    batch: Mapping[str, Any],
) -> dict[str, Any]:
    """US dollars by design, from what the other benchmarks measured."""
    polls = {
        workload: {name: point[0] for name, point in result["defaults"].items()}
        for workload, result in polling["workloads"].items()
    }
    seconds = {name: taken["wall"] for name, taken in startup["at_512_mebibytes"].items()}

    def all_designs(uploads: int, polls: Mapping[str, float]) -> Mapping[str, Usage]:
        return designs(
            uploads=uploads,
            transitions_per_poll=calls["transitions_per_poll"],
            other_transitions=calls["other_transitions"],
            ledger_writes=calls["ledger_writes"],
            ledger_reads=calls["ledger_reads"],
            sweep_seconds=batch["sweep_cpu_seconds"] / CPU_SHARE,
            polls=polls[OURS],
            fixed_polls=polls["fixed"],
            trigger_seconds=seconds["trigger_recompute"],
            check_seconds=seconds["check_status"],
            quick_start_seconds=seconds["quick start"],
        )

    compared = all_designs(UPLOADS, polls["mixed"])
    sensitivity = {
        f"{uploads} uploads, {runs} runs": 1000 * usd(all_designs(uploads, polls[runs])[OURS].of_recompute)
        for uploads in (1, 100, 1000)
        for runs in ("short", "mixed", "long")
    }
    by_design = {
        name: {
            "recompute": usd(usage.of_recompute),
            "month_of_1000_models": MODELS * RECOMPUTES_PER_MONTH * usd(usage.of_recompute)
            + usd(usage.of_month),
            "million_uploads": 1e6 / UPLOADS * usd(usage.of_recompute),
            "idle_month": usd(usage.of_month),
        }
        for name, usage in compared.items()
    }
    return {"designs": by_design, "sensitivity": sensitivity}
