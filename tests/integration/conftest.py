"""The functions' surroundings: AWS resources in moto, and the Arcanna reference server."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from arcanna_metrics.platform.http import BoundedClient
from functions.check_status import app as check_status
from functions.trigger_recompute import app as trigger_recompute
from tests.support.arcanna import (
    API_KEY,
    ArcannaServer,
    Behaviour,
    InMemoryAlerts,
    Job,
    KeyInfo,
    labelled_alerts,
)
from tests.support.doubles import MODEL, Invocation, Stack, client

OTHER_MODEL = "generic-1-1234-model-1740000000.hdf5"


@pytest.fixture(scope="session")
def running_platform() -> Iterator[ArcannaServer]:
    alerts = InMemoryAlerts()
    accuracy = {"Drop": 0.9, "Investigate": 0.8, "Escalate": 0.7}
    for seed, model_id in enumerate((OTHER_MODEL, MODEL.model_id)):
        alerts.put(1234, model_id, "alerts.csv", labelled_alerts(50, accuracy, seed=seed))
    jobs = {1234: Job("security-alerts", (OTHER_MODEL, MODEL.model_id))}
    with ArcannaServer(jobs, alerts) as server:
        yield server


@pytest.fixture
def platform(running_platform: ArcannaServer) -> ArcannaServer:
    """The reference server, idle, and as it behaves when nobody tells it otherwise."""
    running_platform.clear_faults()
    running_platform.set_behaviour(Behaviour())
    running_platform.set_api_keys({API_KEY: KeyInfo()})
    deadline = time.monotonic() + 30
    while any(recompute.state in ("queued", "in_progress") for recompute in running_platform.recomputes()):
        assert time.monotonic() < deadline, "a recompute of an earlier test does not end"
        time.sleep(0.01)
    return running_platform


class Functions:
    """The two functions, called as Lambda calls them."""

    def trigger(self, event: dict[str, Any], **context: Any) -> dict[str, Any]:
        answer: dict[str, Any] = trigger_recompute.handler(event, Invocation(**context))
        return answer

    def batch(self, *bodies: str, sent_at: float) -> list[str]:
        """Delivers messages, numbered from 0, and returns the numbers of those that come again."""
        records = [
            {
                "messageId": str(number),
                "eventSource": "aws:sqs",
                "body": body,
                "attributes": {"SentTimestamp": str(int(sent_at * 1000))},
            }
            for number, body in enumerate(bodies)
        ]
        failures = self.trigger({"Records": records})["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]

    def hold(self, data: dict[str, Any]) -> bool:
        """Whether the execution with this data may go on."""
        return bool(self.trigger({"hold": {"run": data["run"], "number": data["number"]}})["held"])

    def release(self, data: dict[str, Any]) -> bool:
        """Whether the execution with this data lets its target go."""
        result = data["check"]["outcome"]["result"]
        ended = {"run": data["run"], "number": data["number"], "result": result}
        return bool(self.trigger({"release": ended})["released"])

    def check(self, data: dict[str, Any]) -> dict[str, Any]:
        """The workflow's data after one more CheckStatus."""
        return {
            **data,
            "check": dict(check_status.handler({"execution": "arn:execution", **data}, Invocation())),
        }


@pytest.fixture(scope="session")
def secrets_manager() -> Iterator[str]:
    """Base URL of a Secrets Manager that has the stack's secrets: the functions read theirs without boto3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def functions(
    stack: Stack, platform: ArcannaServer, secrets_manager: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """New execution environments."""
    variables = {
        "ARCANNA_BASE_URL": platform.url,
        "ARCANNA_API_KEY_SECRET_ARN": stack.secret_arn,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets_manager,
        "URL_SUFFIX": "amazonaws.com",
        "LEDGER_TABLE": stack.ledger_table,
        "WORKFLOW_ARN": stack.workflow_arn,
        "UPDATES_QUEUE_URL": stack.updates_url,
        "DEAD_LETTER_QUEUE_URL": stack.dead_letter_url,
        "ROUTES_PARAMETER": stack.routes_parameter,
        "QUALITY_GATE": "{}",
        "EVENT_BUS_NAME": "default",
        "VISIBILITY_LAG_SECONDS": "1",
        "STALE_AFTER_SECONDS": "43200",
        "MINIMUM_INTERVAL_SECONDS": "0",
        "MAXIMUM_RECOMPUTES": "0",
        "START_GRACE_SECONDS": "600",
        "SHORTEST_POLL_SECONDS": "1",
        "LONGEST_POLL_SECONDS": "60",
        "RUN_DEADLINE_SECONDS": "3600",
        "RETRY_INTERVAL_SECONDS": "1",
        "RETRY_MAXIMUM_SECONDS": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stack.secrets.put_secret_value(SecretId=stack.secret_arn, SecretString=API_KEY)
    monkeypatch.setattr(boto3, "client", client)
    with ExitStack() as connections:
        monkeypatch.setattr(
            "arcanna_metrics.platform.connect.BoundedClient",
            lambda **how: connections.enter_context(BoundedClient(**how)),
        )
        trigger_recompute.services.cache_clear()
        trigger_recompute.trigger.cache_clear()
        check_status.platform.cache_clear()
        yield Functions()
    trigger_recompute.services.cache_clear()
    trigger_recompute.trigger.cache_clear()
    check_status.platform.cache_clear()
