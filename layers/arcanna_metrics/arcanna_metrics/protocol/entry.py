"""What the ledger knows of one target: one DynamoDB item. Times are epoch seconds.

Two watermarks decide what waits: an update waits while `needed_as_of` is later than both `fresh_as_of` and
`failed_as_of`. So a claim moves nothing, and nothing has to be put back.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple, TypedDict

from arcanna_metrics.runs.quality import Reference
from arcanna_metrics.runs.run import Failure, PastRun
from arcanna_metrics.targets import Example, Target

NEVER = -inf
"""The time of what has not happened: earlier than every other, so that the latest of several is their max().

Where the earliest of several counts, None stands for it instead."""


class Element(NamedTuple):
    """An update that is not worth a recompute alone. It waits for others, but not longer than `until`.

    `share` is its share of the route's threshold, in millionths.
    """

    identity: str
    as_of: float
    share: int
    until: float


class Accepted(TypedDict):
    """An operator's decision that a model is good enough as it is."""

    by: str  # ARN of the operator
    at: str  # ISO 8601


@dataclass(frozen=True, slots=True)
class Waiting:
    """The updates and wishes that wait for a run."""

    needed_as_of: float = NEVER  # metrics must come from a recompute requested then or later
    wanted_as_of: float = NEVER  # a wish: metrics from before this time are too old
    wanted_at: float = NEVER  # when the first that waits was made; a failure after that answers it
    asked_at: float = NEVER  # when somebody last asked by hand: a run starts at once
    batch: tuple[Element, ...] = ()  # updates that wait until they reach the threshold
    last_at: float = NEVER  # when the latest update happened; a lag after it, all are visible

    # For people and for patience; no run is needed because of these.
    since: float | None = None  # when the first of the updates that `needed_as_of` covers happened
    next_since: float | None = None  # of those that the run under way does not cover, or its request
    updates: int = 0  # about how many there are
    cause: str = ""  # of the latest update
    examples: tuple[Example, ...] = ()  # a few of the updates' objects

    def after_run(self, asked: float) -> "Waiting":
        """The same, since the first update that a run does not cover that was requested at `asked`."""
        return replace(self, since=asked if self.next_since is None else self.next_since)


class Claim(NamedTuple):
    """The run that has claimed a target."""

    run_id: str
    requested_at: float  # when it claimed the target, before the platform was read
    number: int | None = None  # of the last execution that has begun; 0 is the first

    @property
    def held(self) -> bool:
        """Whether an execution has begun."""
        return self.number is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """`transitions` changes an entry; `decide` says what follows from it."""

    target: Target
    rev: int = 0  # counts writes; every write is conditional on it

    waiting: Waiting = Waiting()
    claim: Claim | None = None
    due_at: float | None = None  # the latest time for the next look at the entry; None if it needs none

    # No run starts before: the end of the backoff, or when the last update during a run is visible. A request
    # by hand overrides it.
    retry_at: float = NEVER
    not_before: float = NEVER  # not even by hand: Retry-After, the start grace of a request of unknown effect
    attempts: int = 0  # failed attempts since the last run with a known result
    failing_since: float | None = None  # when what they are for was due, or claimed
    last_error: str = ""  # why the last attempt failed, such as "PlatformBusy: ..."

    last_requested_at: float = NEVER  # requested_at of the last run, whatever became of it; for the spacing
    fresh_as_of: float = NEVER  # requested_at of the last completed run
    failed_as_of: float = NEVER  # requested_at of the last run that failed or timed out

    history: tuple[PastRun, ...] = ()  # the last completed runs, oldest first
    last_failure: Failure | None = None  # of the last run, if it failed
    name_of: str | None = None  # if this target's job_id is a name: the id of that job
    expires_at: int = 0  # when DynamoDB may delete the entry; 0 while anything waits or runs

    # Only of targets with a model id, also for runs of the job's active model.
    quality_reference: Reference | None = None  # what the model's next metrics are compared with
    accepted: Accepted | None = None  # who last accepted the model although it got worse

    @property
    def run_id(self) -> str | None:
        """The run that holds the target; None if the target is free."""
        return self.claim.run_id if self.claim else None

    @property
    def overdue_since(self) -> float | None:
        """Since when something has needed a run, for the age that alarms watch; None if nothing does.

        A batch or a wish counts from the time when it was due, which is later than now if it is not due yet.
        """
        due = self.claim.requested_at if self.claim else self.due_at
        return earliest(self.waiting.since, self.failing_since, due)

    @property
    def watermark(self) -> float:
        """Updates up to this time no longer wait."""
        return max(self.fresh_as_of, self.failed_as_of)

    @property
    def metrics_as_of(self) -> float:
        """The ledger knows that the metrics are at least this new. Arcanna's own timestamp may be newer.

        A job may have another active model by now, whose metrics nobody has recomputed yet.
        """
        return NEVER if self.target.model_id is None else self.fresh_as_of

    @property
    def dirty(self) -> bool:
        """Whether anything waits."""
        waiting = self.waiting
        return max(waiting.needed_as_of, waiting.wanted_as_of) > NEVER or bool(waiting.batch)

    def without_attempts(self) -> "Entry":
        """The entry after its run had a result, or if nothing is left to try."""
        return replace(self, attempts=0, last_error="", failing_since=None)


def pruned(entry: Entry) -> Entry:
    """The entry without updates and wishes that a watermark has passed."""
    waiting, mark = entry.waiting, entry.watermark
    changes: dict[str, Any] = {"batch": tuple(element for element in waiting.batch if element.as_of > mark)}
    if waiting.asked_at <= mark:
        changes |= {"asked_at": NEVER}
    if waiting.needed_as_of <= mark:
        changes |= {"needed_as_of": NEVER, "since": None, "next_since": None}
    if waiting.wanted_as_of <= entry.metrics_as_of or waiting.wanted_at <= mark:
        changes |= {"wanted_as_of": NEVER, "wanted_at": NEVER}
    after = replace(entry, waiting=replace(waiting, **changes))
    if after.dirty:
        return after
    return replace(entry.without_attempts(), waiting=Waiting(), retry_at=NEVER)


def earliest(*times: float | None) -> float | None:
    """The earliest of the times that are neither None nor NEVER; None if there is none."""
    return min((at for at in times if at not in (None, NEVER)), default=None)
