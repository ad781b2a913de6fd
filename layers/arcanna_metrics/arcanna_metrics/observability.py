"""Logs and metrics, shared by both functions.

events/README.md documents the metrics. Their dimension is the service. For graphs, the results of runs also
have the job, and failed runs the reason. Alarms watch all jobs together. CloudWatch bills every value of a
dimension as a separate metric, so other metrics do not have the job. No metric has the model, because model
ids change with every training.
"""

import json
import logging
import warnings
from contextlib import AbstractContextManager
from functools import partial

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from arcanna_metrics.errors import RetryLater
from arcanna_metrics.runs.quality import Assessment
from arcanna_metrics.runs.run import Check, PastRun, Run
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso

# ASCII, because a key or a response may contain Unicode line ends and characters that control terminals.
# RFC 3339 times, because Lambda treats a line with any other time as level INFO.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
logger = Logger(json_serializer=partial(json.dumps, default=str, separators=(",", ":")), use_rfc3339=True)
metrics = Metrics()
# An idle sweep counts nothing, and must not leave a line in the log.
warnings.filterwarnings("ignore", message="No application metrics to publish")
# Lambda's log level applies to all libraries. httpx would log every request, without its run.
logging.getLogger("httpx").setLevel(logging.WARNING)


def count(name: str, value: float = 1) -> None:
    """Adds to a counter of the invocation."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def said(error: Exception) -> dict[str, str]:
    """An error as log lines show it."""
    return {"reason": type(error).__name__, "detail": str(error)}


def failed(message: str, error: Exception, **extra: object) -> None:
    """Logs an error with its traceback. RetryLater is also counted, by its reason."""
    logger.error(message, exc_info=error, extra=said(error) | extra)
    if isinstance(error, RetryLater):
        count(type(error).__name__)


def of_run(
    run_id: str, job_id: str, model_id: str | None, cause: str, execution: str
) -> AbstractContextManager[None]:
    """Adds the run to every log line of the context; `execution` is the ARN."""
    return logger.append_context_keys(
        run_id=run_id, job_id=job_id, model_id=model_id, cause=cause, execution=execution
    )


def gauges(*, due: int, oldest: float, running: int) -> None:
    """How many targets are due, the age of the oldest waiting update in seconds, the number of runs."""
    count("TargetsDue", due)
    count("SlotsTaken", running)
    metrics.add_metric(name="OldestUpdateAge", unit=MetricUnit.Seconds, value=oldest)


def run_ended(check: Check) -> None:
    """Counts a run that has ended, by status; if it did not complete, also by reason."""
    count(_ENDS[check["status"]])
    if check["status"] != "completed" and check["outcome"]:
        by_reason = EphemeralMetrics()
        by_reason.add_dimensions(service=logger.service, reason=_dimension(check["outcome"]["reason"]))
        by_reason.add_metric(name="RunsFailed", unit=MetricUnit.Count, value=1)
        by_reason.flush_metrics()


def attempt_failed(message: str, error: RetryLater, target: Target | None = None) -> None:
    """Logs and counts, by its reason, an attempt that failed and will be made again."""
    logger.warning(message, extra=(target._asdict() if target else {}) | said(error))
    count(type(error).__name__)


def model_judged(quality: Assessment) -> None:
    """Logs the verdict on a model with its reasons."""
    logger.info("model judged", extra={key: quality[key] for key in ("verdict", "why", "differences")})


def report(run: Run, check: Check, now: float) -> None:
    """Logs what a status check found and, at the end of a run, emits its metrics."""
    outcome = check["outcome"]
    logger.info(
        "status checked",
        extra={
            "elapsed_seconds": now - from_iso(run["requested_at"]),
            "status": check["status"],
            "reason": outcome["reason"] if outcome else check["status"],
            "detail": check["detail"],
            "polls": check["polls"],
            "wait_seconds": check["wait_seconds"],
        },
    )
    count("StatusChecks")
    if outcome is None:
        return
    run_ended(check)
    count("PollsPerRun", check["polls"])
    if past := outcome["result"]["past_run"]:
        _report_new_metrics(run, past, now)


def _report_new_metrics(run: Run, past: PastRun, now: float) -> None:
    of_job = EphemeralMetrics()
    of_job.add_dimensions(service=logger.service, job_id=_dimension(run["job_id"]))
    lag = now - from_iso(run["cause"]["first_at"])
    of_job.add_metric(name="FreshnessLag", unit=MetricUnit.Seconds, value=lag)
    of_job.add_metric(name="RunDuration", unit=MetricUnit.Seconds, value=past["duration_seconds"])
    for figure, score in past["scores"].items():
        if score is not None:
            name = figure.title().replace("_", "")
            of_job.add_metric(name=name, unit=MetricUnit.NoUnit, value=score)
    if (verdict := _VERDICTS.get(past["verdict"])) is not None:
        of_job.add_metric(name="QualityVerdict", unit=MetricUnit.NoUnit, value=verdict)
    of_job.flush_metrics()


def _dimension(value: str) -> str:
    """The value as CloudWatch takes it: printable ASCII, of at most 1,024 characters.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
    """
    return value.encode("unicode_escape").decode()[:1024]


_VERDICTS = {"improved": 1, "unchanged": 0, "regressed": -1}
_ENDS = {
    "completed": "RecomputesCompleted",
    "failed": "RecomputesFailed",
    "timed_out": "RecomputesTimedOut",
}
