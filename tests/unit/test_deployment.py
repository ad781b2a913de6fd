"""What the template and the workflow say, and what the code does, are the same."""

import re
from typing import Any

import pytest

from arcanna_metrics.observability import metrics
from arcanna_metrics.runs.completion import Status
from arcanna_metrics.runs.run import Check, Notification, Outcome
from tests.support.deployment import actions_of, resource, substitutions, template, texts, workflow

STATES: dict[str, Any] = workflow()["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}


def test_every_step_is_tried_again_after_every_error() -> None:
    """Lambda.ResourceConflictException, of a function in a VPC that was idle for weeks, among them."""
    assert len(TASKS) == 6
    for state in TASKS.values():
        (retry,) = state["Retry"]
        assert retry["ErrorEquals"] == ["States.ALL"]
        assert (retry["BackoffRate"], retry["JitterStrategy"]) == (2, "FULL")
        assert retry["IntervalSeconds"] < retry["MaxDelaySeconds"]


@pytest.mark.parametrize("limit", ["MinValue", "MaxValue"])
def test_step_functions_takes_every_retry_that_can_be_set(limit: str) -> None:
    """By https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"""
    names = ("RetryIntervalSeconds", "RetryMaximumSeconds", "RetryAttempts")
    given = {name: str(template()["Parameters"][name][limit]) for name in names}
    (retry,) = workflow(**given)["States"]["Hold"]["Retry"]
    assert retry["IntervalSeconds"] < retry["MaxDelaySeconds"] < 31622400
    assert 1 <= retry["MaxAttempts"] <= 99999999


def test_no_substitution_brings_another_one_along() -> None:
    """CloudFormation replaces until there is nothing left to replace."""
    for value in substitutions().values():
        assert not {f"${{{name}}}" for name in substitutions()} & set(texts(value))


def test_an_end_that_is_not_told_does_not_keep_the_target_and_one_that_is_not_released_is_resumed() -> None:
    catching = {name: [catch["ErrorEquals"] for catch in s.get("Catch", [])] for name, s in TASKS.items()}
    every = [["States.ALL"]]
    assert catching == {
        "Hold": [],
        "CheckStatus": every,
        "NotChecked": [],
        "Publish": every,
        "Notify": every,
        "Release": [],
    }


def test_only_a_running_status_is_waited_for() -> None:
    (choice,) = STATES["Judge"]["Choices"]
    assert choice == {"Variable": "$.check.status", "StringEquals": "running", "Next": "Wait"}
    assert {"running", "completed"} < set(Status.__args__)  # type: ignore[attr-defined]
    assert STATES["Judge"]["Default"] == "Publish"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (r"\$\.check", set(Check.__annotations__)),
        (r"\$\.check\.outcome", set(Outcome.__annotations__)),
        (r"\$\.check\.outcome\.notification", set(Notification.__annotations__)),
    ],
)
def test_the_workflow_reads_only_what_there_is(path: str, names: set[str]) -> None:
    read = {name for text in texts(STATES) for name in re.findall(rf"{path}\.(\w+)", text)}
    assert read
    assert read <= names


def test_the_workflow_writes_no_prose_and_touches_no_table() -> None:
    assert not [text for text in texts(STATES) if "States.Format" in text or "dynamodb" in text]


# --- Permissions -----------------------------------------------------------------------------------------


def test_the_functions_may_do_what_they_do_and_nothing_else() -> None:
    assert actions_of("TriggerRecomputeFunction") == {
        "dynamodb:GetItem",
        "dynamodb:BatchGetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:Scan",
        "states:StartExecution",
        "states:DescribeExecution",
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
    for state in TASKS.values():
        service, _, action = state["Resource"].partition(":states:::")[2].partition(":")
        called.add(f"{service}:{action[:1].upper()}{action[1:]}" if service else "lambda:InvokeFunction")
    assert actions_of("RecomputeWorkflow") == called


# --- Times -----------------------------------------------------------------------------------------------


def test_a_message_stays_invisible_six_times_as_long_as_the_function_may_take() -> None:
    timeout = resource("TriggerRecomputeFunction")["Timeout"]
    assert resource("UpdatesQueue")["VisibilityTimeout"] >= 6 * timeout


def test_an_update_is_visible_at_the_platform_when_it_is_recorded() -> None:
    assert resource("UpdatesQueue")["DelaySeconds"] == {"Ref": "VisibilityLagSeconds"}
    assert template()["Parameters"]["VisibilityLagSeconds"]["MaxValue"] <= 900  # the most that SQS takes


def test_the_backstop_is_later_than_any_deadline_that_can_be_set() -> None:
    assert workflow()["TimeoutSeconds"] > template()["Parameters"]["RunDeadlineSeconds"]["MaxValue"]


def test_the_metrics_namespace_is_the_template_s() -> None:
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == metrics.namespace
