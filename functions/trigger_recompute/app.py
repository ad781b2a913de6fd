"""trigger_recompute: training-data updates come in, recompute runs go out."""

import json
import os
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from arcanna_metrics.aws import client
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.intake.route_source import RouteSource
from arcanna_metrics.observability import logger, metrics
from arcanna_metrics.platform.connect import arcanna
from arcanna_metrics.platform.preflight import Finding, preflight
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.reconcile import Reconciler
from arcanna_metrics.protocol.slots import Slots
from arcanna_metrics.runs.quality import parse
from arcanna_metrics.runs.run import parse_result, parse_run
from arcanna_metrics.settings import Environment, JobSettings, Pace
from arcanna_metrics.trigger import Trigger
from arcanna_metrics.workflow import Workflow

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def trigger() -> Trigger:
    """Built at the first invocation, for all that this execution environment will see.

    Raises ConfigurationError.
    """
    env = Environment(os.environ)
    settings = _settings(env)
    dynamodb, table = client("dynamodb"), env.text("LEDGER_TABLE")
    ledger = Ledger(dynamodb, table, time.time)
    workflow = Workflow(client("stepfunctions"), env.text("WORKFLOW_ARN"))
    slots = Slots(dynamodb, table, ledger)
    reconciler = Reconciler(
        ledger, slots, workflow, arcanna(env), settings, env.text("EVENT_BUS_NAME"), time.time
    )
    queues = Queues(client("sqs"), env.text("UPDATES_QUEUE_URL"), env.text("DEAD_LETTER_QUEUE_URL"))
    routes = RouteSource(client("ssm"), env.text("ROUTES_PARAMETER"), time.time)
    stale_after = env.seconds("STALE_AFTER_SECONDS")
    return Trigger(ledger, reconciler, queues, routes, settings, stale_after, time.time, time.sleep)


def _settings(env: Environment) -> Callable[[str], JobSettings]:
    text = env.text("QUALITY_GATE")
    parse(text)
    same = JobSettings(Pace.of(env), json.loads(text))
    return lambda job_id: same


def look_around(remaining: Callable[[], float]) -> list[Finding]:
    """What keeps this function from its work. Nothing of it is cached: the next look sees what was mended.

    Raises ConfigurationError.
    """
    env = Environment(os.environ)
    routes = RouteSource(client("ssm"), env.text("ROUTES_PARAMETER"), time.time)
    return preflight(arcanna(env), routes.newest, remaining)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """An SQS batch, answered with the messages to deliver again; a hold or a release by the workflow; or any
    one event that a batch may hold.

    `{"preflight": true}` asks whether a recompute would find all that it needs.
    """

    def remaining() -> float:
        return context.get_remaining_time_in_millis() / 1000

    match event:
        case {"Records": [{"eventSource": "aws:sqs"}, *_] as records}:
            failed = trigger().handle_batch(records, remaining)
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
        case {"hold": {"run": run, "number": int(number)}}:
            return {"held": trigger().hold(parse_run("run", run), number)}
        case {"release": {"run": run, "number": int(number), "result": result}}:
            ended = parse_result("result", result)
            return {"released": trigger().release(parse_run("run", run), number, ended, remaining)}
        case {"preflight": True}:
            return {"findings": [finding._asdict() for finding in look_around(remaining)]}
        case _:
            return {"recorded": [each._asdict() for each in trigger().handle_event(event, remaining)]}
