"""The sweep, every minute: emits the gauges, and updates when waiting targets are due."""

from collections.abc import Callable

from arcanna_metrics.controller.reconcile import RESERVE, reconcile_all
from arcanna_metrics.controller.services import Services
from arcanna_metrics.observability import gauges, log_error
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.entry import NEVER, Entry
from arcanna_metrics.protocol.ledger import UNREADABLE
from arcanna_metrics.settings import Settings
from arcanna_metrics.settings_source import MAX_AGE

SWEEP_OVERDUE = 300.0
"""Seconds without a sweep, after which any message causes one: while messages come, no alarm tells that the
schedule is lost."""

FOR_THE_LOOK = 30.0
"""Seconds that the corrections leave to the look after them."""


class Sweeper:
    """Built once per execution environment."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._swept_at = services.clock()
        self._settings: Settings | None = None
        self._settings_at = NEVER  # when they were first seen here
        self._are_applied = False  # to the targets that wait

    def is_overdue(self) -> bool:
        """Whether this environment has tried no sweep for a while."""
        return self._services.clock() - self._swept_at >= SWEEP_OVERDUE

    def sweep(self, remaining: Callable[[], float]) -> bool:
        """Emits the gauges that alarms watch; False if nothing waits or runs. Raises AwsUnavailable.

        Checks up on runs, also while no slot is free, because they may be dead. Applies changed settings,
        such as a lower spacing, to targets that already wait. Restores the earlier due time of targets whose
        backoff is over.
        """
        self._swept_at = now = self._services.clock()  # also if it fails, or each message would try again
        listed = self._services.ledger.waiting_or_running()
        if not listed:
            return False
        free = [entry for entry in listed if entry.claim is None]
        due = [entry for entry in listed if entry.due_at is not None and entry.due_at <= now]
        held = [entry for entry in due if entry.claim is not None]
        ages = [now - since for entry in listed if (since := entry.overdue_since) is not None]
        gauges(due=len(due) - len(held), oldest=max([0.0, *ages]), running=len(listed) - len(free))
        reconcile_all(self._services, held, remaining)  # dead runs must not keep their slots and targets
        self._correct(free, now, remaining)
        return True

    def _correct(self, free: list[Entry], now: float, remaining: Callable[[], float]) -> None:
        """Corrects when targets are due, as far as there is time. Reads only those that may be wrong."""
        ledger, settings = self._services.ledger, self._services.settings()
        if settings != self._settings:
            self._settings, self._settings_at, self._are_applied = settings, now, False
        changed = not self._are_applied
        targets = [entry.target for entry in free if _may_be_wrong(entry, now, changed=changed)]
        for target, known in ledger.each(targets):
            if remaining() < RESERVE + FOR_THE_LOOK:
                return
            pace = settings.for_job(target.job_id).pace
            try:
                ledger.apply(known or target, transitions.correct_due_at, now, pace)
            except UNREADABLE as error:  # it holds no other back
                log_error("due time not corrected", error, **target._asdict())
        self._are_applied = now > self._settings_at + MAX_AGE  # until then, others may record by earlier ones


def _may_be_wrong(entry: Entry, now: float, *, changed: bool) -> bool:
    """Whether the settings have `changed`, or the entry is due at the end of a backoff that is over."""
    if entry.due_at is None:  # it is unreadable, which the correction tells
        return True
    if entry.due_at > now:
        return changed
    return entry.attempts > 0 and entry.due_at in (entry.retry_at, entry.not_before)
