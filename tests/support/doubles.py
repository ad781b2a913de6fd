"""Test doubles: a scripted platform, AWS resources in moto, a clock, an invocation, the log."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import boto3
import httpx
from moto import mock_aws
from moto.sqs.models import Message, SQSBackend

from arcanna_metrics.observability import logger
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import key_of, to_entry, to_item
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import Model, Target
from tests.support.due_index import PROJECTED

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

API_KEY = "the-management-key"
BASE_URL = "https://arcanna.example/prefix"
MODEL = Model("1234", "generic-1-1234-model-1747385873.hdf5")
TARGET = Target(*MODEL)
ACTIVE_TARGET = Target(MODEL.job_id, None)
PACE = Pace(
    visibility_lag=35,
    spacing=0,
    slots=0,
    start_grace=600,
    deadline=3600,
    shortest_poll=5,
    longest_poll=900,
    first_backoff=5,
    longest_backoff=300,
)
BASELINE = "2025-01-15T14:00:00Z"

Answer = Callable[[httpx.Request], httpx.Response]


def answer(status: int = 200, **content: Any) -> Answer:
    """The same answer to every request. The arguments are those of httpx.Response."""
    return lambda request: httpx.Response(status, **content)


NOT_FOUND = answer(404, json={"error": "Model not found", "details": "Model not found for the job"})
"""The documented answer about a job or a model that Arcanna does not know."""


def no_answer(error: httpx.HTTPError) -> Answer:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    return fail


def metrics_body(**changes: object) -> dict[str, Any]:
    """The documented body of GET /api/v2/metrics/model, of an idle model."""
    return {
        "model_id": MODEL.model_id,
        "is_recomputing_metrics": False,
        "last_recomputed_timestamp": BASELINE,
        "overall_accuracy": 0.75,
        "overall_f1_score": 0.7,
        "overall_recall": 0.8,
        "overall_precision": 0.6,
        "confusion_matrix": [[2, 1], [0, 1]],
        "metrics_per_decision": {"Escalate": {"recall": 1.0}},
        "kb_count_per_decision": {"Escalate": {"alerts_count": 1, "buckets_count": 1}},
        "buckets_in_kb": 2,
        **changes,
    }


def request_body(**changes: object) -> dict[str, Any]:
    """The documented body of an accepted request."""
    return {
        "message": "Metrics recomputation initiated successfully",
        "job_id": 1234,
        "model_id": MODEL.model_id,
        "status": "queued",
        "requested_at": "2025-01-15T14:30:00Z",
        **changes,
    }


class ScriptedPlatform:
    """An httpx transport with one answer per endpoint. It keeps the requests.

    Tests may change `metrics`, `request`, `job`, `scopes` and `resources` between calls.
    """

    def __init__(
        self,
        metrics: Answer | None = None,
        request: Answer | None = None,
        job: Answer | None = None,
        scopes: Answer | None = None,
        resources: Answer | None = None,
    ) -> None:
        self.metrics = metrics or answer(json=metrics_body())
        self.request = request or answer(json=request_body())
        self.job = job or answer(json={"active_model_id": MODEL.model_id})
        self.scopes = scopes or answer(json=["execute:recompute_model_metrics", "read:job_metrics"])
        self.resources = resources or answer(json=[{"id": 1234, "title": "security-alerts"}])
        self.requests: list[httpx.Request] = []

    def client(self, api_key: Callable[[bool], str] = lambda read_again: API_KEY) -> Arcanna:
        http = BoundedClient(base_url=BASE_URL, transport=httpx.MockTransport(self._answer))
        return Arcanna(http, api_key)

    @property
    def asked(self) -> list[str]:
        """The endpoints called, in order: metrics, request, job, scopes, resources."""
        return [_endpoint(request) for request in self.requests]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        told: Answer = getattr(self, _endpoint(request))
        response = told(request)
        if response.is_stream_consumed:  # httpx has read content that it was given
            stream = httpx.ByteStream(response.content)
            response = httpx.Response(response.status_code, headers=response.headers, stream=stream)
        return response


def _endpoint(request: httpx.Request) -> str:
    return _ENDPOINTS[request.url.path.rpartition("/api/v2/")[2]]


_ENDPOINTS = {
    "metrics/model": "metrics",
    "metrics/model/request_recompute_metrics": "request",
    "metrics/job": "job",
    "token/scopes": "scopes",
    "resources": "resources",
}


@dataclass
class Clock:
    """Epoch seconds that pass only when a test sets them."""

    now: float = 1_736_950_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Invocation:
    """The context of a Lambda invocation."""

    remaining: float = 100.0
    function_name: str = "function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:function"
    aws_request_id: str = "5f8a1c9e-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return int(self.remaining * 1000)


client = cache(boto3.client)
"""Like boto3.client, but cached, because making a client takes longer than most tests."""


@cache
def session(**given: Any) -> Any:
    """Like boto3.Session, but cached, and so are its clients."""
    made: Any = boto3.session.Session(**given)
    made.client = cache(made.client)
    return made


class Stack:
    """The AWS resources of the template that the functions use, in moto."""

    def __init__(self) -> None:
        self.dynamodb: DynamoDBClient = client("dynamodb")
        self.sqs: SQSClient = client("sqs")
        self.states: SFNClient = client("stepfunctions")
        self.ssm: SSMClient = client("ssm")
        self.secrets: SecretsManagerClient = client("secretsmanager")
        self.ledger_table = "ledger"
        self.dynamodb.create_table(
            TableName=self.ledger_table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "job_id", "AttributeType": "S"},
                {"AttributeName": "model_id", "AttributeType": "S"},
                {"AttributeName": "due", "AttributeType": "S"},
                {"AttributeName": "due_at", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "job_id", "KeyType": "HASH"},
                {"AttributeName": "model_id", "KeyType": "RANGE"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "due",
                    "KeySchema": [
                        {"AttributeName": "due", "KeyType": "HASH"},
                        {"AttributeName": "due_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {
                        "ProjectionType": "INCLUDE",
                        "NonKeyAttributes": PROJECTED,
                    },
                }
            ],
        )
        self.updates_url = self.sqs.create_queue(QueueName="updates")["QueueUrl"]
        self.dead_letter_url = self.sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        self.workflow_arn = self.states.create_state_machine(
            name="workflow",
            definition='{"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}',
            roleArn="arn:aws:iam::123456789012:role/workflow",
        )["stateMachineArn"]
        self.settings_parameter = "settings"
        self.write_settings({"routes": []})
        self.secret_arn = self.secrets.create_secret(Name="api-key", SecretString=API_KEY)["ARN"]

    def write_settings(self, document: object) -> None:
        self.ssm.put_parameter(
            Name=self.settings_parameter, Value=json.dumps(document), Type="String", Overwrite=True
        )

    def entry(self, target: Target = TARGET) -> Entry:
        """The target's entry in the ledger."""
        found = self.dynamodb.get_item(TableName=self.ledger_table, Key=key_of(target))
        return to_entry(target, found.get("Item", {}))

    def put(self, entry: Entry) -> None:
        """Writes the entry without a condition."""
        self.dynamodb.put_item(TableName=self.ledger_table, Item=to_item(entry, max(entry.rev, 1)))

    def executions(self) -> dict[str, dict[str, Any]]:
        """The input of every execution that was started, by its name."""
        started = self.states.list_executions(stateMachineArn=self.workflow_arn)["executions"]
        return {
            execution["name"]: json.loads(
                self.states.describe_execution(executionArn=execution["executionArn"])["input"]
            )
            for execution in started
        }

    def waiting(self) -> list[dict[str, Any]]:
        """The visible messages of the updates queue."""
        return [json.loads(message["Body"]) for message in self._receive(self.updates_url)]

    def dead_letters(self) -> list[tuple[str, str, str]]:
        """Body, reason and detail of each dead letter."""
        return [
            (
                message["Body"],
                message["MessageAttributes"]["reason"]["StringValue"],
                message["MessageAttributes"]["detail"]["StringValue"],
            )
            for message in self._receive(self.dead_letter_url)
        ]

    def _receive(self, url: str) -> Iterator[Any]:
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=3600
        ).get("Messages"):
            yield from messages


_receive_by_moto = SQSBackend.receive_message


def _receive_at_once(
    backend: SQSBackend, queue_name: str, count: int, wait_seconds_timeout: int, *args: Any
) -> list[Message]:
    # A long poll asks all servers of SQS. Here nobody sends meanwhile, so waiting would find nothing more.
    received: list[Message] = _receive_by_moto(backend, queue_name, count, 0, *args)
    return received


@contextmanager
def a_stack() -> Iterator[Stack]:
    """A new account with the stack's resources, until the block ends."""
    with mock_aws(), patch.object(SQSBackend, "receive_message", _receive_at_once):
        yield Stack()


class Logs(logging.StreamHandler[io.StringIO]):
    """Collects what the project's logger writes."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(logger.registered_formatter)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]
