"""trigger_recompute: training-data updates come in, recompute runs go out."""

import os
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3

from arcanna_metrics.aws import BOUNDED, Queues, RouteSource, Workflow
from arcanna_metrics.ledger import Ledger
from arcanna_metrics.observability import logger, metrics
from arcanna_metrics.places import Places
from arcanna_metrics.platform.connect import arcanna
from arcanna_metrics.platform.preflight import Finding, preflight
from arcanna_metrics.settings import Environment, PollSettings, RetrySettings
from arcanna_metrics.starter import Starter
from arcanna_metrics.trigger import Trigger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def trigger() -> Trigger:
    """Built at the first invocation, for all that this execution environment will see.

    Raises ConfigurationError.
    """
    env = Environment(os.environ)
    platform = arcanna(env)
    dynamodb, table = boto3.client("dynamodb", config=BOUNDED), env.text("LEDGER_TABLE")
    starter = Starter(
        platform,
        Ledger(dynamodb, table),
        Workflow(boto3.client("stepfunctions", config=BOUNDED), env.text("WORKFLOW_ARN")),
        Places(dynamodb, table, env.whole_number("MAXIMUM_RECOMPUTES")),
        margin=env.seconds("SETTLING_SECONDS") + env.seconds("CLOCK_MARGIN_SECONDS"),
        spacing=env.seconds("MINIMUM_INTERVAL_SECONDS"),
        run_deadline=env.seconds("RUN_DEADLINE_SECONDS"),
        polls=PollSettings.of(env),
        clock=time.time,
    )
    queues = Queues(
        boto3.client("sqs", config=BOUNDED), env.text("UPDATES_QUEUE_URL"), env.text("DEAD_LETTER_QUEUE_URL")
    )
    routes = RouteSource(boto3.client("ssm", config=BOUNDED), env.text("ROUTES_PARAMETER"), time.time)
    return Trigger(starter, platform, queues, routes, RetrySettings.of(env), time.time, time.sleep)


def look_around(remaining: Callable[[], float]) -> list[Finding]:
    """What keeps this function from its work. Nothing of it is cached: the next look sees what was mended.

    Raises ConfigurationError.
    """
    env = Environment(os.environ)
    routes = RouteSource(boto3.client("ssm", config=BOUNDED), env.text("ROUTES_PARAMETER"), time.time)
    return preflight(arcanna(env), routes.newest, remaining)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """An SQS batch, answered with the messages to deliver again, or any one event that a batch may hold.

    `{"preflight": true}` asks whether a recompute would find all that it needs.
    """

    def remaining() -> float:
        return context.get_remaining_time_in_millis() / 1000

    match event:
        case {"Records": [{"eventSource": "aws:sqs"}, *_] as records}:
            failed = trigger().handle_batch(records, remaining)
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
        case {"preflight": True}:
            return {"findings": [finding._asdict() for finding in look_around(remaining)]}
        case _:
            return {"results": [result._asdict() for result in trigger().handle_event(event, remaining)]}
