"""The AWS calls of the trigger, each with the one failure that its caller handles."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from aws_lambda_powertools.utilities.parameters import SSMProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import BotoCoreError, ClientError

from recompute import routes
from recompute.errors import AwsUnavailable
from recompute.events import request_body
from recompute.runs import Check, Run
from recompute.updates import Update

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

DETAIL_LENGTH = 1000
ROUTES_MAX_AGE = 60  # seconds until an edit of the routes is in force


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


def route_source(ssm: "SSMClient", parameter: str) -> Callable[[], routes.Routes]:
    """Gives the routes of an SSM parameter, at most a minute old.

    What it returns raises AwsUnavailable or, where the document is wrong, ConfigurationError.
    """
    provider = SSMProvider(boto3_client=ssm)
    parse = lru_cache(maxsize=1)(routes.parse)

    def current() -> routes.Routes:
        try:
            text = provider.get(parameter, max_age=ROUTES_MAX_AGE)
        except GetParameterError as error:
            raise AwsUnavailable(f"could not read the routes: {error}") from error
        return parse(str(text))

    return current
