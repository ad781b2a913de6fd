"""The status of a run: at its start, at every check that check_status makes, and at its end."""

from dataclasses import dataclass

from arcanna_metrics.errors import Rejected, RetryLater
from arcanna_metrics.observability import log_retry
from arcanna_metrics.platform.client import Arcanna, ModelMetrics
from arcanna_metrics.runs.completion import CLOCK_MARGIN, Judgement, judge
from arcanna_metrics.runs.limits import cut
from arcanna_metrics.runs.outcome import (
    LONGEST_DETAIL,
    NOT_CHECKED,
    Ending,
    NewMetrics,
    Origin,
    completed,
    failed,
)
from arcanna_metrics.runs.polling import next_wait
from arcanna_metrics.runs.quality import Rules, assess, next_reference
from arcanna_metrics.runs.run import Check, Outcome, Run
from arcanna_metrics.runs.telemetry import model_judged
from arcanna_metrics.targets import Model
from arcanna_metrics.times import from_iso, to_iso

MOST_CHECKS = 2000
"""About the most checks of a run: its longest wait is at least its deadline divided by this. A check takes
nine of the 25,000 events of an execution."""

CONFIRMATION = 60.0
"""Seconds that may pass between the changes of the platform's flag and timestamp, before a run has failed."""


def first_check(run: Run) -> Check:
    """The check of a run whose recompute is about to be requested."""
    check: Check = {
        "status": "running",
        "detail": "requested",
        "wait_seconds": 0,
        "polls": 0,
        "recomputing_at": None,
        "idle_since": None,
        "outcome": None,
    }
    return {**check, "wait_seconds": _wait(run, check, _Times.of(run, from_iso(run["requested_at"])))}


def failed_at_start(run: Run, reason: str, detail: str, origin: Origin) -> Check:
    """The check of a run whose recompute was rejected. Its workflow only reports the failure."""
    judgement = Judgement("failed", reason, detail)
    return _ended(first_check(run), judgement, failed(run, Ending(polls=0), judgement, origin))


def not_checked(run: Run, last: Check, origin: Origin) -> Check:
    """The last check of a run whose status check failed on every retry of the workflow."""
    return _ended(last, NOT_CHECKED, failed(run, Ending(last["polls"]), NOT_CHECKED, origin))


def check(arcanna: Arcanna, run: Run, last: Check, origin: Origin) -> Check:
    """The run's status now, and when to check again; at its end, also its outcome.

    The rules are the same in the first execution and in one that resumes the run. Raises RetryLater if the
    platform does not answer and does not say when to retry, or if the deadline has passed.
    """
    times = _Times.of(run, origin.now)
    checked: Check = {**last, "polls": last["polls"] + 1}
    seen = None
    try:
        seen = arcanna.metrics(Model(run["job_id"], run["model_id"] or ""))
    except Rejected as error:
        judgement = Judgement("failed", "Rejected", str(error))
    except RetryLater as error:
        if error.retry_after is None or times.elapsed >= times.deadline:
            raise
        return _put_off(run, checked, error, times)
    else:
        checked = _with_what_was_seen(run, checked, seen, times)
        judgement = _judge(run, checked, seen, times)
    if judgement.status == "running":
        wait = _wait(run, checked, times, confirming=judgement.confirming)
        return {**checked, "detail": judgement.detail, "wait_seconds": wait}
    try:
        changed = active_model_changed(arcanna, run)
    except RetryLater as error:
        if times.elapsed < times.deadline:
            return _put_off(run, checked, error, times)
        changed = True  # then the target stays due, which is safe whatever the active model is
    outcome = _outcome(run, checked, seen, judgement, active_changed=changed, origin=origin)
    return _ended(checked, judgement, outcome)


def _ended(last: Check, judgement: Judgement, outcome: Outcome) -> Check:
    detail = cut(judgement.detail, LONGEST_DETAIL)
    return {**last, "status": judgement.status, "detail": detail, "wait_seconds": 0, "outcome": outcome}


@dataclass(frozen=True, slots=True)
class _Times:
    """The run's times, in seconds."""

    now: float  # epoch
    elapsed: float  # since the run began
    deadline: float  # after it began
    confirmation: float

    @classmethod
    def of(cls, run: Run, now: float) -> "_Times":
        began = from_iso(run["requested_at"])
        confirmation = max(1.0, min(CONFIRMATION, run["pace"]["start_grace"]))
        return cls(now, max(0.0, now - began), from_iso(run["deadline_at"]) - began, confirmation)

    def idle_for(self, checked: Check) -> float:
        """Since the platform has been seen idle without a proof of new metrics."""
        idle_since = checked["idle_since"]
        return 0.0 if idle_since is None else max(0.0, self.now - from_iso(idle_since))


def _with_what_was_seen(run: Run, checked: Check, seen: ModelMetrics, times: _Times) -> Check:
    if seen.recomputing:
        return {**checked, "recomputing_at": to_iso(times.now), "idle_since": None}
    if checked["recomputing_at"] is None and times.elapsed < run["pace"]["start_grace"]:
        return checked  # it may be queued: it may begin now and end before the next check
    return {**checked, "idle_since": checked["idle_since"] or to_iso(times.now)}


def _judge(run: Run, checked: Check, seen: ModelMetrics, times: _Times) -> Judgement:
    return judge(
        baseline=(run["baseline"] or {}).get("last_recomputed_timestamp"),
        requested_at=run["platform_requested_at"],
        timestamp=seen.timestamp,
        recomputing=seen.recomputing,
        recomputing_until=_recomputing_until(run, checked),
        idle_for=times.idle_for(checked),
        elapsed=times.elapsed,
        start_grace=run["pace"]["start_grace"],
        confirmation=times.confirmation,
        deadline=times.deadline,
    )


def _recomputing_until(run: Run, checked: Check) -> float | None:
    """Seconds after the request when a check last saw it recompute; 0.0 if unknown, None if never."""
    recomputing_at, accepted_at = checked["recomputing_at"], run["accepted_at"]
    if recomputing_at is None:
        return None
    return 0.0 if accepted_at is None else from_iso(recomputing_at) - from_iso(accepted_at)


def _outcome(
    run: Run,
    checked: Check,
    seen: ModelMetrics | None,
    judgement: Judgement,
    *,
    active_changed: bool,
    origin: Origin,
) -> Outcome:
    ending = Ending(checked["polls"], active_changed, seen.as_dict() if seen else None)
    if seen is None or judgement.status != "completed":
        return failed(run, ending, judgement, origin)
    before, reference, rules = run["baseline"], run["reference"], Rules.of(run["gate"])
    quality = assess(before, seen.figures, rules, reference, cut_short=run["baseline_cut"])
    model_judged(quality)
    moved = next_reference(before, seen.figures, rules, reference, quality["verdict"])
    elapsed = max(0.0, origin.now - from_iso(run["requested_at"]))
    duration = _duration(run["platform_requested_at"], seen.timestamp, elapsed)
    return completed(run, ending, NewMetrics(duration, quality, moved), origin)


def active_model_changed(arcanna: Arcanna, run: Run) -> bool:
    """Whether the target is its job's active model, and the active model has changed. Raises RetryLater."""
    if run["target"]["model_id"] is not None:
        return False
    try:
        return arcanna.active_model(run["job_id"]) != run["model_id"]
    except Rejected:
        return False  # the job is gone or has no active model, so there is no other model to recompute


def _put_off(run: Run, checked: Check, error: RetryLater, times: _Times) -> Check:
    """Repeats the check later, when the platform asks for it or at the usual pace."""
    log_retry("status check failed", error)
    wait = _wait(run, checked, times)
    if error.retry_after is not None:
        pace = run["pace"]
        wish = min(max(error.retry_after, pace["shortest_poll"]), pace["longest_poll"])
        wait = int(max(wish, times.deadline / MOST_CHECKS)) + 1
    return {**checked, "detail": cut(str(error), LONGEST_DETAIL), "wait_seconds": wait}


def _wait(run: Run, checked: Check, times: _Times, *, confirming: bool = False) -> int:
    """Seconds until the next check: as planned, but not after the deadline or the end of a confirmation."""
    longest = max(run["pace"]["longest_poll"], times.deadline / MOST_CHECKS)
    wait = next_wait(times.elapsed, run["durations"], shortest=run["pace"]["shortest_poll"], longest=longest)
    confirmed_in = times.confirmation - times.idle_for(checked)
    latest = confirmed_in if confirming else times.deadline - times.elapsed
    return max(1, min(wait, int(latest) + 1))


def _duration(requested_at: str | None, recomputed_at: str | None, elapsed: float) -> float:
    """Seconds from the request to the new metrics, by the platform's clock, or by ours if that is wrong.

    The platform's figure is exact. Ours includes the wait until the check that saw the end.
    """
    try:
        duration = from_iso(recomputed_at or "") - from_iso(requested_at or "")
    except ValueError:
        return elapsed
    return max(0.0, duration) if -CLOCK_MARGIN <= duration <= elapsed + 1.0 else elapsed
