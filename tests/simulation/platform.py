"""The simulated platform: requests queue up per model and are recomputed one after the other.

From outside, one flag and one timestamp are visible, but not who requested a recompute, whether it failed, or
when it began. A training makes another model its job's active one. Until then, some jobs have no active
model, and some platforms forget the previous one. Jobs have an id and a name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from arcanna_metrics.times import to_iso
from tests.simulation.aws import Outside
from tests.simulation.faults import Faults
from tests.simulation.journal import START, Journal
from tests.simulation.scheduler import Scheduler
from tests.simulation.stimuli import JOB_OF, NAMES, id_of

APART = 30.0
"""Most seconds between the changes of flag and timestamp. Less than completion.CONFIRMATION."""

WORKERS_APART = 4.9
"""Most seconds between the clocks of the platform's API and workers. Less than completion.CLOCK_MARGIN."""

ACCURACIES = (0.6, 0.7, 0.8, 0.9)
"""Of models. They differ by more than the quality gate's limit, so each is clearly better than the next."""


@dataclass
class _Shown:
    """A model: its visible metrics, and its waiting recomputes."""

    recomputing_since: float | None = None
    timestamp: str | None = None
    accuracy: float | None = None
    busy: bool = False
    waiting: list[str] = field(default_factory=list)


class Platform:
    """All models. Time passes by the scheduler."""

    def __init__(self, seed: int, scheduler: Scheduler, faults: Faults, journal: Journal) -> None:
        self._random = Random(f"{seed}/platform")
        self._training = Random(f"{seed}/accuracies")
        self._scheduler = scheduler
        self._faults = faults
        self._journal = journal
        self._models: dict[str, _Shown] = {}
        self._requests = 0
        self._active: dict[str, str | None] = {}
        self._retires = self._random.random() < 0.3
        self._pauses = self._random.random() < 0.2
        self._lists_jobs = self._random.random() < 0.5
        self._tells_ids = self._random.random() < 0.8
        # The platform has a clock of its own, and its workers another one. Some platforms cut fractions off.
        self._skew = self._random.choice([5.0, 3000.0]) * self._random.uniform(-1, 1)
        times = Random(f"{seed}/times")
        self._skew_of_workers = self._skew + times.choice([0.0, times.uniform(-1, 1) * WORKERS_APART])
        self._precision = times.choice([0.001, 1.0])
        self._away = self._random.uniform(0, 2000)
        self._back = self._away + self._random.uniform(100, 6000)
        for model, job_id in JOB_OF.items():
            if job_id not in self._active:
                self._activate(model)

    @property
    def is_away(self) -> bool:
        """Whether the platform is away. An outage counts as one fault, whatever its length."""
        since_start = self._scheduler.now - START
        if not self._away <= since_start < self._back:
            return False
        draw = Random(self._away).random()  # the same one each time
        return self._faults.strikes("is away", "platform", START, draw, weight=2.0, once=True)

    def busy_since(self, model: str | None) -> float | None:
        """When the model began to show as recomputing."""
        return self._models[model].recomputing_since if model in self._models else None

    def answer(
        self, method: str, path: str, params: Mapping[str, str], asked: dict[str, Any]
    ) -> httpx.Response:
        """Answers a request as documented. `asked` says how it arrived."""
        if self._retires and "model_id" in params and params["model_id"] not in self._active.values():
            return httpx.Response(404, json={"detail": "no such model"})
        match method, path:
            case "GET", "/api/v2/metrics/model":
                return self._metrics(params["model_id"])
            case "POST", "/api/v2/metrics/model/request_recompute_metrics":
                return self._accept(params["job_id"], params["model_id"], asked)
            case "POST", "/api/v2/metrics/job":
                return httpx.Response(200, json={"active_model_id": self._active[id_of(params["job_id"])]})
            case "GET", "/api/v2/resources" if not self._lists_jobs:
                return httpx.Response(403, json={"detail": "not with this key"})
            case "GET", "/api/v2/resources":
                jobs = [{"id": int(job), "title": name} for job, name in NAMES.items()]
                return httpx.Response(200, json=[job for job in jobs if job["title"] == params["title"]])
            case "GET", "/api/v2/token/scopes":
                return httpx.Response(200, json=["execute:recompute_model_metrics", "read:job_metrics"])
        raise NotImplementedError(f"{method} {path}")

    def train(self, model: str) -> None:
        """Makes the model its job's active one, at once or later. Until then the job has none."""
        if not self._pauses:
            self._activate(model)
            return
        self._active[JOB_OF[model]] = None
        self._journal.note("none active", model)
        self._after(self._random.uniform(10, 300), lambda: self._activate(model))

    def request(self, model: str, who: str, **details: object) -> None:
        """Requests a recompute, for a run or for somebody else."""
        self._requests += 1
        name = f"recompute {self._requests}"
        self._journal.note("job requested", model, job=name, by=who, **details)
        if self._strikes(f"{name} of {model}", "never starts"):
            return
        shown = self._shown(model)
        shown.waiting.append(name)
        delay = self._random.choice([0.0, self._random.expovariate(0.2), self._random.uniform(0, 90)])
        self._after(delay, lambda: self._begin(model))

    def _activate(self, model: str) -> None:
        self._active[JOB_OF[model]] = model
        self._journal.note("active", model)

    def _metrics(self, model: str) -> httpx.Response:
        shown = self._shown(model)
        return httpx.Response(
            200,
            json={
                "model_id": model,
                "is_recomputing_metrics": shown.recomputing_since is not None,
                "last_recomputed_timestamp": shown.timestamp,
                "overall_accuracy": shown.accuracy,
                "confusion_matrix": [[100]],
            },
        )

    def _accept(self, job_id: str, model: str, asked: dict[str, Any]) -> httpx.Response:
        body = {
            "model_id": model,
            "status": "queued",
            "requested_at": self._written(self._scheduler.now + self._skew),
        }
        if self._tells_ids:
            body["job_id"] = id_of(job_id)
        if self._strikes(f"request {self._requests} of {model}", "fails at the platform"):
            self._journal.note("job refused", model, **asked)
            return httpx.Response(200, json={**body, "status": "failed"})
        self.request(model, **asked)
        return httpx.Response(200, json=body)

    def _begin(self, model: str) -> None:
        shown = self._shown(model)
        if shown.busy or not shown.waiting:
            return
        name = shown.waiting.pop(0)
        shown.busy = True
        shown.recomputing_since = self._scheduler.now
        self._journal.note("job began", model, job=name)
        outlives = self._strikes(f"{name} of {model}", "takes longer than the deadline")
        duration = 2000.0 if outlives else self._random.uniform(1, 40) ** 1.5
        fails = self._strikes(f"{name} of {model}", "fails at the platform")
        self._after(duration, lambda: self._end(model, name, fails))

    def _end(self, model: str, name: str, fails: bool) -> None:
        shown = self._shown(model)
        self._journal.note("job failed" if fails else "job done", model, job=name)
        ended = self._written(self._scheduler.now + self._skew_of_workers)
        apart = self._random.uniform(1, APART)
        flag_first = self._random.random() < 0.5
        together = not self._strikes(f"{name} of {model}", "flag and timestamp change apart")

        def lower_flag() -> None:
            shown.busy, shown.recomputing_since = False, None
            if not fails and not flag_first:
                self._journal.note("job shown", model, job=name)
            self._begin(model)

        def show_timestamp() -> None:
            shown.timestamp = max(ended, shown.timestamp or "")
            shown.accuracy = self._training.choice(ACCURACIES)
            self._journal.note("timestamp shown", model, timestamp=ended)
            if flag_first:
                self._journal.note("job shown", model, job=name)

        changes: list[Callable[[], None]] = [show_timestamp, lower_flag]
        if flag_first:
            changes.reverse()
        if fails:
            changes, together = [lower_flag], True
        for number, change in enumerate(changes):
            self._after(0.0 if together else number * apart, change)

    def _shown(self, model: str) -> _Shown:
        if model not in self._models:
            recomputed = self._written(self._scheduler.now + self._skew_of_workers - 86400)
            timestamp = self._random.choice([None, recomputed])
            accuracy = None if timestamp is None else self._training.choice(ACCURACIES)
            self._models[model] = _Shown(timestamp=timestamp, accuracy=accuracy)
        return self._models[model]

    def _written(self, at: float) -> str:
        return to_iso(at // self._precision * self._precision)

    def _strikes(self, what: str, kind: str) -> bool:
        return self._faults.strikes(kind, what, self._scheduler.now, self._random.random(), weight=3.0)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._scheduler.at(self._scheduler.now + seconds, action)


class HttpClient:
    """httpx's client as far as Arcanna uses it: calls to the platform may fail in any documented way."""

    def __init__(self, platform: Platform, scheduler: Scheduler, outside: Outside) -> None:
        self._platform = platform
        self._scheduler = scheduler
        self._outside = outside

    def request(self, method: str, path: str, *, params: Mapping[str, str], **_: Any) -> httpx.Response:
        changes = path.endswith("request_recompute_metrics")
        asked = {
            "who": self._scheduler.process.claimed,
            "asked_at": self._scheduler.now,
            "busy_since": self._platform.busy_since(params.get("model_id")),
        }

        def effect() -> httpx.Response:
            if self._platform.is_away:
                raise httpx.ConnectError("nobody is there")
            return self._platform.answer(method, path, params, asked)

        def failure(effect: bool) -> Exception:
            return self._failure(changes, effect)

        try:
            return self._outside(f"{method} {path.rsplit('/', 1)[1]}", effect, failure, aws=False)
        except _Answered as answered:
            return answered.response

    def _failure(self, changes: bool, effect: bool) -> Exception:
        ambiguous = [httpx.ReadTimeout("no answer"), _Answered(502), _Answered(503, text="<html>")]
        if changes and effect:
            ambiguous.append(_Answered(200, text="OK"))
        harmless = [
            _Answered(429, headers={"Retry-After": "60"}),
            _Answered(200, json={"status": "error"}),
            _Answered(401),
            httpx.ConnectError("nobody is there"),
        ]
        if changes:
            harmless.append(_Answered(422))
        return self._scheduler.process.random.choice(
            ambiguous if changes and effect else [*ambiguous, *harmless]
        )


class _Answered(Exception):
    """A failure that is an answer."""

    def __init__(self, status: int, **content: Any) -> None:
        super().__init__(status)
        self.response = httpx.Response(status, **content)
