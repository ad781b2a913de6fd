"""Record what has happened, then look at what is due: batches of messages, events by hand, the workflow."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from arcanna_metrics.errors import AwsUnavailable, BadInput
from arcanna_metrics.intake import routes
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.observability import metrics
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import Ledger, to_item
from arcanna_metrics.protocol.reconcile import RESERVE, Reconciler
from arcanna_metrics.protocol.transitions import CHECK_UP_INTERVAL, SETTLES, claim, hold, resume
from arcanna_metrics.runs.run import Run
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.trigger import FAN_OUT, NAP, Trigger
from tests.support.doubles import ACTIVE_TARGET, PACE, TARGET, Clock, Logs, Stack

LONG = 100.0
ROUTES = json.dumps(
    {
        "routes": [
            {
                "keys": ["data/{job_id}/{model_id}/*"],
                "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
            },
            {"keys": ["data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
        ]
    }
)
RUN: Any = {
    "run_id": "run-1",
    "target": {"job_id": TARGET.job_id, "model_id": TARGET.model_id},
    "model_id": TARGET.model_id,
    "requested_at": to_iso(Clock.now),
    "cause": {"updates": 1, "examples": []},
}
COMPLETED: Any = {
    "outcome": "completed",
    "active_changed": False,
    "past_run": {"run_id": "run-1", "duration_seconds": 9.0},
    "reference": None,
    "failure": None,
}


class Scene:
    """A trigger whose looks are noted, and what is around it."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack = stack
        self.clock = Clock()
        self.looks: list[list[Target]] = []
        self.slept: list[float] = []
        self.routes = routes.parse(ROUTES)
        self.ledger = Ledger(stack.dynamodb, stack.ledger_table, self.clock)
        self.look_fails: Exception | None = None
        monkeypatch.setattr(Reconciler, "look", self._look)
        self.trigger = Trigger(
            self.ledger,
            Reconciler.__new__(Reconciler),
            Queues(stack.sqs, stack.updates_url, stack.dead_letter_url),
            lambda: self.routes,
            lambda job_id: JobSettings(PACE, {}),
            43200.0,
            self.clock,
            self._sleep,
            draw=lambda: 0.5,
        )

    def _look(self, remaining: Any, recorded: Any) -> None:
        self.looks.append(list(recorded))
        if self.look_fails:
            raise self.look_fails

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds

    def deliver(self, *bodies: Any, age: float = 40.0, remaining: float = LONG) -> list[str]:
        """Delivers messages that were sent so long ago; returns the numbers of those that come again."""
        records = [
            {
                "messageId": str(number),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"SentTimestamp": str(int((self.clock.now - age) * 1000))},
            }
            for number, body in enumerate(bodies)
        ]
        return self.trigger.handle_batch(records, lambda: remaining)

    def upload(self, key: str, at: float | None = None) -> dict[str, Any]:
        """What EventBridge says of a new object."""
        return {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": to_iso(self.clock.now - 40 if at is None else at),
            "detail": {"bucket": {"name": "bucket"}, "object": {"key": key, "size": 9}},
        }

    def entry(self, target: Target = TARGET) -> Entry:
        return self.ledger.read(target)

    def holding(self, target: Target = TARGET) -> None:
        """The run run-1 holds the target."""
        self.ledger.apply(target, lambda entry: claim(entry, "run-1", self.clock.now))
        self.ledger.apply(target, lambda entry: hold(entry, "run-1", 0, self.clock.now))


@pytest.fixture
def scene(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(stack, monkeypatch)


REQUEST = {"job_id": TARGET.job_id, "model_id": TARGET.model_id}


# --- Recording -------------------------------------------------------------------------------------------


def test_upload_is_recorded_and_looked_at(scene: Scene) -> None:
    assert scene.deliver(scene.upload("data/1234/m/a.csv")) == []
    entry = scene.entry(Target("1234", "m"))
    assert entry.needed_as_of == scene.clock.now - 40 + PACE.visibility_lag
    assert [example.key for example in entry.examples] == ["data/1234/m/a.csv"]
    assert scene.looks == [[Target("1234", "m")]]


def test_batch_is_one_write_for_each_target(scene: Scene) -> None:
    uploads = [scene.upload(f"data/1234/m{n % 2}/{n}.csv", scene.clock.now - 60 + n) for n in range(20)]
    scene.deliver(*uploads)
    for model in ("m0", "m1"):
        entry = scene.entry(Target("1234", model))
        assert (entry.rev, entry.updates) == (1, 10)


def test_duplicate_delivery_writes_nothing(scene: Scene) -> None:
    scene.deliver(scene.upload("data/1234/m/a.csv"))
    scene.deliver(scene.upload("data/1234/m/a.csv"))
    assert scene.entry(Target("1234", "m")).rev == 1


def test_request_by_hand_is_needed_as_of_when_it_was_sent(scene: Scene) -> None:
    scene.deliver(REQUEST, age=1.0)
    assert scene.entry().needed_as_of == scene.entry().due_at == scene.clock.now - 1


@pytest.mark.parametrize(
    "body", ["garbage", {"job_id": ""}, {"job_id": "1", "waker": True}, {"nothing": "known"}]
)
def test_message_that_cannot_be_understood_is_a_dead_letter_with_its_reason_as_it_came(
    scene: Scene, body: Any
) -> None:
    assert scene.deliver(body) == []
    ((letter, reason, detail),) = scene.stack.dead_letters()
    assert letter == (body if isinstance(body, str) else json.dumps(body))
    assert reason == "BadInput"
    assert detail


def test_bad_message_holds_up_no_other(scene: Scene) -> None:
    assert scene.deliver("garbage", REQUEST, "garbage") == []
    assert scene.entry().dirty
    assert len(scene.stack.dead_letters()) == 2


def test_object_without_a_route_is_counted_and_done_with(scene: Scene, logs: Logs) -> None:
    metrics.clear_metrics()
    assert scene.deliver(scene.upload("elsewhere/a.csv")) == []
    assert scene.looks == []
    assert metrics.metric_set["UpdatesIgnored"]["Value"] == [1.0]
    assert logs.lines[-1]["key"] == "elsewhere/a.csv"


def test_message_comes_again_where_it_could_not_be_recorded_and_only_that_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = scene.ledger.apply

    def fails_for_one(target: Target, transition: Any, known: Entry | None) -> Entry | None:
        if target == TARGET:
            raise AwsUnavailable("throttled")
        return apply(target, transition, known)

    monkeypatch.setattr(scene.ledger, "apply", fails_for_one)
    assert scene.deliver({"job_id": "9"}, REQUEST, REQUEST) == ["1", "2"]
    assert scene.entry(Target("9", None)).dirty


def test_all_messages_come_again_where_the_ledger_cannot_be_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(targets: list[Target]) -> dict[Target, Entry]:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(scene.ledger, "read_all", away)
    assert scene.deliver({"job_id": "9"}, REQUEST) == ["0", "1"]


def test_entry_that_changes_between_its_reading_and_its_writing_is_read_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all = scene.ledger.read_all

    def then_changed(targets: list[Target]) -> dict[Target, Entry]:
        entries = read_all(targets)
        before = entries[TARGET]
        assert scene.ledger.swap(before, replace(before, fresh_as_of=1.0))
        return entries

    monkeypatch.setattr(scene.ledger, "read_all", then_changed)
    assert scene.deliver(REQUEST) == []
    assert scene.entry(TARGET).dirty
    assert scene.entry(TARGET).fresh_as_of == 1.0


def test_bug_that_one_message_meets_holds_up_no_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(created: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(type(scene.routes), "updates", lambda self, created: buggy(created))
    assert scene.deliver(scene.upload("data/1/a.csv"), REQUEST) == ["0"]
    assert scene.entry().dirty


def test_messages_come_again_where_no_time_is_left(scene: Scene) -> None:
    assert scene.deliver(REQUEST, remaining=RESERVE - 1) == ["0"]
    assert not scene.entry().dirty


def test_dead_letter_that_cannot_be_sent_stays_in_the_queue(scene: Scene) -> None:
    scene.stack.sqs.delete_queue(QueueUrl=scene.stack.dead_letter_url)
    assert scene.deliver("garbage", REQUEST) == ["0"]
    assert scene.entry().dirty


def test_look_that_fails_brings_no_message_back(scene: Scene) -> None:
    scene.look_fails = AwsUnavailable("throttled")
    assert scene.deliver(REQUEST) == []
    assert scene.entry().dirty


def test_what_is_due_within_moments_is_waited_for(scene: Scene) -> None:
    at = scene.clock.now - PACE.visibility_lag + NAP / 2
    scene.deliver(scene.upload("data/1234/m/a.csv", at), age=0.0)
    assert scene.slept == [pytest.approx(NAP / 2)]


def test_what_is_due_later_is_left_to_a_sweep(scene: Scene) -> None:
    scene.deliver(scene.upload("data/1234/m/a.csv", scene.clock.now), age=0.0)
    assert scene.slept == []
    assert scene.looks == [[]]


# --- Schedules -------------------------------------------------------------------------------------------


def test_schedule_wishes_for_every_job_that_the_ledger_knows(scene: Scene) -> None:
    scene.stack.put(Entry(TARGET, fresh_as_of=1.0))
    scene.deliver({"models": "all", "older_than_seconds": 3600})
    entry = scene.entry(ACTIVE_TARGET)
    assert entry.wanted_at == scene.clock.now - 40
    assert entry.wanted_as_of == scene.clock.now - 40 - 3600
    assert entry.cause == "schedule"


def test_large_schedule_asks_by_a_public_request_for_each_target(scene: Scene) -> None:
    for number in range(FAN_OUT + 1):
        scene.stack.put(Entry(Target(str(number), None), fresh_as_of=1.0))
    scene.deliver({"models": "all", "older_than_seconds": 3600})
    requests = scene.stack.waiting()
    assert len(requests) == FAN_OUT + 1
    assert scene.looks == []
    scene.deliver(*requests)
    assert scene.entry(Target("0", None)).wanted_as_of == scene.clock.now - 40 - 3600


def test_schedule_without_an_age_needs_every_target_as_of_now(scene: Scene) -> None:
    scene.stack.put(Entry(TARGET, fresh_as_of=1.0))
    scene.deliver({"models": "all"})
    assert scene.entry(ACTIVE_TARGET).needed_as_of == scene.clock.now - 40


# --- Sweeps and reports ----------------------------------------------------------------------------------


def test_sweep_that_finds_nothing_says_nothing(scene: Scene, logs: Logs) -> None:
    metrics.clear_metrics()
    assert scene.deliver({"sweep": True}) == []
    assert scene.looks == []
    assert logs.lines == []
    assert metrics.metric_set == {}


def test_sweep_emits_gauges_while_anything_waits_or_runs_and_looks(scene: Scene) -> None:
    metrics.clear_metrics()
    now = scene.clock.now
    scene.stack.put(Entry(TARGET, needed_as_of=now - 70, waiting_since=now - 105, due_at=now - 70))
    scene.stack.put(Entry(ACTIVE_TARGET, run_id="run-1", held=True, due_at=now + 9))
    scene.deliver({"sweep": True}, {"sweep": True})
    assert {name: metric["Value"] for name, metric in metrics.metric_set.items()} == {
        "TargetsDue": [1.0],
        "SlotsTaken": [1.0],
        "OldestUpdateAge": [105.0],
    }
    assert scene.looks == [[]]


def test_sweep_emits_gauges_also_where_updates_never_cease(scene: Scene) -> None:
    metrics.clear_metrics()
    scene.stack.put(Entry(TARGET, waiting_since=scene.clock.now - 90_000, due_at=scene.clock.now - 1))
    scene.deliver({"job_id": "8"}, {"sweep": True})
    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [90_000.0]


def test_entry_that_somebody_has_edited_keeps_no_sweep_from_looking(scene: Scene) -> None:
    scene.stack.put(Entry(ACTIVE_TARGET, due_at=1.0, needed_as_of=1.0))
    item: Any = {**to_item(Entry(TARGET, due_at=1.0), 1), "waiting_since": {"S": ""}}
    scene.stack.dynamodb.put_item(TableName=scene.stack.ledger_table, Item=item)
    assert scene.deliver({"sweep": True}) == []
    assert scene.looks == [[]]


def test_report_of_a_run_whose_entry_somebody_has_edited_brings_no_message_back(scene: Scene) -> None:
    item: Any = {**to_item(Entry(TARGET, run_id="run-1", due_at=1.0), 1), "requested_at": {"S": "junk"}}
    scene.stack.dynamodb.put_item(TableName=scene.stack.ledger_table, Item=item)
    assert scene.deliver(ended("FAILED"), {"job_id": "9"}) == []
    assert scene.looks == [[Target("9", None)]]


def test_lower_spacing_reaches_what_already_waits(scene: Scene) -> None:
    now = scene.clock.now
    waiting = Entry(TARGET, needed_as_of=now - 60, waiting_since=now - 95, fresh_as_of=now - 900)
    scene.stack.put(replace(waiting, due_at=now + 7 * 86400))  # with a spacing of a week
    scene.deliver({"sweep": True})
    assert scene.entry().due_at == now - 60


def test_age_of_a_batch_counts_from_when_it_was_enough(scene: Scene) -> None:
    metrics.clear_metrics()
    scene.stack.put(Entry(TARGET, due_at=scene.clock.now - 30))
    scene.deliver({"sweep": True})
    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [30.0]


def ended(status: str, run_id: str = "run-1") -> dict[str, Any]:
    """What EventBridge says of an execution."""
    return {
        "source": "aws.states",
        "detail-type": "Step Functions Execution Status Change",
        "time": "2025-01-15T14:30:00Z",
        "detail": {
            "executionArn": f"arn:aws:states:eu-central-1:123456789012:execution:recompute:{run_id}",
            "status": status,
            "input": json.dumps({"run": {**RUN, "run_id": run_id}, "number": 0}),
        },
    }


@pytest.mark.parametrize(
    "status", ["FAILED", "TIMED_OUT", "ABORTED", "SUCCEEDED", "RUNNING", "PENDING_REDRIVE"]
)
def test_reported_end_is_a_hint_to_look_and_changes_nothing_else(scene: Scene, status: str) -> None:
    scene.holding()
    before = scene.entry()
    scene.clock.now += 10
    assert scene.deliver(ended(status)) == []
    assert scene.entry() == replace(before, rev=before.rev + 1, due_at=scene.clock.now + SETTLES)


def test_report_of_a_run_that_holds_its_target_no_more_changes_nothing(scene: Scene) -> None:
    scene.holding()
    before = scene.entry()
    scene.deliver(ended("FAILED", "run-0"))
    assert scene.entry() == before


# --- By hand ---------------------------------------------------------------------------------------------


def test_event_by_hand_is_answered_with_what_the_ledger_says(scene: Scene) -> None:
    (recorded,) = scene.trigger.handle_event(REQUEST, lambda: LONG)
    assert recorded == (*TARGET, 1, None, to_iso(scene.clock.now))


def test_event_by_hand_that_cannot_be_understood_is_an_error(scene: Scene) -> None:
    with pytest.raises(BadInput):
        scene.trigger.handle_event({"job_id": "1", "count": 3}, lambda: LONG)


def test_event_by_hand_that_cannot_be_recorded_is_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(target: Target, transition: Any, known: Entry | None) -> None:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(scene.ledger, "apply", away)
    with pytest.raises(AwsUnavailable):
        scene.trigger.handle_event(REQUEST, lambda: LONG)


# --- The workflow ----------------------------------------------------------------------------------------


def test_execution_holds_the_target_that_its_run_has_claimed(scene: Scene) -> None:
    scene.ledger.apply(TARGET, lambda entry: claim(entry, "run-1", scene.clock.now))
    assert scene.trigger.hold(RUN, 0)
    assert scene.trigger.hold(RUN, 0)  # repeated, because its answer was lost
    assert (scene.entry().held, scene.entry().due_at) == (True, scene.clock.now + CHECK_UP_INTERVAL)


@pytest.mark.parametrize(("run_id", "number"), [("run-2", 0), ("run-1", 1)])
def test_execution_of_a_claim_or_number_that_was_taken_over_ends(
    scene: Scene, run_id: str, number: int
) -> None:
    scene.ledger.apply(TARGET, lambda entry: claim(entry, "run-1", scene.clock.now))
    assert not scene.trigger.hold(cast("Run", {**RUN, "run_id": run_id}), number)
    assert not scene.entry().held


def test_release_remembers_the_result_and_looks_at_what_is_due(scene: Scene) -> None:
    scene.holding()
    assert scene.trigger.release(RUN, 0, COMPLETED, lambda: LONG)
    entry = scene.entry()
    assert (entry.run_id, entry.fresh_as_of, entry.due_at) == (None, Clock.now, None)
    assert [past["run_id"] for past in entry.history] == ["run-1"]
    assert scene.looks == [[TARGET]]


def test_release_that_is_repeated_changes_nothing_and_looks_all_the_same(scene: Scene) -> None:
    scene.holding()
    scene.trigger.release(RUN, 0, COMPLETED, lambda: LONG)
    before = scene.entry()
    assert not scene.trigger.release(RUN, 0, COMPLETED, lambda: LONG)
    assert scene.entry() == before
    assert len(scene.looks) == 2


def test_late_release_of_an_aborted_execution_changes_nothing_after_a_resumption(
    scene: Scene,
) -> None:
    scene.holding()
    scene.ledger.apply(TARGET, lambda entry: resume(entry, 1, scene.clock.now))
    before = scene.entry()
    assert not scene.trigger.release(RUN, 0, COMPLETED, lambda: LONG)
    assert scene.entry() == before
    assert scene.trigger.release(RUN, 1, COMPLETED, lambda: LONG)


def test_release_is_done_although_the_look_after_it_fails(scene: Scene) -> None:
    scene.look_fails = ZeroDivisionError()
    scene.holding()
    assert scene.trigger.release(RUN, 0, COMPLETED, lambda: LONG)
    assert scene.entry().run_id is None
