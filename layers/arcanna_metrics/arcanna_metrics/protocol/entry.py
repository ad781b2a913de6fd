"""What the ledger knows of one target: one DynamoDB item. Times are epoch seconds; None means never.

Two watermarks decide what waits: an update waits while `needed_as_of` is later than both `fresh_as_of` and
`failed_as_of`. So a claim moves nothing, and nothing has to be put back.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple, TypedDict

from arcanna_metrics.runs.run import Failure, PastRun
from arcanna_metrics.targets import Target
from arcanna_metrics.updates import Example


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

    model_id: str
    by: str  # ARN of the operator
    at: str  # ISO 8601


@dataclass(frozen=True, slots=True)
class Entry:
    """`transitions` changes an entry; `decide` says what follows from it."""

    target: Target
    rev: int = 0  # counts writes; every write is conditional on it

    needed_as_of: float | None = None  # metrics must come from a recompute requested then or later
    wanted_as_of: float | None = None  # a wish: metrics from before this time are too old
    wanted_at: float | None = None  # when the wish was made; a failure after that answers it
    batch: tuple[Element, ...] = ()  # updates that wait until they reach the threshold

    waiting_since: float | None = None  # when the first waiting update happened
    last_at: float | None = None  # when the latest waiting update happened
    updates: int = 0  # about how many updates wait
    cause: str = ""  # of the latest waiting update
    examples: tuple[Example, ...] = ()  # a few of the waiting updates' objects

    due_at: float | None = None  # the latest time for the next look at the entry
    # No run starts before: the end of the backoff, or when the last update during a run is visible. A request
    # by hand overrides it.
    retry_at: float | None = None
    not_before: float | None = None  # not even by hand: Retry-After, spacing, a request of unknown effect
    attempts: int = 0  # failed attempts since the last run
    trouble: str = ""  # why the last attempt failed, such as "PlatformBusy: ..."

    run_id: str | None = None  # the run that holds the target
    requested_at: float | None = None  # when the run claimed the target, before the platform was read
    held: bool = False  # the run's execution has begun
    resumed: int = 0  # number of the execution that follows the run; 0 is the first

    fresh_as_of: float | None = None  # requested_at of the last completed run
    failed_as_of: float | None = None  # requested_at of the last run that was reported as failed

    history: tuple[PastRun, ...] = ()  # the last completed runs, oldest first
    quality_reference: dict[str, Any] | None = None  # {"model_id": ..., "figures": quality.Reference}
    last_failure: Failure | None = None  # of the last run, if it failed
    accepted: Accepted | None = None  # who last accepted a model that got worse
    name_of: str | None = None  # if this target's job_id is a name: the id of that job

    @property
    def watermark(self) -> float:
        """Updates up to this time no longer wait; -inf if there has been no run."""
        return max(later(-inf, self.fresh_as_of), later(-inf, self.failed_as_of))

    @property
    def dirty(self) -> bool:
        """Whether anything waits."""
        return self.needed_as_of is not None or self.wanted_as_of is not None or bool(self.batch)


def pruned(entry: Entry) -> Entry:
    """The entry without updates and wishes that a watermark has passed."""
    mark, wanted_at = entry.watermark, later(-inf, entry.wanted_at)
    needed = entry.needed_as_of is not None and entry.needed_as_of > mark
    wanted = (
        entry.wanted_as_of is not None
        and entry.wanted_as_of > later(-inf, entry.fresh_as_of)
        and wanted_at > later(-inf, entry.failed_as_of)
    )
    kept = replace(
        entry,
        needed_as_of=entry.needed_as_of if needed else None,
        waiting_since=entry.waiting_since if needed else None,
        wanted_as_of=entry.wanted_as_of if wanted else None,
        wanted_at=entry.wanted_at if wanted else None,
        batch=tuple(element for element in entry.batch if element.as_of > mark),
    )
    if kept.dirty:
        return kept
    return replace(
        kept, last_at=None, updates=0, cause="", examples=(), retry_at=None, attempts=0, trouble=""
    )


def later(at: float, other: float | None) -> float:
    """The later of two times. The second may be None, which means never."""
    return at if other is None else max(at, other)


def latest(*times: float | None) -> float | None:
    """The latest of those times that are known; None if none is."""
    return max((at for at in times if at is not None), default=None)


def earliest(*times: float | None) -> float | None:
    """The earliest of those times that are known; None if none is."""
    return min((at for at in times if at is not None), default=None)
