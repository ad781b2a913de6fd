"""The trigger records updates, then looks at what is due: message batches, direct events, the workflow."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from arcanna_metrics import trigger
from arcanna_metrics.controller.reconcile import RESERVE
from arcanna_metrics.controller.services import Services
from arcanna_metrics.controller.sweep import FOR_THE_LOOK, SWEEP_OVERDUE
from arcanna_metrics.errors import AwsUnavailable, BadInput
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.intake.routes import Routes
from arcanna_metrics.observability import metrics
from arcanna_metrics.protocol.entry import NEVER, Claim, Entry, Waiting
from arcanna_metrics.protocol.ledger import Ledger, to_item
from arcanna_metrics.protocol.transitions import CONSISTENT_AFTER
from arcanna_metrics.settings import JobSettings, parse_settings
from arcanna_metrics.settings_source import MAX_AGE
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.trigger import FOR_A_LETTER, NAP
from tests.support.doubles import ACTIVE_TARGET, PACE, TARGET, Logs
from tests.unit.harness import LONG, Harness

RUN: Any = {
    "run_id": "run-1",
    "target": {"job_id": TARGET.job_id, "model_id": TARGET.model_id},
}


class Looks:
    """Stands in for `reconcile.look`: notes the given targets, and fails on request."""

    def __init__(self) -> None:
        self.targets: list[list[Target]] = []
        self.fails: Exception | None = None

    def __call__(self, services: Services, remaining: Any, recorded: Any) -> None:
        self.targets.append(list(recorded))
        if self.fails:
            raise self.fails


@pytest.fixture(autouse=True)
def looks(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr(trigger, "look", looks)
    return looks


REQUEST = {"job_id": TARGET.job_id, "model_id": TARGET.model_id}


# --- Recording -------------------------------------------------------------------------------------------


def test_upload_is_recorded_and_its_target_looked_at(harness: Harness, looks: Looks) -> None:
    assert harness.deliver(harness.upload("data/1234/m/a.csv")) == []
    entry = harness.entry(Target("1234", "m"))
    assert entry.waiting.needed_as_of == harness.clock.now - 40 + PACE.visibility_lag
    assert [example.key for example in entry.waiting.examples] == ["data/1234/m/a.csv"]
    assert looks.targets == [[Target("1234", "m")]]


def test_batch_is_written_once_per_target(harness: Harness) -> None:
    uploads = [harness.upload(f"data/1234/m{n % 2}/{n}.csv", harness.clock.now - 60 + n) for n in range(20)]
    harness.deliver(*uploads)
    for model in ("m0", "m1"):
        entry = harness.entry(Target("1234", model))
        assert (entry.rev, entry.waiting.updates) == (1, 10)


def test_duplicate_delivery_writes_nothing(harness: Harness) -> None:
    harness.deliver(harness.upload("data/1234/m/a.csv"))
    harness.deliver(harness.upload("data/1234/m/a.csv"))
    assert harness.entry(Target("1234", "m")).rev == 1


def test_update_that_a_run_has_covered_needs_no_look(harness: Harness, looks: Looks) -> None:
    harness.stack.put(Entry(Target("1234", "m"), fresh_as_of=harness.clock.now))
    harness.deliver(harness.upload("data/1234/m/a.csv"))
    assert looks.targets == [[]]


def test_request_by_hand_is_needed_as_of_when_it_was_sent(harness: Harness) -> None:
    harness.deliver(REQUEST, age=1.0)
    assert harness.entry().waiting.needed_as_of == harness.entry().due_at == harness.clock.now - 1


@pytest.mark.parametrize(
    "body", ["garbage", {"job_id": ""}, {"job_id": "1", "waker": True}, {"nothing": "known"}]
)
def test_unusable_message_becomes_a_dead_letter_with_its_reason(harness: Harness, body: Any) -> None:
    assert harness.deliver(body) == []
    ((letter, reason, detail),) = harness.stack.dead_letters()
    assert letter == (body if isinstance(body, str) else json.dumps(body))
    assert reason == "BadInput"
    assert detail


def test_bad_message_does_not_block_others(harness: Harness) -> None:
    assert harness.deliver("garbage", REQUEST, "garbage") == []
    assert harness.entry().dirty
    assert len(harness.stack.dead_letters()) == 2


def test_object_without_a_route_is_counted_and_acknowledged(
    harness: Harness, looks: Looks, logs: Logs
) -> None:
    metrics.clear_metrics()
    assert harness.deliver(harness.upload("elsewhere/a.csv")) == []
    assert looks.targets == []
    assert metrics.metric_set["UpdatesIgnored"]["Value"] == [1.0]
    assert logs.lines[-1]["key"] == "elsewhere/a.csv"


def test_only_messages_that_could_not_be_recorded_return(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = harness.ledger.apply

    def fails_for_one(entry: Entry, *given: Any) -> Any:
        if entry.target == TARGET:
            raise AwsUnavailable("throttled")
        return apply(entry, *given)

    monkeypatch.setattr(harness.ledger, "apply", fails_for_one)
    metrics.clear_metrics()
    assert harness.deliver({"job_id": "9"}, REQUEST, REQUEST) == ["1", "2"]
    assert harness.entry(Target("9", None)).dirty
    assert metrics.metric_set["AwsUnavailable"]["Value"] == [1.0]


def test_all_messages_come_again_if_the_ledger_cannot_be_read(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(targets: Iterable[Target]) -> Iterator[tuple[Target, Entry]]:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(harness.ledger, "each", away)
    metrics.clear_metrics()
    assert harness.deliver({"job_id": "9"}, REQUEST) == ["0", "1"]
    assert metrics.metric_set["AwsUnavailable"]["Value"] == [1.0]


def test_what_was_recorded_before_the_ledger_failed_does_not_come_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = harness.ledger.each

    def then_away(targets: Iterable[Target]) -> Iterator[tuple[Target, Entry | None]]:
        yield from each([TARGET])
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(harness.ledger, "each", then_away)
    assert harness.deliver(REQUEST, {"job_id": "9"}) == ["1"]
    assert harness.entry(TARGET).dirty


def test_message_of_an_edited_entry_returns_and_is_counted(harness: Harness) -> None:
    item: Any = {**to_item(Entry(TARGET), 1), "needed_as_of": {"S": "yesterday"}}
    harness.stack.dynamodb.put_item(TableName=harness.stack.ledger_table, Item=item)
    metrics.clear_metrics()
    assert harness.deliver(REQUEST, {"job_id": "9"}) == ["0"]
    assert metrics.metric_set["UnexpectedErrors"]["Value"] == [1.0]


def test_entry_changed_between_read_and_write_is_read_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = harness.ledger.each

    def then_changed(targets: Iterable[Target]) -> Iterator[tuple[Target, Entry | None]]:
        for target, before in each(targets):
            assert before
            assert harness.ledger.swap(before, replace(before, fresh_as_of=1.0))
            yield target, before

    monkeypatch.setattr(harness.ledger, "each", then_changed)
    assert harness.deliver(REQUEST) == []
    assert harness.entry(TARGET).dirty
    assert harness.entry(TARGET).fresh_as_of == 1.0


def test_bug_in_one_message_does_not_block_others(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(created: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Routes, "updates", lambda self, created: buggy(created))
    assert harness.deliver(harness.upload("data/1/a.csv"), REQUEST) == ["0"]
    assert harness.entry().dirty


def test_messages_return_if_no_time_is_left(harness: Harness, logs: Logs) -> None:
    metrics.clear_metrics()
    assert harness.deliver(REQUEST, {"job_id": "9"}, remaining=RESERVE - 1) == ["0", "1"]
    assert "UpdatesReceived" not in metrics.metric_set
    assert not harness.entry().dirty
    assert [(line["level"], line["targets"]) for line in logs.lines] == [("WARNING", 2)]


def test_messages_that_return_tell_the_age_of_the_oldest(harness: Harness) -> None:
    """SQS's own metric leaves out messages that were received three times."""
    metrics.clear_metrics()
    harness.deliver(REQUEST, {"job_id": "9"}, age=9000.0, remaining=RESERVE - 1)
    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [pytest.approx(9000.0)]


def test_messages_that_are_recorded_tell_no_age(harness: Harness) -> None:
    metrics.clear_metrics()
    harness.deliver(REQUEST, age=9000.0)
    assert "OldestUpdateAge" not in metrics.metric_set


def test_message_stays_in_the_queue_if_its_dead_letter_cannot_be_sent(harness: Harness) -> None:
    harness.stack.sqs.delete_queue(QueueUrl=harness.stack.dead_letter_url)
    assert harness.deliver("garbage", REQUEST) == ["0"]
    assert harness.entry().dirty


def test_refused_dead_letter_does_not_block_others(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Queues.dead_letter

    def dead_letter(queues: Queues, body: str, error: BadInput) -> None:
        if body == "refused":
            raise AwsUnavailable("message too long")
        send(queues, body, error)

    monkeypatch.setattr(Queues, "dead_letter", dead_letter)
    assert harness.deliver("garbage", *["refused"] * 4, "rubbish") == ["1", "2", "3", "4"]
    assert len(harness.stack.dead_letters()) == 2


def test_unusable_messages_stay_in_the_queue_if_no_time_is_left(harness: Harness) -> None:
    assert harness.deliver("garbage", remaining=FOR_A_LETTER - 1) == ["0"]
    assert harness.stack.dead_letters() == []


def test_dead_letters_come_after_the_look(
    harness: Harness, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(Queues, "dead_letter", lambda *_: looked.append(len(looks.targets)))
    harness.deliver("garbage", REQUEST)
    assert looked == [1]


def test_failed_look_returns_no_message_to_the_queue(harness: Harness, looks: Looks) -> None:
    looks.fails = AwsUnavailable("throttled")
    assert harness.deliver(REQUEST) == []
    assert harness.entry().dirty


def test_target_due_within_moments_is_waited_for(harness: Harness) -> None:
    at = harness.clock.now - PACE.visibility_lag + NAP / 2
    harness.deliver(harness.upload("data/1234/m/a.csv", at), age=0.0)
    assert harness.slept == [pytest.approx(NAP / 2)]


def test_target_due_later_is_left_to_the_sweep(harness: Harness, looks: Looks) -> None:
    harness.deliver(harness.upload("data/1234/m/a.csv", harness.clock.now), age=0.0)
    assert harness.slept == []
    assert looks.targets == [[]]


# --- Schedules -------------------------------------------------------------------------------------------


def test_schedule_wishes_for_every_job_that_the_ledger_knows(harness: Harness) -> None:
    harness.stack.put(Entry(TARGET, fresh_as_of=1.0))
    harness.deliver({"models": "all", "older_than_seconds": 3600})
    entry = harness.entry(ACTIVE_TARGET)

    assert entry.waiting.wanted_at == harness.clock.now - 40
    assert entry.waiting.wanted_as_of == harness.clock.now - 40 - 3600
    assert entry.waiting.cause == "schedule"


def test_schedule_leaves_out_the_active_model_of_a_job_that_a_route_names_by_its_name(
    harness: Harness,
) -> None:
    target = Target("security-alerts", "m2")
    document = {"routes": [{"targets": [target._asdict()]}]}
    harness.routes = parse_settings(json.dumps(document)).routes
    harness.stack.put(Entry(target, name_of="1234"))
    harness.stack.put(Entry(Target("1234", "m2"), fresh_as_of=1.0))

    harness.deliver({"models": "all", "older_than_seconds": 3600})

    assert harness.entry(target).waiting.cause == "schedule"
    assert not harness.entry(ACTIVE_TARGET).dirty


def test_schedule_wishes_for_the_active_model_only_of_jobs_that_no_route_names(harness: Harness) -> None:
    named = [{"job_id": "security-alerts"}, {"job_id": 1234, "model_id": "m1"}]
    harness.routes = parse_settings(json.dumps({"routes": [{"targets": named}]})).routes
    for job_id in ("1234", "99", "77"):
        harness.stack.put(Entry(Target(job_id, "m"), fresh_as_of=1.0))

    harness.deliver({"models": "all", "older_than_seconds": 3600})

    wished = [entry.target for entry in harness.ledger.waiting_or_running()]
    fixed = [Target("security-alerts", None), Target("1234", "m1")]
    assert sorted(wished, key=str) == sorted([*fixed, Target("77", None), Target("99", None)], key=str)


def test_schedule_leaves_out_the_active_model_of_a_job_whose_other_name_the_ledger_knows(
    harness: Harness,
) -> None:
    document = {"routes": [{"targets": [{"job_id": 1234, "model_id": "m2"}]}]}
    harness.routes = parse_settings(json.dumps(document)).routes
    harness.stack.put(Entry(Target("security-alerts", None), fresh_as_of=1.0, name_of="1234"))

    harness.deliver({"models": "all", "older_than_seconds": 3600})

    assert not harness.entry(ACTIVE_TARGET).dirty


def test_large_schedule_sends_one_request_per_target(
    harness: Harness, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcanna_metrics.trigger.FAN_OUT", 3)
    for number in range(4):
        harness.stack.put(Entry(Target(str(number), None), fresh_as_of=1.0))
    harness.deliver({"models": "all", "older_than_seconds": 3600})
    requests = harness.stack.waiting()
    assert len(requests) == 4
    assert looks.targets == []
    harness.deliver(*requests)
    assert harness.entry(Target("0", None)).waiting.wanted_as_of == harness.clock.now - 40 - 3600


@pytest.mark.parametrize("jobs", [3, 4])
def test_schedule_with_an_age_of_zero_wants_every_target_as_of_now(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr("arcanna_metrics.trigger.FAN_OUT", 3)
    at = harness.clock.now - 40
    for number in range(jobs):
        harness.stack.put(Entry(Target(str(number), "m"), fresh_as_of=1.0))
    harness.deliver({"models": "all", "older_than_seconds": 0})
    harness.clock.now += 60
    harness.deliver(*harness.stack.waiting())
    wishes = {harness.entry(Target(str(number), None)).waiting.wanted_as_of for number in range(jobs)}
    assert wishes == {at}


def test_schedule_without_an_age_uses_the_stale_age_of_each_jobs_settings(harness: Harness) -> None:
    harness.pace = replace(PACE, stale_after=600)
    harness.jobs = {"7": JobSettings(replace(PACE, stale_after=60), {})}
    for job_id in ("7", "8"):
        harness.stack.put(Entry(Target(job_id, "m"), fresh_as_of=1.0))
    harness.deliver({"models": "all"})
    for job_id, stale_after in (("7", 60), ("8", 600)):
        assert (
            harness.entry(Target(job_id, None)).waiting.wanted_as_of == harness.clock.now - 40 - stale_after
        )


# --- Sweeps and reports ----------------------------------------------------------------------------------


def test_sweep_that_finds_nothing_logs_and_emits_nothing(harness: Harness, looks: Looks, logs: Logs) -> None:
    metrics.clear_metrics()
    assert harness.deliver({"sweep": True}) == []
    assert looks.targets == []
    assert logs.lines == []
    assert metrics.metric_set == {}


def test_sweep_that_finds_nothing_costs_one_query(harness: Harness) -> None:
    calls: list[str] = []
    harness.stack.dynamodb.meta.events.register(
        "before-call.*.*", lambda model, **_: calls.append(model.name)
    )
    harness.deliver({"sweep": True})
    assert calls == ["Query"]


def test_sweep_emits_gauges_while_anything_waits_or_runs_and_looks(harness: Harness, looks: Looks) -> None:
    metrics.clear_metrics()
    now = harness.clock.now
    harness.stack.put(Entry(TARGET, waiting=Waiting(needed_as_of=now - 70, since=now - 105), due_at=now - 70))
    harness.stack.put(Entry(ACTIVE_TARGET, claim=Claim("run-1", now, number=0), due_at=now + 9))
    harness.deliver({"sweep": True}, {"sweep": True})

    assert {name: metric["Value"] for name, metric in metrics.metric_set.items()} == {
        "TargetsDue": [1.0],
        "SlotsTaken": [1.0],
        "OldestUpdateAge": [105.0],
    }
    assert looks.targets == [[]]


@pytest.mark.parametrize("waits", [True, False])
def test_targets_that_wait_for_their_time_and_those_that_run_are_not_due(
    harness: Harness, waits: bool
) -> None:
    harness.held()
    if waits:
        harness.update(Target("7", "model-1"), age=0)  # not visible yet
    metrics.clear_metrics()
    harness.deliver({"sweep": True})

    shown = {name: metrics.metric_set[name]["Value"] for name in ("TargetsDue", "SlotsTaken")}
    assert shown == {"TargetsDue": [0.0], "SlotsTaken": [1.0]}


@pytest.mark.parametrize("body", [{"job_id": "8"}, {"Event": "s3:TestEvent"}])
def test_other_messages_cause_a_sweep_if_sweeps_do_not_come(
    harness: Harness, looks: Looks, body: dict[str, str]
) -> None:
    harness.stack.put(Entry(TARGET, waiting=Waiting(needed_as_of=1.0, since=1.0), due_at=1.0))
    for wait, sweeps in ((SWEEP_OVERDUE - 1, False), (1, True), (SWEEP_OVERDUE - 1, False), (1, True)):
        harness.clock.now += wait
        metrics.clear_metrics()
        harness.deliver(body)
        assert ("OldestUpdateAge" in metrics.metric_set) is sweeps


def test_end_of_a_run_causes_a_sweep_if_neither_sweeps_nor_other_messages_come(
    harness: Harness, looks: Looks
) -> None:
    harness.stack.put(Entry(TARGET, waiting=Waiting(needed_as_of=1.0, since=1.0), due_at=1.0))
    for wait, sweeps in ((SWEEP_OVERDUE - 1, False), (1, True)):
        harness.clock.now += wait
        metrics.clear_metrics()
        harness.trigger.look(lambda: 900.0, [])
        assert ("OldestUpdateAge" in metrics.metric_set) is sweeps
    assert len(looks.targets) == 2


def test_what_waits_is_at_least_as_old_as_the_run_for_it(harness: Harness) -> None:
    metrics.clear_metrics()
    now = harness.clock.now
    harness.stack.put(Entry(TARGET, claim=Claim("run-1", now - 14_400, number=0), due_at=now + 9))
    harness.stack.put(Entry(ACTIVE_TARGET, claim=Claim("run-2", now, number=0), due_at=now - 9))
    harness.deliver({"sweep": True})

    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [14_400.0]
    assert metrics.metric_set["TargetsDue"]["Value"] == [0.0]  # a check-up is due, no run


def test_sweep_emits_gauges_beside_other_messages(harness: Harness) -> None:
    metrics.clear_metrics()
    harness.stack.put(
        Entry(TARGET, waiting=Waiting(since=harness.clock.now - 90_000), due_at=harness.clock.now - 1)
    )
    harness.deliver({"job_id": "8"}, {"sweep": True})

    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [90_000.0]


@pytest.mark.parametrize("corrupt", [{"S": ""}, {"N": "5"}])
def test_sweep_looks_despite_a_corrupt_entry(harness: Harness, looks: Looks, corrupt: object) -> None:
    harness.stack.put(Entry(ACTIVE_TARGET, waiting=Waiting(needed_as_of=1.0), due_at=1.0))
    item: Any = {**to_item(Entry(TARGET, due_at=1.0), 1), "since": corrupt}
    harness.stack.dynamodb.put_item(TableName=harness.stack.ledger_table, Item=item)

    assert harness.deliver({"sweep": True}) == []
    assert looks.targets == [[]]


@pytest.mark.parametrize("due_in", [-5.0, 5.0])
def test_sweep_with_an_unreadable_entry_corrects_the_others_and_looks(
    harness: Harness, looks: Looks, due_in: float
) -> None:
    now, corrupt = harness.clock.now, Target("7", "corrupt")
    put_off = Entry(
        TARGET, waiting=Waiting(needed_as_of=now - 600), attempts=3, retry_at=now - 1, due_at=now - 1
    )
    item: Any = to_item(replace(put_off, target=corrupt, retry_at=now + due_in, due_at=now + due_in), 1)
    harness.stack.dynamodb.put_item(
        TableName=harness.stack.ledger_table, Item={**item, "batch": {"S": "junk"}}
    )
    harness.stack.put(put_off)
    harness.deliver({"sweep": True})

    assert harness.entry().due_at == now - 600
    assert looks.targets == [[]]


@pytest.mark.parametrize("due_at", ["tomorrow", "30.11.2026 10:00", "9999-13-01"])
def test_sweep_tells_of_an_entry_whose_due_time_is_none(harness: Harness, looks: Looks, due_at: str) -> None:
    metrics.clear_metrics()
    item: Any = to_item(Entry(TARGET, waiting=Waiting(needed_as_of=1.0), due_at=1.0), 1)
    harness.stack.dynamodb.put_item(
        TableName=harness.stack.ledger_table, Item={**item, "due_at": {"S": due_at}}
    )
    for _ in range(2):
        metrics.clear_metrics()
        harness.deliver({"sweep": True})
        assert metrics.metric_set["UnexpectedErrors"]["Value"] == [1.0]


def test_sweep_corrects_the_others_beside_an_entry_of_the_year_9999(harness: Harness, looks: Looks) -> None:
    now, last = harness.clock.now, from_iso("9999-12-31T23:59:59Z")
    harness.pace = replace(harness.pace, spacing=600)
    put_off = Entry(
        TARGET, waiting=Waiting(needed_as_of=now - 600), attempts=3, retry_at=now - 1, due_at=now - 1
    )
    harness.stack.put(put_off)
    beyond = replace(put_off, target=Target("7", None), retry_at=now - 2, due_at=now - 2)
    harness.stack.put(
        replace(beyond, waiting=Waiting(needed_as_of=last + 0.5), fresh_as_of=last, last_requested_at=last)
    )
    harness.deliver({"sweep": True})

    assert harness.entry().due_at == now - 600


def test_sweep_looks_although_its_own_work_fails(
    harness: Harness, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(ledger: Ledger) -> list[Entry]:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(Ledger, "waiting_or_running", fails)
    metrics.clear_metrics()
    harness.clock.now += SWEEP_OVERDUE
    harness.deliver({"sweep": True})
    harness.deliver({"job_id": "9"})  # causes no further sweep
    assert looks.targets == [[], [Target("9", None)]]
    assert metrics.metric_set["AwsUnavailable"]["Value"] == [1.0]


def test_report_about_a_corrupt_entry_returns_no_message(harness: Harness, looks: Looks) -> None:
    item: Any = {
        **to_item(Entry(TARGET, claim=Claim("run-1", 0.0), due_at=1.0), 1),
        "requested_at": {"S": "junk"},
    }
    harness.stack.dynamodb.put_item(TableName=harness.stack.ledger_table, Item=item)

    assert harness.deliver(ended("FAILED"), {"job_id": "9"}) == []
    assert looks.targets == [[Target("9", None)]]


def test_lower_spacing_applies_to_waiting_updates(harness: Harness) -> None:
    now = harness.clock.now
    harness.pace = replace(harness.pace, spacing=860)
    waiting = Entry(
        TARGET, waiting=Waiting(needed_as_of=now - 60, since=now - 95), last_requested_at=now - 900
    )
    harness.stack.put(replace(waiting, due_at=now + 7 * 86400))  # with a spacing of a week
    harness.deliver({"sweep": True})

    assert harness.entry().due_at == now - 40


def test_changed_spacing_that_one_sweep_has_no_time_for_is_applied_by_the_next(harness: Harness) -> None:
    now = harness.clock.now
    targets = [TARGET, ACTIVE_TARGET]
    for target in targets:
        waiting = Waiting(needed_as_of=now + 60, since=now + 25)
        harness.stack.put(Entry(target, waiting=waiting, due_at=now + 7 * 86400))
    harness.deliver({"sweep": True}, remaining=RESERVE + FOR_THE_LOOK - 1)
    assert {harness.entry(target).due_at for target in targets} == {now + 7 * 86400}

    harness.deliver({"sweep": True})
    assert {harness.entry(target).due_at for target in targets} == {now + 60}


def test_changed_spacing_applies_also_to_what_others_recorded_by_the_earlier_one(harness: Harness) -> None:
    """An execution environment may use earlier settings for a minute."""
    other, now = Entry(Target("9", None), waiting=Waiting(needed_as_of=harness.clock.now)), harness.clock.now
    harness.stack.put(replace(other, due_at=now))
    harness.deliver({"sweep": True})
    harness.clock.now += MAX_AGE
    waiting = Waiting(needed_as_of=now + 600, since=now + 565, last_at=now + 565)
    harness.stack.put(Entry(TARGET, waiting=waiting, due_at=now + 7 * 86400))  # with a spacing of a week
    harness.clock.now += 1
    harness.deliver({"sweep": True})

    assert harness.entry().due_at == now + 600


@pytest.mark.parametrize("after", [30, MAX_AGE + 30])
def test_spacing_that_is_changed_and_changed_back_applies_as_it_is_then(
    harness: Harness, after: float
) -> None:
    now, pace = harness.clock.now, harness.pace
    waiting = Waiting(needed_as_of=now + 600, since=now + 565, last_at=now + 565)
    harness.stack.put(Entry(TARGET, waiting=waiting, due_at=now + 600, last_requested_at=now - 10))
    for spacing, seconds in ((pace.spacing, MAX_AGE + 10), (7 * 86400.0, after), (pace.spacing, 60)):
        harness.pace = replace(pace, spacing=spacing)
        harness.deliver({"sweep": True})
        harness.clock.now += seconds

    assert harness.entry().due_at == now + 600


def test_shorter_visibility_lag_applies_to_what_waits_by_a_longer_one(harness: Harness) -> None:
    lag = harness.pace.visibility_lag
    harness.pace = replace(harness.pace, visibility_lag=86400.0)
    harness.update(age=0.0)
    at = harness.clock.now
    harness.pace = replace(harness.pace, visibility_lag=lag)
    harness.deliver({"sweep": True})

    assert (harness.entry().waiting.needed_as_of, harness.entry().due_at) == (at + lag, at + lag)


def test_update_is_covered_although_one_with_a_longer_visibility_lag_waits(harness: Harness) -> None:
    lag = harness.pace.visibility_lag
    harness.pace = replace(harness.pace, visibility_lag=86400.0)
    harness.update(age=10.0)
    harness.pace = replace(harness.pace, visibility_lag=lag)
    at = harness.clock.now - 5
    harness.deliver(harness.upload(f"data/{TARGET.job_id}/{TARGET.model_id}/a.csv", at), age=0.0)
    harness.deliver({"sweep": True})

    assert harness.entry().waiting.needed_as_of == pytest.approx(at + lag, abs=0.001)


def test_age_of_a_batch_counts_from_when_it_was_enough(harness: Harness) -> None:
    metrics.clear_metrics()
    harness.stack.put(Entry(TARGET, due_at=harness.clock.now - 30))
    harness.deliver({"sweep": True})

    assert metrics.metric_set["OldestUpdateAge"]["Value"] == [30.0]


@pytest.mark.parametrize(("retry_after", "retry_at"), [(NEVER, -5.0), (-5.0, -9.0)])
def test_target_put_off_by_failed_attempts_gets_its_place_back_after_the_backoff(
    harness: Harness, retry_after: float, retry_at: float
) -> None:
    now = harness.clock.now
    waiting = Entry(TARGET, waiting=Waiting(needed_as_of=now - 600, since=now - 635), attempts=3)
    put_off = replace(waiting, retry_at=now + retry_at, not_before=now + retry_after, due_at=now - 5)
    harness.stack.put(put_off)
    harness.deliver({"sweep": True})
    assert (harness.entry().due_at, harness.entry().attempts) == (now - 600, 3)


def test_target_stays_put_off_during_the_backoff(harness: Harness) -> None:
    now = harness.clock.now
    waiting = Entry(TARGET, waiting=Waiting(needed_as_of=now - 600, since=now - 635), attempts=3)
    harness.stack.put(replace(waiting, retry_at=now + 5, due_at=now + 5))
    harness.deliver({"sweep": True})
    assert harness.entry().due_at == now + 5


def ended(status: str, run_id: str = "run-1") -> dict[str, Any]:
    """EventBridge's event about the end of an execution."""
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
def test_reported_status_changes_only_the_due_time(harness: Harness, status: str) -> None:
    harness.held()
    before = harness.entry()
    harness.clock.now += 10

    assert harness.deliver(ended(status)) == []
    assert harness.entry() == replace(before, rev=before.rev + 1, due_at=harness.clock.now + CONSISTENT_AFTER)


def test_reports_of_ended_runs_delay_no_update(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    apply = harness.ledger.apply

    def noted(to: Any, transition: Any, *given: Any) -> Any:
        written.append(transition.__name__)
        return apply(to, transition, *given)

    monkeypatch.setattr(harness.ledger, "apply", noted)
    harness.deliver(ended("FAILED"), REQUEST)
    assert written == ["record", "report_end"]


def test_reported_end_does_not_postpone_an_overdue_look(harness: Harness) -> None:
    overdue = Entry(TARGET, claim=Claim("run-1", 1.0, number=0), due_at=harness.clock.now - 30)
    harness.stack.put(overdue)
    harness.deliver(ended("FAILED"), ended("FAILED"))
    assert harness.entry().due_at == harness.clock.now - 30


def test_report_of_a_former_run_changes_nothing(harness: Harness) -> None:
    harness.held()
    before = harness.entry()
    harness.deliver(ended("FAILED", "run-0"))

    assert harness.entry() == before


# --- By hand ---------------------------------------------------------------------------------------------


def test_direct_invocation_returns_the_recorded_entry(harness: Harness) -> None:
    (recorded,) = harness.trigger.handle_event(REQUEST, lambda: LONG)
    due_at = to_iso(harness.clock.now)
    assert recorded == {**TARGET._asdict(), "updates": 1, "run_id": None, "due_at": due_at}


def test_direct_invocation_with_an_invalid_event_raises(harness: Harness) -> None:
    with pytest.raises(BadInput):
        harness.trigger.handle_event({"job_id": "1", "count": 3}, lambda: LONG)


def test_direct_invocation_that_cannot_be_recorded_raises(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(entry: Entry, *given: Any) -> None:
        raise AwsUnavailable("throttled")

    monkeypatch.setattr(harness.ledger, "apply", away)
    with pytest.raises(AwsUnavailable):
        harness.trigger.handle_event(REQUEST, lambda: LONG)


# --- Looking -----------------------------------------------------------------------------------------------


def test_failed_look_is_not_an_error_of_its_caller(harness: Harness, looks: Looks) -> None:
    looks.fails = ZeroDivisionError()
    harness.trigger.look(lambda: LONG, [TARGET])
    assert looks.targets == [[TARGET]]
