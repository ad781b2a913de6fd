"""AWS resources in moto and the Arcanna reference server, for the functions."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from moto.server import ThreadedMotoServer

from arcanna_metrics.platform.http import BoundedClient
from functions.check_status import app as check_status
from functions.trigger_recompute import app as trigger_recompute
from tests.integration.functions import Functions
from tests.support.arcanna import (
    API_KEY,
    ArcannaServer,
    Behaviour,
    InMemoryAlerts,
    Job,
    KeyInfo,
    labelled_alerts,
)
from tests.support.arcanna.alerts import TYPICAL_ACCURACY
from tests.support.doubles import MODEL, Stack, client
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
def running_platform() -> Iterator[ArcannaServer]:
    alerts = InMemoryAlerts()
    alerts.put(1234, MODEL.model_id, "alerts.csv", labelled_alerts(50, TYPICAL_ACCURACY, seed=1))
    jobs = {1234: Job("security-alerts", (MODEL.model_id,))}
    with ArcannaServer(jobs, alerts) as server:
        yield server


@pytest.fixture
def platform(running_platform: ArcannaServer) -> ArcannaServer:
    """The reference server, idle, with its default behaviour."""
    running_platform.clear_faults()
    running_platform.set_behaviour(Behaviour())
    running_platform.set_api_keys({API_KEY: KeyInfo()})
    ended = {"completed", "failed"}
    eventually(
        "the end of an earlier test's recomputes",
        lambda: {recompute.state for recompute in running_platform.recomputes()} <= ended,
    )
    return running_platform


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """Base URL of moto's Secrets Manager and SSM. The functions call these without botocore."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def functions(
    stack: Stack, platform: ArcannaServer, aws: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """The functions in new execution environments."""
    variables = {
        "ARCANNA_BASE_URL": platform.url,
        "ARCANNA_API_KEY_SECRET_ARN": stack.secret_arn,
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": aws,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",  # by botocore, which calls moto in this process
        "URL_SUFFIX": "amazonaws.com",
        "LEDGER_TABLE": stack.ledger_table,
        "WORKFLOW_ARN": stack.workflow_arn,
        "UPDATES_QUEUE_URL": stack.updates_url,
        "DEAD_LETTER_QUEUE_URL": stack.dead_letter_url,
        "SETTINGS_PARAMETER": stack.settings_parameter,
        "EVENT_BUS_NAME": "default",
        "VISIBILITY_LAG_SECONDS": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stack.secrets.put_secret_value(SecretId=stack.secret_arn, SecretString=API_KEY)
    monkeypatch.setattr(trigger_recompute, "client", client)
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
