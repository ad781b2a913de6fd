"""What the domain talks about: targets, updates, and the updates of one model taken together."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import inf

from arcanna_metrics.gathering import Significance, fewest, mark
from arcanna_metrics.targets import Target

MANUAL = "manual"
"""The cause of an update that somebody asks for by hand."""
SAMPLE_SIZE = 5

Sample = dict[str, str | None]
"""What people are shown of an object: its bucket, key and version_id."""


@dataclass(frozen=True, slots=True)
class Update:
    """One or more updates of one target, merged: a whole batch of uploads is one of these.

    Times are epoch seconds. `cause` is how the latest came about (upload, event, schedule, manual, ...),
    `sample` the first few objects, `attempt` how often asking was put off, `waiting_since` from when on.

    `significance` says how much is enough, None that any update is; `marks` are then those of the objects.
    `waker` tells the message that acts for all marks of its model, `promised_at` when it has promised that.
    `older_than`, in seconds, asks for metrics only if they are older. `follows_active` tells that the model
    was looked up, as the job's active one.
    """

    target: Target
    happened_at: float
    cause: str
    first_at: float
    count: int = 1
    sample: tuple[Sample, ...] = ()
    attempt: int = 0
    waiting_since: float | None = None
    marks: frozenset[str] = frozenset()
    significance: Significance | None = None
    waker: bool = False
    promised_at: float | None = None
    older_than: int | None = None
    follows_active: bool = False

    @property
    def own_marks(self) -> frozenset[str]:
        """What stands for it in the ledger while it waits."""
        return self.marks or frozenset({mark(self.happened_at, 0)})

    @classmethod
    def single(cls, target: Target, happened_at: float, cause: str, **sample: str | None) -> "Update":
        """One update, as an event reports it."""
        return cls(target, happened_at, cause, happened_at, sample=(sample,) if sample else ())


def merge(updates: Iterable[Update], fresh_from: float = inf) -> list[Update]:
    """The updates of each target, and on the same terms, as one: the latest decides what covers them all.

    Those that happened from `fresh_from` on (epoch seconds) are apart, so that the others need not wait until
    they have settled: where uploads never cease, that would be for ever.
    """
    alike: dict[object, list[Update]] = defaultdict(list)
    for update in updates:
        fresh = update.happened_at >= fresh_from
        alike[update.target, update.significance, update.older_than, fresh].append(update)
    return [_joined(same) for same in alike.values()]


def _joined(updates: Sequence[Update]) -> Update:
    latest = max(updates, key=lambda update: update.happened_at)
    waiting = [u.waiting_since for u in updates if u.waiting_since is not None]
    promises = [u.promised_at for u in updates if u.waker]
    return Update(
        latest.target,
        latest.happened_at,
        latest.cause,
        first_at=min(u.first_at for u in updates),
        count=sum(u.count for u in updates),
        sample=tuple(islice(chain.from_iterable(u.sample for u in updates), SAMPLE_SIZE)),
        attempt=max(u.attempt for u in updates),
        waiting_since=min(waiting, default=None),
        marks=fewest(chain.from_iterable(u.marks for u in updates)),
        significance=latest.significance,
        waker=bool(promises),
        promised_at=max((at for at in promises if at is not None), default=None),
        older_than=latest.older_than,
        follows_active=any(u.follows_active for u in updates),
    )
