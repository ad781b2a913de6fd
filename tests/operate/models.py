"""How each model stands, and its last runs, by the ledger and by the workflow's events."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from arcanna_metrics.coverage import Entry
from arcanna_metrics.times import from_iso

Item = Mapping[str, Any]
"""An item of the ledger, as plain values; its attributes are listed in arcanna_metrics.ledger."""

MARGIN = ("SettlingSeconds", "ClockMarginSeconds")
"""The parameters of the stack that together say how much older an update is than what covers it."""


class Standing(NamedTuple):
    """How a model stands. Times are epoch seconds; None where there is none, or none is known.

    `since` is from when on the metrics are fresh, or stale; `why` says by what. `running_since` is when the
    run under way was claimed. `waiting` is when each of the updates happened that have to wait for the next
    one (of those that wait for the end of a run, only the last is known), `until` when their wait ends.
    """

    job_id: str
    model_id: str
    fresh: bool
    since: float | None
    why: str
    running_since: float | None
    waiting: list[float]
    until: float | None
    outcome: str
    ended_at: float | None
    scores: Mapping[str, float | None]


class PastRun(NamedTuple):
    """A run that has ended. `result` is the verdict of a completed one, and the reason of a failed one."""

    run_id: str
    cause: str
    requested_at: float
    seconds: float
    polls: int
    outcome: str
    result: str
    detail: str
    scores: Mapping[str, float | None]


def running(item: Item, now: float) -> str | None:
    """The id of the run, or of the claim that may become one, that holds the model now."""
    lease = _time(item, "lease_expires_at") or 0.0
    return str(item["run_id"]) if "run_id" in item and lease >= now else None


def standing(item: Item, now: float, margin: float, first_at: float | None = None) -> Standing:
    """How the model stands.

    `margin` is the sum of the stack's MARGIN, in seconds; `first_at` is when the first update happened that
    led to the run under way.
    """
    held = running(item, now) is not None
    waiting = _waiting(item, now, margin)
    history = runs(item)
    completed = [run for run in history if run.outcome == "completed"]
    outcome = str(item.get("last_outcome", ""))
    if outcome == "completed" and completed:
        outcome = f"completed\n{completed[-1].result}"
    fresh, since, why = _freshness(item, held, waiting, first_at)
    return Standing(
        job_id=item["job_id"],
        model_id=item["model_id"],
        fresh=fresh,
        since=since,
        why=why,
        running_since=_time(item, "claimed_at") if held else None,
        waiting=waiting,
        until=_time(item, "wake_at") if waiting else None,
        outcome=outcome,
        ended_at=_time(item, "last_ended_at"),
        scores=completed[-1].scores if completed else {},
    )


def _waiting(item: Item, now: float, margin: float) -> list[float]:
    """When the updates happened that the ledger knows to wait (see coverage.Entry), the first one first."""
    entry = Entry(
        run_id=item.get("run_id"),
        requested_at=_time(item, "requested_at"),
        lease_expires_at=_time(item, "lease_expires_at"),
        covered_until=_time(item, "covered_until"),
    )
    marks = entry.uncovered(item.get("gathered", ()), now, margin)
    pending_at = _time(item, "pending_at")
    return sorted([mark.at for mark in marks] + ([] if pending_at is None else [pending_at]))


def _freshness(
    item: Item, held: bool, waiting: Sequence[float], first_at: float | None
) -> tuple[bool, float | None, str]:
    """The metrics are fresh if the last claim became a run that completed, and no update waits."""
    claimed_at, covered_until = _time(item, "claimed_at"), _time(item, "covered_until") or 0.0
    failure: Item = item.get("last_failure", {})
    failed_at = _time(failure, "requested_at") or 0.0
    if held and "requested_at" in item:
        return False, first_at or _time(item, "requested_at"), "a run is under way"
    if held:
        return False, claimed_at, "a run is being started"
    if claimed_at is not None and claimed_at > max(covered_until, failed_at):
        since = min(waiting, default=claimed_at)
        return False, since, "the last attempt came to nothing: its update waits, or is a dead letter"
    if waiting:
        return False, waiting[0], "updates wait for the next run"
    if failed_at > covered_until:
        return False, failed_at, f"the last run failed: {failure['reason']}"
    if not covered_until:
        return False, None, "it has not been recomputed yet"
    return True, _time(item, "last_ended_at"), "no update is known that they lack"


def runs(item: Item) -> list[PastRun]:
    """The runs that the ledger remembers, the oldest first: the completed ones and the last failed one."""
    found = [
        PastRun(
            run_id=past["run_id"],
            cause=past["cause"],
            requested_at=from_iso(past["requested_at"]),
            seconds=past["duration_seconds"],
            polls=past["polls"],
            outcome="completed",
            result=past["verdict"],
            detail="",
            scores=past["scores"],
        )
        for past in json.loads(item.get("history", "[]"))
    ]
    if failure := item.get("last_failure"):
        requested_at = from_iso(failure["requested_at"])
        found.append(
            PastRun(
                run_id=failure["run_id"],
                cause=failure["cause"],
                requested_at=requested_at,
                seconds=from_iso(failure["ended_at"]) - requested_at,
                polls=int(failure["polls"]),
                outcome=failure["status"],
                result=failure["reason"],
                detail=failure["detail"],
                scores={},
            )
        )
    return sorted(found, key=lambda run: run.requested_at)


def next_run(item: Item, after: str) -> str | None:
    """The run that holds the model now or held it last, if it is another than `after`."""
    run_id = item.get("run_id", item.get("last_run_id"))
    return None if run_id in (None, after) else str(run_id)


# --- What the workflow's events tell of a run ------------------------------------------------------------


def first_update_at(execution: Mapping[str, Any]) -> float:
    """When the first update happened that led to the run of this execution (epoch seconds)."""
    return from_iso(json.loads(execution["input"])["run"]["cause"]["first_at"])


def told(event: Mapping[str, Any]) -> str | None:
    """What an event of the workflow says about the recompute; None if nothing."""
    match event:
        case {"type": "TaskStateExited", "stateExitedEventDetails": {"name": "CheckStatus", "output": out}}:
            check = json.loads(out)["check"]
            line = f"check {check['polls']}: {check['detail']}"
            return f"{line}, next look in {check['wait_seconds']} s" if check["status"] == "running" else line
        case {"type": "LambdaFunctionFailed", "lambdaFunctionFailedEventDetails": {"error": error}}:
            return f"a check got no answer ({error}) and is repeated"
    return None


def verdict(execution: Mapping[str, Any]) -> str | None:
    """What the metrics of a run were judged to be; None if it came to none."""
    if execution["status"] != "SUCCEEDED":
        return None
    return str(json.loads(execution["output"])["check"]["quality"]["verdict"])


def result(execution: Mapping[str, Any]) -> str:
    """How the execution of a run ended, in a sentence or two."""
    if execution["status"] != "SUCCEEDED":
        why = ": ".join(execution[name] for name in ("error", "cause") if execution.get(name))
        return f"{execution['status'].lower().replace('_', ' ')}{f': {why}' if why else ''}"
    check = json.loads(execution["output"])["check"]
    quality = check["quality"]
    return f"completed, {quality['verdict']}: {quality['why']} ({check['scores_in_words']})"


# --- Their fields ----------------------------------------------------------------------------------------


def _time(item: Item, name: str) -> float | None:
    return from_iso(item[name]) if name in item else None
