"""check_status: checks a recompute that is under way once, for the workflow."""

import gc

gc.disable()  # modules that load are not garbage, and collecting would take a tenth of the start-up

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from arcanna_metrics.errors import BadInput
from arcanna_metrics.observability import logger, metrics, run_in_logs
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.connect import arcanna, http_client
from arcanna_metrics.runs.check import check
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.run import Check
from arcanna_metrics.runs.telemetry import run_checked
from arcanna_metrics.targets import Target

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

gc.freeze()
gc.enable()


@cache
def platform() -> tuple[Arcanna, str]:
    """The platform's client and the name of the event bus, built at the first invocation.

    Raises ConfigurationError.
    """
    return arcanna(os.environ, http_client(os.environ)), os.environ["EVENT_BUS_NAME"]


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: "LambdaContext") -> Check:
    """Takes the workflow's run and last check, and returns the new check. Raises BadInput and RetryLater."""
    if not {"run", "check", "execution"} <= event.keys():
        raise BadInput("expected the workflow's call, an object with run, check and execution")
    client, bus = platform()
    run, last, execution = event["run"], event["check"], event["execution"]
    now = time.time()
    target = Target(run["job_id"], run["model_id"])
    with run_in_logs(run["run_id"], target, run["cause"]["kind"], execution):
        result = check(client, run, last, Origin(execution, bus, now))
        run_checked(run, result, now)
    return result
