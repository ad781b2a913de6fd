"""A schedule asks for thousands of models, and the platform for no more at once than it may."""

import heapq
import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, TypeVar, cast

import httpx

from arcanna_metrics.aws import Queues, Workflow
from arcanna_metrics.intake import routes
from arcanna_metrics.ledger import Ledger
from arcanna_metrics.places import GRACE, Places
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.settings import PollSettings, RetrySettings
from arcanna_metrics.starter import Starter
from arcanna_metrics.trigger import Trigger
from tests.deployment import workflow
from tests.simulation.aws import DynamoDbClient, Item, SqsClient, StatesClient, Table
from tests.simulation.workflow import Interpreter
from tests.simulation.world import _unobserved

T = TypeVar("T")

MODELS = 2000
LIMIT = 100
START = 1_736_950_000.0
CRASH_EVERY = 50
"""Invocations; such a one dies with its models claimed, and its messages are delivered again."""


class Crash(BaseException):
    """The invocation's process is gone."""


class Town:
    """The real trigger, ledger and places; runs take a minute or two, and then release their model."""

    def __init__(self, seed: int) -> None:
        self.now = START
        self.running: set[str] = set()
        self.most = 0
        self.completed: Counter[str] = Counter()
        self._random = Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._queue: list[tuple[float, int, str]] = []
        self._doomed = False
        table = Table(lambda before, after: None, lambda request: request)
        dynamodb = cast("Any", DynamoDbClient(table, self._call))
        self._table = table
        arcanna = Arcanna(
            httpx.Client(base_url="https://arcanna", transport=httpx.MockTransport(self._answer)),
            lambda read_again: "key",
        )
        starter = Starter(
            arcanna,
            Ledger(dynamodb, "ledger"),
            Workflow(cast("Any", StatesClient(self._start, self._call)), "workflow"),
            Places(dynamodb, "ledger", LIMIT),
            margin=5.0,
            spacing=0.0,
            run_deadline=3600.0,
            polls=PollSettings(5, 900, 600),
            clock=lambda: self.now,
        )
        targets = [{"job_id": str(n % 100), "model_id": f"model-{n}"} for n in range(MODELS)]
        self._trigger = Trigger(
            starter,
            arcanna,
            Queues(cast("Any", SqsClient(self._send, self._call)), "updates", "dead letters"),
            lambda: routes.parse(json.dumps({"routes": [{"targets": targets}]})),
            RetrySettings(5, 900, 3600),
            lambda: self.now,
            lambda seconds: None,
            self._random.random,
        )

    def play(self) -> None:
        """One tick of the schedule, to the quiet end."""
        self._send("updates", '{"models": "all"}', 30.0, {})
        for number in count(1):
            if not self._queue and not self._events:
                return
            self._pass_time()
            batch: list[tuple[float, int, str]] = []
            while self._queue and self._queue[0][0] <= self.now and len(batch) < 100:
                batch.append(heapq.heappop(self._queue))
            if batch:
                self._invoke(batch, doomed=number % CRASH_EVERY == 0)

    def _pass_time(self) -> None:
        self.now = max(self.now, min(entry[0] for entry in (*self._queue[:1], *self._events[:1])))
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()

    def _invoke(self, batch: list[tuple[float, int, str]], doomed: bool) -> None:
        self._doomed = doomed
        records = [
            {"messageId": str(n), "body": body, "attributes": {"SentTimestamp": str(int(at * 1000))}}
            for n, (at, _, body) in enumerate(batch)
        ]
        try:
            failed = self._trigger.handle_batch(records, lambda: 100.0)
        except Crash:
            failed = [str(n) for n in range(len(batch))]
        for message_id in failed:
            heapq.heappush(self._queue, (self.now + 720.0, next(self._order), batch[int(message_id)][2]))

    def _call(
        self, what: str, effect: Callable[[], T], failure: Callable[[], Exception], patience: float = 50.0
    ) -> T:
        if self._doomed and what == "StartExecution":
            raise Crash
        return effect()

    def _send(self, url: str, body: str, delay: float | None, attributes: dict[str, Any]) -> None:
        assert url == "updates", body
        heapq.heappush(self._queue, (self.now + (delay or 0.0), next(self._order), body))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"status": "queued"})
        idle: dict[str, Any] = {"is_recomputing_metrics": False, "last_recomputed_timestamp": None}
        return httpx.Response(200, json=idle)

    def _start(self, name: str, given: str) -> None:
        data = json.loads(given)
        self._write("HoldModel", data)
        self.running.add(name)
        self.most = max(self.most, len(self.running))

        def end() -> None:
            self.running.remove(name)
            self.completed[data["run"]["model_id"]] += 1
            self._write("ReleaseCompleted", data)

        at = self.now + self._random.uniform(60, 120)
        heapq.heappush(self._events, (at, next(self._order), end))

    def _write(self, state: str, data: dict[str, Any]) -> None:
        write = {**workflow()["States"][state], "Retry": [], "Catch": [], "Next": "Written"}

        def update_item(parameters: dict[str, Any]) -> dict[str, Item]:
            return self._table.update(parameters)

        interpreter = Interpreter(
            {"StartAt": state, "States": {state: write, "Written": {"Type": "Succeed"}}},
            {write["Resource"]: update_item},
            wait=lambda seconds: None,
            entered_time=lambda: "2025-01-15T14:35:00.000Z",
        )
        assert interpreter.run("execution", data, self._random).status == "SUCCEEDED"


def test_thousands_of_models_never_exceed_the_limit_and_none_is_forgotten() -> None:
    town = Town(seed=1)
    with _unobserved():
        town.play()

    assert len(town.completed) == MODELS
    assert max(town.completed.values()) == 1
    assert town.most == LIMIT
    assert town.now - START < 2 * (MODELS / LIMIT * 90 + GRACE)  # places are not left empty for long
