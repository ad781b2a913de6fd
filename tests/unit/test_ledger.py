"""The ledger in DynamoDB: entries survive a round trip, and every write is compare-and-swap."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry, Waiting
from arcanna_metrics.protocol.ledger import (
    FORGET_AFTER,
    MOST_TRIES,
    RENEW_AFTER,
    Ledger,
    key_of,
    to_entry,
    to_item,
)
from arcanna_metrics.targets import Example, Target
from tests.support.doubles import ACTIVE_TARGET, TARGET, Clock, Stack

OTHER = Target("security-alerts", "another model")
moments = st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)
times = st.just(NEVER) | moments
texts = st.text(max_size=20).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
elements = st.builds(Element, texts, st.just(12.5), st.integers(1, 10**6), st.just(99.125))
examples = st.builds(Example, texts, texts, st.none() | texts)
entries = st.builds(
    Entry,
    st.sampled_from([TARGET, ACTIVE_TARGET, OTHER]),
    waiting=st.builds(
        Waiting,
        needed_as_of=times,
        wanted_as_of=times,
        wanted_at=times,
        batch=st.lists(elements, max_size=3).map(tuple),
        since=st.none() | moments,
        last_at=times,
        updates=st.integers(0, 10**9),
        cause=texts,
        examples=st.lists(examples, max_size=3).map(tuple),
    ),
    claim=st.none() | st.builds(Claim, st.just("run-1"), moments, st.none() | st.integers(0, 3)),
    due_at=st.none() | moments,
    retry_at=times,
    not_before=times,
    last_requested_at=times,
    attempts=st.integers(0, 99),
    last_error=texts,
    fresh_as_of=times,
    failed_as_of=times,
    history=st.just(()) | st.just(({"run_id": "past", "duration_seconds": 1.5},)),
    last_failure=st.none() | st.just({"reason": "NeverStarted"}),
    quality_reference=st.none() | st.just({"overall_recall": [0.5, 9]}),
    accepted=st.none() | st.just({"by": "ana", "at": "2025-01-15T14:00:00.000Z"}),
    expires_at=st.integers(0, 2**40),
    name_of=st.none() | st.just("1234"),
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(stack: Stack, clock: Clock) -> Ledger:
    return Ledger(stack.dynamodb, stack.ledger_table, clock)


@given(entry=entries)
def test_entry_written_as_an_item_is_read_back_as_it_was(entry: Entry) -> None:
    assert to_entry(entry.target, to_item(entry, 7)) == replace(entry, rev=7)


def test_unknown_target_is_read_as_an_empty_entry(ledger: Ledger) -> None:
    assert ledger.read(TARGET) == Entry(TARGET)


def test_swap_writes_if_the_entry_is_unchanged(ledger: Ledger) -> None:
    before = ledger.read(TARGET)
    assert ledger.swap(before, replace(before, waiting=replace(before.waiting, needed_as_of=5.0), due_at=5.0))
    assert ledger.read(TARGET) == Entry(TARGET, waiting=Waiting(needed_as_of=5.0), rev=1, due_at=5.0)


def test_swap_writes_nothing_if_the_entry_has_changed(ledger: Ledger) -> None:
    before = ledger.read(TARGET)
    assert ledger.swap(before, replace(before, waiting=replace(before.waiting, updates=1)))
    assert not ledger.swap(before, replace(before, waiting=replace(before.waiting, updates=2)))
    assert ledger.read(TARGET).waiting.updates == 1


def test_swap_repeated_after_a_lost_answer_counts_as_done(ledger: Ledger) -> None:
    before = ledger.read(TARGET)
    after = replace(before, waiting=replace(before.waiting, needed_as_of=5.0), due_at=5.0)

    assert ledger.swap(before, after)
    assert ledger.swap(before, after)


def test_apply_repeats_the_transition_after_a_concurrent_write(ledger: Ledger) -> None:
    tries: list[int] = []

    def transition(entry: Entry) -> Entry:
        if not tries:
            ledger.swap(entry, replace(entry, waiting=replace(entry.waiting, updates=5)))
        tries.append(entry.rev)
        return replace(entry, waiting=replace(entry.waiting, updates=entry.waiting.updates + 1))

    after = ledger.apply(TARGET, transition)
    assert after
    assert after.waiting.updates == 6
    assert tries == [0, 1]


def test_apply_writes_nothing_if_nothing_changes(ledger: Ledger) -> None:
    ledger.apply(TARGET, lambda entry: entry)
    assert ledger.read(TARGET).rev == 0


def test_apply_writes_nothing_if_only_parts_of_a_millisecond_change(ledger: Ledger) -> None:
    ledger.apply(TARGET, lambda entry: replace(entry, due_at=1_736_950_000.616))
    ledger.apply(TARGET, lambda entry: replace(entry, due_at=1_736_950_000.6161))
    assert ledger.read(TARGET).rev == 1


def test_apply_writes_nothing_if_the_transition_refuses(ledger: Ledger) -> None:
    assert ledger.apply(TARGET, lambda entry: None) is None
    assert ledger.read(TARGET).rev == 0


def test_apply_gives_up_on_an_entry_that_changes_all_the_time(ledger: Ledger) -> None:
    def transition(entry: Entry) -> Entry:
        ledger.swap(entry, replace(entry, waiting=replace(entry.waiting, updates=entry.waiting.updates + 1)))
        return replace(entry, attempts=entry.attempts + 1)

    with pytest.raises(AwsUnavailable, match="kept changing"):
        ledger.apply(TARGET, transition)
    assert ledger.read(TARGET).rev == MOST_TRIES


def test_due_targets_are_listed_by_due_time(ledger: Ledger, stack: Stack, clock: Clock) -> None:
    for number, due_at in enumerate((3.0, 1.0, 2.0, 9.0)):
        stack.put(Entry(Target("1", f"model-{number}"), due_at=due_at))
    stack.put(Entry(Target("1", "clean")))
    assert [entry.target.model_id for entry in ledger.due(5.0)] == ["model-1", "model-2", "model-0"]


def test_due_targets_beyond_one_page_are_listed_too(ledger: Ledger, stack: Stack) -> None:
    for number in range(60):
        stack.put(Entry(Target("1", f"{number:02}"), due_at=float(number)))
    assert [entry.target.model_id for entry in ledger.due(100.0)] == [f"{number:02}" for number in range(60)]


def test_waiting_and_running_targets_are_listed_for_the_gauges(ledger: Ledger, stack: Stack) -> None:
    put_off = Entry(TARGET, waiting=Waiting(since=1.0), due_at=8.0, attempts=2, retry_at=7.0, not_before=8.0)
    stack.put(replace(put_off, waiting=replace(put_off.waiting, needed_as_of=2.0)))
    stack.put(Entry(ACTIVE_TARGET, claim=Claim("run-1", 1.0), due_at=4.0))
    stack.put(Entry(OTHER))

    assert ledger.waiting_or_running() == [
        Entry(ACTIVE_TARGET, claim=Claim("run-1", 1.0), due_at=4.0),
        put_off,
    ]


def test_target_of_an_item_that_cannot_be_read_is_listed_all_the_same(ledger: Ledger, stack: Stack) -> None:
    item = to_item(Entry(TARGET, waiting=Waiting(since=1.0), due_at=2.0), 1) | {"since": {"S": "yesterday"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    stack.put(Entry(OTHER, due_at=3.0))

    assert list(ledger.due(5.0)) == ledger.waiting_or_running() == [Entry(TARGET), Entry(OTHER, due_at=3.0)]


def test_read_all_returns_known_and_unknown_entries(ledger: Ledger, stack: Stack) -> None:
    stack.put(Entry(TARGET, claim=Claim("run-1", 1.0), rev=3))
    targets = [TARGET, OTHER, *(Target("1", str(number)) for number in range(150))]
    found = ledger.read_all(targets)

    assert list(found) == targets
    assert found[TARGET].run_id == "run-1"
    assert found[OTHER] == Entry(OTHER)


def test_entries_are_read_as_needed_so_that_thousands_fit_into_memory(
    ledger: Ledger, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, batch_get_item = [], stack.dynamodb.batch_get_item

    def noted(**request: Any) -> Any:
        (table,) = request["RequestItems"].values()
        read.append(len(table["Keys"]))
        return batch_get_item(**request)

    monkeypatch.setattr(stack.dynamodb, "batch_get_item", noted)
    targets = [TARGET, OTHER, TARGET, *(Target("1", str(number)) for number in range(150))]
    each = ledger.each(targets)

    assert next(each) == (TARGET, Entry(TARGET))
    assert read == [100]
    assert [target for target, _ in each] == [OTHER, *targets[3:]]
    assert read == [100, 52]


def test_target_listed_twice_is_read_once(ledger: Ledger) -> None:
    assert list(ledger.read_all([TARGET, OTHER, TARGET])) == [TARGET, OTHER]


def test_entries_that_dynamodb_did_not_read_are_left_out(stack: Stack, clock: Clock) -> None:
    with Stubber(stack.dynamodb) as stub:
        unread: Any = {stack.ledger_table: {"Keys": [key_of(OTHER)]}}
        stub.add_response(
            "batch_get_item", {"Responses": {stack.ledger_table: []}, "UnprocessedKeys": unread}
        )
        found = Ledger(stack.dynamodb, stack.ledger_table, clock).read_all([TARGET, OTHER])
    assert list(found) == [TARGET]


def test_known_jobs_are_those_with_an_id_or_a_name_that_proved_right(ledger: Ledger, stack: Stack) -> None:
    stack.put(Entry(Target("1", "completed"), fresh_as_of=1.0, failed_as_of=2.0))
    stack.put(Entry(Target("2", None), waiting=Waiting(needed_as_of=1.0), due_at=1.0))
    stack.put(Entry(Target("3", "mistyped"), failed_as_of=2.0))
    stack.put(Entry(Target("6", None), failed_as_of=2.0))
    stack.put(Entry(Target("8", "running"), quality_reference={"overall_accuracy": (0.9, 100)}))
    stack.put(Entry(Target("6", "active"), quality_reference={"overall_accuracy": (0.9, 100)}))
    stack.put(Entry(Target("a name that was looked up", None)))
    stack.put(Entry(Target("a name whose id is known", None), fresh_as_of=1.0, name_of="4"))
    stack.put(Entry(Target("a name whose run failed", None), failed_as_of=1.0, name_of="5"))
    stack.put(Entry(Target("5", "m"), quality_reference={"overall_accuracy": (0.9, 100)}))
    stack.put(Entry(Target("a name that only the platform knows", None), fresh_as_of=1.0))
    stack.put(Entry(Target(" ", "slots")))

    assert ledger.jobs() == {"1", "2", "4", "8", "a name that only the platform knows"}
    assert ledger.jobs({"1", "a name whose id is known"}) == {"2", "8", "a name that only the platform knows"}


def test_only_clean_and_free_entries_expire(ledger: Ledger, stack: Stack, clock: Clock) -> None:
    def item() -> dict[str, Any]:
        return stack.dynamodb.get_item(
            TableName=stack.ledger_table,
            Key={"job_id": {"S": "1234"}, "model_id": {"S": TARGET.model_id or ""}},
        )["Item"]

    ledger.apply(
        TARGET, lambda entry: replace(entry, waiting=replace(entry.waiting, needed_as_of=1.0), due_at=1.0)
    )
    assert "expires_at" not in item()
    ledger.apply(
        TARGET, lambda entry: replace(entry, waiting=replace(entry.waiting, needed_as_of=NEVER), due_at=None)
    )
    expires_at = int(item()["expires_at"]["N"])
    assert 0 <= expires_at - clock() - FORGET_AFTER <= RENEW_AFTER


def test_entry_that_is_used_does_not_expire_although_nothing_changes(ledger: Ledger, clock: Clock) -> None:
    ledger.apply(TARGET, lambda entry: replace(entry, fresh_as_of=1.0))
    for _ in range(30):
        clock.now += 20 * 86400
        used = ledger.apply(TARGET, lambda entry: entry)
        assert used.expires_at >= clock() + FORGET_AFTER - 20 * 86400
    assert ledger.read(TARGET).rev == 1 + 600 * 86400 // RENEW_AFTER


@pytest.mark.parametrize("call", ["GetItem", "PutItem", "Query", "Scan", "BatchGetItem"])
def test_dynamodb_failure_means_aws_unavailable(stack: Stack, clock: Clock, call: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ClientError({"Error": {"Code": "InternalServerError"}}, call)

    operations = ("get_item", "put_item", "batch_get_item", "get_paginator")
    client = SimpleNamespace(exceptions=stack.dynamodb.exceptions, **dict.fromkeys(operations, fail))
    away = Ledger(cast("Any", client), "ledger", clock)
    calls: dict[str, Callable[[], object]] = {
        "GetItem": lambda: away.read(TARGET),
        "PutItem": lambda: away.swap(Entry(TARGET), Entry(TARGET, waiting=Waiting(updates=1))),
        "Query": lambda: list(away.due(1.0)),
        "Scan": away.jobs,
        "BatchGetItem": lambda: away.read_all([TARGET]),
    }
    with pytest.raises(AwsUnavailable, match="InternalServerError"):
        calls[call]()
