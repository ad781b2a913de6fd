"""The simulated platform: requests queue up per model and are recomputed one after the other.

Nobody can tell from outside whose request a recompute was, whether it failed, or when it began: one flag
and one timestamp are all that shows. A training makes another model its job's active one; some platforms
know no other then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from arcanna_metrics.times import to_iso
from tests.simulation.aws import Outside
from tests.simulation.faults import Faults
from tests.simulation.journal import Journal
from tests.simulation.scheduler import Scheduler
from tests.simulation.stimuli import JOB_OF

APART = 30.0
"""Seconds that flag and timestamp may change apart; less than check.CONFIRMATION."""


@dataclass
class _Shown:
    """A model: what shows of it, and the recomputes that wait."""

    recomputing: bool = False
    timestamp: str | None = None
    busy: bool = False
    waiting: list[str] = field(default_factory=list)


class Platform:
    """All models. Time passes by the scheduler."""

    def __init__(self, seed: int, scheduler: Scheduler, faults: Faults, journal: Journal) -> None:
        self._random = Random(f"{seed}/platform")
        self._scheduler = scheduler
        self._faults = faults
        self._journal = journal
        self._models: dict[str, _Shown] = {}
        self._requests = 0
        self._active: dict[str, str] = {}
        self._retires = self._random.random() < 0.3
        self._skew = self._random.uniform(-3600, 3600)  # its clock is nobody's business but its own
        for model, job_id in JOB_OF.items():
            if job_id not in self._active:
                self.train(model)

    def answer(self, method: str, path: str, params: Mapping[str, str]) -> httpx.Response:
        """One request, answered as documented."""
        if self._retires and "model_id" in params and params["model_id"] not in self._active.values():
            return httpx.Response(404, json={"detail": "no such model"})
        match method, path:
            case "GET", "/api/v2/metrics/model":
                return self._metrics(params["model_id"])
            case "POST", "/api/v2/metrics/model/request_recompute_metrics":
                return self._accept(params["job_id"], params["model_id"])
            case "POST", "/api/v2/metrics/job":
                return httpx.Response(200, json={"active_model_id": self._active[params["job_id"]]})
        raise NotImplementedError(f"{method} {path}")

    def train(self, model: str) -> None:
        """The model is its job's active one from now on."""
        self._active[JOB_OF[model]] = model
        self._journal.note("active", model)

    def request(self, model: str, who: str) -> None:
        """A recompute is asked for, by us or by others."""
        self._requests += 1
        name = f"recompute {self._requests}"
        self._journal.note("job requested", model, job=name, by=who)
        if self._strikes(f"{name} of {model}", "never starts"):
            return
        shown = self._shown(model)
        shown.waiting.append(name)
        delay = self._random.choice([0.0, self._random.expovariate(0.2), self._random.uniform(0, 90)])
        self._after(delay, lambda: self._begin(model))

    def _metrics(self, model: str) -> httpx.Response:
        shown = self._shown(model)
        return httpx.Response(
            200,
            json={
                "model_id": model,
                "is_recomputing_metrics": shown.recomputing,
                "last_recomputed_timestamp": shown.timestamp,
            },
        )

    def _accept(self, job_id: str, model: str) -> httpx.Response:
        self.request(model, "us")
        body = {
            "job_id": job_id,
            "model_id": model,
            "status": "queued",
            "requested_at": to_iso(self._scheduler.now + self._skew),
        }
        return httpx.Response(200, json=body)

    def _begin(self, model: str) -> None:
        shown = self._shown(model)
        if shown.busy or not shown.waiting:
            return
        name = shown.waiting.pop(0)
        shown.busy = shown.recomputing = True
        self._journal.note("job began", model, job=name)
        outlives = self._strikes(f"{name} of {model}", "takes longer than the deadline")
        duration = 2000.0 if outlives else self._random.uniform(1, 40) ** 1.5
        fails = self._strikes(f"{name} of {model}", "fails at the platform")
        self._after(duration, lambda: self._end(model, name, fails))

    def _end(self, model: str, name: str, fails: bool) -> None:
        shown = self._shown(model)
        self._journal.note("job failed" if fails else "job done", model, job=name)
        ended = to_iso(self._scheduler.now + self._skew)

        def lower_flag() -> None:
            shown.busy = shown.recomputing = False
            self._begin(model)

        def show_timestamp() -> None:
            shown.timestamp = ended

        apart = self._random.uniform(1, APART)
        first, second = lower_flag, show_timestamp
        if self._random.random() < 0.5:
            first, second = second, first
        together = not self._strikes(f"{name} of {model}", "flag and timestamp change apart")
        changes: list[Callable[[], None]] = [first, second]
        if fails:
            changes, together = [lower_flag], True
        for number, change in enumerate(changes):
            self._after(0.0 if together else number * apart, change)

    def _shown(self, model: str) -> _Shown:
        if model not in self._models:
            recomputed = to_iso(self._scheduler.now + self._skew - 86400)
            self._models[model] = _Shown(timestamp=self._random.choice([None, recomputed]))
        return self._models[model]

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
        try:
            return self._outside(
                f"{method} {path.rsplit('/', 1)[1]}",
                lambda: self._platform.answer(method, path, params),
                self._failure,
                patience=10.0,
            )
        except _Answered as answered:
            return answered.response

    def _failure(self) -> Exception:
        random = self._scheduler.process.random
        return random.choice(
            [
                httpx.ReadTimeout("no answer"),
                _Answered(httpx.Response(503)),
                _Answered(httpx.Response(429, headers={"Retry-After": "60"})),
                _Answered(httpx.Response(200, json={"status": "error"})),
                _Answered(httpx.Response(401)),
            ]
        )


class _Answered(Exception):
    """A failure that is an answer."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response
