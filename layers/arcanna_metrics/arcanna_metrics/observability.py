"""Logs and metrics, shared by both functions.

Metric names are documented in the README. Their dimension is the service; the results of a run are there by
job as well, for graphs, while alarms watch all jobs at once. Every new value of a dimension is billed as a
metric of its own: so counts are not kept by job, and nothing by model, whose ids change with every training.
"""

import json
import logging
from functools import partial

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from arcanna_metrics.errors import RetryLater
from arcanna_metrics.runs.quality import scores
from arcanna_metrics.runs.run import Check, Run
from arcanna_metrics.times import from_iso

# In ASCII: a key or an answer may hold line ends of Unicode, and characters that steer terminals. And with
# the times of RFC 3339: by any other, Lambda takes a line of its JSON logs for one of level INFO.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
logger = Logger(json_serializer=partial(json.dumps, default=str, separators=(",", ":")), use_rfc3339=True)
metrics = Metrics()
# Lambda's level for JSON logs is every library's, and this one has a line for each request, of no run.
logging.getLogger("httpx").setLevel(logging.WARNING)


def count(name: str, value: float = 1) -> None:
    """Adds to a counter of the invocation."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def waiting(age: float) -> None:
    """Tells of updates that have to wait, of which the first is `age` seconds old."""
    metrics.add_metric(name="UpdateAge", unit=MetricUnit.Seconds, value=age)


def run_failed(reason: str) -> None:
    """Counts a run whose execution did not end as it should, by what it ended for."""
    by_reason = EphemeralMetrics()
    by_reason.add_dimensions(service=logger.service, reason=_dimension(reason))
    by_reason.add_metric(name="RunsFailed", unit=MetricUnit.Count, value=1)
    by_reason.flush_metrics()


def check_failed(run: Run, error: RetryLater, now: float) -> None:
    """Logs and counts a status check that got no answer, and will be made again."""
    reason = type(error).__name__
    logger.warning("status check failed", extra={"reason": reason, "detail": str(error)})
    count(reason)
    waiting(_age(run, now))


def report(run: Run, check: Check, now: float) -> None:
    """Logs what a status check found and, at the end of a run, emits its metrics."""
    elapsed = now - from_iso(run["requested_at"])
    logger.info("status checked", elapsed_seconds=elapsed, extra={key: check.get(key) for key in _SHOWN})
    count("StatusChecks")
    if check["status"] == "running":
        waiting(_age(run, now))
        return
    count(_ENDS[check["status"]])
    count("PollsPerRun", check["polls"])
    if check["status"] == "completed":
        _report_result(run, check, now)


def _report_result(run: Run, check: Check, now: float) -> None:
    quality = check["quality"]
    logger.info("model judged", extra={key: quality[key] for key in ("verdict", "why", "differences")})
    of_job = EphemeralMetrics()
    of_job.add_dimensions(service=logger.service, job_id=_dimension(run["job_id"]))
    of_job.add_metric(name="FreshnessLag", unit=MetricUnit.Seconds, value=_age(run, now))
    of_job.add_metric(name="RunDuration", unit=MetricUnit.Seconds, value=check["duration_seconds"] or 0.0)
    for figure, score in scores(check["metrics"]).items():
        if score is not None:
            name = figure.title().replace("_", "")
            of_job.add_metric(name=name, unit=MetricUnit.NoUnit, value=score)
    if quality["verdict"] != "not_judged":
        value = _VERDICTS[quality["verdict"]]
        of_job.add_metric(name="QualityVerdict", unit=MetricUnit.NoUnit, value=value)
    of_job.flush_metrics()


def _dimension(value: str) -> str:
    """The value as CloudWatch takes it: printable ASCII, of at most 1,024 characters.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
    """
    return value.encode("unicode_escape").decode()[:1024]


def _age(run: Run, now: float) -> float:
    """Seconds since the first update that the run is for."""
    return now - from_iso(run["cause"]["first_at"])


_VERDICTS = {"improved": 1, "unchanged": 0, "regressed": -1}
_SHOWN = ("status", "reason", "detail", "polls", "wait_seconds", "duration_seconds")
_ENDS = {
    "completed": "RecomputesCompleted",
    "failed": "RecomputesFailed",
    "timed_out": "RecomputesTimedOut",
}
