"""What the ledger knows of one target: one DynamoDB item. Times are epoch seconds; None means never.

What waits is decided by two watermarks: an update waits while the metrics are needed as of a later time than
`fresh_as_of` and `failed_as_of`. So nothing is moved at a claim, and nothing has to be put back.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple, TypedDict

from arcanna_metrics.runs.run import Failure, PastRun
from arcanna_metrics.targets import Target
from arcanna_metrics.updates import Example


class Element(NamedTuple):
    """An update that is not worth a recompute alone. `until` is when it is recomputed in any case.

    `share` is of the route's threshold, in millionths.
    """

    identity: str
    as_of: float
    share: int
    until: float


class Accepted(TypedDict):
    """An operator's decision that a model is good enough as it is."""

    model_id: str
    by: str  # ARN of whoever decided
    at: str  # ISO 8601


@dataclass(frozen=True, slots=True)
class Entry:
    """Who changes what is in `transitions`; what follows from it, in `decide`."""

    target: Target
    rev: int = 0  # counts writes; every write is conditional on it

    needed_as_of: float | None = None  # the metrics must be of a recompute that was asked for then or later
    wanted_as_of: float | None = None  # a wish: metrics from before are too old; the platform's own count
    wanted_at: float | None = None  # when the wish was made; a failure since then answers it
    batch: tuple[Element, ...] = ()  # updates that wait until they are enough for a recompute

    waiting_since: float | None = None  # when the first update happened that is needed
    last_at: float | None = None  # when the latest happened of those that wait
    updates: int = 0  # how many wait, about
    cause: str = ""  # of the latest
    examples: tuple[Example, ...] = ()  # a few of their objects

    due_at: float | None = None  # when to look at the entry, at the latest
    retry_at: float | None = None  # end of the backoff, or see release; a request by hand overrides it
    not_before: float | None = None  # like retry_at, but a request by hand does not override it
    attempts: int = 0  # failed ones since the last run

    run_id: str | None = None  # the run that holds the target
    requested_at: float | None = None  # when it claimed the target, before the platform was read
    held: bool = False  # its execution has begun
    resumed: int = 0  # number of the execution that is to follow it; 0 is the first

    fresh_as_of: float | None = None  # requested_at of the last completed run
    failed_as_of: float | None = None  # requested_at of the last run that was told to have failed

    history: tuple[PastRun, ...] = ()  # the last completed runs, the oldest first
    quality_reference: dict[str, Any] | None = None  # {"model_id": ..., "figures": quality.Reference}
    last_failure: Failure | None = None  # of the last run, if it failed
    accepted: Accepted | None = None  # by whom a model that got worse was last accepted as it was
    name_of: str | None = None  # the id of the job that this target's job_id is the name of

    @property
    def watermark(self) -> float:
        """Up to when updates do not wait any more; -inf if there has been no run."""
        return max(later(-inf, self.fresh_as_of), later(-inf, self.failed_as_of))

    @property
    def dirty(self) -> bool:
        """Whether anything waits."""
        return self.needed_as_of is not None or self.wanted_as_of is not None or bool(self.batch)


def pruned(entry: Entry) -> Entry:
    """The entry without what a watermark has passed."""
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
    return replace(kept, last_at=None, updates=0, cause="", examples=(), retry_at=None, attempts=0)


def later(at: float, other: float | None) -> float:
    """The later of two times. The second may be None, which means never."""
    return at if other is None else max(at, other)


def latest(*times: float | None) -> float | None:
    """The latest of those times that are known; None if none is."""
    return max((at for at in times if at is not None), default=None)


def earliest(*times: float | None) -> float | None:
    """The earliest of those times that are known; None if none is."""
    return min((at for at in times if at is not None), default=None)
