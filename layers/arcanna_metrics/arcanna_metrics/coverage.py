"""What becomes of an update, given what the ledger knows of its model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from arcanna_metrics.gathering import MOST_MARKS, Mark, due_at, mark, read_mark
from arcanna_metrics.runs.quality import Reference
from arcanna_metrics.runs.run import PastRun
from arcanna_metrics.updates import Update

Action = Literal["claim", "coalesce", "covered", "settle", "wait"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of a model. Times are epoch seconds; None where there is nothing.

    A claim holds the model while `run_id` is set and its lease has not expired. It has become a run when its
    workflow has set `requested_at`, the time of the claim; before that it may still come to nothing, and
    nothing may rely on it. `pending_at` is the latest update that this run does not cover, `pending_since`
    the first, `pending_updates` how many there were, duplicates included. `covered_until` is the
    `requested_at` of the last completed run, `stale_since` the first update of the runs that have failed
    since. `gathered` are the marks of updates that wait: by `wake_at` a message will ask again for them, the
    one that bears `promised_at` (see gathering). `follows_at` is the latest update that follows the job's
    active model, of those that the last claim was made for or that came since. `reference` is what the next
    metrics are judged by (see quality). `refused` tells that the platform has refused the last run, and that
    none has ever completed.
    """

    run_id: str | None = None
    requested_at: float | None = None
    lease_expires_at: float | None = None
    pending_at: float | None = None
    covered_until: float | None = None
    history: tuple[PastRun, ...] = ()
    gathered: frozenset[str] = frozenset()
    wake_at: float | None = None
    promised_at: float | None = None
    pending_since: float | None = None
    pending_updates: int = 0
    follows_at: float | None = None
    stale_since: float | None = None
    reference: Reference | None = None
    refused: bool = False

    def held(self, now: float) -> bool:
        """Whether a claim holds the model."""
        return self.run_id is not None and (self.lease_expires_at or 0.0) >= now

    def follows(self, update: Update) -> bool:
        """Whether it is known that the update follows the active model, if it does."""
        return not update.follows_active or (self.follows_at or 0.0) >= update.happened_at

    def must_follow(self, margin: float) -> bool:
        """Whether an update that no completed run covers follows the active model."""
        return self.follows_at is not None and self.follows_at + margin > (self.covered_until or 0.0)

    def settles_at(self, happened_at: float, margin: float) -> float:
        """When no known update is too fresh for a claim any more."""
        return max(happened_at, self.pending_at or 0.0) + margin

    @property
    def doubtful_until(self) -> float:
        """When a claim of which it is not known whether it becomes a run has come to nothing."""
        in_doubt = self.run_id is not None and self.requested_at is None
        return (self.lease_expires_at or 0.0) if in_doubt else 0.0

    def knows(self, marks: frozenset[str]) -> bool:
        """Whether these updates are among those that wait, or need not be, for all the later ones."""
        enough = len(self.gathered) >= MOST_MARKS and max(marks) <= max(self.gathered)
        return enough or marks <= self.gathered

    def others_wake(self, update: Update, now: float) -> bool:
        """Whether another message than that of this update is to ask again for all that wait."""
        own = update.promised_at is None or update.promised_at >= (self.promised_at or 0.0)
        return (self.wake_at or 0.0) >= now and not (update.waker and own)

    def promised_by(self, update: Update) -> float:
        """When the latest promise was made, of what the ledger knows and the update's message bears."""
        return max(self.promised_at or 0.0, update.promised_at or 0.0)

    def owed(self, now: float, margin: float) -> list[str]:
        """Marks of what no run sees to: a pending update, if none is under way, and what has lapsed."""
        if self.held(now) and self.requested_at is not None:
            return []
        return [mark(at, 0) for at in (self.pending_at, self.lapsed(now, margin)) if at is not None]

    def lapsed(self, now: float, margin: float) -> float | None:
        """When that happened which an expired claim has taken along, if there is one.

        Nothing else is left of it: so it counts as having just settled when the lease ended.
        """
        expired = self.run_id is not None and not self.held(now)
        return (self.lease_expires_at or now) - margin if expired else None

    def uncovered(self, marks: Iterable[str], now: float, margin: float) -> list[Mark]:
        """Those of the marks that no completed or running recompute is known to cover."""
        running = self.requested_at if self.held(now) else None
        covered = max(self.covered_until or 0.0, running or 0.0)
        return [found for found in map(read_mark, marks) if covered <= found.at + margin]


class Plan(NamedTuple):
    """What to do about all updates that wait, of which the latest happened at `happened_at`.

    `first_at` is when the first did, `updates` how many they are, `until` when a wait is over, `left_at` when
    the latest happened of those that are left to a further run. Epoch seconds. `own` tells whether the update
    itself is one of them.
    """

    action: Action
    happened_at: float
    first_at: float
    updates: int
    until: float
    left_at: float | None = None
    own: bool = True


def plan(entry: Entry, update: Update, now: float, margin: float, spacing: float) -> Plan:
    """What to do about an update and those that wait with it; all in seconds.

    As `decide`, but for a wait where they are not enough yet, or where the last completed recompute was
    asked for less than `spacing` ago. Others that have not settled yet are left to a further run: where
    uploads never cease, waiting for them would be for ever.
    """
    own = set(entry.uncovered(update.own_marks, now, margin))
    owed = entry.uncovered(entry.owed(now, margin), now, margin)
    waiting = entry.uncovered(entry.gathered | update.own_marks, now, margin) + owed
    if not waiting or (not own and entry.others_wake(update, now)):
        # A claim has taken the marks along for which the waker is sent: it may still come to nothing.
        action: Action = "settle" if update.waker and entry.doubtful_until >= now else "covered"
        return Plan(action, update.happened_at, update.first_at, update.count, now)
    ready = [each for each in waiting if each in own or each.at + margin < now] or waiting
    left_at = max({each.at for each in waiting} - {each.at for each in ready}, default=None)
    times = [each.at for each in ready]
    happened_at = max(times)
    action = decide(entry, happened_at, now, margin)
    until = due_at(ready, None if owed else update.significance)  # what was due once is due
    if due_at(waiting, update.significance) <= now:  # they are enough as soon as all of them have settled
        until = min(until, max(each.at for each in waiting) + margin)
    if spacing and action != "coalesce" and entry.covered_until is not None:
        until = max(until, entry.covered_until + spacing)
    if until > now:
        action = "wait"
    if own:  # or else it is the waker of others, which is none of them
        times.append(update.first_at)
    updates = max(update.count if own else 0, len(ready))
    return Plan(action, happened_at, min(times), updates, until, left_at, bool(own))


def decide(entry: Entry, happened_at: float, now: float, margin: float) -> Action:
    """What to do about an update that happened at `happened_at`; all in seconds.

    covered   a recompute that was asked for after the update has completed or is running: nothing to do
    coalesce  a run is under way that may have missed it: one further run will follow
    settle    it is too fresh to tell later whether a recompute asked for now covered it, or a claim is held
              of which it is not known yet whether it becomes a run: wait a little
    claim     start a run

    What is in S3 takes its time to Arcanna, event times may be whole seconds, and clocks differ: `margin`
    covers all of that. A claim is made only when every known update is older than it, so that the same update
    delivered again is recognised as covered.
    """
    horizon = happened_at + margin
    if entry.covered_until is not None and entry.covered_until > horizon:
        return "covered"
    if entry.held(now) and entry.requested_at is not None:
        return "covered" if entry.requested_at > horizon else "coalesce"
    settled = max(entry.settles_at(happened_at, margin), entry.doubtful_until)
    return "settle" if settled >= now else "claim"
