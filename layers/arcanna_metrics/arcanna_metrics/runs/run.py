"""The data of a run, as it goes through the workflow: `{"run": Run, "check": Check, "number": 0}`.

`run` is what is known from the start. `check` is the current status; every status check makes a new one. The
trigger builds both (see controller/start.py), and functions/recompute_workflow.asl.yaml reads them. At the
end, `check.outcome` holds everything for people and the ledger (see `outcome`).

An execution may outlive an upgrade. It keeps the definition that it began with, and calls the functions that
are deployed then. So names must stay, and a later field is `NotRequired` and read with a default.

The functions take this data as it is: an execution whose run the trigger did not make ends at its Hold.
"""

from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from arcanna_metrics.runs.quality import Reference, Verdict

Time = str  # ISO 8601
Seconds = float

Status = Literal["running", "completed", "failed", "timed_out"]
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
    """The updates that led to the run: kind of the latest, number, first and last time, a few objects."""

    kind: str
    updates: int
    first_at: Time
    last_at: Time
    examples: list[Object]


class Pace(TypedDict):
    """How long the run may take and how it is polled, all in seconds."""

    deadline: Seconds  # after requested_at
    start_grace: Seconds  # how long a request may stay queued
    shortest_poll: Seconds
    longest_poll: Seconds


class Event(TypedDict):
    """An entry for EventBridge's PutEvents, as Step Functions passes it on. `Detail` is JSON text."""

    Source: str
    DetailType: str
    EventBusName: str
    Detail: str


class Notification(TypedDict):
    """A message for SNS. The subject is one line of fewer than 100 ASCII characters."""

    subject: str
    message: str


class EndedRun(TypedDict):
    """A run that has ended, as the ledger remembers it."""

    run_id: str
    model_id: str | None  # null only if the job had no active model
    cause: str  # kind of the latest update that led to the run
    requested_at: Time
    polls: int


class PastRun(EndedRun):
    """A completed run, for people and for the pace of polling."""

    duration_seconds: float  # from the request to the new metrics, including the time in the platform's queue
    verdict: Verdict
    scores: dict[str, float | None]  # the overall ones after the run, by the API's names
    why: NotRequired[str]  # the reasons for the verdict, unless it is unchanged


class Failure(EndedRun):
    """A run that did not complete, for people."""

    ended_at: Time
    status: Status
    reason: str
    detail: str


class Result(TypedDict):
    """What the ledger keeps of a run that has ended."""

    outcome: OutcomeName
    active_changed: bool  # the target is the active model, and the active model has or may have changed
    past_run: PastRun | None  # null unless the run completed
    figures: Reference | None  # for the model's reference; empty if it regressed, null unless completed
    failure: Failure | None  # null if the run completed


class Outcome(TypedDict):
    """Everything that is reported about a run that has ended."""

    events: list[Event]
    notification: Notification | None
    result: Result


class Check(TypedDict):
    """The current status of a run."""

    status: Status
    detail: str  # for people
    wait_seconds: int  # until the next check
    polls: int  # checks so far
    recomputing_at: Time | None  # when a check last saw the platform recompute
    idle_since: Time | None  # since when every check has unexpectedly seen the platform idle
    outcome: Outcome | None  # null while the status is running


class Run(TypedDict):
    """What is known about a run from its start."""

    run_id: str
    target: TargetKey
    job_id: str
    model_id: str | None  # null only if the run failed at its start because the job has no active model
    cause: Cause
    requested_at: Time  # when the target was claimed, before the baseline was read
    accepted_at: Time | None  # when the platform answered the request, by our clock; null before
    platform_requested_at: str | None  # the platform's own time of the request, if it told
    platform_job_id: str | None  # the job's id in the platform's answer, if it told
    baseline: dict[str, Any] | None  # the metrics before, null if they could not be read
    baseline_cut: bool  # the metrics before were too large, so the baseline has no figures of decisions
    pace: Pace
    gate: dict[str, Any]  # rules of the quality gate
    durations: list[Seconds]  # that past runs took, the oldest first
    reference: Reference | None  # what the gate compares with; null if the baseline could not be read


class Execution(NamedTuple):
    """An execution as Step Functions shows it, which is eventually consistent."""

    running: bool
    input: str


def job_of(run: Run) -> str:
    """The job's id if the platform has told it: a job may be renamed during a run."""
    return run["platform_job_id"] or run["job_id"]
