"""Measures reading, routing and recording a batch, compared with json.loads of the same bodies.

`python -m tests.tools.benchmarks.throughput`: CPU time of 10,000 messages, SQS's largest batch, each an S3
event by EventBridge; medians, with the spread (the inner half of the repeats). It excludes calls to AWS.
"""

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arcanna_metrics.intake.events import ObjectCreated, read_json
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.transitions import record
from arcanna_metrics.settings import parse_settings
from arcanna_metrics.targets import Target, Update
from tests.support.doubles import PACE

MESSAGES = 10_000
REPEATS = 9
RECEIVED_AT = 1.8e9

ROUTES = parse_settings(
    json.dumps(
        {
            "routes": [
                {
                    "keys": ["training-data/{job_id}/{model_id}/*"],
                    "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
                },
                {"keys": ["training-data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
            ]
        }
    )
).routes


def bodies(models: int) -> list[str]:
    """A batch of S3 events, spread evenly over the models."""
    event = json.loads(Path("events/s3-object-created.eventbridge.json").read_text())
    batch = []
    for number in range(MESSAGES):
        job_id = 1000 + number % models
        event["detail"]["object"]["key"] = (
            f"training-data/{job_id}/generic-1-{job_id}-model-1747385873.hdf5/alerts-{number}.csv"
        )
        batch.append(json.dumps(event))
    return batch


def take_in(batch: list[str]) -> list[Entry]:
    """The entries that result from a batch of messages in an empty ledger."""
    updates: dict[Target, list[Update]] = defaultdict(list)
    for body in batch:
        for occurrence in read_json(body, RECEIVED_AT):
            if isinstance(occurrence, ObjectCreated):
                for update in ROUTES.updates(occurrence):
                    updates[update.target].append(update)
    return [record(Entry(target), news, PACE) for target, news in updates.items()]


def decode(batch: list[str]) -> list[object]:
    """The floor: parses the JSON only."""
    return [json.loads(body) for body in batch]


def cpu_seconds(work: Callable[[list[str]], object], batch: list[str]) -> float:
    """The CPU time of one call in seconds."""
    started = time.process_time()
    work(batch)
    return time.process_time() - started


def measure() -> dict[str, Any]:
    """For one model and for 1,000: median seconds of both, their ratio, and the ratio's quartiles."""
    results: dict[str, Any] = {}
    for models in (1, 1000):
        batch = bodies(models)
        assert sum(entry.waiting.updates for entry in take_in(batch)) == MESSAGES
        # They take turns, so that other load slows both.
        pairs = [(cpu_seconds(decode, batch), cpu_seconds(take_in, batch)) for _ in range(REPEATS)]
        ratios = [ours / floor for floor, ours in pairs]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        results[f"{models} models"] = {
            "messages": MESSAGES,
            "json_seconds": statistics.median(floor for floor, _ in pairs),
            "seconds": statistics.median(ours for _, ours in pairs),
            "ratio": ratio,
            "ratio_quartiles": [low, high],
        }
    return results


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
