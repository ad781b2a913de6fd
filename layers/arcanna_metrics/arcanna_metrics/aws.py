"""The AWS calls of the trigger, each with the one failure that its caller handles."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from arcanna_metrics.errors import NO_WAY, AwsUnavailable, ConfigurationError
from arcanna_metrics.intake import routes
from arcanna_metrics.intake.events import request_body
from arcanna_metrics.observability import count, logger
from arcanna_metrics.runs.run import Check, Run
from arcanna_metrics.updates import Update

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

DETAIL_LENGTH = 1000
SQS_BATCH = 10
"""Messages, SQS's own limit for one call."""
SQS_BATCH_BYTES = 256 * 1024
"""SQS's limit for all messages of a call is 1 MiB by now, but it was this for long, and is in some places."""
SQS_MESSAGE_BYTES = 2**20
"""SQS's limit for a message with its attributes."""
SQS_ATTRIBUTES = 8 * DETAIL_LENGTH
"""Bytes that reason and detail may have at the most, with their names and types."""
ROUTES_MAX_AGE = 60  # seconds until an edit of the routes is in force
ROUTES_VERSIONS = 20  # how many versions are tried to find one that is right
BOUNDED = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})
"""For every client. Where no way leads, or nobody answers, a call fails after 3 * 3 seconds and 3 of waiting.
Three in a row, of an update, of putting it off and of putting off all others, take no more than the trigger's
RESERVE. By default, a single one takes longer than the function may."""


@contextmanager
def aws_call(what: str) -> Iterator[None]:
    """Raises AwsUnavailable, saying what failed, for any failure of an AWS call."""
    try:
        yield
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        raise AwsUnavailable(f"could not {what}: {error}. {NO_WAY}") from error
    except (BotoCoreError, ClientError) as error:
        raise AwsUnavailable(f"could not {what}: {error}") from error


class DeadLetter(NamedTuple):
    """A message that could not be used, as it came, the word for why, and a sentence about it."""

    body: str
    reason: str
    detail: str


class Queues:
    """The updates queue and its dead-letter queue."""

    def __init__(self, sqs: "SQSClient", updates_url: str, dead_letter_url: str) -> None:
        self._sqs = sqs
        self._updates_url = updates_url
        self._dead_letter_url = dead_letter_url

    def put_off(self, update: Update, delay: int) -> None:
        """Sends the update again, visible after `delay` seconds (0 to 900). Raises AwsUnavailable."""
        with aws_call("put an update back into the queue"):
            self._sqs.send_message(
                QueueUrl=self._updates_url, MessageBody=request_body(update), DelaySeconds=delay
            )

    def put_off_all(self, updates: Sequence[Update]) -> list[AwsUnavailable | None]:
        """Sends the updates again, visible at once. Tells of each whether that failed."""
        return self._send_all(
            self._updates_url,
            [{"Id": "", "MessageBody": request_body(update), "DelaySeconds": 0} for update in updates],
        )

    def dead_letter(self, letter: DeadLetter) -> None:
        """Sends a message to the dead-letter queue. Raises AwsUnavailable."""
        (error,) = self.dead_letter_all([letter])
        if error:
            raise error

    def dead_letter_all(self, letters: Sequence[DeadLetter]) -> list[AwsUnavailable | None]:
        """Sends messages to the dead-letter queue. Tells of each whether that failed."""
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
        """By as few calls as may be. When one has failed, the others are not tried: each takes its time. One
        that SQS finds too long takes none."""
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


def _batches(
    messages: Iterable["SendMessageBatchRequestEntryTypeDef"],
) -> Iterator[list["SendMessageBatchRequestEntryTypeDef"]]:
    """As many messages as one call takes."""
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
    """A body that leaves room for the attributes, which a message that came without may not have."""
    return body.encode()[: SQS_MESSAGE_BYTES - SQS_ATTRIBUTES].decode(errors="ignore")


def _shown(detail: str) -> str:
    """Without the control characters that SQS refuses."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in detail[:DETAIL_LENGTH])


class Workflow:
    """The state machine that follows runs."""

    def __init__(self, states: "SFNClient", state_machine_arn: str) -> None:
        self._states = states
        self._arn = state_machine_arn

    def execution(self, name: str) -> str:
        """The ARN that the execution of that name has, or will have."""
        return f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"

    def start(self, name: str, run: Run, check: Check) -> None:
        """Starts the execution of that name, unless it has been started before. Raises AwsUnavailable."""
        with aws_call("start the workflow"):
            try:
                self._states.start_execution(
                    stateMachineArn=self._arn,
                    name=name,
                    input=json.dumps({"run": run, "check": check}, ensure_ascii=False),
                )
            except self._states.exceptions.ExecutionAlreadyExists:
                return


class RouteSource:
    """The routes of an SSM parameter, at most `ROUTES_MAX_AGE` seconds old."""

    def __init__(self, ssm: "SSMClient", parameter: str, clock: Callable[[], float]) -> None:
        self._ssm = ssm
        self._parameter = parameter
        self._clock = clock
        self._read_at = -inf
        self._routes: routes.Routes | None = None

    def __call__(self) -> routes.Routes:
        """The latest routes that are right: a bad edit, and a failure of SSM, leave those before it in
        force, and are told.

        Raises AwsUnavailable where none have been read yet, and ConfigurationError where SSM keeps no version
        that is right.
        """
        now = self._clock()
        if self._routes is None or now - self._read_at >= ROUTES_MAX_AGE:
            self._routes = self._latest()
            self._read_at = now
        return self._routes

    def newest(self) -> routes.Routes:
        """The routes as they are written now. Raises AwsUnavailable and, where they are wrong,
        ConfigurationError."""
        return routes.parse(self._get(self._parameter)[0])

    def _latest(self) -> routes.Routes:
        try:
            text, version = self._get(self._parameter)
        except AwsUnavailable as error:
            if self._routes is None:
                raise
            count("RoutesInvalid")
            logger.error("the routes cannot be read", detail=str(error))
            return self._routes
        try:
            return routes.parse(text)
        except ConfigurationError as error:
            count("RoutesInvalid")
            logger.error("the routes are wrong", version=version, detail=str(error))
            return self._routes or self._last_good(version, error)

    def _last_good(self, version: int, error: ConfigurationError) -> routes.Routes:
        for earlier in range(version - 1, max(0, version - 1 - ROUTES_VERSIONS), -1):
            try:
                found = routes.parse(self._get(f"{self._parameter}:{earlier}")[0])
            except ConfigurationError:
                continue
            logger.warning("earlier routes are in force", version=earlier)
            return found
        raise error

    def _get(self, name: str) -> tuple[str, int]:
        with aws_call("read the routes"):
            parameter = self._ssm.get_parameter(Name=name)["Parameter"]
        return parameter["Value"], parameter["Version"]
