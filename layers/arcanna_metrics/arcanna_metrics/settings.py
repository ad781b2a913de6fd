"""The settings: one JSON document that says what starts a recompute, how soon, and what counts as worse.

    {"routes": [...],
     "quality_gate": {"largest_drop": {...}, "floor": {...}, "minimum_samples": 30},
     "pace": {"spacing_seconds": 600, "slots": 4},
     "jobs": {"1234": {"quality_gate": {"floor": {"Escalate.recall": 0.9}}, "pace": {"spacing_seconds": 60}}}}

Every field has a default, so `{}` is valid. A job's own fields replace those of all jobs, one by one.
events/schemas/settings.schema.json describes them for editors.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from arcanna_metrics.documents import Node, load
from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.intake.events import AllTargets
from arcanna_metrics.intake.routes import DEFAULT_ROUTES, Routes, read_routes
from arcanna_metrics.runs.quality import DEFAULT_GATE, read_gate
from arcanna_metrics.targets import ID_LENGTH, Target, Update, is_id

DAY = 86_400


def _seconds(default: int, *, least: int, most: int) -> Any:
    """A field in seconds, with the least and the largest value that the document may give it."""
    return dataclasses.field(default=default, metadata={"limits": (least, most)})


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon and how often recomputes are requested and checked; in seconds, except `slots`.

    In the document, the names of the fields in seconds end in `_seconds`.
    """

    visibility_lag: float = _seconds(35, least=1, most=DAY)
    """How long an update may take from S3 to the platform, including clock differences."""
    spacing: float = _seconds(0, least=0, most=7 * DAY)
    """The shortest time from the start of one run of a target to the start of the next."""
    slots: int = 10
    """How many recomputes may run at once, for all jobs together; 0: no limit."""
    start_grace: float = _seconds(600, least=1, most=DAY)
    """How long a recompute may stay queued at the platform."""
    deadline: float = _seconds(21_600, least=10, most=7 * DAY)
    """How long a whole run may take."""
    shortest_poll: float = _seconds(5, least=1, most=300)
    longest_poll: float = _seconds(900, least=1, most=900)
    stale_after: float = _seconds(43_200, least=0, most=365 * DAY)
    """How old metrics must be for the schedule to recompute them; 0: any age."""
    first_backoff: float = _seconds(5, least=1, most=300)
    """The wait before the first retry; it doubles with every attempt."""
    longest_backoff: float = _seconds(300, least=1, most=900)


_Limits = Mapping[str, tuple[int, int]]
"""Fields of the document, with the least and the largest value of each."""

_PACE_OF_A_JOB: _Limits = {
    f"{each.name}_seconds": each.metadata["limits"] for each in dataclasses.fields(Pace) if each.metadata
}
_PACE: _Limits = {**_PACE_OF_A_JOB, "slots": (0, 1000)}


class JobSettings(NamedTuple):
    """The settings of a job. `gate` is the quality gate as JSON, as runs contain it."""

    pace: Pace
    gate: dict[str, Any]


class Settings(NamedTuple):
    """All settings. `shared` applies to every job that is not in `jobs` (by id)."""

    routes: Routes
    shared: JobSettings
    jobs: Mapping[str, JobSettings]

    def for_job(self, job_id: str) -> JobSettings:
        """The settings of a job, by its id. A job's name gets those of all jobs.

        It may be the name of any job, so its updates wait for the longest visibility lag that a job has.
        """
        if is_id(job_id):
            return self.jobs.get(job_id, self.shared)
        longest = max(each.pace.visibility_lag for each in (self.shared, *self.jobs.values()))
        return self.shared._replace(pace=replace(self.shared.pace, visibility_lag=longest))

    def wish(self, target: Target, schedule: AllTargets) -> Update:
        """What a schedule asks of a target: metrics that are no older than the schedule's age, or the one in
        the job's settings if it has none.
        """
        age = schedule.older_than
        if age is None:
            age = self.for_job(target.job_id).pace.stale_after
        return Update(target, schedule.happened_at, "schedule", older_than=age)


def parse_settings(text: str, visibility_lag: float = Pace().visibility_lag) -> Settings:
    """The settings of a JSON document. `visibility_lag` (seconds) applies if the document has none.

    Raises ConfigurationError with all problems of the document.
    """
    document = Node(load(text))
    fields = document.fields(("$schema", "routes", "quality_gate", "pace", "jobs"))
    if "$schema" in fields and not isinstance(fields["$schema"].value, str):
        fields["$schema"].must_be("a string")
    routes = read_routes(fields.get("routes", Node(DEFAULT_ROUTES)))
    shared = _merged(JobSettings(Pace(visibility_lag=visibility_lag), DEFAULT_GATE), fields, _PACE)
    settings = Settings(routes, shared, _jobs(fields["jobs"], shared) if "jobs" in fields else {})
    if document.problems:
        raise ConfigurationError(*document.problems)
    return settings


def _jobs(node: Node, shared: JobSettings) -> dict[str, JobSettings]:
    """By the ids that targets have, so that "0012" is job 12 here, too."""
    found: dict[str, JobSettings] = {}
    for name, job in node.members().items():
        settings = _merged(shared, job.fields(("quality_gate", "pace")), _PACE_OF_A_JOB)
        if not is_id(name) or len(name) > ID_LENGTH:
            job.wrong("is not a job's id; a name cannot be used here, because names may go to other jobs")
        elif (job_id := Target.of(name, None).job_id) in found:
            job.wrong(f"is job {job_id}, which is there already")
        else:
            found[job_id] = settings
    return found


def _merged(under: JobSettings, fields: Mapping[str, Node], limits: _Limits) -> JobSettings:
    """The settings, with the document's fields replacing them one by one."""
    gate = read_gate(fields["quality_gate"]) if "quality_gate" in fields else {}
    pace = _pace(under.pace, fields["pace"], limits) if "pace" in fields else under.pace
    return JobSettings(pace, under.gate | gate)


def _pace(under: Pace, node: Node, limits: _Limits) -> Pace:
    given: dict[str, Any] = {}
    for name, field in node.fields(limits).items():
        if (number := field.whole_number(*limits[name])) is not None:
            given[name.removesuffix("_seconds")] = number
    pace = replace(under, **given)
    for first, longest in (("shortest_poll", "longest_poll"), ("first_backoff", "longest_backoff")):
        least, most = getattr(pace, first), getattr(pace, longest)
        if least > most and given.keys() & {first, longest}:
            node.wrong(
                f"has a {first}_seconds of {least:g}, which must be at most its {longest}_seconds, {most:g}"
            )
    return pace
