"""The template, the workflow and the code agree."""

import json
import re
from typing import Any

import pytest

from arcanna_metrics.observability import metrics
from arcanna_metrics.runs.run import Check, Notification, Outcome, Status
from tests.support.deployment import (
    ROOT,
    actions_of,
    environment_of,
    resource,
    substitutions,
    template,
    texts,
    workflow,
)

STATES: dict[str, Any] = workflow()["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}


def test_every_task_is_retried_after_every_error() -> None:
    """A function in a VPC that was idle for weeks raises Lambda.ResourceConflictException, for example."""
    assert len(TASKS) == 6
    for state in TASKS.values():
        (retry,) = state["Retry"]
        assert retry["ErrorEquals"] == ["States.ALL"]
        assert (retry["BackoffRate"], retry["JitterStrategy"]) == (2, "FULL")
        assert retry["IntervalSeconds"] < retry["MaxDelaySeconds"]


def test_no_substitution_contains_another() -> None:
    """CloudFormation repeats the replacement until nothing changes."""
    for value in substitutions().values():
        assert not {f"${{{name}}}" for name in substitutions()} & set(texts(value))


def test_errors_of_check_publish_and_notify_are_caught_and_those_of_hold_and_release_are_not() -> None:
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


def test_only_a_running_check_leads_to_a_wait() -> None:
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
def test_workflow_reads_only_fields_that_exist(path: str, names: set[str]) -> None:
    read = {name for text in texts(STATES) for name in re.findall(rf"{path}\.(\w+)", text)}
    assert read
    assert read <= names


def test_workflow_formats_no_text_and_uses_no_table() -> None:
    assert not [text for text in texts(STATES) if "States.Format" in text or "dynamodb" in text]


# --- Permissions -----------------------------------------------------------------------------------------


def test_check_status_can_read_no_settings() -> None:
    """A run is judged by the settings that it began with, which are part of it."""
    assert "SETTINGS_PARAMETER" in environment_of("TriggerRecomputeFunction")
    assert "SETTINGS_PARAMETER" not in environment_of("CheckStatusFunction")
    assert {"ssm:GetParameter", "ssm:GetParameterHistory"} <= actions_of("TriggerRecomputeFunction")
    assert not [action for action in actions_of("CheckStatusFunction") if action.startswith("ssm:")]


def test_role_of_the_workflow_allows_exactly_its_tasks() -> None:
    called = set()
    for state in TASKS.values():
        service, _, action = state["Resource"].partition(":states:::")[2].partition(":")
        called.add(f"{service}:{action[:1].upper()}{action[1:]}" if service else "lambda:InvokeFunction")
    assert actions_of("RecomputeWorkflow") == called


# --- Times -----------------------------------------------------------------------------------------------


def test_visibility_timeout_is_six_times_the_functions_timeout() -> None:
    timeout = resource("TriggerRecomputeFunction")["Timeout"]
    assert resource("UpdatesQueue")["VisibilityTimeout"] >= 6 * timeout


def test_queue_delay_is_the_visibility_lag() -> None:
    assert resource("UpdatesQueue")["DelaySeconds"] == {"Ref": "VisibilityLagSeconds"}
    assert template()["Parameters"]["VisibilityLagSeconds"]["MaxValue"] <= 900  # the most that SQS accepts


def test_execution_timeout_is_later_than_any_deadline_that_can_be_set() -> None:
    pace = json.loads((ROOT / "events/schemas/settings.schema.json").read_text())["properties"]["pace"]
    assert workflow()["TimeoutSeconds"] > pace["properties"]["deadline_seconds"]["maximum"]


def test_every_task_ends_if_its_answer_is_lost() -> None:
    """https://docs.aws.amazon.com/step-functions/latest/dg/sfn-stuck-execution.html"""
    functions = ("TriggerRecomputeFunction", "CheckStatusFunction")
    longest = max(resource(function)["Timeout"] for function in functions)
    tasks = [state for state in workflow()["States"].values() if state["Type"] == "Task"]
    assert tasks
    assert all(task.get("TimeoutSeconds", 0) > longest for task in tasks)


def test_metrics_namespace_is_the_templates() -> None:
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == metrics.namespace
