"""Thousands of targets: runs stay within the slots, a look costs little, and an outage loses nothing."""

import heapq
import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, TypeVar, cast

import httpx
import pytest

from arcanna_metrics.documents import Node
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.intake.routes import read_routes
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.protocol.holding import hold as hold_target
from arcanna_metrics.protocol.holding import release as release_target
from arcanna_metrics.protocol.holding import target_of
from arcanna_metrics.protocol.ledger import NO_JOB, Ledger
from arcanna_metrics.protocol.services import Services
from arcanna_metrics.protocol.slots import Slots
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
from tests.simulation.world import unobserved
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
            Slots(ledger),
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


def test_thousands_of_targets_stay_within_the_slots_and_all_are_recomputed() -> None:
    targets, slots = 2000, 50
    town = Town(targets=targets, slots=slots, crash_every=20)
    town.send({"models": "all"}, START)
    with unobserved():
        town.play()

    assert len(town.completed) == targets
    assert max(town.completed.values()) == 1
    assert town.most == slots
    assert town.dead_letters == []
    assert town.now - START < 2 * targets / slots * 140  # slots are not left empty for long


def _calls_of_a_look(targets: int, slots: int, free: int) -> Counter[str]:
    """The calls of one look for a number of due targets, slots and free slots."""
    town = Town(targets=targets, slots=slots)
    town.send({"models": "all", "older_than_seconds": 0}, START)
    with unobserved():
        town.play(until=START + 100.0)
        _release(town, free)
        town.calls.clear()
        town.look()
    return town.calls


def _release(town: Town, number: int) -> None:
    """Releases that many runs, without a look."""
    held = [item for item in town.table.items() if "number" in item]
    for item in held[:number]:
        freed = {
            name: value for name, value in item.items() if name not in ("run_id", "number", "due_at", "due")
        }
        request = {
            "TableName": "ledger",
            "Item": {**freed, "rev": {"N": str(int(item["rev"]["N"]) + 1)}},
            "ConditionExpression": "rev = :rev",
            "ExpressionAttributeValues": {":rev": item["rev"]},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        town.table.put(request)


def test_work_of_a_look_is_proportional_to_the_free_slots() -> None:
    calls = {
        (targets, free): _calls_of_a_look(targets, slots=10, free=free)
        for targets in (200, 2000)
        for free in (0, 1, 5, 10)
    }
    for (targets, free), made in calls.items():
        del made["Query for the gauges"]  # of a page for each thousand: once a minute, by the sweep
        shown = ", ".join(f"{number} {what}" for what, number in sorted(made.items()))
        print(f"{targets} targets due, {free} of 10 slots free: {shown}")

    for free in (0, 1, 5, 10):
        assert calls[200, free] == calls[2000, free]
    nothing, one, five = (calls[2000, free] for free in (0, 1, 5))
    assert nothing["PutItem"] == nothing["platform"] == 0
    assert five["StartExecution"] == 5
    assert five.total() - one.total() <= 4 * (one.total() - nothing.total())


def test_sweep_during_an_outage_calls_no_more_where_more_targets_wait() -> None:
    most = {targets: _most_calls_of_a_sweep(targets) for targets in (100, 1000)}
    print(f"calls of a sweep during an outage, by the number of targets that wait: {most}")
    assert most[1000] < 2 * most[100]


def _most_calls_of_a_sweep(targets: int) -> int:
    """The most calls of ten sweeps, an hour after that many targets began to wait."""
    town = Town(targets=targets, slots=10, away=START, back=START + DAY)
    for n in range(targets):
        town.send({"job_id": str(n % 100), "model_id": f"model-{n}"}, START + 0.1 * n)
    most = 0
    with unobserved():
        for minute in range(10):
            town.play(until=START + 3600.0 + 60.0 * minute)
            town.calls.clear()
            town.look()
            most = max(most, town.calls.total())
    return most


def test_after_an_outage_the_updates_that_have_waited_longest_are_recomputed_first() -> None:
    targets, back = 60, START + 4 * 3600
    town = Town(targets=targets, slots=2, away=START, back=back)
    for n in range(targets):
        town.send({"job_id": str(n % 100), "model_id": f"model-{n}"}, START + 60 * n)
    with unobserved():
        town.play(until=back)
        attempts = len(town.claims)
        town.play()

    claimed = dict.fromkeys(model for _, model, _ in town.claims[attempts:])
    places = [int(model.removeprefix("model-")) for model in claimed]
    assert sorted(places) == list(range(targets))
    apart = [abs(place - by_age) for place, by_age in enumerate(places)]
    assert sum(apart) / targets < 4  # 20 would be random order; a few targets back off when the outage ends


class PartlyHanging(Town):
    """A town whose platform answers for some targets only after the client's time-out of 10 seconds."""

    def __init__(self, *, hanging: int, targets: int) -> None:
        self._hanging = hanging
        super().__init__(targets=targets, slots=10)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        model = request.url.params.get("model_id")
        if model and int(model.removeprefix("model-")) < self._hanging:
            self.now += 10.0
            raise httpx.ReadTimeout("no answer")
        return super()._answer(request)


class PartlyBusy(Town):
    """A town whose platform is recomputing some targets for somebody else all the time."""

    def __init__(self, *, busy: int, targets: int, slots: int) -> None:
        self._busy = busy
        self.asked: list[tuple[float, str]] = []
        self.started: list[int] = []
        super().__init__(targets=targets, slots=slots)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        model = request.url.params.get("model_id")
        if model and int(model.removeprefix("model-")) < self._busy:
            self.asked.append((self.now, model))
            shown = {"is_recomputing_metrics": True, "last_recomputed_timestamp": None}
            return httpx.Response(200, json=shown)
        return super()._answer(request)

    def _start(self, name: str, given: str) -> None:
        self.started.append(int(json.loads(given)["run"]["model_id"].removeprefix("model-")))
        super()._start(name, given)


def test_targets_that_keep_failing_change_nothing_in_the_order_of_the_others() -> None:
    busy, targets = 10, 60
    town = PartlyBusy(busy=busy, targets=targets, slots=2)
    for number in range(targets):
        at = START + (number if number < busy else 30.0 * number)
        town.send({"job_id": str(number % 100), "model_id": f"model-{number}"}, at)
    with unobserved():
        town.play(until=START + 2 * 3600.0)
    assert town.started == list(range(busy, targets))


def test_look_tries_a_target_once_though_several_in_a_row_fail() -> None:
    town = PartlyBusy(busy=6, targets=6, slots=10)
    for number in range(6):
        town.send({"job_id": str(number), "model_id": f"model-{number}"}, START)
    with unobserved():
        town.play(until=START + 1.0)
    assert sorted(model for _, model in town.asked) == [f"model-{number}" for number in range(6)]


def test_targets_for_which_the_platform_hangs_do_not_starve_the_others() -> None:
    hanging, healthy = 40, 5
    town = PartlyHanging(hanging=hanging, targets=hanging + healthy)
    for number in range(hanging + healthy):
        at = START if number < hanging else START + 600.0
        town.send({"job_id": str(number % 100), "model_id": f"model-{number}"}, at)
    with unobserved():
        town.play(until=START + 6 * 3600.0)
    assert town.completed.keys() == {f"model-{number}" for number in range(hanging, hanging + healthy)}


@pytest.mark.long
def test_week_without_the_platform_loses_no_update() -> None:
    targets, slots, back = 200, 10, START + 7 * DAY
    town = Town(targets=targets, slots=slots, away=START, back=back)
    updates = Random(2)
    for _ in range(2000):
        n = updates.randrange(targets)
        town.send({"job_id": str(n % 100), "model_id": f"model-{n}"}, START + updates.uniform(0, 7 * DAY))
    with unobserved():
        town.play(until=back)
        due = {item["model_id"]["S"] for item in town.table.due("9", None, None)}
        assert not town.completed
        town.judge_order()
        town.play()

    assert town.dead_letters == []
    assert set(town.completed) == due
    assert max(town.completed.values()) == 1
    assert town.most == slots
    assert town.overtaken == []
    first = [claim[0] - back for claim in town.claims if claim[0] >= back]
    attempts = len(town.claims) - len(first)
    print(
        f"{len(due)} targets: {attempts:,} attempts while the platform was away, the first {first[0]:.0f} s"
    )
    print(f"after it was back, the last run begun {first[-1]:.0f} s after, with {slots} slots")
