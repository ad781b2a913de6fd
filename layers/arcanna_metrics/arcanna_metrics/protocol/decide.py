"""Decides what to do about an entry, and when to retry a failed attempt. Pure, total, and the only module
that says when a run starts: visibility lag, patience, thresholds, spacing and backoff meet here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from arcanna_metrics.errors import RetryLater
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry, Waiting, earliest, pruned
from arcanna_metrics.runs.limits import cut
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import WHOLE

PATIENCE = 2
"""For how many visibility lags a visible update waits for later ones.

Without this limit, a target whose uploads never stop would wait for ever."""

LONGEST_RETRY_AFTER = 3600.0
"""The longest Retry-After that counts, in seconds. A mistake there must not stop the target for years."""

LONGEST_ERROR = 200
"""Characters that the ledger keeps of an error."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing waits, and no run holds the target."""


@dataclass(frozen=True, slots=True)
class Later:
    """Look again at `at`."""

    at: float


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run."""


@dataclass(frozen=True, slots=True)
class CheckUp:
    """A run holds the target. Look at its executions."""

    claim: Claim


Decision = Rest | Later | Start | CheckUp


def decide(entry: Entry, now: float, pace: Pace) -> Decision:
    """What to do about the entry now."""
    if entry.claim is not None:
        if entry.due_at is not None and entry.due_at > now:
            return Later(entry.due_at)
        return CheckUp(entry.claim)
    at = starts_at(pruned(entry), pace)
    if at is None:
        return Rest()
    return Later(at) if at > now else Start()


def starts_at(entry: Entry, pace: Pace) -> float | None:
    """When to start a run of the target if it is free; None if nothing waits. The entry has to be pruned.

    A run starts when the waiting updates are ready, and both the spacing after the last run and the backoff
    are over. The outcome of the last run does not matter.
    """
    ready = _ready_at(entry.waiting, pace)
    if ready is None:
        return None
    # Without a spacing, a run without a result must not change the order in which targets are due.
    spaced = entry.last_requested_at + pace.spacing if pace.spacing else NEVER
    return max(ready, spaced, entry.retry_at, entry.not_before)


def _ready_at(waiting: Waiting, pace: Pace) -> float | None:
    """When to start: late enough to cover what would soon need another run.

    Waits until the last update is visible, or until the first reason for a run has waited long enough. A
    request by hand does not wait: whoever asks says that the data is visible.
    """
    needed, full = waiting.needed_as_of, full_at(waiting.batch)
    first_visible_at = None if waiting.since is None else waiting.since + pace.visibility_lag
    first = earliest(needed, first_visible_at, full, waiting.wanted_at)
    if first is None:
        return None
    latest = first + PATIENCE * pace.visibility_lag
    covered = [element.as_of for element in waiting.batch] if full is not None and full <= latest else []
    ready = max(first, min(latest, max([needed, *covered])))
    return ready if waiting.asked_at == NEVER else min(ready, waiting.asked_at)


def full_at(batch: Sequence[Element]) -> float | None:
    """When the batch is worth a recompute: its shares reach the whole, or the wait of one element ends.

    None if the batch is empty.
    """
    if not batch:
        return None
    ordered = sorted(batch, key=attrgetter("as_of"))
    waited = max(ordered[0].as_of, min(element.until for element in ordered))
    total = 0
    for element in ordered:
        total += element.share
        if total >= WHOLE:
            return min(waited, element.as_of)
    return waited


# --- After a failed attempt ------------------------------------------------------------------------------


class Postponement(NamedTuple):
    """When the next attempt may be made; a request by hand overrides `retry_at`, but not `not_before`."""

    retry_at: float
    not_before: float = NEVER
    last_error: str = ""  # why the attempt failed


def postponement(error: Exception | None, attempts: int, pace: Pace, now: float, draw: float) -> Postponement:
    """When to retry after this error: exponentially later with the attempts before it, with full jitter.

    `draw` is uniform in [0, 1). Full jitter spreads the targets that one outage stopped over the interval, so
    that they are not all retried at once. A Retry-After is honoured. After a request whose effect is unknown,
    the recompute may be queued. Arcanna does not show that during the start grace, so the next attempt waits
    for that long.
    """
    firm, effect_unknown = NEVER, error is not None  # a bug may have come after a request
    if isinstance(error, RetryLater):
        effect_unknown = error.effect_unknown
        if error.retry_after is not None:
            firm = now + min(error.retry_after, LONGEST_RETRY_AFTER)
    if effect_unknown:
        firm = max(firm, now + pace.start_grace)
    last_error = cut(f"{type(error).__name__}: {error}", LONGEST_ERROR) if error else ""
    longest = min(pace.first_backoff * 2.0 ** min(attempts, 20), pace.longest_backoff)
    return Postponement(now + max(1.0, longest * draw), firm, last_error)
