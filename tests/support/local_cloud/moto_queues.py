"""Corrections of moto's queues: safe with several threads, and fast enough for ten thousand messages."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

from moto.core.utils import camelcase_to_underscores, unix_time_millis
from moto.sqs import models
from moto.sqs.models import Message, Queue, SQSBackend

_COUNTS = {
    "ApproximateNumberOfMessages": "approximate_number_of_messages",
    "ApproximateNumberOfMessagesDelayed": "approximate_number_of_messages_delayed",
    "ApproximateNumberOfMessagesNotVisible": "approximate_number_of_messages_not_visible",
}
_add_by_moto = Queue.add_message
_delete_by_moto = Queue.delete_message
_receive_by_moto = SQSBackend.receive_message
_get_attributes_by_moto = SQSBackend.get_queue_attributes


@contextmanager
def corrected_queues() -> Iterator[None]:
    """Corrects moto's queues until the block ends."""
    uncounted = [name for name in Queue.BASE_ATTRIBUTES if name not in _COUNTS]
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(patch.object(SQSBackend, "receive_message", _receive_message))
        enter(patch.object(Queue, "delete_message", _delete_message))
        enter(patch.object(Queue, "add_message", _add_message))
        enter(patch.object(Queue, "messages", property(_visible)))
        # For every message, moto asks for an attribute and counts all messages three times.
        enter(patch.object(Queue, "BASE_ATTRIBUTES", uncounted))
        enter(patch.object(SQSBackend, "get_queue_attributes", _get_queue_attributes))
        enter(patch.object(models, "camelcase_to_underscores", cache(camelcase_to_underscores)))
        yield


def _receive_message(backend: SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> list[Message]:
    # moto finds, marks and moves messages in separate steps. A wait releases the lock.
    with backend.get_queue(queue_name)._messages_lock:  # noqa: SLF001
        received: list[Message] = _receive_by_moto(backend, queue_name, *args, **kwargs)
        return received


def _delete_message(queue: Queue, receipt_handle: str) -> None:
    # moto replaces the list of messages by a copy, which lacks messages added meanwhile.
    with queue._messages_lock:  # noqa: SLF001
        _delete_by_moto(queue, receipt_handle)


def _add_message(queue: Queue, message: Message) -> None:
    # moto would deliver to functions itself: single messages, in the sender's thread, once.
    queue.lambda_event_source_mappings.clear()
    _add_by_moto(queue, message)


def _visible(queue: Queue) -> list[Message]:
    now = unix_time_millis()
    return [m for m in queue._messages if m.visible_at < now and m.delayed_until <= now]  # noqa: SLF001


def _get_queue_attributes(backend: SQSBackend, queue_name: str, names: list[str]) -> dict[str, Any]:
    others = [name for name in names if name not in _COUNTS]
    found: dict[str, Any] = _get_attributes_by_moto(backend, queue_name, others)
    queue = backend.get_queue(queue_name)
    counts = {n: getattr(queue, a) for n, a in _COUNTS.items() if n in names or "All" in names}
    return found | counts
