"""What becomes of an update, given what the ledger knows of its model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from recompute.gathering import Mark, due_at, read_mark
from recompute.runs import PastRun
from recompute.updates import Update

Action = Literal["claim", "coalesce", "covered", "settle", "wait"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of a model. Times are epoch seconds; None where there is nothing.

    A claim holds the model while `run_id` is set and its lease has not expired. It has become a run when its
    workflow has set `requested_at`, the time of the claim; before that it may still come to nothing, and
    nothing may rely on it. `pending_at` is the latest update that this run does not cover, `pending_since`
    the first, `pending_updates` how many there were, duplicates included. `covered_until` is the
    `requested_at` of the last completed run, `stale_since` the first update of the runs that have failed
    since. `gathered` are the marks of updates that wait: by `wake_at` a message will ask again for them.
    `follows_at` is the latest update that follows the job's active model, of those that the last claim was
    made for or that came since.
    """

    run_id: str | None = None
    requested_at: float | None = None
    lease_expires_at: float | None = None
    pending_at: float | None = None
    covered_until: float | None = None
    history: tuple[PastRun, ...] = ()
    gathered: frozenset[str] = frozenset()
    wake_at: float | None = None
    pending_since: float | None = None
    pending_updates: int = 0
    follows_at: float | None = None
    stale_since: float | None = None

    def held(self, now: float) -> bool:
        """Whether a claim holds the model."""
        return self.run_id is not None and (self.lease_expires_at or 0.0) >= now

    def follows(self, update: Update) -> bool:
        """Whether it is known that the update follows the active model, if it does."""
        return not update.follows_active or (self.follows_at or 0.0) >= update.happened_at

    def settles_at(self, happened_at: float, margin: float) -> float:
        """When a claim may be made: no known update is too fresh, and no other claim is in doubt."""
        in_doubt = self.run_id is not None and self.requested_at is None
        lease = self.lease_expires_at if in_doubt else None
        return max(max(happened_at, self.pending_at or 0.0) + margin, lease or 0.0)

    def uncovered(self, marks: Iterable[str], now: float, margin: float) -> list[Mark]:
        """Those of the marks that no completed or running recompute is known to cover."""
        running = self.requested_at if self.held(now) else None
        covered = max(self.covered_until or 0.0, running or 0.0)
        return [mark for mark in map(read_mark, marks) if covered <= mark.at + margin]


class Plan(NamedTuple):
    """What to do about all updates that wait, of which the latest happened at `happened_at`.

    `first_at` is when the first did, `updates` how many they are, `until` when a wait is over. Epoch seconds.
    """

    action: Action
    happened_at: float
    first_at: float
    updates: int
    until: float


def plan(entry: Entry, update: Update, now: float, margin: float, spacing: float) -> Plan:
    """What to do about an update and those that wait with it; all in seconds.

    As `decide`, but for a wait where they are not enough yet, or where the last completed recompute was
    asked for less than `spacing` ago.
    """
    own = entry.uncovered(update.own_marks, now, margin)
    waiting = entry.uncovered(entry.gathered | update.own_marks, now, margin)
    somebody_wakes = not update.waker and (entry.wake_at or 0.0) >= now
    if not waiting or (not own and somebody_wakes):
        return Plan("covered", update.happened_at, update.first_at, update.count, now)
    times = [mark.at for mark in waiting]
    happened_at = max(times)
    action = decide(entry, happened_at, now, margin)
    until = due_at(waiting, update.significance)
    if spacing and action != "coalesce" and entry.covered_until is not None:
        until = max(until, entry.covered_until + spacing)
    if until > now:
        action = "wait"
    return Plan(action, happened_at, min(update.first_at, *times), max(update.count, len(times)), until)


def decide(entry: Entry, happened_at: float, now: float, margin: float) -> Action:
    """What to do about an update that happened at `happened_at`; all in seconds.

    covered   a recompute that was asked for after the update has completed or is running: nothing to do
    coalesce  a run is under way that may have missed it: one further run will follow
    settle    it is too fresh to tell later whether a recompute asked for now covered it, or a claim is held
              of which it is not known yet whether it becomes a run: wait a little
    claim     start a run

    Event times may be whole seconds and clocks differ: `margin` covers both. A claim is made only when
    every known update is older than it, so that the same update delivered again is recognised as covered.
    """
    horizon = happened_at + margin
    if entry.covered_until is not None and entry.covered_until > horizon:
        return "covered"
    if entry.held(now) and entry.requested_at is not None:
        return "covered" if entry.requested_at > horizon else "coalesce"
    return "settle" if entry.settles_at(happened_at, margin) >= now else "claim"
