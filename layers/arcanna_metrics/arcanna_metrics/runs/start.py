"""A run at its start: what the trigger builds before and after it requests the recompute.

Before the request `new_run` and `first_check`, so that a run that was requested can always be followed. After
it `accepted`, or `failed_check` if it was refused: then the workflow only tells that the run failed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arcanna_metrics.runs.completion import Judgement
from arcanna_metrics.runs.outcome import Ending, Origin, failed, fitting, not_checked
from arcanna_metrics.runs.polling import next_wait
from arcanna_metrics.runs.quality import Reference
from arcanna_metrics.runs.run import (
    EXAMPLES,
    HISTORY_LENGTH,
    LONGEST,
    Cause,
    Check,
    Object,
    Outcome,
    Pace,
    Run,
    RunFacts,
)
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso

LARGEST_BASELINE = 56 * 1024
"""Bytes with escaped quotes, as in an event's text: somewhat more than the 48 KiB that the client accepts."""

LARGEST_EXAMPLES = 6 * 1024
"""Bytes of JSON. A key and a version have up to 1,024 bytes each, but usually a tenth of that."""

_LONGEST_TIME = 64
"""Characters of a time that the platform tells."""


def cause_of(
    kind: str, updates: int, first_at: float, last_at: float, examples: Iterable[Mapping[str, Any]]
) -> Cause:
    """The cause of a run, with as many of the objects as it can hold. Times are epoch seconds."""
    shown: list[Object] = []
    size = 0
    for example in list(examples)[:EXAMPLES]:
        each: Object = {
            "bucket": example["bucket"],
            "key": example["key"],
            "version_id": example["version_id"],
        }
        size += len(json.dumps(each, ensure_ascii=False).encode(errors="surrogatepass"))
        if size <= LARGEST_EXAMPLES:
            shown.append(each)
    return {
        "kind": kind,
        "updates": updates,
        "first_at": to_iso(first_at),
        "last_at": to_iso(last_at),
        "examples": shown,
    }


def new_run(
    *,
    run_id: str,
    target: Target,
    job_id: str,
    model_id: str | None,
    cause: Cause,
    requested_at: float,
    deadline_at: float,
    pace: Pace,
    gate: Mapping[str, Any],
    durations: Sequence[float],
    reference: Reference | None,
    baseline: Mapping[str, Any] | None,
    origin: Origin,
) -> Run:
    """A run whose recompute is not requested yet. Times are epoch seconds."""
    facts: RunFacts = {
        "run_id": run_id,
        "target": {"job_id": target.job_id, "model_id": target.model_id},
        "job_id": job_id,
        "model_id": model_id,
        "cause": cause,
        "requested_at": to_iso(requested_at),
        "deadline_at": to_iso(deadline_at),
        "accepted_at": None,
        "platform_requested_at": None,
        "platform_job_id": None,
        "baseline": fitting(baseline, LARGEST_BASELINE),
        "pace": pace,
        "gate": dict(gate),
        "durations": [min(duration, LONGEST) for duration in durations[-HISTORY_LENGTH:]],
        "reference": reference,
    }
    return {**facts, "unchecked": _ended(not_checked(facts, origin))}


def first_check(run: RunFacts) -> Check:
    """How a run stands whose recompute is about to be requested."""
    pace = run["pace"]
    wait = next_wait(0.0, run["durations"], shortest=pace["shortest_poll"], longest=pace["longest_poll"])
    return {
        "status": "running",
        "detail": "requested",
        "wait_seconds": wait,
        "polls": 0,
        "recomputing_at": None,
        "idle_since": None,
        "outcome": None,
    }


def accepted(run: Run, platform_requested_at: str | None, platform_job_id: str | None, now: float) -> Run:
    """The run with what the platform answered to the request, at `now` by our clock (epoch seconds)."""
    told = platform_requested_at if len(platform_requested_at or "") <= _LONGEST_TIME else None
    return {
        **run,
        "accepted_at": to_iso(now),
        "platform_requested_at": told,
        "platform_job_id": platform_job_id,
    }


def failed_check(run: RunFacts, reason: str, detail: str, origin: Origin) -> Check:
    """How a run stands that failed before its workflow began."""
    ending = Ending(polls=0, active_changed=False, shown=None)
    return _ended(failed(run, ending, Judgement("failed", reason, detail), origin))


def _ended(outcome: Outcome) -> Check:
    return {
        "status": "failed",
        "detail": outcome["detail"],
        "wait_seconds": 0,
        "polls": 0,
        "recomputing_at": None,
        "idle_since": None,
        "outcome": outcome,
    }
