"""SQS event source mappings and schedules."""

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from moto.sqs.models import Message, SQSBackend

from tests.support.local_cloud.functions import Functions, Throttled

# Lambda's initial concurrency without MaximumConcurrency.
DEFAULT_POLLERS = 5
_PAYLOAD_BYTES = 6_000_000
_LOOK_SECONDS = 0.2


class SqsPoller:
    """Polls a queue for one event source mapping, as Lambda does.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    """

    def __init__(
        self,
        mapping: Any,
        function_name: str,
        backend: SQSBackend,
        functions: Functions,
        record: Callable[[str], None],
    ) -> None:
        """`mapping` is moto's model, which UpdateEventSourceMapping changes; `record(operation)` notes the
        calls that Lambda makes with the function's role."""
        self._mapping = mapping
        self._function_name = function_name
        self._backend = backend
        self._queue: Any = backend.get_queue(mapping.event_source_arn.rpartition(":")[2])
        self._functions = functions
        self._record = record
        pollers = (mapping.scaling_config or {}).get("MaximumConcurrency", DEFAULT_POLLERS)
        self._slots = threading.Semaphore(pollers)
        self._pool = ThreadPoolExecutor(pollers)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for the invocations under way. End their environments first."""
        self._stopping.set()
        self._slots.release()
        self._thread.join()
        self._pool.shutdown()

    def _poll(self) -> None:
        while self._slots.acquire() and not self._stopping.is_set():
            if batch := self._gather():
                self._pool.submit(self._deliver, batch).add_done_callback(self._finished)
            else:
                self._slots.release()

    def _gather(self) -> list[Message]:
        """The next batch. It is full, or the batching window is over."""
        if not self._mapping.enabled:
            self._stopping.wait(_LOOK_SECONDS)
            return []
        size = self._mapping.batch_size
        window_ends = time.monotonic() + _LOOK_SECONDS
        batch: list[Message] = []
        while len(batch) < size and not self._stopping.is_set():
            received = self._receive(size - len(batch))
            if received and not batch:
                window_ends = time.monotonic() + (self._mapping.max_batch_window or 0)
            batch += received
            remaining = window_ends - time.monotonic()
            if remaining <= 0 or sum(len(m.body) for m in batch) > _PAYLOAD_BYTES:
                break
            self._queue.wait_for_messages(min(remaining, _LOOK_SECONDS))
        return batch

    def _receive(self, limit: int) -> list[Message]:
        received: list[Message] = self._backend.receive_message(
            self._queue.name,
            count=limit,
            wait_seconds_timeout=0,
            visibility_timeout=self._queue.visibility_timeout,
            message_attribute_names=["All"],
        )
        if received:
            self._record("ReceiveMessage")
        return received

    def _deliver(self, batch: list[Message]) -> None:
        event = {"Records": [_record(m, self._mapping.event_source_arn) for m in batch]}
        try:
            outcome = self._functions.invoke(self._function_name, json.dumps(event).encode())
        except Throttled:
            return  # the messages become visible again after their timeout
        if outcome.failed:
            return
        failed: set[str] = set()
        if "ReportBatchItemFailures" in (self._mapping.function_response_types or []):
            failed = failed_messages(outcome.payload, {m.id for m in batch})
        self._delete({m.id for m in batch} - failed)

    def _delete(self, message_ids: set[str]) -> None:
        if not message_ids:
            return
        queue = self._queue
        # For single messages, moto would scan the whole queue each time; there are up to 10,000.
        with queue._messages_lock:  # noqa: SLF001
            gone = [m for m in queue._messages if m.id in message_ids]  # noqa: SLF001
            queue._messages = [m for m in queue._messages if m.id not in message_ids]  # noqa: SLF001
            for message in gone:
                queue.pending_messages.discard(message)
                queue.deleted_messages.update(message.all_receipt_handles)
        self._record("DeleteMessage")

    def _finished(self, delivery: Future[None]) -> None:
        self._slots.release()
        if error := delivery.exception():
            threading.excepthook(
                threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread))
            )


def failed_messages(payload: bytes, message_ids: set[str]) -> set[str]:
    """The messages of a batch that return to the queue, according to the function's answer.

    Lambda takes an answer that it does not understand, and an id that is not of the batch, for a failure of
    the whole batch, and an empty answer for a success:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    try:
        answer = json.loads(payload or b"null")
        failures = (answer or {}).get("batchItemFailures") or []
        failed = {failure["itemIdentifier"] for failure in failures}
    except (ValueError, AttributeError, KeyError, TypeError):
        return message_ids
    return failed if failed <= message_ids else message_ids


def _record(message: Message, queue_arn: str) -> dict[str, Any]:
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.approximate_receive_count),
            "SentTimestamp": str(message.sent_timestamp),
            "SenderId": message.sender_id,
            "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
        },
        "messageAttributes": {
            name: {
                "stringValue": attribute.get("StringValue"),
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": attribute["DataType"],
            }
            for name, attribute in message.message_attributes.items()
        },
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


_MINUTES = {"minute": 1, "hour": 60, "day": 1440}


def rate_in_minutes(expression: str) -> int | None:
    """The minutes of a `rate(...)`. None for `cron(...)` and `at(...)`."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    return int(rate[1]) * _MINUTES[rate[2]] if rate else None


class Timer:
    """Calls a function at an interval until it is stopped. The first call is after one interval."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._seconds = seconds
        self._call = call
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for the call under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self._call()


def fire(schedule: Mapping[str, Any], client: Callable[..., Any]) -> None:
    """Fires a schedule now, as EventBridge Scheduler does at its time.

    `schedule` is GetSchedule's answer, `client(service, role)` makes a client that calls as that role.
    Raises ValueError for a target that is not known here.
    """
    target = schedule["Target"]
    text = target.get("Input", "{}")
    for name, value in {
        "schedule-arn": schedule["Arn"],
        "scheduled-time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "execution-id": str(uuid.uuid4()),
        "attempt-number": "1",
    }.items():
        text = text.replace(f"<aws.scheduler.{name}>", value)
    arn, role = target["Arn"], target["RoleArn"].rpartition("/")[2]
    service, resource = arn.split(":")[2], arn.rpartition(":")[2]
    if service == "sqs":
        sqs, account = client("sqs", role), arn.split(":")[4]
        url = f"{sqs.meta.endpoint_url}/{account}/{resource}"
        sqs.send_message(QueueUrl=url, MessageBody=text)
    elif service == "lambda":
        client("lambda", role).invoke(FunctionName=arn, InvocationType="Event", Payload=text)
    elif service == "states":
        client("stepfunctions", role).start_execution(stateMachineArn=arn, name=str(uuid.uuid4()), input=text)
    elif service == "sns":
        client("sns", role).publish(TopicArn=arn, Message=text)
    else:
        raise ValueError(f"a schedule with the target {arn} cannot be fired here")
