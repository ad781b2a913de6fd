"""Many updates at once, with duplicates and garbage, on a platform that refuses 1 call in 20.

`python -m tests.e2e.load --updates 10000 --models 100` prints what was measured, and ends with status 1 if a
guarantee was broken.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.alone import alone, own_installation
from tests.e2e.scene import CHECK, JOB, TRIGGER, dead_letters, in_queue, settle, two_at_once
from tests.support.arcanna.alerts import InMemoryAlerts
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.installation import Installation
from tests.tools.benchmarks.batch import peak_mebibytes

FUNCTIONS = (TRIGGER, CHECK)
REFUSED_EVERY = 40  # by 429, and as often by 503: together 1 call in 20
UPLOADS = 50  # share of updates that are real objects, through S3 and EventBridge
GARBAGE = ("no JSON {n}", '{{"job": {n}}}', '["{n}"]', '{{"job_id": "\\u0000{n}"}}')
EVENT = json.loads(Path("events/s3-object-created.eventbridge.json").read_text())


@dataclass(frozen=True)
class Report:
    """The measurements. `violations` names every broken guarantee."""

    updates: int
    duplicates: int
    garbage: int
    models: int
    sending_seconds: float
    seconds: float
    """Seconds from the first update until the installation is quiet."""
    updates_per_second: float
    recomputes: int
    refused_calls: int
    largest_backlog: int
    peak_mebibytes: dict[str, float]
    violations: tuple[str, ...]


def measure(updates: int, models: int) -> Report:
    """Runs the load in a process of its own."""
    return alone(partial(_measure, updates, models))


def _measure(updates: int, models: int) -> Report:
    names = tuple(f"generic-1-{JOB}-model-{1747385873 + n}.hdf5" for n in range(models))
    jobs = {JOB: Job("security-alerts", names)}
    with ArcannaServer(jobs, InMemoryAlerts(), behaviour=Behaviour(delay=0.2, duration=2.0)) as arcanna:
        for skip, status in ((0, 429), (REFUSED_EVERY // 2, 503)):
            arcanna.add_fault(Fault(status=status, every=REFUSED_EVERY, skip=skip, times=None))
        with own_installation("load", arcanna, {}) as here, _watch(here) as watch:
            started = time.monotonic()
            load = _Load(here, names)
            load.send(updates)
            sent = time.monotonic()
            settle(here, 300)
            ended = time.monotonic()
            violations = (*_lost(here, load.updated_at), *_misplaced(here, load.garbage), *_overlaps(here))
    return Report(
        updates=updates,
        duplicates=updates // 100,
        garbage=len(load.garbage),
        models=models,
        sending_seconds=round(sent - started, 1),
        seconds=round(ended - started, 1),
        updates_per_second=round(updates / (ended - started), 1),
        recomputes=len(arcanna.recomputes()),
        refused_calls=sum(r.fault is not None for r in arcanna.requests),
        largest_backlog=watch.backlog,
        peak_mebibytes=watch.peaks,
        violations=violations,
    )


# --- The load --------------------------------------------------------------------------------------------


class _Load:
    """Sends S3 events to the queue, and remembers them."""

    def __init__(self, here: Installation, models: Sequence[str]) -> None:
        self.updated_at: dict[str, float] = {}
        """When each model was last updated, in epoch seconds."""
        self.garbage: list[str] = []
        self._here = here
        self._models = models
        self._chance = random.Random(1)

    def send(self, updates: int) -> None:
        """Sends updates of random models. 1 % are sent twice, and another 1 % is garbage."""
        bodies: list[str] = []
        for number in range(updates):
            model = self._chance.choice(self._models)
            key = f"training-data/{JOB}/{model}/{number}.csv"
            if number % max(1, updates // UPLOADS) == 0:
                self._here.upload(key, "")
            else:
                bodies.append(self._event(key))
            self.updated_at[model] = time.time()
            if number % 100 == 50:
                bodies.append(self._chance.choice(bodies))
                self.garbage.append(GARBAGE[number // 100 % len(GARBAGE)].format(n=number))
                bodies.append(self.garbage[-1])
            if len(bodies) >= 10:
                self._send(bodies[:10])
                del bodies[:10]
        self._send(bodies)

    def _event(self, key: str) -> str:
        bucket = {**EVENT["detail"]["bucket"], "name": self._here.bucket}
        detail = {**EVENT["detail"], "bucket": bucket, "object": {**EVENT["detail"]["object"], "key": key}}
        return json.dumps({**EVENT, "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "detail": detail})

    def _send(self, bodies: Sequence[str]) -> None:
        for first in range(0, len(bodies), 10):
            self._here.cloud.client("sqs").send_message_batch(
                QueueUrl=self._here.cloud.outputs["UpdatesQueueUrl"],
                Entries=[{"Id": str(n), "MessageBody": b} for n, b in enumerate(bodies[first : first + 10])],
            )


@dataclass
class _Watch:
    backlog: int = 0
    peaks: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FUNCTIONS, 0.0))

    def look(self, here: Installation) -> None:
        self.backlog = max(self.backlog, len(in_queue(here)))
        for function in FUNCTIONS:
            for sandbox in here.cloud.sandboxes(function):
                with suppress(FileNotFoundError, ProcessLookupError, ValueError):  # it has just ended
                    self.peaks[function] = max(self.peaks[function], round(peak_mebibytes(sandbox.pid), 1))


@contextmanager
def _watch(here: Installation) -> Iterator[_Watch]:
    """Samples the queue and the functions' processes until the block ends."""
    watch, ended = _Watch(), threading.Event()

    def follow() -> None:
        while not ended.wait(0.5):
            watch.look(here)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


# --- The guarantees --------------------------------------------------------------------------------------


def _lost(here: Installation, updated_at: dict[str, float]) -> Iterator[str]:
    for model, at in updated_at.items():
        completed = [r for r in here.arcanna.recomputes(model) if r.state == "completed"]
        if not any(ask.at > at for recompute in completed for ask in recompute.asks):
            yield f"{model} was not recomputed after its last update"


def _misplaced(here: Installation, garbage: Sequence[str]) -> Iterator[str]:
    letters = dead_letters(here)
    for body, reason in letters:
        if reason != "BadInput":
            yield f"a dead letter without the reason BadInput: {body[:100]!r}"
    bodies, wanted = Counter(body for body, _ in letters), Counter(garbage)
    if bodies != wanted:
        missing, others = (wanted - bodies).total(), (bodies - wanted).total()
        yield f"{missing} garbage messages are no dead letters, {others} others are"


def _overlaps(here: Installation) -> Iterator[str]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for execution in here.cloud.executions():
        run = json.loads(execution["input"])["run"]
        runs.setdefault(run["model_id"], []).append(execution | {"run": run})
        if execution["status"] != "SUCCEEDED":
            yield f"execution {execution['name']} ended as {execution['status']}: {execution.get('error')}"
    for model, executions in runs.items():
        if two_at_once(here, executions):
            yield f"{model} had two runs at once"


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Load on an installation of its own")
    arguments.add_argument("--updates", type=int, default=10_000)
    arguments.add_argument("--models", type=int, default=100)
    report = measure(**vars(arguments.parse_args()))
    print(json.dumps(asdict(report), indent=2))
    sys.exit(1 if report.violations else 0)
