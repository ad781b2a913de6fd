"""The outcome of a run that has ended: events, a notification, and what the ledger keeps.

    completed     Recompute Completed; if the model regressed, also Model Metrics Regressed and a notification
    failed        Recompute Failed and a notification
    timed_out     the same
    not_checked   the same, and the recompute is requested again automatically

events/schemas/ holds the schemas of the events. All parts are limited in size, because the data of an
execution must stay below 256 KiB, and so must the entries of one PutEvents call.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from arcanna_metrics.runs.completion import Judgement
from arcanna_metrics.runs.limits import LONGEST_DETAIL, cut, size_of
from arcanna_metrics.runs.quality import Assessment, Reference, in_words, scores
from arcanna_metrics.runs.run import Event, Failure, Notification, Outcome, OutcomeName, PastRun, Run
from arcanna_metrics.times import to_iso

SOURCE = "arcanna.metrics"
VERSION = "1"
"""Version of the events' details. It grows when consumers have to change."""

LARGEST_METRICS = 48 * 1024
"""Bytes of metrics in the text of an event. Larger metrics are reduced to the overall scores."""

LONGEST_REASON = 100
"""Characters of a verdict's reasons that the ledger keeps for each of ten past runs."""

RUNBOOK = "functions/RUNBOOK.md"
"""Where people read it. The template's mapping Documentation has the same value."""

CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""The console's domain by partition. The template's mapping Console has the same values: in other partitions,
no stack can be deployed."""

_SUBJECT_LENGTH = 99
"""Characters. SNS accepts fewer than 100."""

NOT_CHECKED = Judgement(
    "failed",
    "NotChecked",
    "The status check failed on every retry, so the result of the recompute is not known. The history of the"
    " execution shows the error. The recompute is requested again automatically.",
)
"""The judgement on a run whose status check failed on every retry."""


class Origin(NamedTuple):
    """Where and when an outcome is made. Its events contain both."""

    execution: str  # ARN of the workflow's execution
    bus: str  # name or ARN of the event bus that the events go to
    now: float  # epoch seconds


class Ending(NamedTuple):
    """What the last check of a run found."""

    polls: int  # status checks so far
    shown: dict[str, Any]  # the metrics that the platform shows; empty if it shows none
    active_changed: bool = False  # as Result has it


class NewMetrics(NamedTuple):
    """What the new metrics of a completed run mean."""

    duration_seconds: float  # from the request to the new metrics
    quality: Assessment
    figures: Reference  # for the model's reference; empty if the model regressed


def completed(run: Run, ending: Ending, new: NewMetrics, origin: Origin) -> Outcome:
    """The outcome of a run with new metrics."""
    quality = new.quality
    past: PastRun = {
        "run_id": run["run_id"],
        "model_id": run["model_id"],
        "cause": run["cause"]["kind"],
        "requested_at": run["requested_at"],
        "duration_seconds": new.duration_seconds,
        "polls": ending.polls,
        "verdict": quality["verdict"],
        "scores": scores(ending.shown),
    }
    if quality["verdict"] != "unchanged":
        past["why"] = cut(quality["why"], LONGEST_REASON)
    told = {name: past[name] for name in ("duration_seconds", "polls", "verdict")}
    shown = {"before": run["baseline"], "after": fitting(ending.shown)}
    judged = {name: quality[name] for name in ("why", "differences")}
    events = [_event("Recompute Completed", run, ending, told | shown | judged, origin)]
    notification = None
    if quality["verdict"] == "regressed":
        events.append(_event("Model Metrics Regressed", run, ending, judged, origin))
        paragraphs = [
            f"The metrics of {_model(run)} got worse.",
            f"Why: {quality['why']}",
            f"Before -> after: {in_words(run['baseline'], ending.shown)}",
            f"What to do: {_CORRECT_OR_ACCEPT}",
        ]
        notification = _notification("metrics regressed", "a-model-got-worse", run, paragraphs, origin)
    return {
        "events": events,
        "notification": notification,
        "result": {
            "outcome": "completed",
            "active_changed": ending.active_changed,
            "past_run": past,
            "figures": new.figures,
            "failure": None,
        },
    }


def failed(run: Run, ending: Ending, judgement: Judgement, origin: Origin) -> Outcome:
    """The outcome of a run that failed, timed out, or could not be checked."""
    checked = judgement != NOT_CHECKED
    ended: OutcomeName = "timed_out" if judgement.status == "timed_out" else "failed"
    failure: Failure = {
        "run_id": run["run_id"],
        "model_id": run["model_id"],
        "cause": run["cause"]["kind"],
        "requested_at": run["requested_at"],
        "ended_at": to_iso(origin.now),
        "polls": ending.polls,
        "status": judgement.status,
        "reason": judgement.reason,
        "detail": cut(judgement.detail, LONGEST_DETAIL),
    }
    told = {name: failure[name] for name in ("polls", "status", "reason", "detail")}
    paragraphs = [
        f"The metrics of {_model(run)} were not recomputed."
        if checked
        else f"It is not known whether the metrics of {_model(run)} were recomputed.",
        f"Why: {failure['reason']}\n{failure['detail']}",
        f"Scores that Arcanna shows: {in_words(ending.shown or run['baseline'])}",
        f"What to do: Look up {failure['reason']} in the runbook. "
        + (_REQUEST_AGAIN if checked and not ending.active_changed else _FOLLOWS),
    ]
    return {
        "events": [_event("Recompute Failed", run, ending, {**told, "before": run["baseline"]}, origin)],
        "notification": _notification("recompute failed", "runs-fail", run, paragraphs, origin),
        "result": {
            "outcome": ended if checked else "not_checked",
            "active_changed": ending.active_changed,
            "past_run": None,
            "figures": None,
            "failure": failure,
        },
    }


def fitting(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics as workflow data and events can hold them.

    If they are larger than LARGEST_METRICS, only the overall scores are kept, and the rest is null.
    """
    if size_of(_text(metrics)) <= LARGEST_METRICS:  # as a part of a text, whose quotes are escaped
        return metrics
    timestamp = metrics["last_recomputed_timestamp"]
    known = {"last_recomputed_timestamp": timestamp and cut(timestamp, 64)}
    return {**dict.fromkeys(metrics), **known, **scores(metrics)}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _event(detail_type: str, run: Run, ending: Ending, told: Mapping[str, Any], origin: Origin) -> Event:
    """An event with the common fields and its own."""
    detail = {
        "version": VERSION,
        **{name: run[name] for name in ("run_id", "job_id", "model_id", "cause", "requested_at")},
        "active_model": run["target"]["model_id"] is None and not ending.active_changed,
        "execution": origin.execution,
        "ended_at": to_iso(origin.now),
        **told,
    }
    # Step Functions passes a text on unchanged, but would rewrite the numbers of an object.
    return {
        "Source": SOURCE,
        "DetailType": detail_type,
        "EventBusName": origin.bus,
        "Detail": _text(detail),
    }


# --- Notifications ---------------------------------------------------------------------------------------


def _notification(what: str, section: str, run: Run, paragraphs: list[str], origin: Origin) -> Notification:
    """A notification of what happened, with a link to that section of the runbook."""
    cause = run["cause"]
    run_in_words = (
        f"Updates: {cause['updates']}, the last at {cause['last_at']}\n"
        f"Requested: {run['requested_at']}\n"
        f"Runbook: {RUNBOOK}#{section}\n"
        f"Execution: {console_link(origin.execution)}"
    )
    title = f"Arcanna {what} - job {run['job_id']!r}, {_model_id(run)}"
    plain = "".join(character if " " <= character <= "~" else "?" for character in title)
    return {"subject": cut(plain, _SUBJECT_LENGTH), "message": "\n\n".join([*paragraphs, run_in_words])}


def console_link(execution: str) -> str:
    """The link to the execution in the AWS console."""
    _, partition, _, region, _ = execution.split(":", 4)
    page = f"states/home?region={region}#/v2/executions/details/{execution}"
    return f"https://{region}.{CONSOLES[partition]}/{page}"


def _model(run: Run) -> str:
    return f"{_model_id(run)} of job {run['job_id']!r}"


def _model_id(run: Run) -> str:
    return "the active model" if run["model_id"] is None else f"model {run['model_id']!r}"


_REQUEST_AGAIN = (
    "Remove the cause, then request the recompute again: upload the data again, or run arcanna-metrics"
    " recompute."
)
_FOLLOWS = "You do not have to request the recompute again."
_CORRECT_OR_ACCEPT = (
    "Do not deploy the model. Look at the training data that came last, correct wrong labels and upload the"
    " corrections. The metrics are then recomputed. To keep the model as it is, accept it: see the runbook."
)
