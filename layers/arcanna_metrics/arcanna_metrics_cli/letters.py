"""Dead letters: where each comes from, why it is there, and the update that it holds."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class DeadLetter(NamedTuple):
    """A message of the dead-letter queue. `update` is what to send to the updates queue instead.

    `id` and `handle` are SQS's own, the latter of the last time that the message was received; `sent_at` is
    in epoch seconds.
    """

    id: str
    reason: str
    detail: str
    sent_at: float
    update: str
    handle: str

    @property
    def is_sweep(self) -> bool:
        """Whether it only asks for a look at what is due."""
        try:
            return bool(json.loads(self.update) == {"sweep": True})
        except (ValueError, RecursionError):
            return False


class Group(NamedTuple):
    """Dead letters with the same reason; `detail` is of the newest of them, times are epoch seconds."""

    reason: str
    number: int
    oldest_at: float
    newest_at: float
    detail: str


def dead_letter(message: Mapping[str, Any]) -> DeadLetter:
    """A dead letter out of a message with all attributes, as ReceiveMessage answers."""
    body = message["Body"]
    reason, detail = _why(message)
    if record := _invocation_record(body):
        # Lambda's failure destination wraps the event that the trigger could not handle, and says why.
        error = record.get("responsePayload")
        told = error if isinstance(error, dict) else {}
        reason = str(told.get("errorType") or record["requestContext"].get("condition"))
        detail = str(told.get("errorMessage") or "the invocation failed without a message")
        body = json.dumps(record["requestPayload"])
    sent_at = int(message["Attributes"]["SentTimestamp"]) / 1000
    return DeadLetter(message["MessageId"], reason, detail, sent_at, body, message["ReceiptHandle"])


def groups(letters: Iterable[DeadLetter]) -> list[Group]:
    """By reason, the most frequent first."""
    of_reason: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        of_reason.setdefault(letter.reason, []).append(letter)
    found = []
    for reason, same in of_reason.items():
        newest = max(same, key=lambda letter: letter.sent_at)
        oldest_at = min(letter.sent_at for letter in same)
        found.append(Group(reason, len(same), oldest_at, newest.sent_at, newest.detail))
    return sorted(found, key=lambda group: (-group.number, group.reason))


def _why(message: Mapping[str, Any]) -> tuple[str, str]:
    """From its attributes: the trigger's own, those of EventBridge and Scheduler, or SQS's."""
    given = {
        name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()
    }
    if "reason" in given:
        return given["reason"], given.get("detail", "")
    if "ERROR_CODE" in given:
        return given["ERROR_CODE"], given.get("ERROR_MESSAGE", "")
    if "DeadLetterQueueSourceArn" in message["Attributes"]:
        return "none", "The trigger died or failed each time it received this message"
    return "none", "It is not known why this message is here"


def _invocation_record(body: str) -> dict[str, Any] | None:
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"requestContext": dict(), "requestPayload": _}:
            return dict(document)
    return None
