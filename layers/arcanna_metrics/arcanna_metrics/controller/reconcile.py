"""Level-triggered, like a Kubernetes controller: read one entry, decide with a pure function, do one thing.

`look` may be called at any time and any number of times, and does nothing if nothing is due. The trigger
calls it after recording, at the end of a run, and in a sweep every minute. The sweep alone would be enough:
the other calls save the wait for it.
"""

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Literal

from arcanna_metrics.controller.holding import check_up_on
from arcanna_metrics.controller.mailbox import forward
from arcanna_metrics.controller.services import Services
from arcanna_metrics.controller.start import start
from arcanna_metrics.errors import AwsUnavailable, Rejected, RetryLater, UndocumentedAnswer
from arcanna_metrics.observability import log_error, run_in_logs
from arcanna_metrics.protocol import slots, transitions
from arcanna_metrics.protocol.decide import CheckUp, Decision, Start, decide
from arcanna_metrics.protocol.entry import Claim, Entry
from arcanna_metrics.targets import Target

RESERVE = 50.0
"""Seconds kept for the last run that is started, because its calls to the platform may time out."""

MOST_FAILURES = 3
"""After this number of failed attempts in a row, a look continues only if AWS and the platform are up."""

MOST_SORTED = 1000
"""Due targets among which such a look finds those that have not failed."""

Obstacle = Exception | Literal["no slot"] | None
"""What kept a target from what is due for it; None if nothing did."""


def look(services: Services, remaining: Callable[[], float], recorded: Iterable[Target] = ()) -> None:
    """Does what is due, the longest due first, while there are slots and time.

    `remaining` returns the invocation's remaining seconds. The `recorded` targets come last: they may be due
    before the index shows them. Raises AwsUnavailable if the index cannot be read.
    """
    limit = services.settings().shared.pace.slots
    if limit and len(slots.taken(services.ledger, limit).takers) >= limit:
        return
    reconcile_all(services, chain(services.ledger.due(services.clock()), map(Entry, recorded)), remaining)


def reconcile_all(services: Services, entries: Iterable[Entry], remaining: Callable[[], float]) -> None:
    """Reconciles each target once, until no slot is free, time is up, or the platform is down.

    If targets keep failing although the platform is up, those that have not failed so far come next, and the
    others in random order. Otherwise, slow failures could take up all the time of every look.
    """
    seen: set[Target] = set()
    failures, queue = 0, iter(entries)
    while entry := next(queue, None):
        if entry.target in seen:
            continue
        if remaining() < RESERVE:
            return
        seen.add(entry.target)
        obstacle = reconcile(services, entry.target)
        if obstacle == "no slot":
            return
        # A bug says nothing about the platform.
        failures = failures + 1 if isinstance(obstacle, RetryLater) else 0
        if failures == MOST_FAILURES:
            if isinstance(obstacle, AwsUnavailable) or remaining() < RESERVE or not _is_up(services):
                return
            failures, next_ones = 0, islice(queue, MOST_SORTED)
            queue = iter(sorted(next_ones, key=lambda entry: services.draw() if entry.attempts else -1.0))


def _is_up(services: Services) -> bool:
    """Whether the platform answers and accepts the key, in a call that concerns no target.

    If it does, the failures concern their targets only, such as those of a job that the key may not read.
    """
    try:
        services.arcanna.scopes()
    except (Rejected, UndocumentedAnswer):
        return True  # an answer, though not the documented one
    except RetryLater:
        return False
    return True


def reconcile(services: Services, target: Target) -> Obstacle:
    """Does the one thing that is due for the target, if any. Logs an error, and postpones the target."""
    try:
        return _reconcile(services, services.ledger.read(target))
    except Exception as error:  # noqa: BLE001  # a bug with one entry must not stop the others
        log_error("attempt failed", error, **target._asdict())
        _postpone(services, target, error)
        return error


def _reconcile(services: Services, entry: Entry) -> Obstacle:
    match _decide(services, entry):
        case Start():
            if target := forward(services, entry):
                return reconcile(services, target)
            return _start(services, entry)
        case CheckUp(claim):
            check_up_on(services, entry, claim)
        case _:
            corrected = transitions.correct_due_at(entry, services.clock(), services.pace(entry))
            services.ledger.swap(entry, corrected)
    return None


def _start(services: Services, entry: Entry) -> Obstacle:
    """Claims the target and makes the claim a run, or gives it back."""
    target, limit = entry.target, services.settings().shared.pace.slots
    claim = Claim(services.new_id(), services.clock())
    if not services.ledger.swap(entry, transitions.claim(entry, claim)):
        return None  # somebody else was faster
    with run_in_logs(claim.run_id, target, entry.waiting.cause, services.workflow.arn(claim.run_id)):
        try:
            if limit and not slots.take(services.ledger, limit, slots.Taker(claim.run_id, target)):
                _give_back(services, entry, claim)
                return "no slot"
            start(services, entry, claim)
        except Exception as error:  # noqa: BLE001  # a bug must not keep the target or the slot
            log_error("attempt failed", error, **target._asdict())
            _give_back(services, entry, claim, error)
            return error
    return None


def _give_back(services: Services, entry: Entry, claim: Claim, error: Exception | None = None) -> None:
    """Undoes the claim, unless an execution holds the target after all."""
    postponement = services.postponement(entry, error) if error else None
    pace = services.pace(entry)
    services.ledger.apply(entry.target, transitions.give_back, claim.run_id, pace, postponement)


def _postpone(services: Services, target: Target, error: Exception) -> None:
    try:
        entry = services.ledger.read(target)
        if isinstance(_decide(services, entry), Start | CheckUp):  # unless somebody else has handled it
            postponement = services.postponement(entry, error)
            services.ledger.swap(entry, transitions.postpone(entry, services.pace(entry), postponement))
    except Exception as second:  # noqa: BLE001  # the entry stays due
        log_error("entry not postponed", second, **target._asdict())


def _decide(services: Services, entry: Entry) -> Decision:
    return decide(entry, services.clock(), services.pace(entry))
