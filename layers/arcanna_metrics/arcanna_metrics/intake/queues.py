"""What the trigger sends to the updates queue and its dead-letter queue."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Update

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

DETAIL_LENGTH = 1000
SQS_BATCH = 10
"""Messages, SQS's own limit for one call."""
SQS_BATCH_BYTES = 256 * 1024
"""SQS now allows 1 MiB for all messages of a call. This is the older limit, which some places still have."""
SQS_MESSAGE_BYTES = 2**20
"""SQS's limit for a message with its attributes."""
SQS_ATTRIBUTES = 8 * DETAIL_LENGTH
"""The most bytes that reason and detail may have, with their names and types."""


class DeadLetter(NamedTuple):
    """A message that could not be understood: its original body, the reason, and a sentence for people."""

    body: str
    reason: str
    detail: str


class Queues:
    """The updates queue and its dead-letter queue."""

    def __init__(self, sqs: "SQSClient", updates_url: str, dead_letter_url: str) -> None:
        self._sqs = sqs
        self._updates_url = updates_url
        self._dead_letter_url = dead_letter_url

    def request_all(self, updates: Sequence[Update]) -> None:
        """Sends a request for each update, without a delay. Raises AwsUnavailable."""
        sent = self._send_all(
            self._updates_url,
            [{"Id": "", "MessageBody": _request(update), "DelaySeconds": 0} for update in updates],
        )
        for error in sent:
            if error:
                raise error

    def dead_letter_all(self, letters: Sequence[DeadLetter]) -> list[AwsUnavailable | None]:
        """Sends messages to the dead-letter queue. Returns the error of each, or None."""
        return self._send_all(
            self._dead_letter_url,
            [
                {
                    "Id": "",
                    "MessageBody": _cut(letter.body),
                    "MessageAttributes": {
                        "reason": {"DataType": "String", "StringValue": letter.reason},
                        "detail": {
                            "DataType": "String",
                            "StringValue": _shown(letter.detail) or letter.reason,
                        },
                    },
                }
                for letter in letters
            ],
        )

    def _send_all(
        self, url: str, messages: Sequence["SendMessageBatchRequestEntryTypeDef"]
    ) -> list[AwsUnavailable | None]:
        """Sends messages with as few calls as possible. After a failed call it makes no more, because each
        would take time to fail. A call that SQS finds too long fails at once, so the next one is made."""
        results: list[AwsUnavailable | None] = []
        for batch in _batches(messages):
            try:
                with aws_call("send messages to a queue"):
                    for number, message in enumerate(batch):
                        message["Id"] = str(number)
                    answer = self._sqs.send_message_batch(QueueUrl=url, Entries=batch)
            except AwsUnavailable as error:
                if "BatchRequestTooLong" not in str(error):
                    return results + [error] * (len(messages) - len(results))
                results += [error] * len(batch)
                continue
            refused = {failed["Id"]: failed for failed in answer.get("Failed", [])}
            results += [
                AwsUnavailable(f"a queue refused a message: {refused[message['Id']]}")
                if message["Id"] in refused
                else None
                for message in batch
            ]
        return results


def _request(update: Update) -> str:
    """The public request for the update. Without a time it is a request by hand, made when it is sent."""
    job_id, model_id = update.target
    seldom = {
        "model_id": model_id,
        "older_than_seconds": update.older_than,
        "happened_at": None if update.by_hand else to_iso(update.happened_at),
    }
    given = {name: value for name, value in seldom.items() if value is not None}
    return json.dumps({"job_id": job_id, "cause": update.cause, **given})


def _batches(
    messages: Iterable["SendMessageBatchRequestEntryTypeDef"],
) -> Iterator[list["SendMessageBatchRequestEntryTypeDef"]]:
    """Batches of as many messages as one call accepts."""
    batch: list[SendMessageBatchRequestEntryTypeDef] = []
    size = 0
    for message in messages:
        length = len(message["MessageBody"].encode()) + SQS_ATTRIBUTES
        if batch and (len(batch) == SQS_BATCH or size + length > SQS_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def _cut(body: str) -> str:
    """The body, cut so that the attributes fit. A message that came without them may leave no room."""
    return body.encode()[: SQS_MESSAGE_BYTES - SQS_ATTRIBUTES].decode(errors="ignore")


def _shown(detail: str) -> str:
    """Without the control characters that SQS refuses."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in detail[:DETAIL_LENGTH])
