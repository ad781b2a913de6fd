"""The sweep, every minute: emits the gauges, and updates when waiting targets are due."""

from collections.abc import Callable
from functools import partial

from arcanna_metrics.observability import gauges
from arcanna_metrics.protocol import transitions
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

        Applies changed settings, such as a lower spacing, to targets that already wait. Restores the earlier
        due time of targets whose backoff is over.
        """
        listed, now = self._services.ledger.waiting_or_running(), self._services.clock()
        if not listed:
            return False
        running = sum(entry.run_id is not None for entry in listed)
        waiting = [(entry, entry.due_at) for entry in listed if entry.run_id is None and entry.due_at]
        due = [(entry, at) for entry, at in waiting if at <= now]
        ages = [now - entry.waiting_since for entry in listed if entry.waiting_since is not None]
        ages += [now - at for _, at in due]  # for a batch: since it reached its threshold
        gauges(due=len(due), oldest=max(ages, default=0.0), running=running)
        settings = self._services.settings()
        for entry, at in waiting:
            if (at > now and settings == self._applied) or (at <= now and not entry.attempts):
                continue
            if remaining() < RESERVE:
                return True
            again = partial(transitions.back_in_line, now=now, pace=self._services.pace(entry))
            self._services.ledger.apply(entry.target, again)
        self._applied = settings
        return True
