"""The trigger records updates, then looks at what is due: message batches, direct events, the workflow."""

import json
from dataclasses import replace
from typing import Any

import pytest

from arcanna_metrics import trigger
from arcanna_metrics.errors import AwsUnavailable, BadInput
from arcanna_metrics.intake.routes import Routes
from arcanna_metrics.observability import metrics
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import Ledger, to_item
from arcanna_metrics.protocol.reconcile import RESERVE
from arcanna_metrics.protocol.services import Services
from arcanna_metrics.protocol.transitions import CONSISTENT_AFTER
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.trigger import NAP
from tests.support.doubles import ACTIVE_TARGET, PACE, TARGET, Logs
from tests.unit.scene import LONG, Scene

RUN: Any = {
    "run_id": "run-1",
    "target": {"job_id": TARGET.job_id, "model_id": TARGET.model_id},
}


class Looks:
    """Stands in for `reconcile.look`: notes the targets that it was given, and fails if told to."""

    def __init__(self) -> None:
        self.targets: list[list[Target]] = []
        self.fails: Exception | None = None

    def __call__(self, services: Services, remaining: Any, recorded: Any) -> None:
        self.targets.append(list(recorded))
        if self.fails:
            raise self.fails


@pytest.fixture(autouse=True)
def looks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr(trigger, "look", looks)
    return looks


REQUEST = {"job_id": TARGET.job_id, "model_id": TARGET.model_id}


# --- Recording -------------------------------------------------------------------------------------------


def test_upload_is_recorded_and_its_target_looked_at(scene: Scene, looks: Looks) -> None:
    assert scene.deliver(scene.upload("data/1234/m/a.csv")) == []
    entry = scene.entry(Target("1234", "m"))
    assert entry.needed_as_of == scene.clock.now - 40 + PACE.visibility_lag
    assert [example.key for example in entry.examples] == ["data/1234/m/a.csv"]
    assert looks.targets == [[Target("1234", "m")]]


def test_batch_is_written_once_per_target(scene: Scene) -> None:
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
def test_unusable_message_becomes_a_dead_letter_with_its_reason(scene: Scene, body: Any) -> None:
    assert scene.deliver(body) == []
    ((letter, reason, detail),) = scene.stack.dead_letters()
    assert letter == (body if isinstance(body, str) else json.dumps(body))
    assert reason == "BadInput"
    assert detail


def test_bad_message_does_not_block_others(scene: Scene) -> None:
    assert scene.deliver("garbage", REQUEST, "garbage") == []
    assert scene.entry().dirty
    assert len(scene.stack.dead_letters()) == 2


def test_object_without_a_route_is_counted_and_acknowledged(scene: Scene, looks: Looks, logs: Logs) -> None:
    metrics.clear_metrics()
    assert scene.deliver(scene.upload("elsewhere/a.csv")) == []
    assert looks.targets == []
    assert metrics.metric_set["UpdatesIgnored"]["Value"] == [1.0]
    assert logs.lines[-1]["key"] == "elsewhere/a.csv"


def test_only_messages_that_could_not_be_recorded_return(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = scene.ledger.apply

    def fails_for_one(target: Target, transition: Any, known: Entry | None) -> Entry | None:
        if target == TARGET:
            raise AwsUnavailable("throttled")
        return apply(target, transition, known)

    monkeypatch.setattr(scene.ledger, "apply", fails_for_one)
    metrics.clear_metrics()
    assert scene.deliver({"job_id": "9"}, REQUEST, REQUEST) == ["1", "2"]
    assert scene.entry(Target("9", None)).dirty
    assert metrics.metric_set["AwsUnavailable"]["Value"] == [1.0]


def test_all_messages_come_again_if_the_ledger_cannot_be_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(targets: list[Target]) -> dict[Target, Entry]:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(scene.ledger, "read_all", away)
    assert scene.deliver({"job_id": "9"}, REQUEST) == ["0", "1"]


def test_entry_changed_between_read_and_write_is_read_again(
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


def test_bug_in_one_message_does_not_block_others(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(created: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Routes, "updates", lambda self, created: buggy(created))
    assert scene.deliver(scene.upload("data/1/a.csv"), REQUEST) == ["0"]
    assert scene.entry().dirty


def test_messages_return_if_no_time_is_left(scene: Scene) -> None:
    metrics.clear_metrics()
    assert scene.deliver(REQUEST, remaining=RESERVE - 1) == ["0"]
    assert metrics.metric_set.keys() == {"UpdatesReceived"}
    assert not scene.entry().dirty


def test_message_stays_in_the_queue_if_its_dead_letter_cannot_be_sent(scene: Scene) -> None:
    scene.stack.sqs.delete_queue(QueueUrl=scene.stack.dead_letter_url)
    assert scene.deliver("garbage", REQUEST) == ["0"]
    assert scene.entry().dirty


def test_unreachable_dead_letter_queue_is_called_once_for_all_messages(scene: Scene, logs: Logs) -> None:
    scene.stack.sqs.delete_queue(QueueUrl=scene.stack.dead_letter_url)
    assert scene.deliver("garbage", "rubbish", "waste") == ["0", "1", "2"]
    (line,) = [line for line in logs.lines if line["level"] == "ERROR"]
    assert (line["message"], line["messages"]) == ("unusable messages stay in the queue", 3)


def test_unusable_messages_stay_in_the_queue_if_no_time_is_left(scene: Scene) -> None:
    assert scene.deliver("garbage", remaining=RESERVE - 1) == ["0"]
    assert scene.stack.dead_letters() == []


def test_failed_look_returns_no_message_to_the_queue(scene: Scene, looks: Looks) -> None:
    looks.fails = AwsUnavailable("throttled")
    assert scene.deliver(REQUEST) == []
    assert scene.entry().dirty


def test_target_due_within_moments_is_waited_for(scene: Scene) -> None:
    at = scene.clock.now - PACE.visibility_lag + NAP / 2
    scene.deliver(scene.upload("data/1234/m/a.csv", at), age=0.0)
    assert scene.slept == [pytest.approx(NAP / 2)]


def test_target_due_later_is_left_to_the_sweep(scene: Scene, looks: Looks) -> None:
    scene.deliver(scene.upload("data/1234/m/a.csv", scene.clock.now), age=0.0)
    assert scene.slept == []
    assert looks.targets == [[]]


# --- Schedules -------------------------------------------------------------------------------------------


def test_schedule_wishes_for_every_job_that_the_ledger_knows(scene: Scene) -> None:
    scene.stack.put(Entry(TARGET, fresh_as_of=1.0))
    scene.deliver({"models": "all", "older_than_seconds": 3600})
    entry = scene.entry(ACTIVE_TARGET)

    assert entry.wanted_at == scene.clock.now - 40
    assert entry.wanted_as_of == scene.clock.now - 40 - 3600
    assert entry.cause == "schedule"


def test_large_schedule_sends_one_request_per_target(
    scene: Scene, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcanna_metrics.trigger.FAN_OUT", 3)
    for number in range(4):
        scene.stack.put(Entry(Target(str(number), None), fresh_as_of=1.0))
    scene.deliver({"models": "all", "older_than_seconds": 3600})
    requests = scene.stack.waiting()
    assert len(requests) == 4
    assert looks.targets == []
    scene.deliver(*requests)
    assert scene.entry(Target("0", None)).wanted_as_of == scene.clock.now - 40 - 3600


def test_schedule_with_an_age_of_zero_needs_every_target_as_of_now(scene: Scene) -> None:
    scene.stack.put(Entry(TARGET, fresh_as_of=1.0))
    scene.deliver({"models": "all", "older_than_seconds": 0})
    assert scene.entry(ACTIVE_TARGET).needed_as_of == scene.clock.now - 40


def test_schedule_without_an_age_asks_by_what_the_settings_of_each_job_call_stale(scene: Scene) -> None:
    scene.pace = replace(PACE, stale_after=600)
    scene.jobs = {"7": JobSettings(replace(PACE, stale_after=60), {})}
    for job_id in ("7", "8"):
        scene.stack.put(Entry(Target(job_id, "m"), fresh_as_of=1.0))
    scene.deliver({"models": "all"})
    for job_id, stale_after in (("7", 60), ("8", 600)):
        assert scene.entry(Target(job_id, None)).wanted_as_of == scene.clock.now - 40 - stale_after


# --- Sweeps and reports ----------------------------------------------------------------------------------


def test_sweep_that_finds_nothing_logs_and_emits_nothing(scene: Scene, looks: Looks, logs: Logs) -> None:
    metrics.clear_metrics()
    assert scene.deliver({"sweep": True}) == []
    assert looks.targets == []
    assert logs.lines == []
    assert metrics.metric_set == {}


def test_sweep_emits_gauges_while_anything_waits_or_runs_and_looks(scene: Scene, looks: Looks) -> None:
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
    assert looks.targets == [[]]


def test_sweep_emits_gauges_beside_other_messages(scene: Scene) -> None:
    metrics.clear_metrics()
    scene.stack.put(Entry(TARGET, waiting_since=scene.clock.now - 90_000, due_at=scene.clock.now - 1))
    scene.deliver({"job_id": "8"}, {"sweep": True})

    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [90_000.0]


@pytest.mark.parametrize("corrupt", [{"S": ""}, {"N": "5"}])
def test_sweep_looks_despite_a_corrupt_entry(scene: Scene, looks: Looks, corrupt: object) -> None:
    scene.stack.put(Entry(ACTIVE_TARGET, due_at=1.0, needed_as_of=1.0))
    item: Any = {**to_item(Entry(TARGET, due_at=1.0), 1), "waiting_since": corrupt}
    scene.stack.dynamodb.put_item(TableName=scene.stack.ledger_table, Item=item)

    assert scene.deliver({"sweep": True}) == []
    assert looks.targets == [[]]


@pytest.mark.parametrize("due_in", [-5.0, 5.0])
def test_sweep_corrects_the_others_and_looks_despite_an_entry_that_cannot_be_read(
    scene: Scene, looks: Looks, due_in: float
) -> None:
    now, corrupt = scene.clock.now, Target("7", "corrupt")
    put_off = Entry(TARGET, needed_as_of=now - 600, attempts=3, retry_at=now - 1, due_at=now - 1)
    item: Any = to_item(replace(put_off, target=corrupt, retry_at=now + due_in, due_at=now + due_in), 1)
    scene.stack.dynamodb.put_item(TableName=scene.stack.ledger_table, Item={**item, "batch": {"S": "junk"}})
    scene.stack.put(put_off)
    scene.deliver({"sweep": True})

    assert scene.entry().due_at == now - 600
    assert looks.targets == [[]]


def test_sweep_looks_although_its_own_work_fails(
    scene: Scene, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(ledger: Ledger) -> list[Entry]:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(Ledger, "waiting_or_running", fails)
    scene.deliver({"sweep": True})
    assert looks.targets == [[]]


def test_report_about_a_corrupt_entry_returns_no_message(scene: Scene, looks: Looks) -> None:
    item: Any = {**to_item(Entry(TARGET, run_id="run-1", due_at=1.0), 1), "requested_at": {"S": "junk"}}
    scene.stack.dynamodb.put_item(TableName=scene.stack.ledger_table, Item=item)

    assert scene.deliver(ended("FAILED"), {"job_id": "9"}) == []
    assert looks.targets == [[Target("9", None)]]


def test_lower_spacing_applies_to_waiting_updates(scene: Scene) -> None:
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


def test_target_put_off_by_failed_attempts_gets_its_place_back_after_the_backoff(scene: Scene) -> None:
    now = scene.clock.now
    waiting = Entry(TARGET, needed_as_of=now - 600, waiting_since=now - 635, attempts=3)
    scene.stack.put(replace(waiting, retry_at=now - 5, due_at=now - 5))
    scene.deliver({"sweep": True})
    assert (scene.entry().due_at, scene.entry().attempts) == (now - 600, 3)


def test_target_stays_put_off_during_the_backoff(scene: Scene) -> None:
    now = scene.clock.now
    waiting = Entry(TARGET, needed_as_of=now - 600, waiting_since=now - 635, attempts=3)
    scene.stack.put(replace(waiting, retry_at=now + 5, due_at=now + 5))
    scene.deliver({"sweep": True})
    assert scene.entry().due_at == now + 5


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
def test_reported_status_changes_only_the_due_time(scene: Scene, status: str) -> None:
    scene.held()
    before = scene.entry()
    scene.clock.now += 10

    assert scene.deliver(ended(status)) == []
    assert scene.entry() == replace(before, rev=before.rev + 1, due_at=scene.clock.now + CONSISTENT_AFTER)


def test_reported_end_does_not_postpone_an_overdue_look(scene: Scene) -> None:
    overdue = Entry(TARGET, run_id="run-1", held=True, requested_at=1.0, due_at=scene.clock.now - 30)
    scene.stack.put(overdue)
    scene.deliver(ended("FAILED"), ended("FAILED"))
    assert scene.entry().due_at == scene.clock.now - 30


def test_report_of_a_former_run_changes_nothing(scene: Scene) -> None:
    scene.held()
    before = scene.entry()
    scene.deliver(ended("FAILED", "run-0"))

    assert scene.entry() == before


# --- By hand ---------------------------------------------------------------------------------------------


def test_direct_invocation_returns_the_recorded_entry(scene: Scene) -> None:
    (recorded,) = scene.trigger.handle_event(REQUEST, lambda: LONG)
    assert recorded == (*TARGET, 1, None, to_iso(scene.clock.now))


def test_direct_invocation_with_an_invalid_event_raises(scene: Scene) -> None:
    with pytest.raises(BadInput):
        scene.trigger.handle_event({"job_id": "1", "count": 3}, lambda: LONG)


def test_direct_invocation_that_cannot_be_recorded_raises(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(target: Target, transition: Any, known: Entry | None) -> None:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(scene.ledger, "apply", away)
    with pytest.raises(AwsUnavailable):
        scene.trigger.handle_event(REQUEST, lambda: LONG)


# --- Looking -----------------------------------------------------------------------------------------------


def test_failed_look_is_not_an_error_of_its_caller(scene: Scene, looks: Looks) -> None:
    looks.fails = ZeroDivisionError()
    scene.trigger.look(lambda: LONG, [TARGET])
    assert looks.targets == [[TARGET]]
