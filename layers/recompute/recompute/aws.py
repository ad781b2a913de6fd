"""The AWS calls of the trigger, each with the one failure that its caller handles."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from recompute import routes
from recompute.errors import AwsUnavailable, ConfigurationError
from recompute.events import request_body
from recompute.observability import count, logger
from recompute.runs import Check, Run
from recompute.updates import Update

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

DETAIL_LENGTH = 1000
ROUTES_MAX_AGE = 60  # seconds until an edit of the routes is in force
ROUTES_VERSIONS = 20  # how many versions are tried to find one that is right


@contextmanager
def aws_call(what: str) -> Iterator[None]:
    """Raises AwsUnavailable, saying what failed, for any failure of an AWS call."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise AwsUnavailable(f"could not {what}: {error}") from error


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

    def put_off_all(self, updates: Sequence[Update]) -> None:
        """Sends up to 10 updates again, visible at once. Raises AwsUnavailable if any was not sent."""
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "MessageBody": request_body(update), "DelaySeconds": 0}
            for number, update in enumerate(updates)
        ]
        with aws_call("put updates back into the queue"):
            answer = self._sqs.send_message_batch(QueueUrl=self._updates_url, Entries=entries)
        if refused := answer.get("Failed"):
            raise AwsUnavailable(f"could not put updates back into the queue: {refused[0].get('Message')}")

    def dead_letter(self, body: str, reason: str, detail: str) -> None:
        """Sends a message to the dead-letter queue, with its reason as attributes. Raises AwsUnavailable."""
        # SQS refuses most control characters.
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in detail[:DETAIL_LENGTH])
        with aws_call("send a message to the dead-letter queue"):
            self._sqs.send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=body,
                MessageAttributes={
                    "reason": {"DataType": "String", "StringValue": reason},
                    "detail": {"DataType": "String", "StringValue": shown or reason},
                },
            )


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
        """The latest routes that are right: a bad edit leaves those before it in force, and is told.

        Raises AwsUnavailable, and ConfigurationError where SSM keeps no version that is right.
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
        text, version = self._get(self._parameter)
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
