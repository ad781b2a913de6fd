"""The data of a run, as it goes through the workflow.

The workflow's input and state is `{"run": Run, "check": Check}`: what is known from the start, and how
things stand. functions/recompute_workflow.asl.yaml reads these names.

An execution outlives upgrades: it goes on by the definition that it began with, and calls the functions that
are there by then. So names stay, and what is added is `NotRequired`, and read with a default.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

from arcanna_metrics.errors import BadInput
from arcanna_metrics.runs.completion import Status
from arcanna_metrics.runs.quality import NOT_FINISHED, Assessment, Reference, Verdict, in_words
from arcanna_metrics.targets import Model, identifier
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.updates import Update

HISTORY_LENGTH = 10
LABEL_LENGTH = 70


class Cause(TypedDict):
    """Which updates led to the run: how the latest came, how many, from when to when, a few objects."""

    kind: str
    updates: int
    first_at: str
    last_at: str
    sample: list[dict[str, Any]]


class PastRun(TypedDict):
    """A completed run, as the ledger remembers it, for people and for the pace of polling.

    `duration_seconds` includes queueing at the platform, `cause` is the kind of the update that led to it,
    `scores` are the overall ones after it, by the API's names.
    """

    run_id: str
    cause: str
    requested_at: str
    duration_seconds: float
    polls: int
    verdict: Verdict
    scores: dict[str, float | None]


class Run(TypedDict):
    """What is known from the start. Times are ISO 8601.

    `requested_at` is the time of the claim, before the baseline was read; `platform_requested_at` the
    platform's own time of the request; `baseline` the metrics before, null if they could not be read.
    `follows_active` tells that the model was chosen as its job's active one.
    `label` names job and model in at most 70 ASCII characters, as a notification's subject needs.
    """

    run_id: str
    job_id: str
    model_id: str
    label: str
    cause: Cause
    requested_at: str
    deadline_at: str
    lease_until: str
    platform_requested_at: str | None
    baseline: dict[str, Any] | None
    follows_active: bool


class Check(TypedDict):
    """How things stand. `idle_since` is when the run first saw the platform idle after recomputing.

    `scores_in_words` is for people: the overall scores that the platform shows, and at the end of a completed
    run those before and after. `active_changed` tells that the run followed its job's active model, and that
    this is another one by now, or may be. `reference` is what the metrics are judged by, and at the end of a
    completed run what the next ones will be; null where there is none yet.
    """

    status: Status
    reason: str
    detail: str
    wait_seconds: int
    polls: int
    seen_recomputing: bool
    idle_since: str | None
    history: list[PastRun]
    duration_seconds: float | None
    metrics: dict[str, Any] | None
    quality: Assessment
    scores_in_words: str
    active_changed: bool
    reference: NotRequired[Reference | None]


def parse_run(name: str, value: object) -> Run:
    """A run out of workflow data. Raises BadInput; `name` says in there where it was."""
    if not isinstance(value, dict):
        raise BadInput(f"{name} is missing or no JSON object")
    if missing := Run.__required_keys__ - value.keys():
        raise BadInput(f"{name} lacks {', '.join(sorted(missing))}")
    if not isinstance(cause := value["cause"], dict) or Cause.__required_keys__ - cause.keys():
        raise BadInput(f"cause of {name} is no JSON object with {', '.join(sorted(Cause.__required_keys__))}")
    for field in ("job_id", "model_id", "run_id"):
        if identifier(f"{field} of {name}", value[field]) != value[field]:
            raise BadInput(f"{field} of {name} must be a string")
    if not isinstance(value["follows_active"], bool):
        raise BadInput(f"follows_active of {name} must be true or false")
    if not isinstance(value["baseline"], dict | None):
        raise BadInput(f"baseline of {name} must be a JSON object or null")
    identifier(f"cause.kind of {name}", cause["kind"])
    times = {field: value[field] for field in ("requested_at", "deadline_at", "lease_until")}
    times |= {f"cause.{field}": cause[field] for field in ("first_at", "last_at")}
    for field, time in times.items():
        try:
            from_iso(time)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{field} of {name} must be an ISO 8601 time, not {time!r:.64}") from error
    return cast("Run", value)


def label(model: Model) -> str:
    """A short name in printable ASCII."""
    text = f"job {model.job_id}, model {model.model_id}"
    return text.encode("ascii", "replace").decode()[:LABEL_LENGTH]


def cause_of(update: Update) -> Cause:
    """The cause of a run that these updates lead to."""
    return {
        "kind": update.cause,
        "updates": update.count,
        "first_at": to_iso(update.first_at),
        "last_at": to_iso(update.happened_at),
        "sample": list(update.sample),
    }


def first_check(
    history: Sequence[PastRun],
    wait_seconds: int,
    baseline: Mapping[str, Any] | None = None,
    reference: Reference | None = None,
) -> Check:
    """The state of a run whose recompute has just been asked for."""
    return {
        "status": "running",
        "reason": "running",
        "detail": "requested",
        "wait_seconds": wait_seconds,
        "polls": 0,
        "seen_recomputing": False,
        "idle_since": None,
        "history": list(history),
        "duration_seconds": None,
        "metrics": None,
        "quality": NOT_FINISHED,
        "scores_in_words": in_words(baseline),
        "active_changed": False,
        "reference": reference,
    }


def failed_check(
    history: Sequence[PastRun], reason: str, detail: str, baseline: Mapping[str, Any] | None = None
) -> Check:
    """The state of a run that failed before the workflow began."""
    return {**first_check(history, 0, baseline), "status": "failed", "reason": reason, "detail": detail}


def durations(history: Sequence[PastRun]) -> list[float]:
    """How long the past runs took, in seconds, the oldest first."""
    return [past["duration_seconds"] for past in history]
