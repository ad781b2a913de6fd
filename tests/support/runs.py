"""Runs for tests: one of the model in tests.support.doubles, requested on 15 January 2025 at 14:30 UTC."""

from collections.abc import Mapping
from typing import Any, cast

from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.run import Cause, Pace, Run
from arcanna_metrics.runs.start import accepted, new_run
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from tests.support.doubles import MODEL, metrics_body

REQUESTED_AT = 1_736_951_400.0
DEADLINE = 3600.0
EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:workflow:run-1"
BUS = "outcomes"
CAUSE: Cause = {
    "kind": "upload",
    "updates": 3,
    "first_at": to_iso(REQUESTED_AT - 60),
    "last_at": to_iso(REQUESTED_AT - 30),
    "examples": [{"bucket": "training", "key": "1234/alerts.csv", "version_id": None}],
}
PACE: Pace = {"start_grace": 600.0, "shortest_poll": 5.0, "longest_poll": 900.0}
GATE = {"largest_drop": {"overall_accuracy": 0.02}}


def origin(elapsed: float = 0.0) -> Origin:
    """The origin of an outcome `elapsed` seconds after the request."""
    return Origin(EXECUTION, BUS, REQUESTED_AT + elapsed)


def a_run(*, active: bool = False, baseline: Mapping[str, Any] | None = None, **changes: object) -> Run:
    """A run that the platform has accepted. `active`: its target is the job's active model."""
    run = new_run(
        run_id="run-1",
        target=Target(MODEL.job_id, None if active else MODEL.model_id),
        job_id=MODEL.job_id,
        model_id=MODEL.model_id,
        cause=CAUSE,
        requested_at=REQUESTED_AT,
        deadline_at=REQUESTED_AT + DEADLINE,
        pace=PACE,
        gate=GATE,
        durations=[],
        reference=None,
        baseline=metrics_body() if baseline is None else baseline,
        origin=origin(),
    )
    return cast("Run", {**accepted(run, to_iso(REQUESTED_AT), MODEL.job_id, REQUESTED_AT), **changes})
