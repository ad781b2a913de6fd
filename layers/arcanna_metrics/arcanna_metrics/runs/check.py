"""One look at a recompute that is under way: what check_status does."""

from collections.abc import Mapping
from typing import cast

from arcanna_metrics.errors import BadInput, Rejected, RetryLater
from arcanna_metrics.observability import check_failed, logger
from arcanna_metrics.platform.client import Arcanna, ModelMetrics
from arcanna_metrics.runs.completion import judge
from arcanna_metrics.runs.polling import next_wait
from arcanna_metrics.runs.quality import Rules, assess, in_words, next_reference, scores
from arcanna_metrics.runs.run import HISTORY_LENGTH, Check, PastRun, Run, durations, parse_run
from arcanna_metrics.settings import PollSettings
from arcanna_metrics.targets import Model
from arcanna_metrics.times import from_iso, to_iso

MOST_CHECKS = 2000
"""Of a run, by longer waits if need be: an execution may have 25,000 events, and each check makes nine."""

CONFIRMATION = 60.0
"""Seconds that the platform's flag and timestamp may change apart before a run counts as failed."""


def run_and_check(event: object) -> tuple[Run, Check]:
    """The workflow's data, as CheckStatus hands it over. Raises BadInput."""
    if not isinstance(event, Mapping) or not isinstance(last := event.get("check"), dict):
        raise BadInput('check_status takes the workflow\'s {"run": ..., "check": ...}')
    run = parse_run("run", event.get("run"))
    if missing := Check.__required_keys__ - last.keys():
        raise BadInput(f"check lacks {', '.join(sorted(missing))}")
    return run, cast("Check", last)


def check(arcanna: Arcanna, run: Run, last: Check, polls: PollSettings, rules: Rules, now: float) -> Check:
    """How the run stands now, and when to look again; at its end, what it did to the model.

    Raises RetryLater where the platform gives no answer and no time to come back at.
    """
    elapsed = now - from_iso(run["requested_at"])
    deadline = from_iso(run["deadline_at"]) - from_iso(run["requested_at"])
    count = last["polls"] + 1
    try:
        seen = arcanna.metrics(Model(run["job_id"], run["model_id"]))
    except Rejected as error:
        return {
            **last,
            "status": "failed",
            "reason": "Rejected",
            "detail": str(error),
            "polls": count,
            "active_changed": _active_changed(arcanna, run),
        }
    except RetryLater as error:
        if error.retry_after is None or elapsed >= deadline:
            raise
        check_failed(run, error, now)
        wish = min(max(error.retry_after, polls.shortest), polls.longest)
        wait = int(max(wish, deadline / MOST_CHECKS)) + 1
        return {**last, "detail": str(error), "wait_seconds": wait, "polls": count}
    confirmation = min(CONFIRMATION, polls.start_grace)
    idle_since = _idle_since(seen, last, now)
    judgement = judge(
        baseline=(run["baseline"] or {}).get("last_recomputed_timestamp"),
        requested_at=run["platform_requested_at"],
        timestamp=seen.timestamp,
        recomputing=seen.recomputing,
        seen_recomputing=last["seen_recomputing"],
        idle_for=None if idle_since is None else now - from_iso(idle_since),
        elapsed=elapsed,
        start_grace=polls.start_grace,
        confirmation=confirmation,
        deadline=deadline,
    )
    answer: Check = {
        **last,
        "status": judgement.status,
        "reason": judgement.reason,
        "detail": judgement.detail,
        "polls": count,
        "seen_recomputing": last["seen_recomputing"] or seen.recomputing,
        "idle_since": idle_since,
        "wait_seconds": _wait(elapsed, deadline, confirmation if idle_since else None, last, polls),
        "metrics": None if judgement.status == "running" else seen.as_dict(),
        "scores_in_words": in_words(seen.figures),
        "active_changed": judgement.status != "running" and _active_changed(arcanna, run),
    }
    return _completed(answer, run, seen, elapsed, rules) if judgement.status == "completed" else answer


def _completed(answer: Check, run: Run, seen: ModelMetrics, elapsed: float, rules: Rules) -> Check:
    """The answer with the verdict, and the run in the history."""
    duration = _duration(run["platform_requested_at"], seen.timestamp, elapsed)
    before, reference = run["baseline"], answer.get("reference")
    quality = assess(before, seen.figures, rules, reference)
    past: PastRun = {
        "run_id": run["run_id"],
        "cause": run["cause"]["kind"],
        "requested_at": run["requested_at"],
        "duration_seconds": duration,
        "polls": answer["polls"],
        "verdict": quality["verdict"],
        "scores": scores(seen.figures),
    }
    return {
        **answer,
        "duration_seconds": duration,
        "history": [*answer["history"], past][-HISTORY_LENGTH:],
        "quality": quality,
        "reference": next_reference(before, seen.figures, rules, reference, quality["verdict"]),
        "scores_in_words": in_words(before, seen.figures),
    }


def _active_changed(arcanna: Arcanna, run: Run) -> bool:
    """Whether the run followed its job's active model, and that is another one by now, or may be."""
    if not run["follows_active"]:
        return False
    try:
        return arcanna.active_model(run["job_id"]) != run["model_id"]
    except Rejected:
        return False  # no job, or none active: nothing to follow
    except RetryLater as error:
        # This does not hold up what the run has come to. The trigger looks again, as often as it takes, and
        # finds the same model covered.
        logger.warning("active model not known", reason=type(error).__name__, detail=str(error))
        return True


def _idle_since(seen: ModelMetrics, last: Check, now: float) -> str | None:
    if seen.recomputing or not last["seen_recomputing"]:
        return None
    return last["idle_since"] or to_iso(now)


def _wait(
    elapsed: float, deadline: float, confirmation: float | None, last: Check, polls: PollSettings
) -> int:
    """Seconds until the next check: by the policy, but not past the deadline, nor past a confirmation."""
    longest = max(polls.longest, deadline / MOST_CHECKS)
    wait = next_wait(elapsed, durations(last["history"]), shortest=polls.shortest, longest=longest)
    latest = min(deadline - elapsed, longest if confirmation is None else confirmation)
    return max(1, min(wait, int(latest) + 1))


def _duration(requested_at: str | None, recomputed_at: str | None, elapsed: float) -> float:
    """Seconds from request to new metrics, by the platform's clock; by ours where it does not tell.

    The platform's figure is exact, ours includes the wait until the check that saw the end.
    """
    try:
        duration = from_iso(recomputed_at or "") - from_iso(requested_at or "")
    except (ValueError, OverflowError):
        return elapsed
    return duration if 0.0 <= duration <= elapsed + 1.0 else elapsed
