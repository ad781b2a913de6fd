"""What the template and the workflow say, and what the code does, are the same."""

import re
from typing import Any

import botocore.session
import pytest

from arcanna_metrics import errors
from arcanna_metrics.errors import AwsUnavailable, BadInput, ConfigurationError, PlatformBusy, RetryLater
from arcanna_metrics.observability import metrics
from arcanna_metrics.runs.completion import Status
from arcanna_metrics.runs.run import Check, Run
from arcanna_metrics.trigger import RESERVE
from tests.deployment import actions_of, resource, template, texts, workflow

STATES: dict[str, Any] = workflow()["States"]
CHECK_STATUS = STATES["CheckStatus"]
# Only the trigger asks for a recompute, and only the trigger calls AWS but for the secret.
OF_THE_TRIGGER = {PlatformBusy, AwsUnavailable}


PASSING = {error.__name__ for error in set(RetryLater.__subclasses__()) - OF_THE_TRIGGER}


def test_the_workflow_retries_exactly_what_passes_by_itself() -> None:
    (retry,) = CHECK_STATUS["Retry"]
    ours = {name for name in retry["ErrorEquals"] if hasattr(errors, name)}
    assert ours == PASSING
    others = set(retry["ErrorEquals"]) - ours
    assert all(re.match(r"(Lambda|States|Runtime|Sandbox)\.", name) for name in others)


def test_the_workflow_quotes_the_message_of_every_error_of_the_check() -> None:
    wrong = {error.__name__ for error in (BadInput, ConfigurationError)}
    assert set(CHECK_STATUS["Catch"][0]["ErrorEquals"]) == PASSING | wrong
    assert CHECK_STATUS["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


def test_every_status_has_its_branch_and_no_other() -> None:
    choices = [c for c in STATES["Judge"]["Choices"] if c["Variable"] == "$.check.status"]
    branches = {choice["StringEquals"]: choice["Next"] for choice in choices}
    assert set(branches) == set(Status.__args__)  # type: ignore[attr-defined]
    assert branches["running"] == "Wait"
    assert branches["completed"] == "PublishCompleted"
    assert STATES["Judge"]["Default"] == "UnknownStatus"


@pytest.mark.parametrize(
    ("part", "names"), [("run", set(Run.__annotations__)), ("check", set(Check.__annotations__))]
)
def test_the_workflow_reads_only_what_there_is(part: str, names: set[str]) -> None:
    read = {name for text in texts(STATES) for name in re.findall(rf"\$\.{part}\.(\w+)", text)}
    assert read
    assert read <= names


def test_what_the_workflow_writes_in_place_of_a_check_is_enough_for_what_follows() -> None:
    written = {name.removesuffix(".$") for name in STATES["GiveUp"]["Parameters"]}
    assert written <= set(Check.__annotations__)
    for name in ("PublishFailed", "NotifyFailed", "ReleaseFailed", "RecomputeFailed"):
        read = {found for text in texts(STATES[name]) for found in re.findall(r"\$\.check\.(\w+)", text)}
        assert read <= written


def test_the_workflow_writes_the_attributes_that_the_ledger_reads() -> None:
    written = {
        name
        for state in ("ReleaseCompleted", "ReleaseFailed", "HoldModel")
        for name in re.findall(r"(?:SET|REMOVE|,) (\w+)", STATES[state]["Parameters"]["UpdateExpression"])
    }
    assert written == {
        "run_id",
        "last_run_id",
        "requested_at",
        "lease_expires_at",
        "covered_until",
        "history",
        "last_outcome",
        "last_ended_at",
        "last_failure",
        "stale_since",
        "quality_reference",
    }


def test_the_check_is_tried_again_after_the_errors_of_lambda_that_pass_by_themselves() -> None:
    """By the names of Lambda's API, so that none is misspelt."""
    model = botocore.session.get_session().get_service_model("lambda")
    known = {f"Lambda.{error.name}" for error in model.operation_model("Invoke").error_shapes}
    named = {name for name in STATES["CheckStatus"]["Retry"][0]["ErrorEquals"] if name.startswith("Lambda.")}
    of_networks = ("ENILimitReached", "EC2Throttled", "EC2Unexpected", "SubnetIPAddressLimitReached")
    assert {f"Lambda.{name}Exception" for name in (*of_networks, "ResourceNotReady")} <= named & known


# --- Permissions -----------------------------------------------------------------------------------------


def test_the_functions_may_do_what_they_do_and_nothing_else() -> None:
    assert actions_of("TriggerRecomputeFunction") == {
        "dynamodb:UpdateItem",
        "dynamodb:GetItem",
        "dynamodb:BatchGetItem",
        "dynamodb:Query",
        "dynamodb:Scan",
        "states:StartExecution",
        "sqs:SendMessage",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "ssm:GetParameter",
        "secretsmanager:GetSecretValue",
    }
    assert actions_of("CheckStatusFunction") == {"secretsmanager:GetSecretValue"}


def test_the_workflow_may_do_what_it_does() -> None:
    called = set()
    for state in STATES.values():
        if "Resource" in state:
            service, _, action = state["Resource"].partition(":states:::")[2].partition(":")
            called.add(f"{service}:{action[:1].upper()}{action[1:]}" if service else "lambda:InvokeFunction")
    assert actions_of("RecomputeWorkflow") == called


# --- Times -----------------------------------------------------------------------------------------------


def test_a_message_stays_invisible_six_times_as_long_as_the_function_may_take() -> None:
    timeout = resource("TriggerRecomputeFunction")["Timeout"]
    assert resource("UpdatesQueue")["VisibilityTimeout"] >= 6 * timeout


def test_the_function_has_time_for_more_than_one_model() -> None:
    assert resource("TriggerRecomputeFunction")["Timeout"] > 2 * RESERVE


def test_the_backstop_is_later_than_any_deadline_that_can_be_set() -> None:
    assert workflow()["TimeoutSeconds"] > template()["Parameters"]["RunDeadlineSeconds"]["MaxValue"]


def test_the_metrics_namespace_is_the_template_s() -> None:
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == metrics.namespace
