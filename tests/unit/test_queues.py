"""Messages that the trigger sends to its queues, and reports of failures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.intake.events import read_json
from arcanna_metrics.intake.queues import SQS_ATTRIBUTES, SQS_BATCH_BYTES, DeadLetter, Queues
from arcanna_metrics.updates import Update
from tests.support.doubles import ACTIVE_TARGET, TARGET, Stack

AT = 1_736_950_000.0


@pytest.fixture
def queues(stack: Stack) -> Queues:
    return Queues(stack.sqs, stack.updates_url, stack.dead_letter_url)


def test_dead_letter_keeps_its_body_and_reason(stack: Stack, queues: Queues) -> None:
    queues.dead_letter_all([DeadLetter('{"some": "body"}', "BadInput", "it lacks a job_id")])
    assert stack.dead_letters() == [('{"some": "body"}', "BadInput", "it lacks a job_id")]


def test_dead_letter_without_a_detail_repeats_its_reason(stack: Stack, queues: Queues) -> None:
    queues.dead_letter_all([DeadLetter("body", "BadInput", "")])
    assert stack.dead_letters() == [("body", "BadInput", "BadInput")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(detail=st.text(max_size=2000))
def test_any_detail_is_written_in_characters_that_sqs_accepts(
    stack: Stack, queues: Queues, detail: str
) -> None:
    queues.dead_letter_all([DeadLetter("body", "BadInput", detail)])
    ((_, _, shown),) = stack.dead_letters()

    assert shown
    assert shown.isprintable()


def test_messages_are_sent_in_batches_of_ten(stack: Stack, queues: Queues) -> None:
    letters = [DeadLetter(f"body {n}", "BadInput", "") for n in range(25)]
    with calls_of(stack) as sizes:
        assert queues.dead_letter_all(letters) == [None] * 25

    assert sizes == [10, 10, 5]
    assert {body for body, _, _ in stack.dead_letters()} == {letter.body for letter in letters}


def test_no_batch_is_larger_than_sqs_accepts(stack: Stack, queues: Queues) -> None:
    large = "x" * (SQS_BATCH_BYTES // 3)
    with calls_of(stack) as sizes:
        assert queues.dead_letter_all([DeadLetter(large, "BadInput", "é" * 2000)] * 5) == [None] * 5
    assert sizes == [2, 2, 1]


def test_message_refused_by_sqs_is_the_only_one_that_fails(stack: Stack, queues: Queues) -> None:
    def refuse_the_second(params: dict[str, Any], **_: Any) -> None:
        params["Entries"] = [params["Entries"][0], params["Entries"][2]]

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Failed"] = [{"Id": "1", "Code": "InternalError", "SenderFault": False}]

    events = stack.sqs.meta.events
    events.register("provide-client-params.sqs.SendMessageBatch", refuse_the_second)
    events.register("after-call.sqs.SendMessageBatch", tell)
    try:
        letters = [DeadLetter(f"body {n}", "BadInput", "") for n in range(3)]
        first, second, third = queues.dead_letter_all(letters)
    finally:
        events.unregister("provide-client-params.sqs.SendMessageBatch", refuse_the_second)
        events.unregister("after-call.sqs.SendMessageBatch", tell)
    assert (first, third) == (None, None)
    assert isinstance(second, AwsUnavailable)
    assert "InternalError" in str(second)
    assert len(stack.dead_letters()) == 2


def test_unreachable_queue_is_called_once_for_all_messages(stack: Stack) -> None:
    gone = Queues(stack.sqs, stack.updates_url, stack.dead_letter_url + "-gone")
    with calls_of(stack) as sizes:
        errors = gone.dead_letter_all([DeadLetter("body", "BadInput", "")] * 25)

    assert sizes == [10]
    assert [type(error) for error in errors] == [AwsUnavailable] * 25


def test_message_of_maximum_size_is_shortened_to_fit_its_reason(stack: Stack, queues: Queues) -> None:
    letters = [DeadLetter("é" * 2**19, "BadInput", "no"), DeadLetter("short", "BadInput", "no")]
    assert queues.dead_letter_all(letters) == [None, None]
    ((short, *_), (cut, *_)) = sorted(stack.dead_letters(), key=lambda letter: len(letter[0]))
    assert short == "short"
    assert 0 <= 2**20 - SQS_ATTRIBUTES - len(cut.encode()) < 2


def test_message_too_long_for_sqs_does_not_block_others(stack: Stack, queues: Queues) -> None:
    def refuse(params: dict[str, Any], **_: Any) -> None:
        if len(params["Entries"][0]["MessageBody"]) > SQS_BATCH_BYTES:
            code = "AWS.SimpleQueueService.BatchRequestTooLong"
            raise ClientError({"Error": {"Code": code, "Message": "too long"}}, "SendMessageBatch")

    stack.sqs.meta.events.register("provide-client-params.sqs.SendMessageBatch", refuse)
    letters = [DeadLetter(body, "BadInput", "no") for body in ("a", "x" * 2 * SQS_BATCH_BYTES, "b")]
    try:
        first, second, third = queues.dead_letter_all(letters)
    finally:
        stack.sqs.meta.events.unregister("provide-client-params.sqs.SendMessageBatch", refuse)
    assert (first, third) == (None, None)
    assert isinstance(second, AwsUnavailable)


@contextmanager
def calls_of(stack: Stack) -> Iterator[list[int]]:
    """The number of messages in each call that is made until the block ends."""
    sizes: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        sizes.append(len(params["Entries"]))

    stack.sqs.meta.events.register("provide-client-params.sqs.SendMessageBatch", note)
    yield sizes
    stack.sqs.meta.events.unregister("provide-client-params.sqs.SendMessageBatch", note)


@pytest.mark.parametrize(
    "update",
    [
        Update(TARGET, AT, "schedule", older_than=3600.0),
        Update(ACTIVE_TARGET, AT, "schedule", older_than=0.5e9),
        Update(TARGET, AT, "schedule", by_hand=True),
    ],
)
def test_requested_update_is_read_back_unchanged(stack: Stack, queues: Queues, update: Update) -> None:
    queues.request_all([update])
    (body,) = stack.waiting()
    assert read_json(json.dumps(body), AT) == [update]


def test_unreachable_updates_queue_means_aws_unavailable(stack: Stack) -> None:
    gone = Queues(stack.sqs, stack.updates_url + "-gone", stack.dead_letter_url)
    with pytest.raises(AwsUnavailable, match="messages to a queue"):
        gone.request_all([Update(TARGET, AT, "schedule")])
