"""Measures one invocation of the trigger with the largest batches that SQS can deliver.

`python -m tests.tools.benchmarks.batch`: CPU time and peak memory of the function's process under AWS's
runtime client, on the local cloud, beside the function's timeout and memory. A batch ends at 10,000
messages or at Lambda's payload of 6 MB. The payload comes first, because SQS adds data to each message. Wall
time is that of the local cloud, which answers much more slowly than AWS.
"""

import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.alone import alone, own_installation
from tests.support.arcanna.alerts import InMemoryAlerts
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.deployment import resource, template
from tests.support.installation import Installation

MESSAGES = 10_000
SWEEPS = 20
PAYLOAD = 6_000_000  # bytes
JOB = 1234
FUNCTION = "TriggerRecomputeFunction"
HAPPENED_AT = 1_750_000_000  # long settled


def measure() -> dict[str, Any]:
    """For each kind of batch: messages, models, bytes, CPU and wall seconds, peak MiB, calls by operation."""
    return alone(_measure)


def _measure() -> dict[str, Any]:
    limits = {
        "timeout_seconds": resource(FUNCTION)["Timeout"],
        "memory_mebibytes": template()["Globals"]["Function"]["MemorySize"],
    }
    batches = {
        "requests, 1 model": ("requests-1", 1, _request),
        "S3 events, 1 model": ("events-1", 1, _s3_event),
        "S3 events, 100 models": ("events-100", 100, _s3_event),
    }
    models = {name: [f"{prefix}-{n}" for n in range(count)] for name, (prefix, count, _) in batches.items()}
    jobs = {JOB: Job("security-alerts", tuple(model for names in models.values() for model in names))}
    found: dict[str, Any] = {"limits": limits}
    with ArcannaServer(jobs, InMemoryAlerts(), behaviour=Behaviour(delay=0.2, duration=1.0)) as arcanna:
        for name, (_, _, body) in batches.items():  # each on a new stack, because a process keeps its memory
            with own_installation("batch", arcanna, {"ScheduleExpression": ""}) as here:
                here.cloud.invoke(FUNCTION, _event(iter([json.dumps({"Event": "s3:TestEvent"})])))  # warm up
                found["sweep_cpu_seconds"] = _sweep(here)
                found[name] = _invocation(here, models[name], body)
    return found


def _invocation(here: Installation, models: list[str], body: Callable[[str, int], str]) -> dict[str, Any]:
    bodies = (body(models[n % len(models)], n) for n in range(MESSAGES))
    event = _event(bodies)
    (sandbox,) = here.cloud.sandboxes(FUNCTION)
    calls, cpu, started = len(here.cloud.calls), _cpu_seconds(sandbox.pid), time.monotonic()
    answer = here.cloud.invoke(FUNCTION, event)
    if answer != {"batchItemFailures": []}:
        raise RuntimeError(f"the batch was not handled: {answer!r:.300}")
    return {
        "messages": len(event["Records"]),
        "models": len(models),
        "payload_bytes": len(json.dumps(event)),
        "cpu_seconds": round(_cpu_seconds(sandbox.pid) - cpu, 2),
        "wall_seconds": round(time.monotonic() - started, 2),
        "peak_mebibytes": round(peak_mebibytes(sandbox.pid)),
        "calls": Counter(c.operation for c in here.cloud.calls[calls:] if c.environment == sandbox.id),
    }


def _sweep(here: Installation) -> float:
    """CPU seconds of a sweep with nothing due, in a warm function."""
    (sandbox,) = here.cloud.sandboxes(FUNCTION)
    before = _cpu_seconds(sandbox.pid)
    for _ in range(SWEEPS):
        here.cloud.invoke(FUNCTION, _event(iter([json.dumps({"sweep": True})])))
    return round((_cpu_seconds(sandbox.pid) - before) / SWEEPS, 4)


def _event(bodies: Iterator[str]) -> dict[str, Any]:
    """An event with as many of the bodies as fit into one invocation."""
    records: list[dict[str, Any]] = []
    size = len('{"Records": []}')
    for body in bodies:
        record = {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "h" * 180,
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": str(HAPPENED_AT * 1000),
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": str(HAPPENED_AT * 1000),
            },
            "messageAttributes": {},
            "md5OfBody": "0" * 32,
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:updates",
            "awsRegion": "eu-west-1",
        }
        size += len(json.dumps(record)) + len(", ")
        if size > PAYLOAD:
            break
        records.append(record)
    return {"Records": records}


def _request(model: str, _: int) -> str:
    return json.dumps({"job_id": JOB, "model_id": model})


_EVENT = json.loads(Path("events/s3-object-created.eventbridge.json").read_text())


def _s3_event(model: str, number: int) -> str:
    changed = {**_EVENT["detail"]["object"], "key": f"training-data/{JOB}/{model}/{number}.csv"}
    return json.dumps({**_EVENT, "detail": {**_EVENT["detail"], "object": changed}})


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def peak_mebibytes(pid: int) -> float:
    """The peak resident memory of a process, in MiB."""
    (line,) = (x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
