"""The data of the report. Times are in epoch seconds, and None if there is no time."""

from dataclasses import dataclass

from arcanna_metrics_cli.entries import PastRun
from arcanna_metrics_cli.executions import Told
from arcanna_metrics_cli.letters import Group


@dataclass(frozen=True, slots=True)
class Model:
    """One target. `model_id` is None for a job's active model, whose id is then `active` if it is known.

    The metrics are fresh or stale since `since`, because of `why`. `waiting` has a line for each thing that
    waits since `waits_since`, and `waiting_objects` are a few of its objects. `overdue_since` is from when
    on the objective counts, as for the alarm: not while a batch waits for its threshold. `attempts` to start
    a run have failed, the last one because of `last_error`. `told` is from the last completed run; if it is
    None, `untold` says why. `accepted` says who accepted the model and when, if that was after its last run.
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
    overdue_since: float | None = None
    waiting_objects: tuple[str, ...] = ()
    attempts: int = 0
    last_error: str = ""
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
        """Whether the model regressed in its last completed run, and nobody has accepted it."""
        return bool(self.completed) and self.completed[-1].result == "regressed" and not self.accepted

    @property
    def has_failed(self) -> bool:
        """Whether the last run, or the last attempt to start one, failed."""
        return self.attempts > 0 or (bool(self.runs) and self.runs[-1].outcome != "completed")

    @property
    def waits(self) -> bool:
        """Whether anything waits, or a run is under way."""
        return bool(self.waiting) or self.running_since is not None


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of a stack at one time.

    `dead` is the number of dead letters, and `letters` are those that could be read. `queued` is how many
    messages the updates queue has. A number is None if it could not be read. `objective` is how many seconds
    an update may wait. `notes` say what could not be read.
    """

    stack: str
    region: str
    at: float
    models: tuple[Model, ...]
    dead: int | None = 0
    letters: tuple[Group, ...] = ()
    queued: int | None = 0
    objective: float | None = None
    notes: tuple[str, ...] = ()
