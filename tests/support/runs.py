"""Runs for tests, of the model in tests.support.doubles. They are requested on 15 January 2025, 14:30 UTC."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from arcanna_metrics.controller.start import new_run
from arcanna_metrics.protocol.entry import Claim, Entry, Waiting
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.run import Cause, Pace, Run
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from tests.support import doubles
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
PACE: Pace = {"deadline": DEADLINE, "start_grace": 600.0, "shortest_poll": 5.0, "longest_poll": 900.0}
NO_RULES: dict[str, Any] = {"largest_drop": {}, "floor": {}, "minimum_samples": 1}
GATE: dict[str, Any] = {"largest_drop": {"overall_accuracy": 0.02}, "floor": {}, "minimum_samples": 1}


def origin(elapsed: float = 0.0) -> Origin:
    """The origin of an outcome `elapsed` seconds after the request."""
    return Origin(EXECUTION, BUS, REQUESTED_AT + elapsed)


def a_new_run(
    target: Target,
    model_id: str | None,
    *,
    run_id: str = "run-1",
    requested_at: float = REQUESTED_AT,
    gate: Mapping[str, Any] | None = None,
    **pace: float,
) -> Run:
    """A run that is not requested yet, of a target that was claimed on request by hand."""
    given = replace(doubles.PACE, deadline=DEADLINE, **pace)  # type: ignore[arg-type]  # slots is none of them
    claimed = Entry(target, waiting=Waiting(cause="manual"))
    run = new_run(claimed, Claim(run_id, requested_at), JobSettings(given, dict(gate or NO_RULES)))
    return {**run, "model_id": model_id}


def a_run(*, active: bool = False, baseline: Mapping[str, Any] | None = None, **changes: object) -> Run:
    """A run that the platform has accepted. `active`: its target is the job's active model."""
    run = a_new_run(Target(MODEL.job_id, None if active else MODEL.model_id), MODEL.model_id, gate=GATE)
    shown = metrics_body() if baseline is None else dict(baseline)
    run = cast("Run", {**run, "cause": CAUSE, "baseline": shown, "platform_job_id": MODEL.job_id})
    return cast("Run", {**accepted(run, to_iso(REQUESTED_AT)), **changes})


def accepted(run: Run, platform_requested_at: str | None) -> Run:
    """The run after the platform's answer to the request."""
    return {**run, "accepted_at": to_iso(REQUESTED_AT), "platform_requested_at": platform_requested_at}
