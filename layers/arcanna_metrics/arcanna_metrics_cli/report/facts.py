"""What the report shows, as data. Times are epoch seconds; None if there is no time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arcanna_metrics_cli.entries import PastRun
from arcanna_metrics_cli.letters import Group


@dataclass(frozen=True, slots=True)
class Told:
    """What a completed run told beyond what the ledger keeps of it.

    `updates` led to it, the first and the last of them at these times; `objects` are a few of theirs.
    `before` and `after` are the platform's metrics, in the outcome event's form.
    """

    run_id: str
    why: str
    updates: int
    first_at: float
    last_at: float
    objects: tuple[str, ...]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Model:
    """One target. `model_id` is None for a job's active model, which is `active` as far as that is known.

    `since` is from when on the metrics are fresh or stale, `why` says by what. `waiting` says in words what
    waits, since `waits_since` and after so many failed `attempts`, the last of which failed by `trouble`;
    `waiting_objects` are a few of it.
    `told` is of the last completed run, and `untold` says why there is none. `accepted` says by whom and when
    the model was accepted as it is, if that was since its last run.
    """

    job: str
    model_id: str | None
    fresh: bool
    why: str
    since: float | None = None
    job_name: str | None = None
    active: str | None = None
    running_since: float | None = None
    waiting: tuple[str, ...] = ()
    waits_since: float | None = None
    waiting_objects: tuple[str, ...] = ()
    attempts: int = 0
    trouble: str = ""
    runs: tuple[PastRun, ...] = ()
    told: Told | None = None
    untold: str = ""
    accepted: str = ""

    @property
    def completed(self) -> list[PastRun]:
        """The completed runs, the oldest first."""
        return [run for run in self.runs if run.outcome == "completed"]

    @property
    def is_worse(self) -> bool:
        """Whether the last metrics are worse than the quality gate allows, and nobody has accepted that."""
        return bool(self.completed) and self.completed[-1].result == "regressed" and not self.accepted

    @property
    def has_failed(self) -> bool:
        """Whether the last run, or the last attempt to start one, failed."""
        return self.attempts > 0 or (bool(self.runs) and self.runs[-1].outcome != "completed")

    @property
    def waits(self) -> bool:
        """Whether anything waits for a run, or for the end of one."""
        return bool(self.waiting) or self.running_since is not None


@dataclass(frozen=True, slots=True)
class Facts:
    """How a stack stands at a moment.

    `dead` is how many dead letters there are, `letters` are those that could be looked at. `queued` messages
    are not in the ledger yet. `objective` is how many seconds an update may wait. `notes` say what could not
    be found out.
    """

    stack: str
    region: str
    at: float
    models: tuple[Model, ...]
    dead: int = 0
    letters: tuple[Group, ...] = ()
    queued: int = 0
    objective: float | None = None
    notes: tuple[str, ...] = field(default=())
