"""check_status: one look at a recompute that is under way, for the workflow."""

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from arcanna_metrics.errors import RetryLater
from arcanna_metrics.observability import check_failed, logger, metrics, report
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.connect import arcanna
from arcanna_metrics.runs.check import check, run_and_check
from arcanna_metrics.runs.quality import Rules, parse
from arcanna_metrics.runs.run import Check
from arcanna_metrics.settings import Environment, PollSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def platform() -> tuple[Arcanna, PollSettings, Rules]:
    """Built at the first invocation, for all that this execution environment will see.

    Raises ConfigurationError.
    """
    env = Environment(os.environ)
    return arcanna(env), PollSettings.of(env), parse(env.text("QUALITY_GATE"))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: "LambdaContext") -> Check:
    """Takes the workflow's run and last check, and returns the new check."""
    client, polls, rules = platform()
    run, last = run_and_check(event)
    logger.append_keys(
        run_id=run["run_id"],
        job_id=run["job_id"],
        model_id=run["model_id"],
        cause=run["cause"]["kind"],
        execution=event.get("execution"),
    )
    now = time.time()
    try:
        result = check(client, run, last, polls, rules, now)
    except RetryLater as error:
        check_failed(run, error, now)
        raise
    report(run, result, now)
    return result
