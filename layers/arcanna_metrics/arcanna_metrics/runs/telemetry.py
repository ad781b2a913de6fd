"""Logs and metrics of runs: each status check, and how a run ended."""

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit, single_metric

from arcanna_metrics.observability import count, logger
from arcanna_metrics.runs.run import Check, Result, Run
from arcanna_metrics.times import from_iso


def run_checked(run: Run, check: Check, now: float) -> None:
    """Logs and counts a status check."""
    failure = check["outcome"]["result"]["failure"] if check["outcome"] else None
    reason = failure["reason"] if failure else check["status"]
    found = {key: check[key] for key in ("status", "detail", "polls", "wait_seconds")}
    elapsed = now - from_iso(run["requested_at"])
    logger.info("status checked", reason=reason, elapsed_seconds=elapsed, extra=found)
    count("StatusChecks")


def run_ended(run: Run, result: Result) -> None:
    """Counts a run that has ended: by its outcome, and by its reason or with its new metrics."""
    count(_ENDS[result["outcome"]])
    ended = result["past_run"] or result["failure"]
    if ended and ended["polls"]:  # else it failed at its start
        count("PollsPerRun", ended["polls"])
    if failure := result["failure"]:
        with single_metric(name="RunsFailed", unit=MetricUnit.Count, value=1) as by_reason:
            by_reason.add_dimension("reason", _dimension(failure["reason"]))
    if past := result["past_run"]:
        of_job = EphemeralMetrics()
        of_job.add_dimension("job_id", _dimension(run["job_id"]))
        fresh_at = from_iso(past["requested_at"]) + past["duration_seconds"]
        lag = max(0.0, fresh_at - from_iso(run["cause"]["first_at"]))
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
    "not_checked": "RecomputesFailed",
    "timed_out": "RecomputesTimedOut",
}
