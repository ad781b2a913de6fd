"""From a claim to a run that its workflow follows."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from arcanna_metrics.errors import ActiveModelChanged, AwsUnavailable, PlatformBusy, Rejected
from arcanna_metrics.observability import count, logger, run_ended
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.protocol.entry import Entry, later
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.transitions import satisfied
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.run import Cause, Check, Run
from arcanna_metrics.runs.start import accepted, cause_of, failed_check, first_check, new_run
from arcanna_metrics.settings import JobSettings, Pace
from arcanna_metrics.targets import Model, Target, is_id
from arcanna_metrics.times import from_iso
from arcanna_metrics.workflow import Workflow, input_of

CLOCK_MARGIN = 3600.0
"""Seconds that the platform's clock may be ahead. A timestamp beyond proves nothing about freshness."""


class Starter:
    """Reads the baseline, requests the recompute, and has the workflow follow."""

    def __init__(
        self,
        ledger: Ledger,
        workflow: Workflow,
        arcanna: Arcanna,
        settings: Callable[[str], JobSettings],
        event_bus: str,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._workflow = workflow
        self._arcanna = arcanna
        self._settings = settings
        self._event_bus = event_bus
        self._clock = clock

    def start(self, claimed: Entry) -> None:
        """Makes the claim a run, or gives it back where the platform's metrics are as new as they are wanted.

        What the workflow needs is built before the request, so that none is made that could not be followed.
        A request that the platform rejects makes a run that has failed: the workflow tells of it and releases
        the target as ever. Raises RetryLater; the caller then gives the claim back.
        """
        job_id, model_id = claimed.target
        run = self._new_run(claimed, model_id, None)
        try:
            model = Model(job_id, model_id or self._arcanna.active_model(job_id))
            run = self._new_run(claimed, model.model_id, None)
            baseline = self._arcanna.metrics(model)
            if _is_only_wanted(claimed) and self._is_satisfied(claimed, baseline.timestamp):
                return
            if baseline.recomputing:
                # Perhaps from older data than ours, and its end could be taken for the end of ours.
                raise PlatformBusy(f"Arcanna is recomputing {model.model_id!r} for somebody else")
            run = self._new_run(claimed, model.model_id, baseline.as_dict())
            run, check = self._request(run, model)
        except Rejected as error:
            if run["model_id"] is not None and self._has_changed(claimed.target, run["model_id"]):
                raise ActiveModelChanged(f"{run['model_id']!r} is not the active model any more") from error
            check = self._failed(run, type(error).__name__, str(error))
        try:
            self._workflow.start(run["run_id"], input_of(run, check))
        except AwsUnavailable as error:
            # A recompute that was accepted may be queued, as after a request whose effect is not known.
            error.effect_unknown = run["accepted_at"] is not None
            raise
        told = {"model_id": run["model_id"], "status": check["status"], "updates": run["cause"]}
        logger.info("run started", extra=told)
        if check["status"] == "running":
            count("RecomputesRequested")
        else:
            run_ended(check)

    def _has_changed(self, target: Target, model_id: str) -> bool:
        """Whether the target is the job's active model, and that is another one by now."""
        try:
            return target.model_id is None and self._arcanna.active_model(target.job_id) != model_id
        except Rejected:
            return False  # no active model, or no job, is not another one

    def _request(self, run: Run, model: Model) -> tuple[Run, Check]:
        check = first_check(run)
        request = self._arcanna.request_recompute(model)
        platform_job_id = None if is_id(model.job_id) else request.job_id
        run = accepted(run, request.requested_at, platform_job_id, self._clock())
        if request.status == "failed":
            detail = "Arcanna answered the request itself with the status failed"
            check = self._failed(run, "RequestFailed", detail)
        return run, check

    def _new_run(self, claimed: Entry, model_id: str | None, baseline: dict[str, Any] | None) -> Run:
        pace, gate = self._settings(claimed.target.job_id)
        asked, reference = claimed.requested_at or 0.0, claimed.quality_reference or {}
        return new_run(
            run_id=claimed.run_id or "",
            target=claimed.target,
            job_id=claimed.target.job_id,
            model_id=model_id,
            cause=_cause_of(claimed, pace),
            requested_at=asked,
            deadline_at=asked + pace.deadline,
            pace={
                "start_grace": pace.start_grace,
                "shortest_poll": pace.shortest_poll,
                "longest_poll": pace.longest_poll,
            },
            gate=gate,
            durations=[past["duration_seconds"] for past in claimed.history],
            reference=reference.get("figures") if reference.get("model_id") == model_id else None,
            baseline=baseline,
            origin=self._origin(claimed.run_id or ""),
        )

    def _failed(self, run: Run, reason: str, detail: str) -> Check:
        return failed_check(run, reason, detail, self._origin(run["run_id"]))

    def _origin(self, run_id: str) -> Origin:
        return Origin(self._workflow.arn(run_id), self._event_bus, self._clock())

    def _is_satisfied(self, claimed: Entry, timestamp: str | None) -> bool:
        """Whether the platform's metrics are as new as they are wanted; then the claim is given back."""
        try:
            made = from_iso(timestamp or "")
        except ValueError:
            return False  # never made, or at a time that cannot be read: no proof of freshness
        if not later(-inf, claimed.wanted_as_of) <= made <= self._clock() + CLOCK_MARGIN:
            return False
        pace = self._settings(claimed.target.job_id).pace
        give_back = partial(satisfied, run_id=claimed.run_id or "", timestamp=made, pace=pace)
        self._ledger.apply(claimed.target, give_back)
        return True


def _is_only_wanted(entry: Entry) -> bool:
    return entry.needed_as_of is None and not entry.batch


def _cause_of(entry: Entry, pace: Pace) -> Cause:
    """Which updates lead to the run, for people."""
    asked = entry.requested_at or 0.0
    first = [element.as_of - pace.visibility_lag for element in entry.batch]
    first += [at for at in (entry.waiting_since, entry.wanted_at) if at is not None]
    return cause_of(
        entry.cause,
        max(entry.updates, 1),
        min(first, default=asked),
        later(min(first, default=asked), entry.last_at),
        [example._asdict() for example in entry.examples],
    )
