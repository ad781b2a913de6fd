"""Everything that is told of a run that has ended: events, a notification, and what the ledger keeps.

    completed     Recompute Completed; if the model regressed, also Model Metrics Regressed and a notification
    failed        Recompute Failed and a notification
    timed_out     the same
    not_checked   the same, and the ledger requests the recompute again

events/schemas/ holds the schemas of the events. All parts are limited in size, because the data of an
execution must stay below 256 KiB, and so must the entries of one PutEvents call.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from arcanna_metrics.runs.completion import Judgement, Status
from arcanna_metrics.runs.quality import Assessment, Reference, cut, in_words, scores
from arcanna_metrics.runs.run import Event, Failure, Notification, Outcome, PastRun, Result, RunFacts
from arcanna_metrics.times import to_iso

SOURCE = "arcanna.metrics"
VERSION = "2"
"""Of the details of the events. It grows when consumers have to change."""

LARGEST_METRICS = 48 * 1024
"""Bytes that the metrics before or after may have in an event. Larger ones are cut to the overall scores."""

LARGEST_EARLY_METRICS = 8 * 1024
"""The same for an outcome that is made at the start of its run, and is in the run's data until the end."""

LONGEST_DETAIL = 1000
"""Characters."""

RUNBOOK = "functions/RUNBOOK.md"
"""Where people read it: as the template's mapping Documentation has it."""

_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""The console's domain by partition: as the template's mapping Console has it."""

_SUBJECT_LENGTH = 99
"""Characters. SNS takes less than 100."""


class Origin(NamedTuple):
    """Where and when an outcome is made, as its events say it."""

    execution: str  # ARN of the workflow's execution
    bus: str  # name or ARN of the event bus that the events go to
    now: float  # epoch seconds


class Ending(NamedTuple):
    """What the last check of a run found."""

    polls: int  # status checks so far
    active_changed: bool  # the target is the job's active model, and that is another one now, or may be
    shown: Mapping[str, Any] | None  # the metrics that the platform shows, None if it does not


class NewMetrics(NamedTuple):
    """What the new metrics of a completed run mean."""

    duration_seconds: float  # from the request to the new metrics
    quality: Assessment
    reference: Reference  # what the next metrics are compared with


def completed(run: RunFacts, ending: Ending, new: NewMetrics, detail: str, origin: Origin) -> Outcome:
    """The outcome of a run with new metrics."""
    quality = new.quality
    regressed = quality["verdict"] == "regressed"
    ended = {**_common(run, origin), "ended_at": to_iso(origin.now)}
    judged = {"why": quality["why"], "differences": quality["differences"]}
    metrics = {
        "duration_seconds": new.duration_seconds,
        "polls": ending.polls,
        "before": fitting(run["baseline"], LARGEST_METRICS),
        "after": fitting(ending.shown, LARGEST_METRICS),
        "verdict": quality["verdict"],
    }
    events = [_event("Recompute Completed", {**ended, **metrics, **judged}, origin)]
    if regressed:
        events.append(_event("Model Metrics Regressed", {**ended, **judged}, origin))
    return {
        "reason": "completed",
        "detail": cut(detail, LONGEST_DETAIL),
        "events": events,
        "notification": _regression(run, ending, quality, origin) if regressed else None,
        "result": _completed_result(run, ending, new),
    }


def failed(run: RunFacts, ending: Ending, judgement: Judgement, origin: Origin) -> Outcome:
    """The outcome of a run that failed or timed out."""
    failure = _failure(run, judgement.status, judgement.reason, judgement.detail)
    failure["ended_at"], failure["polls"] = to_iso(origin.now), ending.polls
    shown = run["baseline"] if ending.shown is None else ending.shown
    paragraphs = [
        f"The metrics of {_model(run)} were not recomputed.",
        f"Why: {failure['reason']}\n{failure['detail']}",
        f"Scores that Arcanna shows: {in_words(shown)}",
        f"What to do: {_look_up(failure['reason'])} {_REQUEST_AGAIN}",
    ]
    return {
        "reason": failure["reason"],
        "detail": failure["detail"],
        "events": [_failed_event(run, failure, LARGEST_METRICS, origin)],
        "notification": _notification(_FAILED, run, paragraphs, origin),
        "result": _failed_result(
            "timed_out" if judgement.status == "timed_out" else "failed",
            failure,
            active_changed=ending.active_changed,
        ),
    }


def not_checked(run: RunFacts, origin: Origin) -> Outcome:
    """The outcome of a run whose status check cannot be called. It is made at the start of the run."""
    failure = _failure(
        run,
        "failed",
        "NotChecked",
        "The status check could not be called, so it is not known how the recompute ended. The history of the"
        " execution shows the error. The recompute is requested again automatically.",
    )
    paragraphs = [
        f"It is not known whether the metrics of {_model(run)} were recomputed.",
        f"Why: {failure['reason']}\n{failure['detail']}",
        f"Scores before: {in_words(run['baseline'])}",
        f"What to do: {_look_up(failure['reason'])} You do not have to request the recompute again.",
    ]
    return {
        "reason": failure["reason"],
        "detail": failure["detail"],
        "events": [_failed_event(run, failure, LARGEST_EARLY_METRICS, origin)],
        "notification": _notification(_FAILED, run, paragraphs, origin),
        "result": _failed_result("not_checked", failure, active_changed=False),
    }


def fitting(metrics: Mapping[str, Any] | None, limit: int) -> dict[str, Any] | None:
    """The metrics as workflow data and events can hold them.

    If they have more than `limit` bytes in the text of an event's detail, only the overall scores are kept,
    and the rest is null. So are numbers that are not JSON, and whole numbers of more than 64 bits, which
    PutEvents refuses.
    """
    if metrics is None:
        return None
    try:
        text = json.dumps(metrics)
        held: dict[str, Any] = json.loads(text, parse_int=_integer, parse_constant=lambda name: None)
        if _size(held) <= limit:
            return held
    except (RecursionError, ValueError):
        pass  # nested too deeply, or not text
    timestamp = metrics.get("last_recomputed_timestamp")
    known = {"last_recomputed_timestamp": cut(timestamp, 64) if isinstance(timestamp, str) else None}
    return {**dict.fromkeys(metrics), **known, **scores(metrics)}


def _size(metrics: Mapping[str, Any]) -> int:
    """Bytes as a part of a text in JSON, whose quotes are escaped."""
    return len(json.dumps(_text(metrics), ensure_ascii=False).encode())


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _integer(digits: str) -> int | None:
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else None


# --- What the ledger keeps -------------------------------------------------------------------------------


def _completed_result(run: RunFacts, ending: Ending, new: NewMetrics) -> Result:
    past_run: PastRun = {
        "run_id": run["run_id"],
        "cause": run["cause"]["kind"],
        "requested_at": run["requested_at"],
        "duration_seconds": new.duration_seconds,
        "polls": ending.polls,
        "verdict": new.quality["verdict"],
        "scores": scores(ending.shown),
    }
    if new.quality["brief"]:
        past_run["why"] = new.quality["brief"]
    return {
        "outcome": "completed",
        "active_changed": ending.active_changed,
        "past_run": past_run,
        "reference": new.reference,
        "failure": None,
    }


def _failed_result(
    outcome: Literal["failed", "timed_out", "not_checked"], failure: Failure, *, active_changed: bool
) -> Result:
    return {
        "outcome": outcome,
        "active_changed": active_changed,
        "past_run": None,
        "reference": None,
        "failure": failure,
    }


def _failure(run: RunFacts, status: Status, reason: str, detail: str) -> Failure:
    return {
        "run_id": run["run_id"],
        "cause": run["cause"]["kind"],
        "requested_at": run["requested_at"],
        "ended_at": None,
        "polls": None,
        "status": status,
        "reason": reason,
        "detail": cut(detail, LONGEST_DETAIL),
    }


# --- Events ----------------------------------------------------------------------------------------------


def _common(run: RunFacts, origin: Origin) -> dict[str, Any]:
    """The fields that every event has."""
    return {
        "version": VERSION,
        "run_id": run["run_id"],
        "job_id": run["job_id"],
        "model_id": run["model_id"],
        "cause": run["cause"],
        "execution": origin.execution,
        "requested_at": run["requested_at"],
    }


def _failed_event(run: RunFacts, failure: Failure, limit: int, origin: Origin) -> Event:
    detail = {
        **_common(run, origin),
        "ended_at": failure["ended_at"],
        "polls": failure["polls"],
        "status": failure["status"],
        "reason": failure["reason"],
        "detail": failure["detail"],
        "before": fitting(run["baseline"], limit),
    }
    return _event("Recompute Failed", detail, origin)


def _event(detail_type: str, detail: Mapping[str, Any], origin: Origin) -> Event:
    # Step Functions passes a text on as it is. It would write the numbers of an object anew.
    return {
        "Source": SOURCE,
        "DetailType": detail_type,
        "EventBusName": origin.bus,
        "Detail": _text(detail),
    }


# --- Notifications ---------------------------------------------------------------------------------------


def _regression(run: RunFacts, ending: Ending, quality: Assessment, origin: Origin) -> Notification:
    paragraphs = [
        f"The metrics of {_model(run)} got worse.",
        f"Why: {quality['why']}",
        f"Before -> after: {in_words(run['baseline'], ending.shown)}",
        f"What to do: {_CORRECT_OR_ACCEPT}",
    ]
    return _notification(_REGRESSED, run, paragraphs, origin)


class _Kind(NamedTuple):
    """What a notification tells, and the section of the runbook about it."""

    title: str
    section: str


_FAILED = _Kind("Arcanna recompute failed", "runs-fail")
_REGRESSED = _Kind("Arcanna metrics regressed", "a-model-got-worse")


def _notification(kind: _Kind, run: RunFacts, paragraphs: list[str], origin: Origin) -> Notification:
    cause = run["cause"]
    run_in_words = (
        f"Updates: {cause['updates']}, the last at {cause['last_at']}\n"
        f"Requested: {run['requested_at']}\n"
        f"Runbook: {RUNBOOK}#{kind.section}\n"
        f"Execution: {console_link(origin.execution)}"
    )
    title = f"{kind.title} - job {run['job_id']}, {_model_id(run)}"
    plain = "".join(character if " " <= character <= "~" else "?" for character in title)
    return {"subject": cut(plain, _SUBJECT_LENGTH), "message": "\n\n".join([*paragraphs, run_in_words])}


def console_link(execution: str) -> str:
    """The execution in the AWS console, by its ARN; the ARN where the partition's console is not known."""
    _, partition, _, region, *_ = [*execution.split(":"), "", "", "", ""]
    if partition not in _CONSOLES:
        return execution
    page = f"states/home?region={region}#/v2/executions/details/{execution}"
    return f"https://{region}.{_CONSOLES[partition]}/{page}"


def _model(run: RunFacts) -> str:
    return f"{_model_id(run)} of job {run['job_id']}"


def _model_id(run: RunFacts) -> str:
    return "the active model" if run["model_id"] is None else f"model {run['model_id']}"


_REQUEST_AGAIN = (
    "When the cause is removed, request the recompute again: upload the data again, or run arcanna-metrics"
    " recompute."
)
_CORRECT_OR_ACCEPT = (
    "Do not deploy the model. Look at the training data that came last, correct wrong labels and upload the"
    " corrections. The metrics are then recomputed. If the model is to stay as it is, accept it: see"
    " the runbook."
)


def _look_up(reason: str) -> str:
    return f"Look up {reason} in the runbook."
