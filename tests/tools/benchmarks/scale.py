"""Counts what grows with the number of targets: the real trigger, ledger and slots in memory.

`python -m tests.tools.benchmarks.scale`: calls are counted where they are made, and time is simulated, so
that no figure depends on this machine. A call to AWS takes 5 ms, one to the platform 100 ms.
"""

import json
from collections import Counter
from typing import Any

import httpx

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import to_item
from arcanna_metrics.protocol.transitions import record
from arcanna_metrics.targets import Target, Update
from arcanna_metrics.times import to_iso
from tests.simulation import town
from tests.simulation.world import unobserved
from tests.support.doubles import PACE

TARGETS = (10, 1_000, 100_000)
SLOTS = 10
RECOMPUTES = 100
MESSAGES, MODELS = 10_000, 1_000
READS, WRITES = ("GetItem", "BatchGetItem", "Query"), ("PutItem",)


class Town(town.Town):
    """`fresh`: whether somebody else has just recomputed everything."""

    fresh = False

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not self.fresh or request.method == "POST":
            return super()._answer(request)
        self.calls["platform"] += 1
        self.now += town.TAKES[False]
        shown = {"is_recomputing_metrics": False, "last_recomputed_timestamp": to_iso(self.now)}
        return httpx.Response(200, json=shown)


def filled(targets: int, slots: int, waiting: int) -> Town:
    """A town with this many known targets, some of which wait for a recompute."""
    made = Town(targets=1, slots=slots)
    for n in range(targets):
        target = Target(str(n % 100), f"model-{n}")
        at = town.START - 100.0
        update = Update(target=target, happened_at=at, by_hand=True, cause="manual")
        after = record(Entry(target), [update], PACE) if n < waiting else Entry(target, fresh_as_of=at)
        made.table.put(
            {
                "TableName": "ledger",
                "Item": to_item(after, 1),
                "ConditionExpression": "attribute_not_exists(rev)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        )
    return made


def recompute(targets: int) -> dict[str, float]:
    """The calls of one recompute while this many targets are known and wait."""
    here = filled(targets, SLOTS, targets)
    wanted = min(RECOMPUTES, targets)
    until = town.START
    with unobserved():
        while sum(here.completed.values()) < wanted:
            until += 60.0
            here.play(until)
    done = sum(here.completed.values())
    return {
        "reads": sum(here.calls[name] for name in READS) / done,
        "writes": sum(here.calls[name] for name in WRITES) / done,
        "platform": here.calls["platform"] / done,
        "gauge_queries": here.calls["Query for the gauges"] / done,
    }


def nightly(targets: int, *, fresh: bool, slots: int = SLOTS) -> dict[str, float]:
    """A schedule over all targets while no target waits. `fresh`: somebody else has recomputed all.

    The platform's polls are left out: they are those of `polling`.
    """
    here = Town(targets=targets, slots=slots)
    here.fresh = fresh
    here.send({"models": "all", "older_than_seconds": 86400}, town.START)
    with unobserved():
        here.play()
    return {
        "platform": here.calls["platform"],
        "reads": sum(here.calls[name] for name in READS),
        "writes": here.calls["PutItem"],
        "messages": targets,
        "invocations": here._invocations,  # noqa: SLF001
        "minutes": (here.now - town.START) / 60,
    }


def recording() -> dict[str, float]:
    """One invocation that records 10,000 messages of 1,000 targets: calls, and seconds that they take."""
    here = Town(targets=1, slots=SLOTS)
    records = [
        {
            "messageId": str(n),
            "body": json.dumps({"job_id": str(n % 100), "model_id": f"model-{n % MODELS}"}),
            "attributes": {"SentTimestamp": str(int(town.START * 1000))},
        }
        for n in range(MESSAGES)
    ]
    before = Counter(here.calls)
    began = here.now
    with unobserved():
        here.trigger.look = lambda *given: None  # type: ignore[method-assign]
        here.trigger.handle_batch(records, lambda: 300.0)
    made = here.calls - before
    return {
        "reads": sum(made[name] for name in READS),
        "writes": made["PutItem"],
        "seconds": here.now - began,
    }


def measure() -> dict[str, Any]:
    """Counts by number of targets."""
    taken, town.TAKES[True] = town.TAKES[True], 0.005
    try:
        return {
            "recompute": {str(targets): recompute(targets) for targets in TARGETS},
            "recording": recording(),
            "nightly": {
                "500, all stale": nightly(500, fresh=False),
                "5,000, all fresh": nightly(5_000, fresh=True),
            },
        }
    finally:
        town.TAKES[True] = taken


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
