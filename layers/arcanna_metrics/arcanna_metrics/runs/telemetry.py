"""Logs and metrics of runs: each status check, and how a run ended."""

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit, single_metric

from arcanna_metrics.observability import count, logger
from arcanna_metrics.runs.run import Check, PastRun, Run
from arcanna_metrics.times import from_iso


def run_ended(check: Check) -> None:
    """Counts a run that has ended, by status; if it did not complete, also by reason."""
    count(_ENDS[check["status"]])
    if check["outcome"] and (failure := check["outcome"]["result"]["failure"]):
        with single_metric(name="RunsFailed", unit=MetricUnit.Count, value=1) as by_reason:
            by_reason.add_dimension("reason", _dimension(failure["reason"]))


def report(run: Run, check: Check, now: float) -> None:
    """Logs what a status check found and, at the end of a run, emits its metrics."""
    outcome = check["outcome"]
    failure = outcome["result"]["failure"] if outcome else None
    reason = failure["reason"] if failure else check["status"]
    found = {key: check[key] for key in ("status", "detail", "polls", "wait_seconds")}
    elapsed = now - from_iso(run["requested_at"])
    logger.info("status checked", reason=reason, elapsed_seconds=elapsed, extra=found)
    count("StatusChecks")
    if outcome is None:
        return
    run_ended(check)
    count("PollsPerRun", check["polls"])
    if past := outcome["result"]["past_run"]:
        _report_new_metrics(run, past, now)


def _report_new_metrics(run: Run, past: PastRun, now: float) -> None:
    of_job = EphemeralMetrics()
    of_job.add_dimension("job_id", _dimension(run["job_id"]))
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
