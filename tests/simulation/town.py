"""A town of thousands of targets: the real trigger, ledger and slots in memory, in simulated time."""

import heapq
import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, TypeVar, cast

import httpx

from arcanna_metrics.controller.holding import hold as hold_target
from arcanna_metrics.controller.holding import release as release_target
from arcanna_metrics.controller.holding import target_of
from arcanna_metrics.controller.services import Services
from arcanna_metrics.documents import Node
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.intake.routes import read_routes
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.protocol.ledger import NO_JOB, Ledger
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import JobSettings, Pace, Settings
from arcanna_metrics.times import from_iso
from arcanna_metrics.trigger import Trigger
from arcanna_metrics.workflow import Workflow
from tests.simulation.aws import (
    DEAD_LETTERS_URL,
    STATE_MACHINE,
    UPDATES_URL,
    DynamoDbClient,
    ExecutionDoesNotExist,
    Item,
    SqsClient,
    StatesClient,
    Table,
)
from tests.support.runs import NO_RULES

T = TypeVar("T")

START = 1_736_950_000.0
DAY = 86400.0
SWEEP = 60.0
INVOCATION = 120.0
TAKES = {True: 0.01, False: 0.1}
"""Durations of calls to AWS and to the platform, in seconds."""

COMPLETED: Result = {
    "outcome": "completed",
    "active_changed": False,
    "past_run": None,
    "figures": {"overall_accuracy": (0.9, 100)},
    "failure": None,
}


class Crash(BaseException):
    """The invocation's process has died."""


class Town:
    """The real trigger with its ledger and slots. Recomputes and runs take a minute or two.

    Invocations come one after the other. Every `crash_every`th dies at its first StartExecution. The platform
    does not answer from `away` to `back` (epoch seconds).
    """

    def __init__(
        self,
        *,
        targets: int,
        slots: int,
        crash_every: int = 0,
        away: float = 0.0,
        back: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.now = START
        self.calls: Counter[str] = Counter()
        self.recomputing: set[str] = set()  # at the platform
        self.most = 0
        self.completed: Counter[str] = Counter()
        self.dead_letters: list[str] = []
        self.claims: list[tuple[float, str, float]] = []  # time, target, and since when it was due
        self.overtaken: list[str] = []
        self._random = Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._queue: list[tuple[float, int, float, str]] = []
        self._invocations = 0
        self._crash_every = crash_every
        self._doomed = False
        self._away, self._back = away, back
        self._executions: dict[str, bool] = {}  # whether they run
        self._watched = False
        self.table = Table(lambda: self.now, lambda: 0.0, self._watch)
        self.trigger = self._new_trigger(targets, slots)

    def _new_trigger(self, targets: int, slots: int) -> Trigger:
        dynamodb = cast("Any", DynamoDbClient(self.table, self))
        arcanna = Arcanna(
            httpx.Client(base_url="https://arcanna", transport=httpx.MockTransport(self._answer)),
            lambda read_again: "key",
        )
        pace = Pace(
            visibility_lag=30.0,
            spacing=0.0,
            slots=slots,
            start_grace=120.0,
            deadline=3600.0,
            shortest_poll=5.0,
            longest_poll=900.0,
            stale_after=DAY,
            first_backoff=5.0,
            longest_backoff=900.0,
        )
        known = [{"job_id": str(n % 100), "model_id": f"model-{n}"} for n in range(targets)]
        settings = Settings(read_routes(Node([{"targets": known}])), JobSettings(pace, NO_RULES), {})
        ledger = Ledger(dynamodb, "ledger", self._clock)
        states = StatesClient(self._start, self._describe, self)
        self.services = Services(
            ledger,
            Workflow(cast("Any", states), STATE_MACHINE),
            arcanna,
            lambda: settings,
            "bus",
            self._clock,
            draw=self._random.random,
            new_id=lambda: f"run-{next(self._order)}",
        )
        queues = Queues(cast("Any", SqsClient(self._send, self)), UPDATES_URL, DEAD_LETTERS_URL)
        return Trigger(self.services, lambda: queues, self._sleep)

    # --- What happens ---------------------------------------------------------------------------------------

    def send(self, body: object, at: float) -> None:
        """Schedules a message for that time."""
        heapq.heappush(self._queue, (at, next(self._order), at, json.dumps(body)))

    def play(self, until: float = float("inf")) -> None:
        """Plays until the town is quiet, or until that time."""
        sweep = START
        while self.now < until:
            due = [item["due_at"]["S"] for item in self.table.due("9", None, 1)]
            if not self._queue and not self._events and not due:
                return
            if due:
                sweep = max(sweep, self.now // SWEEP * SWEEP + SWEEP)
            times = [at for at, *_ in self._queue[:1]] + [at for at, *_ in self._events[:1]] + [until]
            self.now = max(self.now, min([*times, sweep] if due else times))
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            if due and self.now >= sweep:
                self.send({"sweep": True}, self.now)
                sweep += SWEEP
            self._deliver()

    def look(self) -> None:
        """One look at what is due."""
        self.trigger.handle_event({"sweep": True}, lambda: INVOCATION)

    def _deliver(self) -> None:
        batch: list[tuple[float, int, float, str]] = []
        while self._queue and self._queue[0][0] <= self.now and len(batch) < 1000:
            batch.append(heapq.heappop(self._queue))
        if not batch:
            return
        self._invocations += 1
        self._doomed = bool(self._crash_every) and self._invocations % self._crash_every == 0
        records = [
            {"messageId": str(n), "body": body, "attributes": {"SentTimestamp": str(int(sent * 1000))}}
            for n, (_, _, sent, body) in enumerate(batch)
        ]
        deadline = self.now + INVOCATION
        try:
            failed = self.trigger.handle_batch(records, lambda: deadline - self.now)
        except Crash:
            failed = [str(n) for n in range(len(batch))]
        self._doomed = False
        for message_id in failed:
            _, number, sent, body = batch[int(message_id)]
            heapq.heappush(self._queue, (self.now + 720.0, number, sent, body))

    def _clock(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(
        self, what: str, effect: Callable[[], T], failure: Callable[[bool], Exception], *, aws: bool = True
    ) -> T:
        """A call to AWS."""
        self.calls[what] += 1
        self.now += TAKES[aws]
        if self._doomed and what == "StartExecution":
            raise Crash
        return effect()

    def left_out(self, what: str, number: int) -> set[int]:
        """None, because calls never leave out items here."""
        return set()

    def _send(self, url: str, body: str, delay: float | None, attributes: dict[str, Any]) -> None:
        if url == DEAD_LETTERS_URL:
            self.dead_letters.append(body)
        else:
            self.send(json.loads(body), self.now + (delay or 0.0))

    # --- The platform and the executions --------------------------------------------------------------------

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.calls["platform"] += 1
        self.now += TAKES[False]
        if self._away <= self.now < self._back:
            raise httpx.ConnectError("nobody is there")
        if (model := request.url.params.get("model_id")) is None:
            return httpx.Response(200, json=[])  # the key's scopes
        if request.method == "POST":
            self.recomputing.add(model)
            self.most = max(self.most, len(self.recomputing))
            self._after(self._random.uniform(60, 120), lambda: self.recomputing.discard(model))
            return httpx.Response(200, json={"status": "queued"})
        shown = {"is_recomputing_metrics": model in self.recomputing, "last_recomputed_timestamp": None}
        return httpx.Response(200, json=shown)

    def _start(self, name: str, given: str) -> None:
        run: Run = json.loads(given)["run"]
        self._executions[name] = True

        def hold() -> None:
            if not hold_target(self.services, run, 0):
                self._executions[name] = False
                return
            self._after(self._random.uniform(125, 150), release)

        def release() -> None:
            self._executions[name] = False
            self.completed[run["model_id"] or ""] += 1
            deadline = self.now + INVOCATION
            release_target(self.services, run, 0, COMPLETED)
            self.trigger.look(lambda: deadline - self.now, [target_of(run)])

        self._after(0.5, hold)

    def _describe(self, name: str) -> tuple[str, str]:
        if name not in self._executions:
            raise ExecutionDoesNotExist
        return ("RUNNING" if self._executions[name] else "SUCCEEDED"), "{}"

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def judge_order(self) -> None:
        """Notes each claim of a target while another was due for longer."""
        self._watched = True

    def _watch(self, before: Item, after: Item) -> None:
        if after["job_id"]["S"] == NO_JOB or "run_id" in before or "run_id" not in after:
            return
        model, due_at = after["model_id"]["S"], before["due_at"]["S"]
        self.claims.append((self.now, model, from_iso(due_at)))
        if self._watched:
            free = (item for item in self.table.due(due_at, None, None) if "run_id" not in item)
            self.overtaken += [model for item in free if item["due_at"]["S"] < due_at]
