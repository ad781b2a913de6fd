"""The platform behind the API: jobs, models, and a worker per model that recomputes its figures.

Everything here runs on one event loop, so nothing needs a lock.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from tests.support.arcanna.access import KeyInfo
from tests.support.arcanna.alerts import AlertSource, current_alerts
from tests.support.arcanna.figures import compute_figures
from tests.support.arcanna.schemas import (
    ApiError,
    Figures,
    JobAndLatestModelMetrics,
    JobMetrics,
    ModelMetrics,
    Resource,
)

MINUTES_PER_ALERT = 5.0  # the API does not document this constant


@dataclass(frozen=True)
class Job:
    """A job as set up: its models, and which of them is active (by default the last one)."""

    name: str
    models: tuple[str, ...]
    active: str | None = None


@dataclass(frozen=True)
class Behaviour:
    """How a model's worker behaves. Times are in seconds.

    A recompute starts `delay` after the request (until then it is queued, and the flag is false). It ends
    `duration` after its start, but not before the model's metrics were read `looks` times since the start, so
    that a slow reader sees it. At the end the flag falls and the timestamp changes, in one step unless
    `timestamp_lag` (the flag falls first) or `flag_lag` (the timestamp changes first) separates them. With
    `fails`, the flag rises and falls, and the timestamp stays. With `never_starts`, requests are accepted and
    stay queued until the behaviour changes. With `odd`, answers are correct but oddly written (oddities.py).
    """

    delay: float = 0.0
    duration: float = 0.05
    looks: int = 0
    timestamp_lag: float = 0.0
    flag_lag: float = 0.0
    fails: bool = False
    never_starts: bool = False
    odd: bool = False


SHORT = Behaviour(delay=0.2, duration=0.5)
FOR_EVER = Behaviour(delay=0.2, duration=600.0)
"""The default behaviour."""


class Ask(NamedTuple):
    """Who asked for a recompute, and when (seconds since the epoch)."""

    at: float
    by: str


@dataclass
class Recompute:
    """One recompute. Times are in epoch seconds."""

    job_id: int
    model_id: str
    asks: list[Ask] = field(default_factory=list)
    state: Literal["queued", "in_progress", "completed", "failed"] = "queued"
    started_at: float | None = None
    finished_at: float | None = None
    rows: int = 0
    """Alerts that went into the figures."""
    newest_object: str | None = None
    """Key of the newest alert object that was read."""
    error: str | None = None
    """Why it failed, unless its behaviour says so. The API shows no reasons."""


@dataclass
class Model:
    job_id: int
    model_id: str
    metrics: ModelMetrics
    rows: int = 0
    waiting: Recompute | None = None
    running: Recompute | None = None
    worker: asyncio.Task[None] | None = None
    looks: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the metrics have been read, and when the behaviour may have changed."""

    def show(self, **changes: object) -> None:
        self.metrics = self.metrics.model_copy(update=changes)


@dataclass
class _Job:
    job_id: int
    models: dict[str, Model]
    active: str | None


class Platform:
    def __init__(
        self,
        jobs: Mapping[int, Job],
        alerts: AlertSource,
        behaviour: Behaviour,
        api_keys: Mapping[str, KeyInfo],
        clock: Callable[[], float],
    ) -> None:
        self.api_keys = dict(api_keys)
        self.recomputes: list[Recompute] = []
        self._alerts = alerts
        self._behaviour = behaviour
        self._behaviours: dict[str, Behaviour] = {}
        self._clock = clock
        self._names = {job_id: job.name for job_id, job in jobs.items()}
        self._jobs = {job_id: _Job(job_id, {}, None) for job_id in jobs}
        self._references = {job.name: self._jobs[job_id] for job_id, job in jobs.items()}
        self._references |= {str(job_id): state for job_id, state in self._jobs.items()}
        for job_id, job in jobs.items():
            state = self._jobs[job_id]
            for model_id in job.models:
                self.set_active_model(str(job_id), model_id)
            state.active = job.active or state.active

    def now(self) -> datetime:
        """The time on the platform's clock, which may differ from this machine's."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def find_job(self, job: str) -> _Job:
        """The job with this id or name. Raises ApiError 404 if there is none."""
        if job not in self._references:
            raise ApiError(404, "Job not found", f"Job '{job}' not found")
        return self._references[job]

    def find_model(self, job: str, model_id: str) -> Model:
        """The model of the job. Raises ApiError 404 if the job or the model does not exist."""
        found = self.find_job(job)
        if model_id not in found.models:
            raise ApiError(404, "Model not found", f"Model '{model_id}' not found for job '{found.job_id}'")
        return found.models[model_id]

    def model_metrics(self, job: str, model_id: str) -> ModelMetrics:
        """The last metrics of the model, and whether a recompute is under way."""
        model = self.find_model(job, model_id)
        model.looks += 1
        model.changed.set()
        return model.metrics

    def jobs(self, title: str | None) -> list[Resource]:
        """The jobs of that title, or all of them."""
        found = [Resource(id=job_id, title=name) for job_id, name in self._names.items()]
        return [job for job in found if title in (None, job.title)]

    def is_odd(self, model_id: str | None) -> bool:
        """Whether answers about the model are in odd notation. None stands for answers about no model."""
        return self._behaviours.get(model_id or "", self._behaviour).odd

    def job_and_latest_model(self, job: str) -> JobAndLatestModelMetrics:
        """The job's figures and its active model's metrics. The metrics are empty without an active model."""
        active = self.find_job(job).active
        metrics = self.model_metrics(job, active) if active else ModelMetrics()
        return JobAndLatestModelMetrics(**self.job_metrics(job).model_dump(), active_model_metrics=metrics)

    def job_metrics(self, job: str) -> JobMetrics:
        """The job's figures are those of its active model's last recompute."""
        found = self.find_job(job)
        model = found.models.get(found.active or "")
        figures = model.metrics if model else ModelMetrics()
        decided_right = sum(m.true_positives for m in figures.metrics_per_decision.values())
        return JobMetrics(
            **figures.model_dump(include=set(Figures.model_fields)),
            active_model_id=found.active,
            all_model_ids=list(found.models),
            time_saved_minutes=decided_right * MINUTES_PER_ALERT,
            total_events=model.rows if model else 0,
            total_events_in_knowledge_base=model.rows if model else 0,
            total_events_with_consensus=sum(
                count.alerts_count for count in figures.kb_count_per_decision.values()
            ),
        )

    def set_active_model(self, job: str, model_id: str) -> None:
        """Makes the model the job's active one, as a training does. A new id creates a new model."""
        found = self.find_job(job)
        found.active = model_id
        if model_id not in found.models:
            metrics = ModelMetrics(model_id=model_id, is_recomputing_metrics=False)
            found.models[model_id] = Model(found.job_id, model_id, metrics)

    def remove_model(self, job: str, model_id: str) -> None:
        """Removes the model. A recompute under way is no longer visible."""
        found = self.find_job(job)
        found.models.pop(self.find_model(job, model_id).model_id)
        if found.active == model_id:
            found.active = None

    def set_behaviour(self, behaviour: Behaviour, model_id: str | None = None) -> None:
        """Sets the behaviour of a model, or of all without their own, including recomputes under way."""
        if model_id is None:
            self._behaviour = behaviour
        else:
            self._behaviours[model_id] = behaviour
        for model in self._models():
            model.changed.set()
            self._wake(model)

    def request_recompute(
        self, job: str, model_id: str, by: str
    ) -> tuple[Model, Literal["queued", "in_progress"]]:
        """Requests a recompute. Joins a queued one, else queues one, behind a running one if necessary."""
        model = self.find_model(job, model_id)
        if model.waiting is None:
            model.waiting = Recompute(model.job_id, model_id)
            self.recomputes.append(model.waiting)
        model.waiting.asks.append(Ask(time.time(), by))
        self._wake(model)
        return model, "in_progress" if model.running else "queued"

    def _models(self) -> Iterator[Model]:
        return (model for job in self._jobs.values() for model in job.models.values())

    def _behaviour_of(self, model: Model) -> Behaviour:
        return self._behaviours.get(model.model_id, self._behaviour)

    def _wake(self, model: Model) -> None:
        if model.waiting and (model.worker is None or model.worker.done()):
            model.worker = asyncio.create_task(self._work(model))

    async def _work(self, model: Model) -> None:
        while model.waiting and not (behaviour := self._behaviour_of(model)).never_starts:
            await asyncio.sleep(behaviour.delay)
            model.running, model.waiting = model.waiting, None
            await self._recompute(model, model.running)
            model.running = None

    async def _recompute(self, model: Model, run: Recompute) -> None:
        run.state, run.started_at = "in_progress", time.time()
        model.show(is_recomputing_metrics=True)
        figures, behaviour = await asyncio.gather(asyncio.to_thread(self._compute, run), self._last(model))
        if figures is None or behaviour.fails:
            run.state = "failed"
        else:
            await self._publish(model, run, figures, behaviour)
            run.state = "completed"
        model.show(is_recomputing_metrics=False)
        run.finished_at = time.time()

    async def _last(self, model: Model) -> Behaviour:
        """Waits for the duration that the behaviour sets. Returns the behaviour that applies at the end."""
        begun, model.looks = time.monotonic(), 0
        while True:
            behaviour = self._behaviour_of(model)
            left = begun + behaviour.duration - time.monotonic()
            if left <= 0 and model.looks >= behaviour.looks:
                return behaviour
            model.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(model.changed.wait(), left if left > 0 else None)

    async def _publish(self, model: Model, run: Recompute, figures: Figures, behaviour: Behaviour) -> None:
        if behaviour.timestamp_lag:
            model.show(is_recomputing_metrics=False)
            await asyncio.sleep(behaviour.timestamp_lag)
        model.rows = run.rows
        timestamp = next_timestamp(model.metrics.last_recomputed_timestamp, self.now())
        model.show(**dict(figures), last_recomputed_timestamp=timestamp)
        if behaviour.flag_lag:
            await asyncio.sleep(behaviour.flag_lag)

    def _compute(self, run: Recompute) -> Figures | None:
        try:
            objects = self._alerts.read(run.job_id, run.model_id)
            alerts = current_alerts(objects)
            run.rows = len(alerts)
            run.newest_object = max(objects).key if objects else None
            return compute_figures(alerts)
        except Exception as error:  # noqa: BLE001  # callers see a failed recompute, as in reality
            run.error = repr(error)
            return None


def next_timestamp(previous: str | None, now: datetime) -> str:
    """An ISO-8601 UTC time later than `previous`, with and without fractional seconds in turn.

    Two recomputes within one second both get a fraction: whole seconds could not order them.
    """
    whole = now.replace(microsecond=0)
    if previous is None:
        return iso_utc(whole)
    last = datetime.fromisoformat(previous)
    if "." in previous and whole > last:
        return iso_utc(whole)
    return iso_utc(max(now, last + timedelta(microseconds=1)), "microseconds")


def iso_utc(moment: datetime, timespec: str = "seconds") -> str:
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")
