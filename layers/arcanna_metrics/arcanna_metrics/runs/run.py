"""The data of a run, as it goes through the workflow: `{"run": Run, "check": Check, "number": 0}`.

`run` is what is known from the start, `check` is how things stand, made anew by every status check. The
trigger builds both (see `start`), and functions/recompute_workflow.asl.yaml reads them. Everything that
people and the ledger are told at the end is in `check.outcome` (see `outcome`). Times are ISO 8601.

An execution outlives upgrades: it goes on with the definition that it began with, and calls the functions
that are deployed by then. So names stay, and what is added later is `NotRequired` and read with a default.
"""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from arcanna_metrics.errors import BadInput, ConfigurationError
from arcanna_metrics.runs.completion import Status
from arcanna_metrics.runs.quality import Reference, Verdict, read_rules
from arcanna_metrics.targets import identifier
from arcanna_metrics.times import from_iso

HISTORY_LENGTH = 10
"""Past runs that the ledger remembers of a target."""

EXAMPLES = 5
"""Objects that people are shown of the updates of a run."""

LONGEST = 1e8
"""Seconds, three years: longer times are mistakes, and polling could not calculate with them."""

_LARGEST = 1e15
"""Of the numbers in a reference: no sum of counts is larger."""

OutcomeName = Literal["completed", "failed", "timed_out", "not_checked"]


class TargetKey(TypedDict):
    """The ledger's key of the target. `model_id` is null for the job's active model."""

    job_id: str
    model_id: str | None


class Object(TypedDict):
    """An object in S3 that caused an update."""

    bucket: str
    key: str
    version_id: str | None


class Cause(TypedDict):
    """The updates that led to the run: how the latest came, how many, from when to when, a few objects."""

    kind: str
    updates: int
    first_at: str
    last_at: str
    examples: list[Object]


class Pace(TypedDict):
    """How the run is polled, all in seconds."""

    start_grace: float  # how long a request may stay queued
    shortest_poll: float
    longest_poll: float


class Event(TypedDict):
    """An entry for EventBridge's PutEvents, as Step Functions passes it on. `Detail` is JSON text."""

    Source: str
    DetailType: str
    EventBusName: str
    Detail: str


class Notification(TypedDict):
    """A message for SNS. The subject is one line of less than 100 ASCII characters."""

    subject: str
    message: str


class PastRun(TypedDict):
    """A completed run, as the ledger remembers it, for people and for the pace of polling."""

    run_id: str
    cause: str  # kind of the latest update that led to the run
    requested_at: str
    duration_seconds: float  # from the request to the new metrics, with the time in the platform's queue
    polls: int
    verdict: Verdict
    scores: dict[str, float | None]  # the overall ones after the run, by the API's names
    why: NotRequired[str]  # the verdict's first reason in a few words, where it needs one


class Failure(TypedDict):
    """A run that did not complete, as the ledger remembers it for people."""

    run_id: str
    cause: str
    requested_at: str
    ended_at: str | None  # null where the status check could not be called
    polls: int | None  # likewise
    status: Status
    reason: str
    detail: str


class Result(TypedDict):
    """What the ledger keeps of a run that has ended."""

    outcome: OutcomeName
    active_changed: bool  # the target is the job's active model, and that is another one now, or may be
    past_run: PastRun | None  # null unless the run completed
    reference: Reference | None  # what the model's next metrics are compared with; null unless completed
    failure: Failure | None  # null if the run completed


class Outcome(TypedDict):
    """Everything that is told of a run that has ended."""

    reason: str  # a stable word for programs
    detail: str  # a sentence for people
    events: list[Event]
    notification: Notification | None
    result: Result


class Check(TypedDict):
    """How things stand."""

    status: Status
    detail: str  # for people
    wait_seconds: int  # until the next check
    polls: int  # checks so far
    recomputing_at: str | None  # when a check last saw the platform recompute
    idle_since: str | None  # since when every check has seen it idle, though it should not be
    outcome: Outcome | None  # null while the status is running


class RunFacts(TypedDict):
    """What is known of a run from its start, but for what is told if it cannot be checked."""

    run_id: str
    target: TargetKey
    job_id: str
    model_id: str | None  # null only if the run failed at its start because the job has no active model
    cause: Cause
    requested_at: str  # when the target was claimed, before the baseline was read
    deadline_at: str
    accepted_at: str | None  # when the platform answered the request, by our clock; null before
    platform_requested_at: str | None  # the platform's own time of the request, if it told
    platform_job_id: str | None  # the job's id in the platform's answer, if it told
    baseline: dict[str, Any] | None  # the metrics before, null if they could not be read
    pace: Pace
    gate: dict[str, Any]  # rules of the quality gate
    durations: list[float]  # seconds that past runs took, the oldest first
    reference: Reference | None  # what the gate compares with, null if there is nothing yet


class Run(RunFacts):
    """What is known of a run from its start."""

    unchecked: Check  # the last check of a run whose status check cannot be called, for the workflow to tell


def parse_run(name: str, value: object) -> Run:
    """A run from workflow data. Raises BadInput; `name` says in the message where the run was."""
    run = _object(name, value, Run)
    target = _object(f"target of {name}", run["target"], TargetKey)
    _id(f"run_id of {name}", run["run_id"])
    _id(f"job_id of {name}", run["job_id"])
    _id(f"target.job_id of {name}", target["job_id"])
    _id(f"model_id of {name}", run["model_id"], optional=True)
    _id(f"target.model_id of {name}", target["model_id"], optional=True)
    _check_cause(f"cause of {name}", run["cause"])
    _time(f"requested_at of {name}", run["requested_at"])
    _time(f"deadline_at of {name}", run["deadline_at"])
    _time(f"accepted_at of {name}", run["accepted_at"], optional=True)
    _kind(f"platform_requested_at of {name}", run["platform_requested_at"], str, optional=True)
    _kind(f"baseline of {name}", run["baseline"], dict, optional=True)
    _check_settings(name, run)
    _check_reference(f"reference of {name}", run["reference"])
    parse_check(f"unchecked of {name}", run["unchecked"])
    return cast("Run", run)


def parse_check(name: str, value: object) -> Check:
    """A check from workflow data. Raises BadInput; `name` says in the message where the check was."""
    check = _object(name, value, Check)
    _time(f"recomputing_at of {name}", check["recomputing_at"], optional=True)
    _time(f"idle_since of {name}", check["idle_since"], optional=True)
    polls = check["polls"]
    if isinstance(polls, bool) or not isinstance(polls, int) or polls < 0:
        raise BadInput(f"polls of {name} must be a whole number, not {polls!r:.64}")
    _kind(f"outcome of {name}", check["outcome"], dict, optional=True)
    return cast("Check", check)


def parse_result(name: str, value: object) -> Result:
    """What the ledger is to keep, from workflow data. Raises BadInput; `name` says where it was."""
    result = _object(name, value, Result)
    if result["outcome"] not in OutcomeName.__args__:  # type: ignore[attr-defined]  # of a Literal
        raise BadInput(f"outcome of {name} is unknown: {result['outcome']!r:.64}")
    _kind(f"active_changed of {name}", result["active_changed"], bool)
    for field in ("past_run", "failure"):
        _kind(f"{field} of {name}", result[field], dict, optional=True)
    _check_reference(f"reference of {name}", result["reference"])
    return cast("Result", result)


def _object(name: str, value: object, of: Any) -> dict[str, Any]:
    """A JSON object that has the fields of the TypedDict."""
    if not isinstance(value, dict):
        raise BadInput(f"{name} must be a JSON object, not {type(value).__name__}")
    if missing := of.__required_keys__ - value.keys():
        raise BadInput(f"{name} lacks {', '.join(sorted(missing))}")
    return value


def _kind(name: str, value: object, kind: type, *, optional: bool = False) -> None:
    if not isinstance(value, kind) and not (optional and value is None):
        raise BadInput(f"{name} must be a JSON {_JSON[kind]}{' or null' if optional else ''}")


_JSON = {str: "string", dict: "object", list: "array", bool: "boolean"}


def _id(name: str, value: object, *, optional: bool = False) -> None:
    if not (optional and value is None) and identifier(name, value) != value:
        raise BadInput(f"{name} must be a string")


def _time(name: str, value: object, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    try:
        from_iso(cast("str", value))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be an ISO 8601 time, not {value!r:.64}") from error


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadInput(f"{name} must be a number from {least:g} to {most:g}, not {value!r:.64}")
    return value


def _check_cause(name: str, value: object) -> None:
    cause = _object(name, value, Cause)
    identifier(f"kind of {name}", cause["kind"])
    for field in ("first_at", "last_at"):
        _time(f"{field} of {name}", cause[field])
    _kind(f"examples of {name}", cause["examples"], list)
    for example in cause["examples"]:
        _object(f"an example of {name}", example, Object)


def _check_settings(name: str, run: Mapping[str, Any]) -> None:
    """The settings that a run is polled and judged by."""
    pace = _object(f"pace of {name}", run["pace"], Pace)
    shortest = _number(f"shortest_poll of {name}", pace["shortest_poll"], 1.0, LONGEST)
    _number(f"longest_poll of {name}", pace["longest_poll"], shortest, LONGEST)
    _number(f"start_grace of {name}", pace["start_grace"], 0.0, LONGEST)
    _kind(f"durations of {name}", run["durations"], list)
    for duration in run["durations"]:
        _number(f"a duration of {name}", duration, 0.0, LONGEST)
    try:
        read_rules(run["gate"])
    except ConfigurationError as error:
        raise BadInput(f"gate of {name}: {error}") from error


def _check_reference(name: str, value: object) -> None:
    _kind(name, value, dict, optional=True)
    figures: dict[str, Any] = cast("dict[str, Any] | None", value) or {}
    for figure in figures.values():
        if not isinstance(figure, list | tuple) or len(figure) != 2:
            raise BadInput(f"{name} must hold a score and a number of alerts for each figure")
        score, samples = figure
        _number(f"a score of {name}", score, -_LARGEST, _LARGEST)
        _number(f"a number of alerts of {name}", samples, 0.0, _LARGEST)
