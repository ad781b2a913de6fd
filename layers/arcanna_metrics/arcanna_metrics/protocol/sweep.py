"""The sweep's own work, every minute: it measures what waits and runs, and corrects when targets are due."""

from collections.abc import Callable
from functools import partial

from arcanna_metrics.observability import failed, gauges
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.ledger import UNREADABLE
from arcanna_metrics.protocol.reconcile import RESERVE
from arcanna_metrics.protocol.services import Services
from arcanna_metrics.settings import Settings


class Sweeper:
    """Built once per execution environment."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._applied: Settings | None = None  # to the targets that wait

    def sweep(self, remaining: Callable[[], float]) -> bool:
        """Emits the gauges that alarms watch; False if nothing waits or runs. Raises AwsUnavailable.

        Changed settings, such as a lower spacing, are applied to targets that already wait. Targets whose
        backoff is over get their place in the order back.
        """
        listed, now = self._services.ledger.waiting_or_running(), self._services.clock()
        if not listed:
            return False
        running = sum(entry.run_id is not None for entry in listed)
        waiting = [(entry, entry.due_at) for entry in listed if entry.run_id is None and entry.due_at]
        due = [(entry, at) for entry, at in waiting if at <= now]
        ages = [now - entry.waiting_since for entry in listed if entry.waiting_since is not None]
        ages += [now - at for _, at in due]  # of a batch that has been enough since then
        gauges(due=len(due), oldest=max(ages, default=0.0), running=running)
        settings = self._services.settings()
        for entry, at in waiting:
            if (at > now and settings == self._applied) or (at <= now and not entry.attempts):
                continue
            if remaining() < RESERVE:
                return True
            again = partial(transitions.back_in_line, now=now, pace=self._services.pace(entry))
            try:
                self._services.ledger.apply(entry.target, again)
            except UNREADABLE as error:  # it holds no other back
                failed("place in line not corrected", error, **entry.target._asdict())
        self._applied = settings
        return True
