"""Dead letters: the reason of each, its detail, and the update in it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class DeadLetter(NamedTuple):
    """A message of the dead-letter queue.

    `update` is the body to send to the updates queue. `id` and `handle` are SQS's message id and its latest
    receipt handle. `sent_at` is in epoch seconds.
    """

    id: str
    reason: str
    detail: str
    sent_at: float
    update: str
    handle: str

    @property
    def is_sweep(self) -> bool:
        """Whether the message is a sweep, which only asks for a look at what is due."""
        return bool(_parsed(self.update) == {"sweep": True})


MOST_DETAILS = 5
"""The most groups of one reason. All further details share the last one."""


class Group(NamedTuple):
    """Dead letters with the same reason and detail. `oldest_at` and `newest_at` are epoch seconds."""

    reason: str
    number: int
    oldest_at: float
    newest_at: float
    detail: str


def dead_letter(message: Mapping[str, Any]) -> DeadLetter:
    """The dead letter in a message that ReceiveMessage answers with all its attributes."""
    body = message["Body"]
    reason, detail = _why(message)
    match _parsed(body):
        # Lambda's failure destination wraps the event that the trigger could not handle, with the error.
        # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        case {"requestContext": dict() as context, "requestPayload": event, **record}:
            body = json.dumps(event)
            if "reason" not in message.get("MessageAttributes", {}):  # else the trigger rejected the record
                error = record.get("responsePayload")
                told = error if isinstance(error, dict) else {}
                reason = str(told.get("errorType") or context.get("condition"))
                detail = str(told.get("errorMessage") or "the invocation failed without a message")
    sent_at = int(message["Attributes"]["SentTimestamp"]) / 1000
    return DeadLetter(message["MessageId"], reason, detail, sent_at, body, message["ReceiptHandle"])


def groups(letters: Iterable[DeadLetter]) -> list[Group]:
    """By reason and detail, the most frequent reason first, and in it the most frequent detail."""
    of_reason: dict[str, dict[str, list[DeadLetter]]] = {}
    for letter in letters:
        of_reason.setdefault(letter.reason, {}).setdefault(letter.detail, []).append(letter)
    found = [_of_one_reason(reason, details) for reason, details in of_reason.items()]
    found.sort(key=lambda same: (-sum(group.number for group in same), same[0].reason))
    return [group for same in found for group in same]


def _of_one_reason(reason: str, details: Mapping[str, list[DeadLetter]]) -> list[Group]:
    """A group for each detail. Those beyond MOST_DETAILS are one, with the detail of their newest letter."""
    found = sorted(
        (_group(reason, detail, same) for detail, same in details.items()),
        key=lambda group: (-group.number, -group.newest_at),
    )
    if len(found) <= MOST_DETAILS:
        return found
    rest = found[MOST_DETAILS - 1 :]
    newest = max(rest, key=lambda group: group.newest_at)
    others = [letter for group in rest for letter in details[group.detail]]
    detail = f"{len(rest)} other details, the newest: {newest.detail}"
    return [*found[: MOST_DETAILS - 1], _group(reason, detail, others)]


def _group(reason: str, detail: str, letters: Sequence[DeadLetter]) -> Group:
    times = [letter.sent_at for letter in letters]
    return Group(reason, len(letters), min(times), max(times), detail)


def _why(message: Mapping[str, Any]) -> tuple[str, str]:
    """The reason and its detail: as the trigger, EventBridge, Scheduler or SQS give them."""
    given = {
        name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()
    }
    if "reason" in given:
        return given["reason"], given.get("detail", "")
    if "ERROR_CODE" in given:
        return given["ERROR_CODE"], given.get("ERROR_MESSAGE", "")
    if "DeadLetterQueueSourceArn" in message["Attributes"]:
        return "none", "The trigger died or failed each time it received this message"
    return "none", "The message does not say why it is here"


def _parsed(text: str) -> Any:
    """The JSON value in a text; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
