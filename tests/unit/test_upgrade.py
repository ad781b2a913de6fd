"""Executions that are under way when an upgrade is deployed are finished by it."""

import pytest

from arcanna_metrics.runs.check import run_and_check
from arcanna_metrics.runs.run import Cause, Check, PastRun, Run, first_check
from tests.unit.test_check import RUN

OF_VERSION_1 = {
    Run: {
        *("run_id", "job_id", "model_id", "label", "cause", "requested_at", "deadline_at", "lease_until"),
        *("platform_requested_at", "baseline", "follows_active"),
    },
    Cause: {"kind", "updates", "first_at", "last_at", "sample"},
    Check: {
        *("status", "reason", "detail", "wait_seconds", "polls", "seen_recomputing", "idle_since", "history"),
        *("duration_seconds", "metrics", "quality", "scores_in_words", "active_changed"),
    },
    PastRun: {
        *("run_id", "cause", "requested_at", "duration_seconds", "polls", "verdict", "scores"),
    },
}
"""What an execution that version 1.0.0 has started may lack nothing of. Nothing is ever added here."""


@pytest.mark.parametrize("part", OF_VERSION_1)
def test_no_field_is_needed_that_an_older_execution_does_not_have(part: type) -> None:
    assert part.__required_keys__ <= OF_VERSION_1[part]  # type: ignore[attr-defined]


def test_fields_that_this_version_does_not_know_are_kept() -> None:
    """After a roll-back, an execution of the newer version goes on."""
    run, check = run_and_check({"run": {**RUN, "newer": 1}, "check": {**first_check([], 5), "newer": 2}})
    assert (dict(run)["newer"], dict(check)["newer"]) == (1, 2)
