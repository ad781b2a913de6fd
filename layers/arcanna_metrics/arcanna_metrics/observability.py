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
from aws_lambda_powertools.metrics import MetricUnit

from arcanna_metrics.errors import RetryLater
from arcanna_metrics.targets import Target

# ASCII, because a key or a response may contain Unicode line ends and characters that control terminals.
# RFC 3339 times, because Lambda treats a line with any other time as level INFO.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
logger = Logger(json_serializer=partial(json.dumps, default=str, separators=(",", ":")), use_rfc3339=True)
metrics = Metrics()
# An idle sweep counts nothing, and must not leave a line in the log.
warnings.filterwarnings("ignore", message="No application metrics to publish")
# Lambda's log level applies to all libraries. httpx would log every request, without its run. httpcore would
# log the headers of responses, in which a gateway may echo the API key.
for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)


def count(name: str, value: float = 1) -> None:
    """Adds to a counter of the invocation."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def reason_and_detail(error: Exception) -> dict[str, str]:
    """An error as log lines show it."""
    return {"reason": type(error).__name__, "detail": str(error)}


def log_error(message: str, error: Exception, **extra: object) -> None:
    """Logs and counts an error: RetryLater by its reason, as a warning, because what failed will be repeated;
    all others together, with their tracebacks."""
    is_temporary = isinstance(error, RetryLater)
    log = logger.warning if is_temporary else logger.error
    log(message, exc_info=None if is_temporary else error, extra=reason_and_detail(error) | extra)
    count(type(error).__name__ if is_temporary else "UnexpectedErrors")


def run_in_logs(run_id: str, target: Target, cause: str, execution: str) -> AbstractContextManager[None]:
    """Adds the run to every log line of the context; `execution` is the ARN."""
    return logger.append_context_keys(run_id=run_id, **target._asdict(), cause=cause, execution=execution)


def gauges(*, due: int, oldest: float, running: int) -> None:
    """How many targets are due, the age in seconds of the oldest update or run, the number of runs."""
    count("TargetsDue", due)
    count("SlotsTaken", running)
    oldest_update(oldest)


def oldest_update(age: float) -> None:
    """The age in seconds of an update that waits or runs, or is still in the queue."""
    metrics.add_metric(name="OldestUpdateAge", unit=MetricUnit.Seconds, value=age)
