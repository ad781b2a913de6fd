"""What the trigger sends to the updates queue and its dead-letter queue."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable, BadInput
from arcanna_metrics.targets import Update
from arcanna_metrics.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

SQS_BATCH = 10
"""Messages, SQS's own limit for one call."""
SQS_MESSAGE_BYTES = 2**20
"""SQS's limit for a message with its attributes."""
DETAIL_LENGTH = 1000
SQS_ATTRIBUTES = 8 * DETAIL_LENGTH
"""The most bytes that reason and detail may have, with their names and types."""


class Queues:
    """The updates queue and its dead-letter queue. Every method raises AwsUnavailable."""

    def __init__(self, sqs: "SQSClient", updates_url: str, dead_letter_url: str) -> None:
        self._sqs = sqs
        self._updates_url = updates_url
        self._dead_letter_url = dead_letter_url

    def request_all(self, updates: Sequence[Update]) -> None:
        """Sends a request for each update, without a delay."""
        bodies = [_request(update) for update in updates]
        for first in range(0, len(bodies), SQS_BATCH):
            with aws_call("send messages to a queue"):
                answer = self._sqs.send_message_batch(
                    QueueUrl=self._updates_url,
                    Entries=[
                        {"Id": str(number), "MessageBody": body, "DelaySeconds": 0}
                        for number, body in enumerate(bodies[first : first + SQS_BATCH])
                    ],
                )
            if refused := answer.get("Failed"):
                raise AwsUnavailable(f"a queue refused messages: {refused}")

    def dead_letter(self, body: str, error: BadInput) -> None:
        """Sends a message that could not be understood to the dead-letter queue, with the reason.

        One call for each: such messages are rare, and may be so long that few would fit into a batch.
        """
        with aws_call("send a message to the dead-letter queue"):
            self._sqs.send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=_cut(body),
                MessageAttributes={
                    "reason": {"DataType": "String", "StringValue": type(error).__name__},
                    "detail": {"DataType": "String", "StringValue": str(error)[:DETAIL_LENGTH]},
                },
            )


def _request(update: Update) -> str:
    """The public request for the update. Its time makes duplicates free."""
    at, age = to_iso(update.happened_at), update.older_than
    return json.dumps(
        {**update.target._asdict(), "cause": update.cause, "happened_at": at, "older_than_seconds": age}
    )


def _cut(body: str) -> str:
    """The body, cut so that the attributes fit. A message that came without them may leave no room."""
    return body.encode()[: SQS_MESSAGE_BYTES - SQS_ATTRIBUTES].decode(errors="ignore")
