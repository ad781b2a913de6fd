"""The status of a run: at its start, at every check that check_status makes, and at its end."""

from arcanna_metrics.errors import Rejected, RetryLater
from arcanna_metrics.observability import log_error, logger
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.runs.completion import CLOCK_MARGIN, Judgement, elapsed_of, judge
from arcanna_metrics.runs.limits import LONGEST_DETAIL, cut
from arcanna_metrics.runs.outcome import NOT_CHECKED, Ending, NewMetrics, Origin, completed, failed
from arcanna_metrics.runs.polling import next_wait
from arcanna_metrics.runs.quality import Reference, Rules, assess, current, learned, measured
from arcanna_metrics.runs.run import Check, Outcome, Run, job_of
from arcanna_metrics.targets import Model
from arcanna_metrics.times import from_iso, to_iso

MOST_CHECKS = 2000
"""About the most checks of a run: its longest wait is at least its deadline divided by this. A check takes
nine of the 25,000 events of an execution."""


def first_check(run: Run) -> Check:
    """The check of a run whose recompute is about to be requested."""
    return {
        "status": "running",
        "detail": "requested",
        "wait_seconds": _wait(run, from_iso(run["requested_at"])),
        "polls": 0,
        "recomputing_at": None,
        "idle_since": None,
        "outcome": None,
    }


def failed_at_start(run: Run, reason: str, detail: str, origin: Origin) -> Check:
    """The check of a run whose recompute was rejected. Its workflow only reports the failure."""
    judgement = Judgement("failed", reason, detail)
    return _ended(first_check(run), judgement, failed(run, Ending(0, {}), judgement, origin))


def not_checked(run: Run, last: Check, origin: Origin) -> Check:
    """The last check of a run whose status check failed on every retry of the workflow."""
    return _ended(last, NOT_CHECKED, failed(run, Ending(last["polls"], {}), NOT_CHECKED, origin))


def check(arcanna: Arcanna, run: Run, last: Check, origin: Origin) -> Check:
    """The run's status now, and when to check again; at its end, also its outcome.

    The rules are the same in the first execution and in one that resumes the run. Without an answer, the
    check is repeated at the usual pace, or as late as the platform asks. Raises RetryLater if the platform
    does not answer and the deadline has passed.
    """
    checked: Check = {**last, "polls": last["polls"] + 1}
    try:
        return _checked(arcanna, run, checked, origin)
    except RetryLater as error:
        log_error("status check failed", error)
        if elapsed_of(run, origin.now) >= run["pace"]["deadline"]:
            raise
        asked = int(min(error.retry_after or 0.0, run["pace"]["longest_poll"])) + 1
        wait = max(_wait(run, origin.now), asked)
        return {**checked, "detail": cut(str(error), LONGEST_DETAIL), "wait_seconds": wait}


def _checked(arcanna: Arcanna, run: Run, checked: Check, origin: Origin) -> Check:
    """The check after what the platform shows now. Raises RetryLater."""
    now, seen = origin.now, None
    try:
        seen = arcanna.metrics(Model(job_of(run), run["model_id"] or ""))
    except Rejected as error:
        judgement = Judgement("failed", "Rejected", str(error))
    else:
        checked = _with_what_was_seen(run, checked, seen, now)
        judgement = judge(run, checked, seen, now)
    if judgement.status == "running":
        wait = _wait(run, now, judgement.confirmed_in)
        return {**checked, "detail": judgement.detail, "wait_seconds": wait}
    try:
        changed = active_model_changed(arcanna, run)
    except RetryLater as error:
        if elapsed_of(run, now) < run["pace"]["deadline"]:
            raise
        log_error("status check failed", error)
        changed = True  # then the target stays due, which is safe whatever the active model is
    ending = Ending(checked["polls"], seen.as_dict() if seen else {}, changed)
    if seen and judgement.status == "completed":
        outcome = completed(run, ending, _new_metrics(run, seen, now), origin)
    else:
        outcome = failed(run, ending, judgement, origin)
    return _ended(checked, judgement, outcome)


def _ended(last: Check, judgement: Judgement, outcome: Outcome) -> Check:
    detail = cut(judgement.detail, LONGEST_DETAIL)
    return {**last, "status": judgement.status, "detail": detail, "wait_seconds": 0, "outcome": outcome}


def _with_what_was_seen(run: Run, checked: Check, seen: ModelMetrics, now: float) -> Check:
    if seen.recomputing:
        return {**checked, "recomputing_at": to_iso(now), "idle_since": None}
    if checked["recomputing_at"] is None and elapsed_of(run, now) < run["pace"]["start_grace"]:
        return checked  # it may be queued: it may begin now and end before the next check
    return {**checked, "idle_since": checked["idle_since"] or to_iso(now)}


def _new_metrics(run: Run, seen: ModelMetrics, now: float) -> NewMetrics:
    """What the metrics that the platform shows mean, by the quality gate that the run began with."""
    rules = Rules(**run["gate"])
    quality = assess(run["baseline"], seen.fields, rules, run["reference"], cut_short=run["baseline_cut"])
    logger.info("model judged", extra=quality)
    duration = _duration(run["platform_requested_at"], seen.timestamp, elapsed_of(run, now))
    figures: Reference = {}
    if quality["verdict"] != "regressed":  # as many as a reference has, because workflow data is limited
        known = current(run["reference"] or {}, seen.fields)
        figures = learned(known, measured(seen.fields, rules), rules)
    return NewMetrics(duration, quality, figures)


def active_model_changed(arcanna: Arcanna, run: Run) -> bool:
    """Whether the target is its job's active model, and the active model has changed. Raises RetryLater."""
    if run["target"]["model_id"] is not None:
        return False
    try:
        return arcanna.active_model(job_of(run)) != run["model_id"]
    except Rejected:
        return False  # the job is gone or has no active model, so there is no other model to recompute


def _wait(run: Run, now: float, latest: float | None = None) -> int:
    """Seconds until the next check: as planned, but at most `latest`, by default until the deadline."""
    pace, elapsed = run["pace"], elapsed_of(run, now)
    longest = max(pace["longest_poll"], pace["deadline"] / MOST_CHECKS)
    wait = next_wait(elapsed, run["durations"], shortest=pace["shortest_poll"], longest=longest)
    latest = pace["deadline"] - elapsed if latest is None else latest
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
