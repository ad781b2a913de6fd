"""An upgrade finishes the executions that are under way."""

from typing import Any

import pytest

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

OF_VERSION_1 = {
    Run: {
        *("run_id", "target", "job_id", "model_id", "cause", "requested_at", "accepted_at"),
        *(
            "platform_requested_at",
            "platform_job_id",
            "baseline",
            "baseline_cut",
            "pace",
            "gate",
            "durations",
            "reference",
        ),
    },
    TargetKey: {"job_id", "model_id"},
    Cause: {"kind", "updates", "first_at", "last_at", "examples"},
    Object: {"bucket", "key", "version_id"},
    Pace: {"deadline", "start_grace", "shortest_poll", "longest_poll"},
    Check: {"status", "detail", "wait_seconds", "polls", "recomputing_at", "idle_since", "outcome"},
    Outcome: {"events", "notification", "result"},
    Event: {"Source", "DetailType", "EventBusName", "Detail"},
    Notification: {"subject", "message"},
    Result: {"outcome", "active_changed", "past_run", "figures", "failure"},
    PastRun: {
        "run_id",
        "model_id",
        "cause",
        "requested_at",
        "duration_seconds",
        "polls",
        "verdict",
        "scores",
    },
    Failure: {
        "run_id",
        "model_id",
        "cause",
        "requested_at",
        "ended_at",
        "polls",
        "status",
        "reason",
        "detail",
    },
}
"""The fields of an execution that version 1.0.0 has started. Never add any."""


@pytest.mark.parametrize("part", OF_VERSION_1)
def test_required_fields_exist_in_executions_of_version_1(part: Any) -> None:
    assert part.__required_keys__ <= OF_VERSION_1[part]
