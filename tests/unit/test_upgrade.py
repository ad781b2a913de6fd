"""Executions that are under way when an upgrade is deployed are finished by it."""

from typing import Any

import pytest

from arcanna_metrics.runs.check import first_check
from arcanna_metrics.runs.parse import parse
from arcanna_metrics.runs.run import (
    Cause,
    Check,
    Event,
    Failure,
    Notification,
    Object,
    Outcome,
    Pace,
    PastRun,
    Result,
    Run,
    TargetKey,
)
from tests.support.runs import a_run

OF_VERSION_1 = {
    Run: {
        *("run_id", "target", "job_id", "model_id", "cause", "requested_at", "deadline_at", "accepted_at"),
        *("platform_requested_at", "platform_job_id", "baseline", "pace", "gate", "durations", "reference"),
    },
    TargetKey: {"job_id", "model_id"},
    Cause: {"kind", "updates", "first_at", "last_at", "examples"},
    Object: {"bucket", "key", "version_id"},
    Pace: {"start_grace", "shortest_poll", "longest_poll"},
    Check: {"status", "detail", "wait_seconds", "polls", "recomputing_at", "idle_since", "outcome"},
    Outcome: {"reason", "detail", "events", "notification", "result"},
    Event: {"Source", "DetailType", "EventBusName", "Detail"},
    Notification: {"subject", "message"},
    Result: {"outcome", "active_changed", "past_run", "reference", "failure"},
    PastRun: {"run_id", "cause", "requested_at", "duration_seconds", "polls", "verdict", "scores"},
    Failure: {"run_id", "cause", "requested_at", "ended_at", "polls", "status", "reason", "detail"},
}
"""What an execution that version 1.0.0 has started may lack nothing of. Nothing is ever added here."""


@pytest.mark.parametrize("part", OF_VERSION_1)
def test_no_field_is_needed_that_an_older_execution_does_not_have(part: Any) -> None:
    assert part.__required_keys__ <= OF_VERSION_1[part]


def test_fields_that_this_version_does_not_know_are_kept() -> None:
    """After a roll-back, an execution of the newer version goes on."""
    run = parse("run", {**a_run(), "newer": 1}, Run)
    check = parse("check", {**first_check(run), "newer": 2}, Check)
    assert (dict(run)["newer"], dict(check)["newer"]) == (1, 2)
