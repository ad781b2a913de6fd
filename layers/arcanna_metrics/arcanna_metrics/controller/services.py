"""The clients, settings and clock that the controller uses. Built once per execution environment."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import random

from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.protocol.decide import Postponement, postponement
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.settings import Pace, Settings
from arcanna_metrics.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the controller calls."""

    ledger: Ledger
    workflow: Workflow
    arcanna: Arcanna
    settings: Callable[[], Settings]  # in force; raises AwsUnavailable and ConfigurationError
    event_bus: str  # name or ARN
    clock: Callable[[], float]  # epoch seconds
    draw: Callable[[], float] = random  # uniform in [0, 1), for jitter
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())

    def pace(self, entry: Entry) -> Pace:
        """The pace of the entry's job."""
        return self.settings().for_job(entry.target.job_id).pace

    def postponement(self, entry: Entry, error: Exception | None = None) -> Postponement:
        """When to retry the target after one more failed attempt."""
        return postponement(error, entry.attempts, self.pace(entry), self.clock(), self.draw())
