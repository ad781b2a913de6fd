"""The two handlers, called as Lambda calls them, without a platform."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from arcanna_metrics import aws
from arcanna_metrics.errors import BadInput, ConfigurationError
from arcanna_metrics.platform import tls
from arcanna_metrics.runs.check import first_check
from functions.check_status import app as check_status
from functions.trigger_recompute import app as trigger_recompute
from tests.support.aws_json import aws_json
from tests.support.deployment import environment_of
from tests.support.doubles import MODEL, Invocation, Logs, ScriptedPlatform, Stack, client
from tests.support.runs import a_run

RUN = a_run()
GIVEN = {"execution": "arn:execution", "run": RUN, "check": first_check(RUN)}
pytestmark = pytest.mark.usefixtures("_environment")
TRIGGER = environment_of("TriggerRecomputeFunction")
CHECK = environment_of("CheckStatusFunction")
POWERTOOLS = {"POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME"}
MAKE_CLIENT = aws.client
OPTIONAL = {"ARCANNA_API_KEY_SECRET_FIELD", "ARCANNA_CA_BUNDLE", "HTTPS_PROXY", "NO_PROXY"}
"""Variables that may be empty."""


@pytest.fixture
def _environment(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A new execution environment, with the variables that the template sets and no others."""
    (tmp_path / tls.HASHED).mkdir()  # as the build makes it: to read all CAs at once takes longer than a test
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "cacert.pem"))
    given = {
        "ARCANNA_BASE_URL": "https://arcanna.example",
        "ARCANNA_API_KEY_SECRET_ARN": stack.secret_arn,
        "LEDGER_TABLE": stack.ledger_table,
        "WORKFLOW_ARN": stack.workflow_arn,
        "UPDATES_QUEUE_URL": stack.updates_url,
        "DEAD_LETTER_QUEUE_URL": stack.dead_letter_url,
        "SETTINGS_PARAMETER": stack.settings_parameter,
        "EVENT_BUS_NAME": "default",
        **dict.fromkeys(OPTIONAL, ""),
    }
    for name in (TRIGGER | CHECK) - POWERTOOLS:
        monkeypatch.setenv(name, given.get(name, "300"))
    monkeypatch.setattr(trigger_recompute, "client", client)
    ssm = aws_json("ssm")
    monkeypatch.setattr(trigger_recompute, "parameters", lambda *_: ssm)
    trigger_recompute.services.cache_clear()
    trigger_recompute.trigger.cache_clear()
    check_status.platform.cache_clear()
    yield
    trigger_recompute.services.cache_clear()
    trigger_recompute.trigger.cache_clear()
    check_status.platform.cache_clear()


def message(number: int, body: str) -> dict[str, Any]:
    return {
        "messageId": f"message-{number}",
        "eventSource": "aws:sqs",
        "body": body,
        "attributes": {"SentTimestamp": "1736950000000"},
    }


# --- Settings --------------------------------------------------------------------------------------------


def test_functions_start_with_exactly_the_templates_variables() -> None:
    trigger_recompute.trigger()
    check_status.platform()


@pytest.mark.parametrize("name", sorted(TRIGGER - POWERTOOLS - OPTIONAL))
def test_trigger_names_each_missing_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(KeyError, match=name):
        trigger_recompute.handler({"job_id": "1234"}, Invocation())


@pytest.mark.parametrize("name", sorted(CHECK - POWERTOOLS - OPTIONAL))
def test_check_status_names_each_missing_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(KeyError, match=name):
        check_status.handler(GIVEN, Invocation())


@pytest.mark.parametrize("event", [{}, {"run": RUN}, {"key1": "value1"}])
def test_check_status_invoked_by_hand_explains_the_expected_event(event: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="run, check and execution"):
        check_status.handler(event, Invocation())


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_functions_start_without_optional_variables(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    trigger_recompute.trigger()
    check_status.platform()


@pytest.mark.parametrize("name", ["ARCANNA_CA_BUNDLE"])
def test_invalid_optional_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong")
    with pytest.raises(ConfigurationError, match=name):
        trigger_recompute.handler({"job_id": "1234"}, Invocation())
    with pytest.raises(ConfigurationError, match=name):
        check_status.handler(GIVEN, Invocation())


@pytest.mark.parametrize("name", sorted(TRIGGER - CHECK))
def test_check_status_needs_no_variable_of_the_trigger(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    check_status.platform()


@pytest.mark.parametrize("name", ["ARCANNA_BASE_URL", "SETTINGS_PARAMETER"])
def test_preflight_names_a_missing_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(KeyError, match=name):
        trigger_recompute.handler({"preflight": True}, Invocation())


def test_preflight_reads_the_routes_again_at_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_recompute, "arcanna", lambda *_: ScriptedPlatform().client())
    for document, reason in (({"routes": {}}, "ConfigurationError"), ({"routes": []}, None)):
        stack.write_settings(document)
        findings = trigger_recompute.handler({"preflight": True}, Invocation())["findings"]
        assert {finding["check"]: finding["reason"] for finding in findings} == {
            "platform": None,
            "key": None,
            "scopes": None,
            "settings": reason,
        }


@pytest.mark.parametrize("job_id", [1234, "1234"])
def test_preflight_of_a_target_looks_it_up_and_requests_nothing(
    monkeypatch: pytest.MonkeyPatch, job_id: object
) -> None:
    platform = ScriptedPlatform()
    monkeypatch.setattr(trigger_recompute, "arcanna", lambda *_: platform.client())
    found = trigger_recompute.handler({"preflight": {"job_id": job_id}}, Invocation())
    assert (found["reason"], found["model_id"]) == (None, MODEL.model_id)
    assert json.loads(json.dumps(found))["metrics"] == found["metrics"]
    assert platform.asked == ["job", "metrics"]


def test_preflight_of_an_id_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_recompute, "arcanna", lambda *_: ScriptedPlatform().client())
    with pytest.raises(BadInput, match="model_id has 300 characters"):
        trigger_recompute.handler({"preflight": {"job_id": 1, "model_id": "x" * 300}}, Invocation())


@pytest.mark.parametrize("value", [False, 1, "true", None, {}, {"model_id": "m"}])
def test_preflight_with_another_value_is_bad_input(value: object) -> None:
    with pytest.raises(BadInput):
        trigger_recompute.handler({"preflight": value}, Invocation())


@pytest.mark.parametrize("service", get_args(aws.Service))
def test_every_aws_client_has_bounded_timeouts(service: aws.Service) -> None:
    config = MAKE_CLIENT(service).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, 3)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}


# --- What comes in ---------------------------------------------------------------------------------------


def test_object_without_a_route_records_nothing() -> None:
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2025-01-15T14:30:00Z",
        "detail": {"bucket": {"name": "bucket"}, "object": {"key": "elsewhere.csv"}},
    }
    assert trigger_recompute.handler(event, Invocation()) == {"recorded": []}


def test_unusable_messages_become_dead_letters_and_leave_the_queue(stack: Stack) -> None:
    batch = {"Records": [message(number, f"garbage {number}") for number in range(3)]}
    assert trigger_recompute.handler(batch, Invocation()) == {"batchItemFailures": []}
    assert [(body, reason) for body, reason, _ in stack.dead_letters()] == [
        (f"garbage {number}", "BadInput") for number in range(3)
    ]


def test_message_stays_in_the_queue_if_its_dead_letter_cannot_be_sent(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", stack.dead_letter_url + "-gone")
    answer = trigger_recompute.handler({"Records": [message(7, "garbage")]}, Invocation())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-7"}]}


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        {},
        {"Records": None},
        {"Records": []},
        {"Records": {}},
        {"Records": "text"},
        {"Records": ["text"]},
        {"Records": {"eventSource": "aws:sqs"}},
        {"Records": [{"eventSource": "aws:kinesis"}]},
    ],
)
def test_invalid_trigger_event_is_bad_input(event: Any) -> None:
    with pytest.raises(BadInput):
        trigger_recompute.handler(event, Invocation())


def test_log_lines_name_the_invocation(logs: Logs) -> None:
    trigger_recompute.handler({"Records": [message(7, "garbage")]}, Invocation())
    (line,) = logs.lines

    assert line["function_request_id"] == Invocation.aws_request_id
    assert (line["message"], line["message_id"], line["reason"]) == (
        "unusable message",
        "message-7",
        "BadInput",
    )
    assert json.dumps(line).count("garbage") == 0
