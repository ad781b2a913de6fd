"""Messages that the trigger sends to its queues, and reports of failures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from arcanna_metrics.errors import AwsUnavailable, BadInput
from arcanna_metrics.intake.events import read_json
from arcanna_metrics.intake.queues import SQS_ATTRIBUTES, Queues
from arcanna_metrics.targets import Target, Update
from tests.support.doubles import ACTIVE_TARGET, TARGET, Stack

AT = 1_736_950_000.0


@pytest.fixture
def queues(stack: Stack) -> Queues:
    return Queues(stack.sqs, stack.updates_url, stack.dead_letter_url)


def test_dead_letter_keeps_its_body_and_reason(stack: Stack, queues: Queues) -> None:
    queues.dead_letter('{"some": "body"}', BadInput("it lacks a job_id"))
    assert stack.dead_letters() == [('{"some": "body"}', "BadInput", "it lacks a job_id")]


def test_detail_of_a_dead_letter_is_cut(stack: Stack, queues: Queues) -> None:
    queues.dead_letter("body", BadInput("ä" * 1001))
    assert stack.dead_letters() == [("body", "BadInput", "ä" * 1000)]


def test_message_of_maximum_size_is_shortened_to_fit_its_reason(stack: Stack, queues: Queues) -> None:
    queues.dead_letter("é" * 2**19, BadInput("no"))
    ((cut, *_),) = stack.dead_letters()
    assert 0 <= 2**20 - SQS_ATTRIBUTES - len(cut.encode()) < 2


def test_dead_letter_that_cannot_be_sent_means_aws_unavailable(stack: Stack) -> None:
    gone = Queues(stack.sqs, stack.updates_url, stack.dead_letter_url + "-gone")
    with pytest.raises(AwsUnavailable, match="send a message to the dead-letter queue"):
        gone.dead_letter("body", BadInput("no"))


# --- Requests --------------------------------------------------------------------------------------------

REQUESTS = [Update(Target(str(number), None), AT, "schedule") for number in range(25)]


def test_requests_are_sent_in_batches_of_ten(stack: Stack, queues: Queues) -> None:
    with calls_of(stack) as sizes:
        queues.request_all(REQUESTS)

    assert sizes == [10, 10, 5]
    assert [body["job_id"] for body in stack.waiting()] == [update.target.job_id for update in REQUESTS]


def test_refused_request_means_aws_unavailable(stack: Stack, queues: Queues) -> None:
    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Failed"] = [{"Id": "1", "Code": "InternalError", "SenderFault": False}]

    stack.sqs.meta.events.register("after-call.sqs.SendMessageBatch", tell)
    try:
        with pytest.raises(AwsUnavailable, match="InternalError"):
            queues.request_all(REQUESTS)
    finally:
        stack.sqs.meta.events.unregister("after-call.sqs.SendMessageBatch", tell)


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
        Update(TARGET, AT, "schedule"),
    ],
)
def test_requested_update_is_read_back_unchanged(stack: Stack, queues: Queues, update: Update) -> None:
    queues.request_all([update])
    (body,) = stack.waiting()
    assert read_json(json.dumps(body), AT) == [update]


def test_duplicate_of_a_request_whatever_the_age_of_the_metrics_has_the_same_time(
    stack: Stack, queues: Queues
) -> None:
    queues.request_all([Update(TARGET, AT, "schedule", by_hand=True)])
    (body,) = stack.waiting()
    (update,) = read_json(json.dumps(body), AT + 900)
    assert isinstance(update, Update)
    assert update.happened_at == AT


def test_unreachable_updates_queue_means_aws_unavailable(stack: Stack) -> None:
    gone = Queues(stack.sqs, stack.updates_url + "-gone", stack.dead_letter_url)
    with pytest.raises(AwsUnavailable, match="messages to a queue"):
        gone.request_all([Update(TARGET, AT, "schedule")])
